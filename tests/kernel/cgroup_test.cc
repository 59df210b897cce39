// SPDX-License-Identifier: Apache-2.0

// Nests and leaves on a real cgroup2. Needs root and a writable cgroup2 mount. Each test works in a
// cgroup of its own, whose removal at the end fails if anything was left in it.
#include "spawn/cgroup/cgroup.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/cgroup/cgroup_tree.h"
#include "spawn/host/cgroup_host.h"
#include "tests/needs.h"
#include "tests/needs_limits.h"
#include "tests/slowness.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const milliseconds kSoon = Patience(std::chrono::seconds(5));

CgroupDeadline Soon() { return steady_clock::now() + kSoon; }

bool Exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

Limits OnlyPids(std::uint64_t pids) {
  return {.memory_bytes = std::nullopt, .pids = pids, .cpus = std::nullopt};
}

// Runs `body` in a child; returns the pid. The child never returns from here.
pid_t Fork(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  return pid;
}

// As Fork, born in the cgroup `directory`.
pid_t ForkInto(const std::string& directory, const std::function<int()>& body) {
  const UniqueFd cgroup(open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  clone_args args{};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<std::uint64_t>(cgroup.get());
  const pid_t pid = static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof(args)));
  if (pid == 0) _exit(body());
  return pid;
}

int Sleep() {
  while (true) pause();
}

// The wait status of a child.
int WaitFor(pid_t pid) {
  int status = -1;
  EXPECT_EQ(TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)), pid);
  return status;
}

