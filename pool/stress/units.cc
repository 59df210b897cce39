// SPDX-License-Identifier: Apache-2.0

// All units, and what each limit is set to where this process stands.
#include <sys/resource.h>

#include <utility>

#include "pool/stress/unit.h"
#include "spawn/base/numbers.h"

namespace brood::limits {
namespace {

std::optional<std::uint64_t> Rlimit(std::string_view name) {
  static constexpr std::pair<std::string_view, __rlimit_resource> kAll[] = {
      {"RLIMIT_NOFILE", RLIMIT_NOFILE},
      {"RLIMIT_NPROC", RLIMIT_NPROC},
      {"RLIMIT_AS", RLIMIT_AS},
      {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}};
  for (const auto& [known, resource] : kAll) {
    rlimit limit{};
    if (known != name || getrlimit(resource, &limit) != 0) continue;
    if (limit.rlim_cur != RLIM_INFINITY) return limit.rlim_cur;
  }
  return std::nullopt;
}

// The tightest of those over this process.
std::optional<std::uint64_t> TightestPidsMax() {
  std::optional<std::uint64_t> least;
  for (const LimitReading& reading : PidsLimits()) {
    if (reading.maximum && (!least || *reading.maximum < *least)) least = reading.maximum;
  }
  return least;
}

}  // namespace

const std::vector<Unit>& AllUnits() {
  static const std::vector<Unit>& units = *[] {
    auto* const all = new std::vector<Unit>;
    for (auto* const some : {NamespaceUnits, ProcessUnits, CgroupUnits, MountUnits, FileUnits,
                             KeyUnits, MemoryUnits, NetworkUnits}) {
      for (Unit& unit : some()) all->push_back(std::move(unit));
    }
    return all;
  }();
  return units;
}

const Unit* FindUnit(std::string_view name) {
  for (const Unit& unit : AllUnits()) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

std::vector<std::string_view> UnitsThatBeginWith(std::string_view prefix) {
  std::vector<std::string_view> names;
  for (const Unit& unit : AllUnits()) {
    if (unit.name.starts_with(prefix)) names.push_back(unit.name);
  }
  return names;
}

std::optional<std::uint64_t> Configured(const Unit& unit) {
  if (unit.where.starts_with("/proc/sys/")) return FirstNumberOf(unit.where);
  if (unit.limit.starts_with("RLIMIT_")) return Rlimit(unit.limit);
  if (unit.limit == "pids.max") return TightestPidsMax();
  return std::nullopt;
}

}  // namespace brood::limits
