// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/isolates.h"

#include <sys/random.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_join.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

bool IsName(std::string_view name) {
  const auto letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  return !name.empty() && name.size() <= 64 && letter(name[0]) &&
         std::all_of(name.begin(), name.end(),
                     [&](char c) { return letter(c) || c == '_' || c == '.' || c == '-'; });
}

bool LooksLikeId(std::string_view name) {
  return name.size() == 12 && std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

std::string RandomId() {
  std::uint64_t random = 0;
  while (getrandom(&random, sizeof(random), 0) != sizeof(random)) {
  }
  return fmt::format("{:012x}", random & 0xffffffffffff);
}

constexpr std::size_t kArgvShown = 65536;

// To what is shown of it: megabytes of words are not to be kept for what has ended.
void CutShort(std::vector<std::string>& argv) {
  std::size_t room = kArgvShown;
  std::size_t whole = 0;
  while (whole < argv.size() && argv[whole].size() < room) room -= argv[whole++].size() + 1;
  if (whole == argv.size()) return;
  argv[whole].resize(std::min(argv[whole].size(), room + 1));
  argv[whole].shrink_to_fit();
  argv.resize(whole + 1);
}

// What is not UTF-8 in a command's words would make the whole answer unreadable.
std::string Printable(const std::string& word) {
  return nlohmann::json(word).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string_view IsolateStateName(IsolateState state) {
  switch (state) {
    case IsolateState::kWaiting:
      return "waiting";
    case IsolateState::kRunning:
      return "running";
    case IsolateState::kEnded:
      return "ended";
  }
  return "?";
}

nlohmann::ordered_json ToJson(const Isolate& isolate, bool whole) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::milliseconds>(isolate.submitted.time_since_epoch());
  nlohmann::ordered_json json;
  json["id"] = isolate.id;
  json["name"] = isolate.name;
  json["template"] = isolate.template_name;
  json["state"] = IsolateStateName(isolate.state);
  json["submitted"] = static_cast<double>(seconds.count()) / 1000;
  json["host_pid"] = isolate.host_pid;
  json["spawn_path"] = SpawnPathName(isolate.path);
  if (isolate.slot) json["slot"] = ToJson(*isolate.slot);
  // Cut short: a command may be megabytes long, and a list has many.
  auto argv = nlohmann::ordered_json::array();
  std::size_t room = whole ? kArgvShown : 1024;
  for (const std::string& word : isolate.argv) {
    const std::string part = word.substr(0, room);
    argv.push_back(nlohmann::ordered_json::parse(Printable(part)));
    room -= std::min(room, part.size() + 1);
    if (room > 0 && part.size() == word.size()) continue;
    argv.push_back("...");
    break;
  }
  json["command"] = std::move(argv);
  if (isolate.state == IsolateState::kEnded) {
    json["end"] = isolate.outcome ? EndName(isolate.outcome->end) : "refused";
    json["exit_status"] = isolate.outcome ? ExitStatus(*isolate.outcome) : 125;
    const std::string& why = isolate.outcome ? isolate.outcome->message : isolate.refusal;
    if (!why.empty()) json["message"] = why;
  }
  if (!whole) return json;
  json["owner_uid"] = isolate.owner;
  json["detached"] = isolate.detached;
  json["cgroup"] = isolate.leaf;
  json["id_range"] = isolate.id_first;
  if (isolate.logs) {
    json["log"] = {{"bytes", isolate.logs->end()}, {"kept", isolate.logs->kept()}};
  }
  if (isolate.outcome) json["outcome"] = ToJson(*isolate.outcome);
  return json;
}

absl::StatusOr<Isolate*> Isolates::Add(const std::string& name) {
  if (!name.empty() && !IsName(name)) {
    return InvalidError(
        "\"{}\" is not a name: it has at most 64 letters, digits, '_', '.' and '-', and begins "
        "with a letter or digit",
        name);
  }
  if (LooksLikeId(name)) {
    return InvalidError("the name \"{}\" looks like an id; choose another", name);
  }
  for (const Isolate& isolate : isolates_) {
    if (name.empty() || isolate.name != name || isolate.state == IsolateState::kEnded) continue;
    return Error(absl::StatusCode::kAlreadyExists, "the name {} is taken by {}, which still runs",
                 name, isolate.id);
  }
  Isolate isolate;
  do {
    isolate.id = RandomId();
  } while (std::any_of(isolates_.begin(), isolates_.end(),
                       [&](const Isolate& other) { return other.id == isolate.id; }));
  isolate.name = name;
  isolate.submitted = std::chrono::system_clock::now();
  isolates_.push_back(std::move(isolate));
  ++living_;
  return &isolates_.back();
}

absl::StatusOr<Isolate*> Isolates::Find(std::string_view word) {
  Isolate* ended = nullptr;
  std::vector<Isolate*> begin_so;
  for (Isolate& isolate : isolates_) {
    if (isolate.id == word) return &isolate;
    if (!word.empty() && isolate.name == word) {
      if (isolate.state != IsolateState::kEnded) return &isolate;
      ended = &isolate;
    }
    if (!word.empty() && isolate.id.starts_with(word)) begin_so.push_back(&isolate);
  }
  if (ended != nullptr) return ended;
  if (begin_so.size() == 1) return begin_so[0];
  if (begin_so.empty()) return NotFound(word);
  const auto id = [](std::string* out, const Isolate* isolate) { out->append(isolate->id); };
  const std::size_t shown = std::min<std::size_t>(begin_so.size(), 5);
  return InvalidError(
      "{} isolates begin with \"{}\": {}{}", begin_so.size(), word,
      absl::StrJoin(begin_so.begin(), begin_so.begin() + static_cast<std::ptrdiff_t>(shown), ", ",
                    id),
      shown < begin_so.size() ? ", ..." : "; give one more digit");
}

Isolate* Isolates::ById(std::string_view id) {
  for (Isolate& isolate : isolates_) {
    if (isolate.id == id) return &isolate;
  }
  return nullptr;
}

void Isolates::End(Isolate& isolate) {
  isolate.state = IsolateState::kEnded;
  CutShort(isolate.argv);
  --living_;
  for (const auto& each : std::exchange(isolate.on_end, {})) isolate.told |= each.call(isolate);
  Ended(isolate).push_back(&isolate);
  ForgetBeyond(kept_.told, told_);
  ForgetBeyond(kept_.unclaimed, unclaimed_);
}

void Isolates::Told(Isolate& isolate) {
  if (isolate.told) return;
  std::erase(Ended(isolate), &isolate);
  isolate.told = true;
  Ended(isolate).push_back(&isolate);
}

void Isolates::ForgetBeyond(std::size_t kept, std::deque<Isolate*>& ended) {
  while (ended.size() > kept) {
    const Isolate& oldest = *ended.front();
    forgotten_.push_back({oldest.id, oldest.name, oldest.detached});
    Remove(oldest);
    if (forgotten_.size() <= kForgottenKept) continue;
    forgotten_.pop_front();
    forgot_more_ = true;
  }
}

absl::Status Isolates::NotFound(std::string_view word) const {
  const auto is = [&](const Forgotten& each) {
    return !word.empty() && (each.id.starts_with(word) || each.name == word);
  };
  const auto found = std::find_if(forgotten_.rbegin(), forgotten_.rend(), is);
  if (found == forgotten_.rend()) {
    return Error(absl::StatusCode::kNotFound,
                 "there is no isolate \"{}\"{}; brood ps -a lists those "
                 "there are",
                 word,
                 forgot_more_ ? ", or it ended so long ago that not even its id is kept" : "");
  }
  if (found->detached) {
    return Error(
        absl::StatusCode::kNotFound,
        "{} has ended and was forgotten: of detached commands that were not waited for, the latest "
        "{} are kept (brood serve --max-unclaimed); of all others, the latest {}",
        word, kept_.unclaimed, kept_.told);
  }
  return Error(
      absl::StatusCode::kNotFound,
      "{} has ended and was forgotten: of commands that were waited for, the latest {} are kept",
      word, kept_.told);
}

void Isolates::DropOnEnd(const void* owner) {
  for (Isolate& isolate : isolates_) {
    std::erase_if(isolate.on_end, [&](const Isolate::OnEnd& each) { return each.owner == owner; });
  }
}

void Isolates::Remove(const Isolate& isolate) {
  const auto found = std::find_if(isolates_.begin(), isolates_.end(),
                                  [&](const Isolate& other) { return &other == &isolate; });
  if (found == isolates_.end()) return;
  if (found->state == IsolateState::kEnded) {
    std::erase(Ended(*found), &*found);
  } else {
    --living_;
  }
  isolates_.erase(found);
}

}  // namespace brood
