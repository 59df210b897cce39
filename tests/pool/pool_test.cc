// SPDX-License-Identifier: Apache-2.0

// A pool: every path and template, many at once.
#include "pool/pool.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <latch>
#include <mutex>
#include <set>

#include "spawn/host/machine.h"
#include "spawn/launch/reap.h"
#include "spawn/plan/blueprint.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/pool/pool_test.h"
#include "tests/pool/requests.h"
#include "tests/slowness.h"

namespace brood {
namespace {

using std::chrono::seconds;

TEST_F(PoolTest, ParkedWorkerRunsACommandAndTellsAll) {
  Start(2);
  AwaitParked(2);
  const Outcome outcome = Run(ShellRequest("echo out; echo err >&2; exit 7"));
  EXPECT_EQ(outcome.end, End::kExited) << outcome.message;
  EXPECT_EQ(outcome.exit_code, 7);
  EXPECT_EQ(outcome.spawn_path, SpawnPath::kParked);
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_EQ(outcome.inside_pid, 1);
  EXPECT_GT(outcome.host_pid, 1);
  EXPECT_GT(outcome.park_us, 0);
  ASSERT_GE(outcome.timeline.size(), 3U);
  EXPECT_EQ(outcome.timeline.back().name, "reaped");
  for (std::size_t i = 1; i < outcome.timeline.size(); ++i) {
    EXPECT_LE(outcome.timeline[i - 1].at_us, outcome.timeline[i].at_us);
  }
}

TEST_F(PoolTest, EveryPathIsolatesAlike) {
  Start(2);
  const std::string script =
      "id -u; hostname; cat /proc/self/cgroup | tail -n 1; grep -c . /proc/net/dev;"
      "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; touch /x 2>&1";
  std::string first;
  for (const SpawnPath path : {SpawnPath::kCold, SpawnPath::kZygote, SpawnPath::kParked}) {
    Request request = ShellRequest(script);
    request.path = path;
    const Outcome outcome = Run(request);
    EXPECT_EQ(outcome.spawn_path, path);
    EXPECT_EQ(outcome.end, End::kExited) << outcome.message;
    if (first.empty()) first = outcome.out;
    EXPECT_EQ(outcome.out, first) << SpawnPathName(path);
  }
  EXPECT_NE(first.find("0\nbrood\n0::/\n"), std::string::npos) << first;
  EXPECT_NE(first.find("CapBnd:\t0000000000000000"), std::string::npos) << first;
  EXPECT_NE(first.find("Read-only file system"), std::string::npos) << first;
}

TEST_F(PoolTest, NoTwoWorkersShareANamespace) {
  Start(2);
  AwaitParked(2);
  const std::string script =
      "for n in mnt pid net ipc uts user cgroup time; do readlink /proc/self/ns/$n; done; sleep "
      "0.2";
  std::set<std::string> seen;
  for (const char* name : {"mnt", "pid", "net", "ipc", "uts", "user", "cgroup", "time"}) {
    seen.insert(std::filesystem::read_symlink(std::string("/proc/self/ns/") + name).string());
  }
  // Both alive at once: an inode number may be given again later.
  for (const Outcome& outcome : RunMany(2, ShellRequest(script))) {
    std::istringstream lines(outcome.out);
    std::string line;
    int count = 0;
    while (std::getline(lines, line)) {
      EXPECT_TRUE(seen.insert(line).second) << line << " is shared";
      ++count;
    }
    EXPECT_EQ(count, 8);
  }
}

// The kernel goes through all sysfs that there are to make one more, so workers whose network
// cannot change have one together.
TEST_F(PoolTest, SysShowsLoAloneAndIsOnlySharedWhereNothingCanBeAdded) {
  for (const bool may_add : {false, true}) {
    SCOPED_TRACE(may_add);
    TemplateOptions tmpl;
    if (may_add) tmpl.spec.capabilities = {"NET_ADMIN"};
    Start(2, std::move(tmpl));
    AwaitParked(2);
    // Both alive at once: a device number may be given again later.
    const std::vector<Outcome> two =
        RunMany(2, ShellRequest("ls /sys/class/net; stat -c %d /sys; cat /proc/self/mountinfo | "
                                "grep -c ' - cgroup2 '; echo > /sys/kernel/profiling; sleep 0.3"));
    ASSERT_EQ(two.size(), 2U);
    for (const Outcome& outcome : two) {
      EXPECT_EQ(outcome.out.substr(0, 3), "lo\n") << outcome.out << outcome.err;
      EXPECT_NE(outcome.err.find("/sys/kernel/profiling"), std::string::npos) << "written";
    }
    const bool shared = !may_add && ThisMachine().mount_admin;
    EXPECT_EQ(two[0].out == two[1].out, shared) << two[0].out << two[1].out;
    EXPECT_TRUE(pool_->Shutdown(Patience(seconds(20))).ok());
    pool_.reset();
  }
}

TEST_F(PoolTest, EachWorkerHasHostIdsOfItsOwn) {
  BROOD_NEEDS_ROOT();
  Start(4);
  AwaitParked(4);
  std::set<std::string> maps;
  const auto outcomes = RunMany(4, ShellRequest("cat /proc/self/uid_map; sleep 0.2"));
  for (const Outcome& outcome : outcomes) maps.insert(outcome.out);
  EXPECT_EQ(maps.size(), 4U);
}

TEST_F(PoolTest, AThousandAtOnce) {
  Start(64);
  Request request;
  request.command.argv = {"/bin/true"};
  const auto outcomes = RunMany(1000, request);
  EXPECT_EQ(outcomes.size(), 1000U);
  std::set<std::uint64_t> ids;
  for (const Outcome& outcome : outcomes) {
    EXPECT_TRUE(outcome.ok()) << EndName(outcome.end) << " " << outcome.message;
    ids.insert(outcome.id);
  }
  EXPECT_EQ(ids.size(), 1000U) << "an outcome was given twice";
}

TEST_F(PoolTest, MoreCapturesAtOnceThanLanes) {
  Start(100);
  const auto outcomes = RunMany(100, ShellRequest("echo $$; echo e >&2"));
  for (const Outcome& outcome : outcomes) {
    EXPECT_EQ(outcome.out, "1\n") << outcome.message;
    EXPECT_EQ(outcome.err, "e\n");
  }
}

TEST_F(PoolTest, LongArgumentsArrive) {
  Start(1);
  Request request = ShellRequest("echo ${#A} ${#B}");
  request.command.env.push_back("A=" + std::string(100'000, 'a'));
  request.command.env.push_back("B=" + std::string(120'000, 'b'));
  // More of them at once than there are areas for long messages.
  for (const Outcome& outcome : RunMany(20, request)) {
    EXPECT_EQ(outcome.out, "100000 120000\n") << outcome.message;
  }
}

TEST_F(PoolTest, AnEmptyPoolDoesAsTheCallerChose) {
  TemplateOptions tmpl;
  tmpl.max_workers = 1;
  Start(1, std::move(tmpl));
  AwaitParked(1);
  std::latch done(1);
  ASSERT_TRUE(
      pool_->Submit(ShellRequest("sleep 0.5"), [&](const auto&) { done.count_down(); }).ok());

  Request refuse = ShellRequest("true");
  refuse.when_empty = WhenEmpty::kRefuse;
  const absl::StatusOr<Outcome> refused = pool_->Run(refuse);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);

  Request slower = ShellRequest("echo slower");
  slower.when_empty = WhenEmpty::kSlower;
  const Outcome other = Run(slower);
  EXPECT_EQ(other.spawn_path, SpawnPath::kZygote);
  // Behind what the whole pool does without.
  ASSERT_EQ(other.fallbacks.size(), pool_->Stats().fallbacks.size() + 1);
  EXPECT_EQ(other.fallbacks.back().wanted, "parked");
  done.wait();
  EXPECT_EQ(Run(ShellRequest("echo waited")).out, "waited\n");
}

TEST_F(PoolTest, TemplatesStandSideBySide) {
  PoolOptions options;
  TemplateOptions one;
  one.name = "one";
  one.spec.hostname = "first";
  TemplateOptions two;
  two.name = "two";
  two.spec.hostname = "second";
  two.spec.ns(NamespaceKind::kNet).mode = NamespaceMode::kHost;
  options.templates = {one, two};
  auto pool = Pool::Create(options);
  ASSERT_TRUE(pool.ok()) << pool.status();
  pool_ = *std::move(pool);
  for (const auto& [name, hostname] : {std::pair{"one", "first\n"}, {"two", "second\n"}}) {
    Request request = ShellRequest("hostname");
    request.template_name = name;
    const Outcome outcome = Run(request);
    EXPECT_EQ(outcome.out, hostname);
    EXPECT_EQ(outcome.template_name, name);
  }
}

TEST_F(PoolTest, ClocksCanBeShiftedForATemplate) {
  TemplateOptions tmpl;
  tmpl.spec.time_offsets.boottime = std::chrono::hours(1000);
  tmpl.spec.time_offsets.monotonic = std::chrono::hours(1000);
  Start(1, std::move(tmpl));
  double host = 0;
  std::ifstream("/proc/uptime") >> host;
  const Outcome outcome = Run(ShellRequest("cat /proc/uptime"));
  ASSERT_TRUE(outcome.ok()) << outcome.message;
  EXPECT_GE(std::stod(outcome.out), host + 3'600'000 - 1);
}

TEST_F(PoolTest, RootModesHoldInTemplates) {
  BROOD_NEEDS_ROOT();  // of the tree's owners, to have them inside
  BROOD_NEEDS_WAY(Way::kIdmap);
  const char* rootfs = std::getenv("BROOD_TEST_ROOTFS");
  if (rootfs == nullptr) GTEST_SKIP() << "needs BROOD_TEST_ROOTFS, a Debian root directory";
  for (const RootMode mode : {RootMode::kReadOnly, RootMode::kOverlay}) {
    TemplateOptions tmpl;
    tmpl.spec.root = {mode, rootfs, 16U << 20};
    Start(1, std::move(tmpl));
    const Outcome outcome =
        Run(ShellRequest("stat -c %u /etc/passwd /root; echo x > /etc/new && cat /etc/new"));
    const bool writable = mode == RootMode::kOverlay;
    EXPECT_EQ(outcome.out, writable ? "0\n0\nx\n" : "0\n0\n") << outcome.err << outcome.message;
    EXPECT_FALSE(std::filesystem::exists(std::string(rootfs) + "/etc/new"));
    EXPECT_TRUE(pool_->Shutdown(kHang).ok());
    pool_.reset();
  }
}

}  // namespace
}  // namespace brood
