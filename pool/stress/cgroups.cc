// SPDX-License-Identifier: Apache-2.0

// How many cgroups there may be below one, and how deep.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pool/stress/leftovers.h"
#include "pool/stress/unit.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/cgroup_host.h"

namespace brood::limits {
namespace {

// The run's own cgroup of the v2 tree.
absl::StatusOr<std::string> MakeTop() {
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  if (!host.ok()) return host.status();
  if (host->base.empty()) {
    return Error(absl::StatusCode::kUnavailable, "no cgroup v2 in which cgroups may be made");
  }
  return MakeRunCgroup(host->base, getppid());
}

class Cgroups : public Pusher {
 public:
  explicit Cgroups(bool deep) : deep_(deep) {}

  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    BROOD_ASSIGN_OR_RETURN(top_, MakeTop());
    if (!wanted) return kNoMaximum;  // unless somebody has set one above
    const std::string file = top_ + (deep_ ? "/cgroup.max.depth" : "/cgroup.max.descendants");
    const int error = WriteFile(file, std::to_string(*wanted));
    if (error != 0) return ErrnoError(error, "writing {} to {}", *wanted, file);
    return *wanted;
  }
  int AddOne() override {
    std::string path = deep_ ? Innermost() + "/d" : fmt::format("{}/{}", top_, made_.size());
    // A path may not be longer than PATH_MAX, however deep the tree may go.
    if (mkdir(path.c_str(), 0755) != 0) return errno;
    made_.push_back(std::move(path));
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kMakeCgroup, .error = error, .cgroup = deep_ ? Innermost() : top_};
  }
  void Release() override {
    for (; !made_.empty(); made_.pop_back()) rmdir(made_.back().c_str());
  }
  bool Drained() override { return CountCgroupsBelow(top_) == 0; }
  std::optional<std::uint64_t> Counted() override { return CountCgroupsBelow(top_); }

 private:
  const std::string& Innermost() const { return made_.empty() ? top_ : made_.back(); }

  bool deep_;
  std::string top_;
  std::vector<std::string> made_;
};

// Removed cgroups that something still refers to: here a socket made inside each.
class DyingCgroups : public Pusher {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    BROOD_ASSIGN_OR_RETURN(top_, MakeTop());
    // The kernel sets no limit to them: cgroup.max.descendants counts the living.
    return wanted.value_or(kNoMaximum);
  }
  int AddOne() override {
    const std::string path = top_ + "/dying";
    if (mkdir(path.c_str(), 0755) != 0) return errno;
    int error = WriteFile(path + "/cgroup.procs", "0");
    UniqueFd pin(error == 0 ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1);
    if (error == 0 && !pin.valid()) error = errno;
    if (const int back = WriteFile(top_ + "/cgroup.procs", "0"); error == 0) error = back;
    if (rmdir(path.c_str()) != 0 && error == 0) error = errno;
    if (error == 0) held_.push_back(std::move(pin));
    return error;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {
        .call = error == EMFILE || error == ENFILE ? LimitedCall::kOpen : LimitedCall::kMakeCgroup,
        .error = error,
        .cgroup = top_};
  }
  void Release() override { held_.clear(); }
  bool Drained() override { return CountCgroupsBelow(top_) == 0; }
  std::optional<std::uint64_t> Counted() override { return CountCgroupsBelow(top_); }

 private:
  std::string top_;
  std::vector<UniqueFd> held_;
};

}  // namespace

std::vector<Unit> CgroupUnits() {
  return {{.name = "cgroups",
           .limit = "cgroup.max.descendants",
           .call = "mkdir",
           .what = "cgroups below a cgroup",
           .where = "cgroup.max.descendants",
           .cost = {.bytes = 20'000},
           .make = [] { return std::make_unique<Cgroups>(false); }},
          {.name = "cgroup-depth",
           .limit = "cgroup.max.depth",
           .call = "mkdir",
           .what = "cgroups inside each other",
           .where = "cgroup.max.depth",
           .cost = {.bytes = 20'000},
           .make = [] { return std::make_unique<Cgroups>(true); }},
          {.name = "dying-cgroups",
           .limit = "",
           .call = "rmdir",
           .what = "removed cgroups that a socket keeps",
           .cost = {.descriptors = 1, .bytes = 20'000},
           .make = [] { return std::make_unique<DyingCgroups>(); }}};
}

}  // namespace brood::limits
