// How many cgroups there may be below one, and how deep.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "bench/limits/unit.h"
#include "spawn/cgroup_host.h"
#include "spawn/cgroup_tree.h"
#include "spawn/status.h"

namespace brood::limits {
namespace {

class Cgroups : public Pusher {
 public:
  explicit Cgroups(bool deep) : deep_(deep) {}

  absl::Status Confine(std::uint64_t maximum) override {
    const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
    if (!host.ok()) return host.status();
    if (host->base.empty()) {
      return Error(absl::StatusCode::kUnavailable, "no cgroup v2 that may be built in");
    }
    BROOD_ASSIGN_OR_RETURN(top_, MakeRunCgroup(host->base, getppid()));
    const std::string file = top_ + (deep_ ? "/cgroup.max.depth" : "/cgroup.max.descendants");
    const int error = WriteFile(file, std::to_string(maximum));
    return error == 0 ? absl::OkStatus() : ErrnoError(error, "writing {} to {}", maximum, file);
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
  bool Drained() override {
    std::string text;
    if (ReadFileAt(AT_FDCWD, (top_ + "/cgroup.stat").c_str(), text) != 0) return false;
    // Removed ones live on as dying until RCU and the percpu counts are through with them.
    return FindCounter(text, "nr_descendants") == 0 &&
           FindCounter(text, "nr_dying_descendants") == 0;
  }

 private:
  const std::string& Innermost() const { return made_.empty() ? top_ : made_.back(); }

  bool deep_;
  std::string top_;
  std::vector<std::string> made_;
};

}  // namespace

std::vector<Unit> CgroupUnits() {
  return {{"cgroups", "cgroup.max.descendants", "mkdir", "cgroups below a cgroup", 0,
           [] { return std::make_unique<Cgroups>(false); }},
          {"cgroup-depth", "cgroup.max.depth", "mkdir", "cgroups inside each other", 0,
           [] { return std::make_unique<Cgroups>(true); }}};
}

}  // namespace brood::limits
