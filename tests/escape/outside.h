// SPDX-License-Identifier: Apache-2.0

// A directory outside of every isolate, which none may touch: with a root beside it whose author
// would like to.
#pragma once

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/kernel/machine_state.h"
#include "tests/program.h"

namespace brood {

// Below a directory of its own: `outside`, which everybody may write to, so that whoever gets there
// leaves a trace, and `root`, with a static busybox and what brood needs.
class OutsideTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    namespace fs = std::filesystem;
    if (!fs::exists(kBusybox))
      GTEST_SKIP() << "missing: a static " << kBusybox << " (busybox-static)";
    fs::create_directories(outside_);
    std::ofstream(outside_ / "marker") << "untouched\n";
    fs::permissions(outside_, fs::perms::all);
    MakeRoot();
  }
  void TearDown() override {
    std::filesystem::remove_all(base_);
    LeavesNothing::TearDown();
  }

  // A new root: what an earlier one had is gone.
  void MakeRoot() {
    namespace fs = std::filesystem;
    fs::remove_all(root_);
    for (const char* each : {"bin", "dev", "etc", "mnt", "proc", "run", "sys", "tmp", "var/tmp"}) {
      fs::create_directories(root_ / each);
    }
    fs::copy_file(kBusybox, root_ / "bin/busybox");
    for (const char* name : {"sh", "cat", "ls", "stat", "touch", "true", "pwd", "id", "mkdir"}) {
      fs::create_symlink("busybox", root_ / "bin" / name);
    }
    // The same path leads somewhere inside the root, too: what resolves it there finds it.
    fs::create_directories(Mirror(outside_ / "x"));
    std::ofstream(Mirror(outside_ / "file")) << "inside\n";
    // Whoever writes as the worker's root, as itself, or as anybody.
    fs::permissions(Mirror(outside_), fs::perms::all);
  }
  std::filesystem::path Mirror(const std::filesystem::path& path) const {
    return root_ / path.relative_path();
  }

  // All that is outside, with what would change if anybody did anything there.
  std::string Outside() const {
    std::vector<std::string> lines;
    const auto add = [&](const std::filesystem::path& path) {
      struct stat status = {};
      if (lstat(path.c_str(), &status) != 0) return;
      lines.push_back(fmt::format("{} {:o} {}:{} {} {} {}.{}", path.string(), status.st_mode,
                                  status.st_uid, status.st_gid, status.st_ino, status.st_size,
                                  status.st_mtim.tv_sec, status.st_mtim.tv_nsec));
    };
    add(outside_);
    for (const auto& each : std::filesystem::recursive_directory_iterator(outside_)) {
      add(each.path());
    }
    std::sort(lines.begin(), lines.end());
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    return text;
  }

  struct Result {
    int status;
    std::string out;
    std::string err;
  };
  static Result Run(
      const Words& arguments, const std::function<void()>& before_exec = [] {}) {
    Brood brood(arguments, before_exec);
    const int status = brood.Wait();
    return {status, brood.out(), brood.err()};
  }

  // A script for `brood burst`, which runs it outside first: there it does nothing.
  static Words Inside(const std::string& script) {
    return {"--", "/bin/sh", "-c",
            "read name < /proc/sys/kernel/hostname; [ $name != brood ] || { " + script + "; }"};
  }

  static constexpr const char* kBusybox = "/usr/bin/busybox";
  const std::filesystem::path base_ =
      std::filesystem::path("/var/tmp") / fmt::format("brood_outside_{}", getpid());
  const std::filesystem::path outside_ = base_ / "outside";
  const std::filesystem::path root_ = base_ / "root";
  // From anywhere in a root to the host's root, were there a way up.
  const std::string up_ = "../../../../../../../../../../../..";
};

}  // namespace brood
