// SPDX-License-Identifier: Apache-2.0

// A cgroup with one limit, for one test's daemon and all that it starts.
//
// Where the controller is in a version 1 hierarchy, the cgroup is there, below our own: workers are
// born into a leaf of the unified hierarchy, and stay in the daemon's cgroup of every other one.
// Where cgroup2 has it, the cgroup is marked as delegated, so that the daemon builds in it.
#pragma once

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <sstream>

#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/cgroup_host.h"
#include "tests/daemon/daemon_fixture.h"

namespace brood {

class LimitCgroup {
 public:
  // Of "pids" or "memory".
  explicit LimitCgroup(const std::string& controller) : file_(controller + ".max") {
    if (MakeOnV1(controller)) {
      if (controller == "memory") file_ = "memory.limit_in_bytes";
    } else {
      MakeOnV2(controller);
    }
  }
  ~LimitCgroup() {
    if (directory_.empty()) return;
    // What the daemon had to move into to pass controllers on stays (kLauncherLeaf).
    rmdir(fmt::format("{}/{}", directory_, kLauncherLeaf).c_str());
    // A cgroup is busy until its last zombie is gone.
    EXPECT_TRUE(ComesTrue([&] { return rmdir(directory_.c_str()) == 0; })) << directory_;
  }
  LimitCgroup(const LimitCgroup&) = delete;
  LimitCgroup& operator=(const LimitCgroup&) = delete;

  bool there() const { return !directory_.empty(); }
  void Set(const std::string& limit) const {
    std::ofstream out(directory_ + "/" + file_);
    out << limit << std::flush;
    EXPECT_TRUE(out.good()) << file_ << " = " << limit;
  }
  // For the daemon, before it is executed.
  void Enter() const {
    const UniqueFd procs(open((directory_ + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (write(procs.get(), "0", 1) != 1) _exit(98);
  }

 private:
  bool MakeOnV1(const std::string& controller) {
    std::string directory;
    std::ifstream mounts("/proc/self/mounts");
    for (std::string line; std::getline(mounts, line);) {
      std::istringstream fields(line);
      std::string source, target, type, options;
      fields >> source >> target >> type >> options;
      if (type == "cgroup" &&
          ("," + options + ",").find("," + controller + ",") != std::string::npos) {
        directory = target;
      }
    }
    if (directory.empty()) return false;
    std::ifstream own("/proc/self/cgroup");
    for (std::string line; std::getline(own, line);) {
      const std::size_t at = line.find(":" + controller + ":");
      if (at != std::string::npos) directory += line.substr(at + controller.size() + 2);
    }
    return Make(directory);
  }
  void MakeOnV2(const std::string& controller) {
    const auto host = CgroupHost::Discover();
    if (!host.ok() || host->base.empty() || !host->Has(controller)) return;
    const auto base = OpenDirectoryAt(AT_FDCWD, host->base.c_str());
    const std::string_view controllers[] = {controller};
    if (!base.ok() || !EnableControllers(base->get(), controllers).ok()) return;
    if (Make(host->base)) {
      EXPECT_EQ(setxattr(directory_.c_str(), "trusted.delegate", "1", 1, 0), 0);
    }
  }
  bool Make(const std::string& parent) {
    directory_ = fmt::format("{}/brood_test_{}", parent, getpid());
    if (mkdir(directory_.c_str(), 0755) != 0) directory_.clear();
    return there();
  }

  std::string file_;
  std::string directory_;  // empty when there is none
};

}  // namespace brood
