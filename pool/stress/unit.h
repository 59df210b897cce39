// SPDX-License-Identifier: Apache-2.0

// One limit, declared: what it is, how to set it low, how to add one, how to see that all are gone.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/limits/limits.h"

namespace brood::limits {

// Lives in the process that pushes, which ends afterwards; so nothing is undone by destructors.
class Pusher {
 public:
  Pusher() = default;
  Pusher(const Pusher&) = delete;
  Pusher& operator=(const Pusher&) = delete;
  virtual ~Pusher() = default;

  // Enters a place of its own and sets the limit there, or leaves the machine's in force when
  // `wanted` is none. The maximum that holds now, which differs from `wanted` where the kernel has
  // none to set or a least value. kUnavailable when the machine lacks it.
  virtual absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) = 0;
  // Those that count already, such as this process itself.
  virtual std::uint64_t ThereBefore() const { return 0; }
  // One more, held. 0 or the errno of the call.
  virtual int AddOne() = 0;
  // What to ask spawn/limits after AddOne has failed with `error` at `count`.
  virtual LimitQuestion Question(int error, std::uint64_t count) const = 0;
  // Lets go of all.
  virtual void Release() = 0;
  // Whether the kernel counts none any more but those from before.
  virtual bool Drained() = 0;
  // How many the kernel counts now, dead ones that it still has among them; none when it cannot be
  // told. Within a twentieth.
  virtual std::optional<std::uint64_t> Counted() { return std::nullopt; }
};

// What one more takes of other limits: the first of all of them to be used up is the ceiling.
struct Cost {
  std::uint64_t descriptors = 0;
  std::uint64_t processes = 0;
  std::uint64_t bytes = 0;  // of kernel memory, about
};

// Confine without a wanted maximum has nothing to end at.
constexpr std::uint64_t kNoMaximum = UINT64_MAX;

struct Unit {
  std::string name = {};
  std::string limit = {};  // as spawn/limits names it; empty: the kernel has none
  std::string call = {};   // what is called to add one
  std::string what = {};
  std::string where = {};  // the file, or the call, that sets it; empty: built into the kernel
  Cost cost = {};
  std::function<std::unique_ptr<Pusher>()> make = {};
};

std::vector<Unit> NamespaceUnits();
std::vector<Unit> ProcessUnits();
std::vector<Unit> CgroupUnits();
std::vector<Unit> FileUnits();
std::vector<Unit> KeyUnits();
std::vector<Unit> MemoryUnits();
std::vector<Unit> MountUnits();
std::vector<Unit> NetworkUnits();

// All of them, in the order in which they are pushed.
const std::vector<Unit>& AllUnits();
// nullptr when there is none of that name.
const Unit* FindUnit(std::string_view name);
// In the same order.
std::vector<std::string_view> UnitsThatBeginWith(std::string_view prefix);

// What the limit is on this machine, where this process stands: a sysctl, a cgroup's file or an
// rlimit. None when it is unlimited, not there, or built in.
std::optional<std::uint64_t> Configured(const Unit& unit);

// Cgroups below a directory of v2 that the kernel still has, removed ones among them: those live on
// as dying until RCU and the percpu counts are through with them, and as long as anything refers to
// them. None where it does not tell.
std::optional<std::uint64_t> CountCgroupsBelow(const std::string& directory);
// 0 or an errno.
int WriteFile(const std::string& path, std::string_view text);
// For one who has just made a user namespace: maps its ids outside to these inside. 0 or an errno.
int MapOwnIds(uid_t inside_uid, uid_t uid, gid_t inside_gid, gid_t gid);
// A user namespace of its own, where this process has all capabilities and keeps its ids.
absl::Status EnterUserNamespace();
// And in it a mount namespace of its own, with an empty tmpfs on /tmp.
absl::Status EnterMountNamespace();
// Changes to a user id that is not in use, for what is counted by user; root is exempt from most of
// it.
absl::Status BecomeNobodyElse();
// A forked child that does nothing and ends with this process. Its pid, or -errno.
int ForkIdle(std::uint64_t flags);
void EndChildren(std::vector<int>& pids);

}  // namespace brood::limits
