// SPDX-License-Identifier: Apache-2.0

#include "pool/core/templates.h"

#include <algorithm>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/launch/reap.h"

namespace brood {

std::uint32_t DefaultZygotes() {
  return std::clamp(std::thread::hardware_concurrency() / 2, 1U, 4U);
}

absl::Status CompleteOptions(TemplateOptions& options) {
  if (options.max_workers == 0) options.max_workers = std::max(4096U, options.parked + 64);
  if (options.max_workers < options.parked) {
    return InvalidError("template {}: {} parked workers do not fit into {} workers", options.name,
                        options.parked, options.max_workers);
  }
  if (options.zygotes == 0) {
    options.zygotes = DefaultZygotes();
  }
  return absl::OkStatus();
}

absl::Status Templates::Add(const TemplateOptions& options) {
  BROOD_ASSIGN_OR_RETURN(Blueprint blueprint,
                         Blueprint::Make(options.spec, PlanKind::kTemplate, options.fault));
  const bool leaf = options.spec.use_cgroup && pool_.resources.parent.has_value();
  const auto index = static_cast<std::uint32_t>(pool_.templates.size());
  pool_.templates.emplace_back(options, std::move(blueprint),
                               leaf ? &*pool_.resources.parent : nullptr, index);
  Template& tmpl = pool_.templates.back();
  tmpl.idle->facts = {&tmpl.blueprint,           options.spec.limits.any(),     options.name,
                      pool_.resources.fallbacks, pool_.launcher_fds.proc.get(), pool_.parent()};
  for (std::uint32_t z = 0; z < options.zygotes; ++z) {
    if (absl::Status started = refill_.StartZygote(index); !started.ok()) {
      Retire(tmpl, nullptr);
      return started;
    }
  }
  return absl::OkStatus();
}

absl::Status Templates::Put(TemplateOptions options) {
  BROOD_RETURN_IF_ERROR(CompleteOptions(options));
  Template* const old = options.name.empty() ? nullptr : pool_.Find(options.name);
  BROOD_RETURN_IF_ERROR(Add(options));
  if (old != nullptr) Retire(*old, &pool_.templates.back());
  return absl::OkStatus();
}

absl::Status Templates::Remove(const std::string& name) {
  Template* const tmpl = name.empty() ? nullptr : pool_.Find(name);
  if (tmpl == nullptr) {
    return Error(absl::StatusCode::kNotFound, "there is no template \"{}\"", name);
  }
  const auto living = std::count_if(pool_.templates.begin(), pool_.templates.end(),
                                    [](const Template& each) { return !each.retired; });
  if (living == 1) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "template {} is the last one: a pool needs one", name);
  }
  Retire(*tmpl, nullptr);
  return absl::OkStatus();
}

// Requests that wait go to the successor. What is being made ends when it is made (Refill::OnMade),
// what runs goes on; the zygotes stay until then, since the workers' mailboxes lie in their memory.
void Templates::Retire(Template& tmpl, Template* successor) {
  tmpl.retired = true;
  tmpl.options.parked = 0;
  tmpl.idle->Close();
  while (const std::optional<IdleList::Entry> entry = tmpl.idle->Take()) {
    KillAndReap(pool_.BoxOf(pool_.workers[entry->worker]).pid);
    records_.Free(entry->worker);
  }
  for (auto* queue : {&tmpl.waiting, &tmpl.direct}) {
    auto requests = std::exchange(*queue, {});
    for (std::unique_ptr<ActiveRequest>& request : requests) {
      if (successor != nullptr) {
        (queue == &tmpl.waiting ? successor->waiting : successor->direct)
            .push_back(std::move(request));
      } else {
        pool_.Answer(std::move(request), Error(absl::StatusCode::kNotFound,
                                               "template {} was removed", tmpl.options.name));
      }
    }
  }
  EndRetired(tmpl);
}

// Stops the zygotes of a retired template once nobody lives on their memory.
void Templates::EndRetired(Template& tmpl) {
  if (tmpl.alive > 0 || tmpl.idle->underway() > 0) return;
  for (const std::uint32_t k : std::exchange(tmpl.keepers, {})) {
    pool_.keepers[k]->alive = false;
    records_.EndKeeper(*pool_.keepers[k]);
  }
  tmpl.cold.reset();
}

void Templates::Tick() {
  for (Template& tmpl : pool_.templates) {
    tmpl.leaves.Sweep();
    if (tmpl.retired) EndRetired(tmpl);
  }
}

}  // namespace brood
