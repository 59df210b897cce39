// SPDX-License-Identifier: Apache-2.0

// What the tests of the cold path share: commands, a place for workers, and roots.
#pragma once

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/host/id_ranges.h"
#include "spawn/host/machine.h"
#include "spawn/launch/cold.h"
#include "tests/kernel/machine_state.h"
#include "tests/slowness.h"

namespace brood {

// A test that hangs is ended by this; no test expects to come near it.
inline const std::chrono::seconds kHangGuard = Patience(std::chrono::seconds(30));
// An errno that no operation of a worker returns by itself.
inline constexpr int kInjected = EXDEV;

inline Command Words(std::vector<std::string> argv) {
  Command command;
  command.argv = std::move(argv);
  command.env = DefaultEnvironment();
  command.stdio.mode = StdioMode::kCapture;
  command.timeout = kHangGuard;
  return command;
}

inline Command Shell(std::string_view script) {
  return Words({"/bin/sh", "-c", std::string(script)});
}

inline std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

inline std::string LinkText(const std::string& path) {
  char text[256];
  const ssize_t length = readlink(path.c_str(), text, sizeof(text));
  return std::string(text, length < 0 ? 0 : static_cast<std::size_t>(length));
}

inline std::string NamespaceOf(std::string_view pid, NamespaceKind kind) {
  return LinkText(fmt::format("/proc/{}/ns/{}", pid, NamespaceProcName(kind)));
}

inline std::string Ending(const Outcome& outcome) {
  return fmt::format("{} exit {} signal {} step {} errno {}: {}\nstderr: {}", EndName(outcome.end),
                     outcome.exit_code, outcome.signal, StepName(outcome.failure.step),
                     outcome.failure.error, outcome.message, outcome.err);
}

// Runs `body` in a forked copy of this process and returns its wait status.
inline int InAFork(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = -1;
  EXPECT_EQ(TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)), pid);
  return status;
}

// A place for workers, and the machine compared with before.
class ColdAnywhereTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    const auto host = CgroupHost::Discover();
    ASSERT_TRUE(host.ok()) << host.status();
    if (auto parent = ParentCgroup::Create(*host, {}); parent.ok()) parent_ = *std::move(parent);
    if (ThisMachine().id_ranges) {
      auto ids = IdRanges::Open(1);
      ASSERT_TRUE(ids.ok()) << ids.status();
      ids_ = *std::move(ids);
      id_first_ = ids_.Take().value();
    }
  }

  void TearDown() override {
    if (parent_) {
      const absl::Status removed = parent_->Remove();
      EXPECT_TRUE(removed.ok()) << removed;
      parent_.reset();
    }
    ids_ = {};
    LeavesNothing::TearDown();
  }

  static Blueprint Plan(const Spec& spec, const FaultInjection& fault = {}) {
    auto blueprint = Blueprint::Make(spec, PlanKind::kCold, fault);
    if (!blueprint.ok()) {
      ADD_FAILURE() << blueprint.status();
      std::abort();  // nothing sensible can follow
    }
    return *std::move(blueprint);
  }

  // A place in a fresh leaf.
  Birthplace Place() {
    Birthplace place;
    place.id_first = id_first_;
    if (!parent_) return place;
    place.parent_fd = parent_->fd();
    place.leaf = fmt::format("w{}", ++leaves_);
    const auto made = parent_->MakeLeaf(place.leaf, {});
    EXPECT_TRUE(made.ok()) << made.status();
    return place;
  }

  // Removing does not kill: it fails when anything of the worker still runs.
  void Remove(const Birthplace& place) {
    if (!parent_) return;
    const absl::Status removed = parent_->RemoveLeaf(place.leaf);
    EXPECT_TRUE(removed.ok()) << removed;
  }

  Outcome RunPlan(const Blueprint& blueprint, const Command& command) {
    const Birthplace place = Place();
    auto outcome = RunCold(blueprint, command, place, parent_ ? &*parent_ : nullptr);
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    Remove(place);
    return outcome.ok() ? *std::move(outcome) : Outcome{};
  }
  Outcome Run(const Spec& spec, const Command& command, const FaultInjection& fault = {}) {
    return RunPlan(Plan(spec, fault), command);
  }

  // Starts a worker that the test reaps itself.
  static absl::StatusOr<ColdWorker> Start(const Blueprint& blueprint, const Command& command,
                                          const Birthplace& place) {
    BROOD_ASSIGN_OR_RETURN(const LauncherFds launcher, LauncherFds::Open());
    return ColdWorker::Start(blueprint, command, place, launcher);
  }

  // The output of a script that must succeed.
  std::string Output(const Spec& spec, std::string_view script) {
    return Output(spec, Shell(script));
  }
  std::string Output(const Spec& spec, const Command& command) {
    const Outcome outcome = Run(spec, command);
    EXPECT_TRUE(outcome.ok()) << Ending(outcome);
    return outcome.out;
  }

  std::optional<ParentCgroup> parent_;
  IdRanges ids_;
  std::uint32_t id_first_ = 0;

 private:
  int leaves_ = 0;
};

