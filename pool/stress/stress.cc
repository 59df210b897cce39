// SPDX-License-Identifier: Apache-2.0

#include "pool/stress/stress.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "pool/stress/ceiling.h"
#include "pool/stress/subprocess.h"
#include "pool/stress/unit.h"
#include "spawn/base/status.h"

namespace brood::limits {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

double MicrosecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// Descriptors hold most of what is counted, so as many as this process may have.
void RaiseNofile() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

struct Growth {
  std::uint64_t count = 0;  // added
  int error = 0;            // that ended it; 0: something else did
  std::string_view stopped_by = "limit";
  double seconds = 0;
  Json curve = Json::array();  // [count, microseconds of one, the mean of those since the last]
};

// Adds until the kernel refuses; at most `most`, and one more, to see that it is refused.
Growth Grow(Pusher& pusher, std::uint64_t most, std::uint64_t reserve, Clock::duration budget) {
  Growth growth;
  std::uint64_t next_sample = 1;
  std::uint64_t since = 0;
  double spent = 0;
  const Clock::time_point start = Clock::now();
  for (;;) {
    if (growth.count > most) {
      growth.stopped_by = "up-to";
      break;
    }
    if (Clock::now() - start > budget) {
      growth.stopped_by = "budget";
      break;
    }
    // 0 without a descriptor left to look with; the next call tells.
    const std::uint64_t left = growth.count % 16 == 0 ? MeminfoBytes("MemAvailable:") : 0;
    if (left != 0 && left < reserve) {
      growth.stopped_by = "memory";
      break;
    }
    const Clock::time_point one = Clock::now();
    growth.error = pusher.AddOne();
    if (growth.error != 0) break;
    ++growth.count;
    ++since;
    spent += MicrosecondsSince(one);
    if (growth.count < next_sample) continue;
    growth.curve.push_back({growth.count, spent / static_cast<double>(since)});
    next_sample = growth.count + 1 + growth.count / 8;
    since = 0;
    spent = 0;
  }
  growth.seconds = MicrosecondsSince(start) / 1e6;
  return growth;
}

// Looking needs a few descriptors, when there is none left.
void MakeRoomToLook(LimitQuestion& question) {
  rlimit limit{};
  if (question.error != EMFILE || getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (!question.rlimit) question.rlimit = limit.rlim_cur;
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_cur + 8, limit.rlim_max);
  setrlimit(RLIMIT_NOFILE, &limit);
}

void TellRefusal(const Unit& unit, const Pusher& pusher, const Growth& growth, Json& json) {
  json["call"] = unit.call;
  json["errno"] = ErrnoName(growth.error);
  LimitQuestion question = pusher.Question(growth.error, growth.count);
  MakeRoomToLook(question);
  const std::vector<LimitReading> limits = LimitsBehind(question);
  Json named = Json::array();
  for (const LimitReading& limit : limits) {
    if (limit.Full()) named.push_back(limit.name);
  }
  json["named"] = named;
  json["sentence"] = LimitSentence(limits);
  if (!limits.empty()) json["named_at"] = limits.front().where;
}

Json OrNull(std::optional<std::uint64_t> number) { return number ? Json(*number) : Json(nullptr); }

// In the process that pushes.
absl::StatusOr<Json> PushHere(const Unit& unit, const StressOptions& options) {
  if (unit.limit != "RLIMIT_NOFILE" || options.host) RaiseNofile();
  Json json;
  json["unit"] = unit.name;
  json["limit"] = unit.limit;
  json["what"] = unit.what;
  json["where"] = unit.where;
  const std::optional<std::uint64_t> configured = Configured(unit);
  json["configured"] = OrNull(configured);
  json["scope"] = options.host ? "machine" : "place of its own";

  const std::unique_ptr<Pusher> pusher = unit.make();
  BROOD_ASSIGN_OR_RETURN(
      const std::uint64_t maximum,
      pusher->Confine(options.host ? std::nullopt : std::optional(options.up_to)));
  const std::uint64_t before = pusher->ThereBefore();
  const std::uint64_t room = maximum - std::min(before, maximum);
  const auto reserve = static_cast<std::uint64_t>(static_cast<double>(MeminfoBytes("MemTotal:")) *
                                                  options.memory_reserve);
  // A limit of a user namespace outside holds in this one, too.
  std::uint64_t allowed = room;
  if (unit.where.starts_with("/proc/sys/user/") && configured)
    allowed = std::min(room, *configured);
  const Ceiling ceiling = Predict(unit, allowed, reserve);
  json["set_to"] = OrNull(maximum == kNoMaximum ? std::nullopt : std::optional(maximum));
  json["there_before"] = before;
  json["predicted"] = {
      {"limit", ceiling.limit},
      {"reached",
       OrNull(ceiling.count == kNoMaximum ? std::nullopt : std::optional(before + ceiling.count))}};

  // Without a limit of its own there is nothing that would refuse: as many as were asked for.
  const bool unlimited = options.host || unit.limit.empty();
  const std::uint64_t most = unlimited ? std::min(room, options.up_to - 1) : room;
  const std::uint64_t memory = MeminfoBytes("MemAvailable:");
  Growth growth = Grow(*pusher, most, reserve, options.budget / 2);
  const std::uint64_t memory_after = MeminfoBytes("MemAvailable:");
  json["reached"] = before + growth.count;
  json["stopped_by"] = growth.stopped_by;
  if (growth.error != 0) TellRefusal(unit, *pusher, growth, json);
  json["seconds"] = growth.seconds;
  // What the rest of the machine does meanwhile is in it, too: of a few it says nothing.
  if (growth.count >= 100 && memory_after != 0 && memory > memory_after) {
    json["bytes_each"] = (memory - memory_after) / growth.count;
  }
  json["curve"] = std::move(growth.curve);

  const Clock::time_point release = Clock::now();
  pusher->Release();
  bool drained = pusher->Drained();
  while (!drained && Clock::now() - release < options.budget / 2) {
    usleep(500);
    drained = pusher->Drained();
  }
  json["drained"] = drained;
  json["drain_ms"] = MicrosecondsSince(release) / 1e3;
  return json;
}

}  // namespace

absl::StatusOr<Json> Push(std::string_view name, const StressOptions& options) {
  return RunInSubprocess(name, options.budget + std::chrono::seconds(5),
                         [&](const Unit& unit) { return PushHere(unit, options); });
}

}  // namespace brood::limits
