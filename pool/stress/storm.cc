// SPDX-License-Identifier: Apache-2.0

// Storms: made and let go of at a set rate, to see when what is let go of is not gone in time.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "pool/burst/percentile.h"
#include "pool/stress/stress.h"
#include "pool/stress/subprocess.h"
#include "pool/stress/unit.h"
#include "spawn/base/status.h"

namespace brood::limits {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr Seconds kLook{0.25};  // between two looks at the debt

struct Record {
  std::vector<double> latency_us;
  std::map<std::string, std::uint64_t> errors;
  Json debt = Json::array();
  std::uint64_t peak = 0;
};

void Look(Pusher& pusher, std::uint64_t before, double at, Record& record) {
  const std::uint64_t counted = pusher.Counted().value_or(before);
  const std::uint64_t debt = counted - std::min(counted, before);
  record.peak = std::max(record.peak, debt);
  record.debt.push_back({at, debt});
}

// Each is due at a moment of its own: a slow one delays those behind it, and their wait counts.
void Blow(Pusher& pusher, const StormOptions& options, std::uint64_t before, Record& record) {
  const Clock::time_point start = Clock::now();
  const auto since = [start] { return Seconds(Clock::now() - start).count(); };
  const double length = Seconds(options.length).count();
  double next_look = 0;
  for (std::uint64_t made = 0;; ++made) {
    const double due = static_cast<double>(made) / options.rate;
    if (due >= length || since() >= length) break;
    if (since() >= next_look) {
      Look(pusher, before, since(), record);
      next_look = since() + kLook.count();
    }
    if (due > since()) std::this_thread::sleep_for(Seconds(due - since()));
    const int error = pusher.AddOne();
    pusher.Release();
    record.latency_us.push_back((since() - due) * 1e6);
    if (error != 0) ++record.errors[ErrnoName(error)];
  }
  Look(pusher, before, since(), record);
}

absl::StatusOr<Json> StormHere(const Unit& unit, const StormOptions& options) {
  const std::unique_ptr<Pusher> pusher = unit.make();
  BROOD_RETURN_IF_ERROR(pusher->Confine(std::nullopt).status());
  const std::optional<std::uint64_t> before = pusher->Counted();
  if (!before) {
    return Error(absl::StatusCode::kUnimplemented, "the kernel does not tell how many there are");
  }
  Record record;
  const Clock::time_point start = Clock::now();
  Blow(*pusher, options, *before, record);
  const double seconds = Seconds(Clock::now() - start).count();

  const Clock::time_point end = Clock::now();
  bool drained = false;
  while (!drained && Clock::now() - end < options.patience) {
    drained = pusher->Drained();
    if (!drained) {
      usleep(2000);
      if (Seconds(Clock::now() - start).count() - record.debt.back()[0].get<double>() >=
          kLook.count()) {
        Look(*pusher, *before, Seconds(Clock::now() - start).count(), record);
      }
    }
  }
  const double drain_ms = Seconds(Clock::now() - end).count() * 1e3;
  if (drained) record.debt.push_back({Seconds(Clock::now() - start).count(), 0});

  Json json;
  json["unit"] = unit.name;
  json["what"] = unit.what;
  json["rate_wanted"] = options.rate;
  json["rate_reached"] = static_cast<double>(record.latency_us.size()) / seconds;
  json["made"] = record.latency_us.size();
  json["errors"] = record.errors;
  std::sort(record.latency_us.begin(), record.latency_us.end());
  json["latency_us"] = {{"p50", Percentile(record.latency_us, 50)},
                        {"p99", Percentile(record.latency_us, 99)},
                        {"max", record.latency_us.empty() ? 0 : record.latency_us.back()}};
  json["debt"] = record.debt;
  json["peak"] = record.peak;
  json["drained"] = drained;
  json["drain_ms"] = drain_ms;
  return json;
}

}  // namespace

absl::StatusOr<Json> Storm(std::string_view name, const StormOptions& options) {
  return RunInSubprocess(name, options.length + options.patience + std::chrono::seconds(5),
                         [&](const Unit& unit) { return StormHere(unit, options); });
}

}  // namespace brood::limits