int ExitCode(pid_t pid) {
  const int status = WaitFor(pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool WasKilled(pid_t pid) {
  const int status = WaitFor(pid);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

class CgroupTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto host = CgroupHost::Discover();
    ASSERT_TRUE(host.ok()) << host.status();
    if (host->layout == CgroupLayout::kNone) GTEST_SKIP() << "missing: a cgroup2 mount";
    if (host->base.empty()) GTEST_SKIP() << "missing: a writable cgroup2 mount";
    real_ = *host;
    host_ = *std::move(host);
    host_.base += "/brood_test_" + std::to_string(getpid());
    ASSERT_EQ(mkdir(host_.base.c_str(), 0755), 0) << ErrnoText(errno);
  }

  void TearDown() override {
    if (host_.base == real_.base) return;  // skipped
    // A test that enabled controllers leaves the launcher's leaf, empty by now.
    rmdir((host_.base + "/launcher").c_str());
    EXPECT_EQ(rmdir(host_.base.c_str()), 0) << "left behind in " << host_.base;
  }

  ParentCgroup MakeParent() {
    auto parent = ParentCgroup::Create(host_, {});
    EXPECT_TRUE(parent.ok()) << parent.status();
    return *std::move(parent);
  }

  std::string MakeLeaf(const ParentCgroup& parent, std::string_view name) {
    const auto leaf = parent.MakeLeaf(name, {});
    EXPECT_TRUE(leaf.ok()) << leaf.status();
    return parent.path() + "/" + std::string(name);
  }

  // What a launcher leaves behind that dies without a chance to clean up: a parent cgroup with a
  // leaf, and in that a process, whose pid comes back.
  pid_t LeaveParentBehind() {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd from(ends[0]);
    UniqueFd to(ends[1]);
    const pid_t launcher = Fork([&] {
      auto parent = ParentCgroup::Create(host_, {});
      if (!parent.ok() || !parent->MakeLeaf("worker", {}).ok()) return 1;
      ForkInto(parent->path() + "/worker", [&] {
        close(parent->fd());  // as exec would: a forked copy keeps the lock
        // Told only now: whoever clears before that would take it for a living launcher's.
        const pid_t self = getpid();
        if (write(to.get(), &self, sizeof(self)) != sizeof(self)) return 1;
        return Sleep();
      });
      _exit(0);  // not by return, which would run the parent cgroup's destructor
    });
    to.reset();
    pid_t worker = -1;
    EXPECT_EQ(read(from.get(), &worker, sizeof(worker)), static_cast<ssize_t>(sizeof(worker)));
    EXPECT_EQ(ExitCode(launcher), 0);
    return worker;
  }

  CgroupHost real_;  // as discovered
  CgroupHost host_;  // with a base of this test
};

TEST_F(CgroupTest, DiscoversThisHost) {
  EXPECT_THAT(real_.base, StartsWith(real_.mount));
  EXPECT_TRUE(Exists(real_.mount + "/cgroup.controllers"));
  EXPECT_EQ(real_.has_kill, Exists(host_.base + "/cgroup.kill") && !Without(Way::kCgroupKill));
  EXPECT_FALSE(real_.own.empty());
  EXPECT_TRUE(Exists(real_.own + "/cgroup.procs"));
}

TEST_F(CgroupTest, PrefersADelegatedCgroup) {
  const std::string own = host_.base + "/delegated";
  ASSERT_EQ(mkdir(own.c_str(), 0755), 0);
  ASSERT_EQ(mkdir((own + "/inner").c_str(), 0755), 0);
  if (setxattr(own.c_str(), "trusted.delegate", "1", 1, 0) != 0) {
    rmdir((own + "/inner").c_str());
    rmdir(own.c_str());
    GTEST_SKIP() << "missing: trusted extended attributes (CAP_SYS_ADMIN)";
  }
  for (const std::string& place : {own, own + "/inner"}) {
    EXPECT_EQ(ExitCode(ForkInto(place,
                                [&] {
                                  const auto host = CgroupHost::Discover();
                                  return host.ok() && host->own == place && host->base == own ? 0
                                                                                              : 1;
                                })),
              0)
        << place;
  }
  EXPECT_EQ(rmdir((own + "/inner").c_str()), 0);
  EXPECT_EQ(rmdir(own.c_str()), 0);
}

TEST_F(CgroupTest, SaysWhatToDoWithoutAPlace) {
  CgroupHost host = host_;
  host.base.clear();
  EXPECT_TRUE(absl::IsPermissionDenied(ParentCgroup::Create(host, {}).status()));
  host.layout = CgroupLayout::kNone;
  const absl::Status status = ParentCgroup::Create(host, {}).status();
  EXPECT_TRUE(absl::IsUnavailable(status));
  EXPECT_THAT(std::string(Message(status)), HasSubstr("mount -t cgroup2"));
  EXPECT_EQ(ParentCgroup::ClearLeftovers(host).value(), 0);
}

TEST_F(CgroupTest, ParentIsLockedWhileItLives) {
  ParentCgroup parent = MakeParent();
  EXPECT_THAT(parent.path(), StartsWith(host_.base + "/brood/"));
  const UniqueFd other(open(parent.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT_EQ(flock(other.get(), LOCK_EX | LOCK_NB), -1);
  EXPECT_EQ(errno, EWOULDBLOCK);
  EXPECT_NE(fcntl(parent.fd(), F_GETFD) & FD_CLOEXEC, 0);

  EXPECT_TRUE(parent.Remove().ok());
  EXPECT_EQ(parent.fd(), -1);
  EXPECT_FALSE(Exists(host_.base + "/brood"));
  EXPECT_TRUE(parent.Remove().ok());
}

TEST_F(CgroupTest, BroodDirectoryIsClosedToOthers) {
  const ParentCgroup parent = MakeParent();
  struct stat info {};
  ASSERT_EQ(stat((host_.base + "/brood").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0711U);
}

TEST_F(CgroupTest, RemovingOneParentLeavesTheOther) {
  ParentCgroup first = MakeParent();
  const ParentCgroup second = MakeParent();
  EXPECT_TRUE(first.Remove().ok());
  EXPECT_TRUE(Exists(second.path()));
}

TEST_F(CgroupTest, DestructorKillsWhatRuns) {
  pid_t pid = -1;
  {
    const ParentCgroup parent = MakeParent();
    pid = ForkInto(MakeLeaf(parent, "a"), Sleep);
    MakeLeaf(parent, "b");
  }
  EXPECT_TRUE(WasKilled(pid));
  EXPECT_FALSE(Exists(host_.base + "/brood"));
}

TEST_F(CgroupTest, MovingHandsTheParentOver) {
  ParentCgroup first = MakeParent();
  const std::string path = first.path();
  ParentCgroup second = MakeParent();
  const std::string replaced = second.path();
  second = std::move(first);
  EXPECT_FALSE(Exists(replaced));
  EXPECT_TRUE(Exists(path));
  EXPECT_EQ(second.path(), path);
}

TEST_F(CgroupTest, ForkedCopyLeavesTheParentAlone) {
  const ParentCgroup parent = MakeParent();
  auto* const copy = new ParentCgroup(MakeParent());
  const std::string path = copy->path();
  EXPECT_EQ(ExitCode(Fork([&] {
              delete copy;
              return 0;
            })),
            0);
  EXPECT_TRUE(Exists(path));
  delete copy;
  EXPECT_FALSE(Exists(path));
}

TEST_F(CgroupTest, LeafNamesAreFileNames) {
  const ParentCgroup parent = MakeParent();
  const std::string_view with_nul("a\0b", 3);
  for (const std::string_view name :
       {std::string_view(""), std::string_view("."), std::string_view(".."),
        std::string_view("a/b"), std::string_view("a\nb"), with_nul}) {
    EXPECT_TRUE(absl::IsInvalidArgument(parent.MakeLeaf(name, {}).status())) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(parent.RemoveLeaf(name))) << name;
    EXPECT_TRUE(absl::IsInvalidArgument(parent.KillLeaf(name))) << name;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(parent.MakeLeaf(std::string(256, 'x'), {}).status()));
  EXPECT_EQ(parent.MakeLeaf("worker-1", {}).value(), "worker-1");
  EXPECT_TRUE(absl::IsAlreadyExists(parent.MakeLeaf("worker-1", {}).status()));
  EXPECT_TRUE(parent.RemoveLeaf("worker-1").ok());
}

TEST_F(CgroupTest, FullParentIsNamedWithItsFile) {
  const ParentCgroup parent = MakeParent();
  MakeLeaf(parent, "a");
  ASSERT_EQ(WriteFileAt(AT_FDCWD, (parent.path() + "/cgroup.max.descendants").c_str(), "1"), 0);
  const absl::Status refused = parent.MakeLeaf("b", {}).status();
  EXPECT_THAT(std::string(Message(refused)),
              ::testing::AllOf(HasSubstr("EAGAIN"),
                               HasSubstr("cgroup.max.descendants is used up (1 "
                                         "of 1, " +
                                         parent.path()),
                               HasSubstr("echo max > ")));
}

TEST_F(CgroupTest, MissingLeafIsNotFound) {
  const ParentCgroup parent = MakeParent();
  EXPECT_TRUE(absl::IsNotFound(parent.KillLeaf("none")));
  EXPECT_TRUE(absl::IsNotFound(parent.RemoveLeaf("none")));
  EXPECT_TRUE(absl::IsNotFound(parent.LeafPopulated("none").status()));
  EXPECT_TRUE(absl::IsNotFound(parent.AwaitLeafEmpty("none", kSoon)));
  EXPECT_EQ(parent.ReadLeafUsage("none").cpu_us, std::nullopt);
}

TEST_F(CgroupTest, KillsAwaitsAndRemovesALeaf) {
  const ParentCgroup parent = MakeParent();
  const std::string leaf = MakeLeaf(parent, "leaf");
  EXPECT_FALSE(parent.LeafPopulated("leaf").value());
  // A process with a child of its own: nobody but the cgroup knows both.
  const pid_t pid = ForkInto(leaf, [] {
    fork();
    return Sleep();
  });
  EXPECT_TRUE(parent.LeafPopulated("leaf").value());
  EXPECT_TRUE(parent.KillLeaf("leaf").ok());
  EXPECT_TRUE(parent.AwaitLeafEmpty("leaf", kSoon).ok());
  EXPECT_FALSE(parent.LeafPopulated("leaf").value());
  // Not reaped yet: a zombie does not keep its cgroup.
  EXPECT_TRUE(parent.RemoveLeaf("leaf").ok());
  EXPECT_FALSE(Exists(leaf));
  EXPECT_TRUE(WasKilled(pid));
}

TEST_F(CgroupTest, AwaitIsWokenByTheKernel) {
  const ParentCgroup parent = MakeParent();
  const pid_t pid = ForkInto(MakeLeaf(parent, "leaf"), [] {
    usleep(100'000);
    return 0;
  });
  rusage before{};
  rusage after{};
  getrusage(RUSAGE_THREAD, &before);
  EXPECT_TRUE(parent.AwaitLeafEmpty("leaf", kSoon).ok());
  getrusage(RUSAGE_THREAD, &after);
  EXPECT_LE(after.ru_nvcsw - before.ru_nvcsw, 10) << "it should sleep once, not poll";
  EXPECT_EQ(ExitCode(pid), 0);
}

TEST_F(CgroupTest, AwaitAndRemoveGiveUpOnWhatLives) {
  const ParentCgroup parent = MakeParent();
  const pid_t pid = ForkInto(MakeLeaf(parent, "leaf"), Sleep);
  const absl::Status await = parent.AwaitLeafEmpty("leaf", milliseconds(20));
  EXPECT_TRUE(absl::IsDeadlineExceeded(await));
  EXPECT_THAT(std::string(Message(await)), HasSubstr(parent.path() + "/leaf"));
  EXPECT_TRUE(absl::IsDeadlineExceeded(parent.RemoveLeaf("leaf", milliseconds(20))));
  EXPECT_TRUE(parent.LeafPopulated("leaf").value());
  EXPECT_TRUE(parent.KillAll().ok());
  EXPECT_TRUE(WasKilled(pid));
}

TEST_F(CgroupTest, RemovesWhatTheWorkerMadeInItsLeaf) {
  // Deeper than there are descriptors for one a level.
  constexpr int kDepth = 300;
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old), 0);
  const ParentCgroup parent = MakeParent();
  std::string path = MakeLeaf(parent, "leaf");
  const pid_t at_the_top = ForkInto(path, Sleep);
  for (int depth = 0; depth < kDepth; ++depth) {
    ASSERT_EQ(mkdir((path + "/side").c_str(), 0755), 0) << ErrnoText(errno);
    path += "/d";
    ASSERT_EQ(mkdir(path.c_str(), 0755), 0) << ErrnoText(errno);
  }
  const pid_t at_the_bottom = ForkInto(path, Sleep);
  const rlimit few{64, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  EXPECT_TRUE(parent.KillLeaf("leaf").ok());
  const absl::Status removed = parent.RemoveLeaf("leaf", milliseconds(30'000));
  EXPECT_TRUE(removed.ok()) << removed;
  setrlimit(RLIMIT_NOFILE, &old);
  EXPECT_TRUE(WasKilled(at_the_top));
  EXPECT_TRUE(WasKilled(at_the_bottom));
}

TEST_F(CgroupTest, ReportsOnlyTheUsageThatTheKernelKeeps) {
  const ParentCgroup parent = MakeParent();
  const pid_t pid = ForkInto(MakeLeaf(parent, "leaf"), [] {
    const auto end = steady_clock::now() + milliseconds(30);
    while (steady_clock::now() < end) {
    }
    return 0;
  });
  EXPECT_EQ(ExitCode(pid), 0);
  const LeafUsage usage = parent.ReadLeafUsage("leaf");
  ASSERT_TRUE(usage.cpu_us.has_value());
  EXPECT_GT(*usage.cpu_us, 1000U);
  // The parent cgroup was made without controllers.
  EXPECT_EQ(usage.memory_peak_bytes, std::nullopt);
  EXPECT_EQ(usage.pids_peak, std::nullopt);
  EXPECT_EQ(usage.oom_kills, std::nullopt);
}

TEST_F(CgroupTest, KillsByPidWhereTheKernelHasNoKillFile) {
  const ParentCgroup parent = MakeParent();
  const std::string leaf = MakeLeaf(parent, "leaf");
  ASSERT_EQ(mkdir((leaf + "/below").c_str(), 0755), 0);
  const pid_t first = ForkInto(leaf, [] {
    fork();
    return Sleep();
  });
  const pid_t second = ForkInto(leaf + "/below", Sleep);
  const absl::Status killed = KillTreeByPid(parent.fd(), "leaf", Soon());
  EXPECT_TRUE(killed.ok()) << killed;
  EXPECT_TRUE(WasKilled(first));
  EXPECT_TRUE(WasKilled(second));
}

TEST_F(CgroupTest, ClearsTheParentsOfDeadLaunchersOnly) {
  const ParentCgroup living = MakeParent();
  const pid_t bystander = ForkInto(MakeLeaf(living, "leaf"), Sleep);
  LeaveParentBehind();
  LeaveParentBehind();
  EXPECT_EQ(ParentCgroup::ClearLeftovers(host_).value(), 2);
  EXPECT_EQ(ParentCgroup::ClearLeftovers(host_).value(), 0);
  EXPECT_TRUE(living.LeafPopulated("leaf").value());
  EXPECT_TRUE(living.KillAll().ok());
  EXPECT_TRUE(WasKilled(bystander));
}

TEST_F(CgroupTest, ClearingSparesTheParentItRunsIn) {
  LeaveParentBehind();
  const UniqueFd brood = *OpenDirectoryAt(AT_FDCWD, (host_.base + "/brood").c_str());
  const std::string name = ChildNames(brood.get()).value().at(0);
  EXPECT_EQ(ExitCode(ForkInto(host_.base + "/brood/" + name + "/worker",
                              [&] {
                                CgroupHost inside = *CgroupHost::Discover();
                                inside.base = host_.base;
                                return ParentCgroup::ClearLeftovers(inside).value();
                              })),
            0);
  EXPECT_EQ(ParentCgroup::ClearLeftovers(host_).value(), 1);
}

TEST_F(CgroupTest, TwoMayClearAtOnce) {
  constexpr int kParents = 6;
  for (int i = 0; i < kParents; ++i) LeaveParentBehind();
  std::atomic<int> cleared = 0;
  const auto clear = [&] {
    const auto count = ParentCgroup::ClearLeftovers(host_);
    EXPECT_TRUE(count.ok()) << count.status();
    cleared += count.value_or(0);
  };
  std::thread first(clear);
  std::thread second(clear);
  first.join();
  second.join();
  EXPECT_EQ(cleared, kParents);
}

TEST_F(CgroupTest, CreatingRemovingAndClearingDoNotDisturbEachOther) {
  constexpr int kRounds = 50;
  const auto come_and_go = [&] {
    for (int round = 0; round < kRounds; ++round) {
      auto parent = ParentCgroup::Create(host_, {});
      ASSERT_TRUE(parent.ok()) << parent.status();
      ASSERT_TRUE(parent->MakeLeaf("leaf", {}).ok());
      const absl::Status removed = parent->Remove();
      ASSERT_TRUE(removed.ok()) << removed;
    }
  };
  std::thread first(come_and_go);
  std::thread second(come_and_go);
  for (int round = 0; round < kRounds; ++round) {
    const auto cleared = ParentCgroup::ClearLeftovers(host_);
    EXPECT_TRUE(cleared.ok()) << cleared.status();
    EXPECT_EQ(cleared.value_or(0), 0);
  }
  first.join();
  second.join();
}

TEST_F(CgroupTest, RefusesLimitsThatTheHostCannotKeep) {
  struct Case {
    std::string_view controller;
    Limits limits;
  };
  const Case cases[] = {{"memory", {.memory_bytes = 64 << 20, .pids = {}, .cpus = {}}},
                        {"pids", OnlyPids(8)},
                        {"cpu", {.memory_bytes = {}, .pids = {}, .cpus = 0.5}}};
  for (const Case& test : cases) {
    if (real_.Has(test.controller)) continue;
    const absl::Status status = ParentCgroup::Create(host_, test.limits).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(Message(status)),
                StartsWith(fmt::format("limiting {}: ", test.controller)));
    const auto v1 = std::find_if(real_.v1.begin(), real_.v1.end(), [&](const V1Controller& held) {
      return held.name == test.controller;
    });
    if (v1 != real_.v1.end()) {
      EXPECT_THAT(std::string(Message(status)), HasSubstr(v1->mount));
    }
  }
}

TEST_F(CgroupTest, LimitThatTheParentWasNotMadeForLeavesNoLeaf) {
  const ParentCgroup parent = MakeParent();
  const absl::Status status = parent.MakeLeaf("leaf", OnlyPids(8)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(Message(status)), HasSubstr("pids.max"));
  EXPECT_FALSE(Exists(parent.path() + "/leaf"));
}

// Tests of limits: they need the controller, from the real base down to the test's own.
class CgroupLimitTest : public CgroupTest {
 protected:
  // Skips the test unless `limits` can be kept. What the real base is made to pass on stays so.
  void Require(const Limits& limits) {
    BROOD_NEEDS_LIMITS(limits);
    const UniqueFd base = *OpenDirectoryAt(AT_FDCWD, real_.base.c_str());
    const absl::Status enabled = EnableControllers(base.get(), ControllersFor(limits));
    ASSERT_TRUE(enabled.ok()) << enabled;
  }
};

TEST_F(CgroupLimitTest, PidsLimitStopsForks) {
  const Limits limits = OnlyPids(2);
  if (Require(limits); IsSkipped() || HasFatalFailure()) return;
  const auto parent = ParentCgroup::Create(host_, limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  ASSERT_TRUE(parent->MakeLeaf("leaf", limits).ok());
  const pid_t pid = ForkInto(parent->path() + "/leaf", [] {
    if (Fork(Sleep) < 0) return 1;
    return Fork(Sleep) < 0 && errno == EAGAIN ? 0 : 2;
  });
  EXPECT_EQ(ExitCode(pid), 0);
  EXPECT_EQ(TextOf(parent->path() + "/leaf/pids.max"), "2\n");
  if (Exists(parent->path() + "/leaf/pids.peak")) {
    EXPECT_EQ(parent->ReadLeafUsage("leaf").pids_peak, 2U);
  }
}

TEST_F(CgroupLimitTest, MemoryLimitKillsAndIsCounted) {
  const Limits limits{.memory_bytes = 16 << 20, .pids = {}, .cpus = {}};
  if (Require(limits); IsSkipped() || HasFatalFailure()) return;
  const auto parent = ParentCgroup::Create(host_, limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  ASSERT_TRUE(parent->MakeLeaf("leaf", limits).ok());
  EXPECT_EQ(TextOf(parent->path() + "/leaf/memory.oom.group"), "1\n");
  const pid_t pid = ForkInto(parent->path() + "/leaf", [] {
    std::vector<char> memory(64 << 20, 'x');
    return memory.back() == 'x' ? 0 : 1;
  });
  EXPECT_TRUE(WasKilled(pid));
  EXPECT_GE(parent->ReadLeafUsage("leaf").oom_kills.value_or(0), 1U);
}

TEST_F(CgroupLimitTest, CpuLimitIsWritten) {
  const Limits limits{.memory_bytes = {}, .pids = {}, .cpus = 0.25};
  if (Require(limits); IsSkipped() || HasFatalFailure()) return;
  const auto parent = ParentCgroup::Create(host_, limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  ASSERT_TRUE(parent->MakeLeaf("leaf", limits).ok());
  EXPECT_EQ(TextOf(parent->path() + "/leaf/cpu.max"), "25000 100000\n");
}

TEST_F(CgroupLimitTest, EachLimitIsWrittenAndRead) {
  const Limits limits{.memory_bytes = 64 << 20,
                      .memory_high_bytes = 32 << 20,
                      .pids = 5,
                      .cpus = 0.5,
                      .cpu_period_us = 20'000,
                      .cpu_weight = 50,
                      .cpuset_cpus = "0",
                      .cpuset_mems = "0"};
  if (Require(limits); IsSkipped() || HasFatalFailure()) return;
  const auto parent = ParentCgroup::Create(host_, limits);
  ASSERT_TRUE(parent.ok()) << parent.status();
  const auto leaf = parent->MakeLeaf("leaf", limits);
  ASSERT_TRUE(leaf.ok()) << leaf.status();
  const std::string path = parent->path() + "/leaf/";
  EXPECT_EQ(TextOf(path + "memory.max"), "67108864\n");
  EXPECT_EQ(TextOf(path + "memory.high"), "33554432\n");
  EXPECT_EQ(TextOf(path + "memory.oom.group"), "1\n");
  EXPECT_EQ(TextOf(path + "pids.max"), "5\n");
  EXPECT_EQ(TextOf(path + "cpu.max"), "10000 20000\n");
  EXPECT_EQ(TextOf(path + "cpu.weight"), "50\n");
  EXPECT_EQ(TextOf(path + "cpuset.cpus.effective"), "0\n");
  EXPECT_EQ(TextOf(path + "cpuset.mems.effective"), "0\n");
  const LeafUsage usage = parent->ReadLeafUsage("leaf");
  EXPECT_EQ(usage.cpu_throttled_us, 0U);
  EXPECT_EQ(usage.memory_high_events, 0U);
  EXPECT_EQ(usage.oom_kills, 0U);
  EXPECT_EQ(usage.pids_refused, 0U);
}

// Enabling needs any controller at all; these take the first that the host has.
class CgroupEnableTest : public CgroupTest {
 protected:
  void SetUp() override {
    BROOD_NEEDS_ROOT();  // its own processes are in what an ordinary user was handed
    CgroupTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    if (real_.controllers.empty()) GTEST_SKIP() << "missing: any cgroup2 controller";
    controller_ = real_.controllers.front();
    const std::string passed = TextOf(real_.base + "/cgroup.subtree_control");
    passed_on_already_ = passed.find(controller_) != std::string::npos;
    ASSERT_TRUE(Enable(real_.base).ok());
  }

  void TearDown() override {
    CgroupTest::TearDown();
    if (controller_.empty() || passed_on_already_) return;
    const UniqueFd base = *OpenDirectoryAt(AT_FDCWD, real_.base.c_str());
    WriteFileAt(base.get(), "cgroup.subtree_control", "-" + controller_);
  }

  absl::Status Enable(const std::string& directory) const {
    BROOD_ASSIGN_OR_RETURN(const UniqueFd fd, OpenDirectoryAt(AT_FDCWD, directory.c_str()));
    const std::string_view controllers[] = {controller_};
    return EnableControllers(fd.get(), controllers);
  }

  std::string controller_;
  bool passed_on_already_ = false;
};

TEST_F(CgroupEnableTest, LauncherAndItsChildrenMoveOutOfTheWay) {
  EXPECT_EQ(ExitCode(ForkInto(host_.base,
                              [&] {
                                const pid_t child = Fork(Sleep);
                                if (!Enable(host_.base).ok() || !Enable(host_.base).ok()) return 1;
                                const auto host = CgroupHost::Discover();
                                if (!host.ok() || host->own != host_.base + "/launcher") return 2;
                                if (host->base != host_.base)
                                  return 3;  // found again from one level down
                                kill(child, SIGKILL);
                                WaitFor(child);
                                return 0;
                              })),
            0);
  EXPECT_THAT(TextOf(host_.base + "/cgroup.subtree_control"), HasSubstr(controller_));
  EXPECT_EQ(TextOf(host_.base + "/cgroup.procs"), "");
}

TEST_F(CgroupEnableTest, StrangersAreNotMoved) {
  const pid_t stranger = ForkInto(host_.base, Sleep);
  EXPECT_EQ(ExitCode(ForkInto(host_.base,
                              [&] {
                                const absl::Status status = Enable(host_.base);
                                const std::string named = fmt::format("process {} in it", stranger);
                                return absl::IsFailedPrecondition(status) &&
                                               Message(status).find(named) != std::string_view::npos
                                           ? 0
                                           : 1;
                              })),
            0);
  EXPECT_FALSE(Exists(host_.base + "/launcher"));
  kill(stranger, SIGKILL);
  EXPECT_TRUE(WasKilled(stranger));
}

}  // namespace
}  // namespace brood
