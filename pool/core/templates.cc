// SPDX-License-Identifier: Apache-2.0

// The reactor's part that adds templates, and takes them away while their workers still run.
#include <algorithm>
#include <thread>

#include "pool/core/reactor.h"
#include "spawn/base/status.h"

namespace brood {

absl::Status CompleteOptions(TemplateOptions& options) {
  if (options.max_workers == 0) options.max_workers = std::max(4096U, options.parked + 64);
  if (options.max_workers < options.parked) {
    return InvalidError("template {}: {} parked workers do not fit into {} workers", options.name,
                        options.parked, options.max_workers);
  }
  if (options.zygotes == 0) {
    options.zygotes = std::clamp(std::thread::hardware_concurrency() / 2, 1U, 4U);
  }
  return absl::OkStatus();
}

Template* Reactor::FindTemplate(const std::string& name) {
  for (Template& tmpl : templates_) {
    if (!tmpl.retired && (name.empty() || tmpl.options.name == name)) return &tmpl;
  }
  return nullptr;
}

absl::Status Reactor::AddTemplate(TemplateOptions options) {
  BROOD_ASSIGN_OR_RETURN(Blueprint blueprint,
                         Blueprint::Make(options.spec, PlanKind::kTemplate, options.fault));
  const bool leaf = options.spec.use_cgroup && resources_.parent.has_value();
  const auto index = static_cast<std::uint32_t>(templates_.size());
  templates_.emplace_back(options, std::move(blueprint), leaf ? &*resources_.parent : nullptr,
                          index);
  Template& tmpl = templates_.back();
  tmpl.idle->facts = {&tmpl.blueprint,
                      options.spec.limits.any(),
                      options.name,
                      resources_.fallbacks,
                      launcher_fds_.proc.get(),
                      resources_.parent ? &*resources_.parent : nullptr};
  for (std::uint32_t z = 0; z < options.zygotes; ++z) {
    if (const absl::Status started = StartZygote(index); !started.ok()) {
      Retire(tmpl, nullptr);
      return started;
    }
  }
  return absl::OkStatus();
}

absl::Status Reactor::PutTemplate(TemplateOptions options) {
  BROOD_RETURN_IF_ERROR(CompleteOptions(options));
  Template* const old = options.name.empty() ? nullptr : FindTemplate(options.name);
  BROOD_RETURN_IF_ERROR(AddTemplate(std::move(options)));
  if (old != nullptr) Retire(*old, &templates_.back());
  return absl::OkStatus();
}

absl::Status Reactor::RemoveTemplate(const std::string& name) {
  Template* const tmpl = name.empty() ? nullptr : FindTemplate(name);
  if (tmpl == nullptr) {
    return Error(absl::StatusCode::kNotFound, "there is no template \"{}\"", name);
  }
  const auto living = std::count_if(templates_.begin(), templates_.end(),
                                    [](const Template& each) { return !each.retired; });
  if (living == 1) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "template {} is the last one: a pool needs one", name);
  }
  Retire(*tmpl, nullptr);
  return absl::OkStatus();
}

// Requests that wait go to the successor. What is being made ends when it is made (OnMade), what
// runs goes on; the zygotes stay until then, since the workers' mailboxes lie in their memory.
void Reactor::Retire(Template& tmpl, Template* successor) {
  tmpl.retired = true;
  tmpl.options.parked = 0;
  tmpl.idle->Close();
  while (const std::optional<IdleList::Entry> entry = tmpl.idle->Take()) {
    KillAndReap(BoxOf(workers_[entry->worker]).pid);
    FreeWorker(entry->worker);
  }
  for (auto* queue : {&tmpl.waiting, &tmpl.direct}) {
    auto requests = std::exchange(*queue, {});
    for (std::unique_ptr<ActiveRequest>& request : requests) {
      if (successor != nullptr) {
        (queue == &tmpl.waiting ? successor->waiting : successor->direct)
            .push_back(std::move(request));
      } else {
        Answer(std::move(request),
               Error(absl::StatusCode::kNotFound, "template {} was removed", tmpl.options.name));
      }
    }
  }
  EndRetired(tmpl);
}

// Stops the zygotes of a retired template once nobody lives on their memory.
void Reactor::EndRetired(Template& tmpl) {
  if (tmpl.alive > 0 || tmpl.idle->underway() > 0) return;
  for (const std::uint32_t k : std::exchange(tmpl.keepers, {})) {
    keepers_[k]->alive = false;
    keepers_[k]->zygote.reset();
  }
  tmpl.cold.reset();
}

}  // namespace brood