class ColdTest : public ColdAnywhereTest {
 protected:
  void SetUp() override {
    if (!ThisMachine().id_ranges || !ThisMachine().mount_admin) GTEST_SKIP() << "missing: root";
    ColdAnywhereTest::SetUp();
    if (!HasFatalFailure() && !parent_) GTEST_SKIP() << "missing: a writable cgroup2 mount";
  }
  void TearDown() override {
    if (ThisMachine().id_ranges && ThisMachine().mount_admin) ColdAnywhereTest::TearDown();
  }
};

// A directory of the test's own, with a root made of a static busybox.
class ColdRootTest : public ColdTest {
 protected:
  void SetUp() override {
    ColdTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    std::filesystem::create_directories(directory_);
    // Static, or the root would need libraries.
    const std::string program = "/usr/bin/busybox";
    if (TextOf(program).find("/lib64/ld-linux") != std::string::npos ||
        !std::filesystem::exists(program)) {
      GTEST_SKIP() << "missing: a static /usr/bin/busybox (busybox-static)";
    }
    for (const char* name : {"bin", "proc", "dev", "tmp", "sys", "etc", "mnt", "run", "data"}) {
      std::filesystem::create_directories(root_ / name);
    }
    std::filesystem::copy_file(program, root_ / "bin/busybox");
    for (const char* name : {"sh", "cat", "ls", "id", "touch", "stat", "head", "wc", "readlink",
                             "rm", "dd", "grep", "mkdir"}) {
      std::filesystem::create_symlink("busybox", root_ / "bin" / name);
    }
    std::ofstream(root_ / "etc/original") << "original\n";
  }
  void TearDown() override {
    std::filesystem::remove_all(directory_);
    ColdTest::TearDown();
  }

  Spec Rooted(RootMode mode) const {
    Spec spec;
    spec.root.mode = mode;
    spec.root.directory = root_;
    return spec;
  }

  // A file beside the root.
  std::string Write(std::string_view name, std::string_view text, mode_t mode = 0644) const {
    const std::filesystem::path path = directory_ / name;
    std::ofstream(path) << text;
    chmod(path.c_str(), mode);
    return path;
  }

  const std::filesystem::path directory_ =
      std::filesystem::path(::testing::TempDir()) / fmt::format("brood_cold_{}", getpid());
  const std::filesystem::path root_ = directory_ / "root";
};

// Holds workers born in one leaf before their first instruction.
class Frozen {
 public:
  explicit Frozen(const std::string& leaf) : file_(leaf + "/cgroup.freeze") {
    std::ofstream(file_) << "1";
  }
  ~Frozen() { std::ofstream(file_) << "0"; }

 private:
  const std::string file_;
};

}  // namespace brood
