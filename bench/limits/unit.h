// One limit, declared: what it is, how to set it low, how to add one, how to see that all are gone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

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

  // Enters a place of its own and sets the limit there. kUnavailable when the machine lacks it.
  virtual absl::Status Confine(std::uint64_t maximum) = 0;
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
};

struct Unit {
  std::string_view name;
  std::string_view limit;  // as spawn/limits names it
  std::string_view call;   // what is called to add one
  std::string_view what;
  std::uint64_t built_in;  // a maximum that cannot be set; 0 for one that can
  std::function<std::unique_ptr<Pusher>()> make;
};

std::vector<Unit> NamespaceUnits();
std::vector<Unit> ProcessUnits();
std::vector<Unit> CgroupUnits();
std::vector<Unit> FileUnits();

// 0 or an errno.
int WriteFile(const std::string& path, std::string_view text);
// A user namespace of its own, where this process has all capabilities and keeps its ids.
absl::Status EnterUserNamespace();
// A forked child that does nothing and ends with this process. Its pid, or -errno.
int ForkIdle(std::uint64_t flags);
void EndChildren(std::vector<int>& pids);
// A new cgroup that belongs to this run, in `mount`: "MOUNT/brood-stress-PID-START".
absl::StatusOr<std::string> MakeRunCgroup(const std::string& mount, int owner);

// Removes the cgroups of this process's own run, which must be empty or about to be.
absl::Status RemoveOwn();

}  // namespace brood::limits
