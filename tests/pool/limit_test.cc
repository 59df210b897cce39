// SPDX-License-Identifier: Apache-2.0

// Limits of real controllers: what they stop, what the outcome tells of it, and that everybody else
// goes on being served meanwhile. What this machine's cgroup2 lacks is skipped by name.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "pool/pool.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/host/block_device.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/limits/limits_met.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs_limits.h"
#include "tests/pool/requests.h"
#include "tests/pool/tiny_memory.h"
#include "tests/slowness.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Told(const Outcome& outcome) {
  return fmt::format("{} {} {} {} {}", EndName(outcome.end), outcome.exit_code, outcome.signal,
                     outcome.message, outcome.err);
}

// Runs commands of the template "others" for as long as it lives, each of which must do well.
class Others {
 public:
  explicit Others(Pool& pool) {
    // On emulated processors more of them would take all there is.
    const int threads = Slowness() > 1 ? 2 : 50;
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([&] {
        while (!stop_) {
          Request request;
          request.template_name = "others";
          request.command.argv = {"/bin/true"};
          request.command.env = DefaultEnvironment();
          const absl::StatusOr<Outcome> outcome = pool.Run(std::move(request));
          EXPECT_TRUE(outcome.ok() && outcome->ok())
              << (outcome.ok() ? Told(*outcome) : outcome.status().ToString());
          ++served_;
        }
      });
    }
  }
  ~Others() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    EXPECT_GT(served_, 0);
  }
  Others(const Others&) = delete;
  Others& operator=(const Others&) = delete;

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<int> served_ = 0;
  std::vector<std::thread> threads_;
};

// On the disk that /var/tmp lies on, writable for everybody.
struct ScratchDirectory {
  ScratchDirectory() {
    std::filesystem::create_directory(path);
    std::filesystem::permissions(path, std::filesystem::perms::all);
  }
  ~ScratchDirectory() { std::filesystem::remove_all(path); }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string path = fmt::format("/var/tmp/brood_limit_test_{}", getpid());
};

class LimitTest : public LeavesNothing {
 protected:
  void TearDown() override {
    if (pool_) {
      const absl::Status status = pool_->Shutdown(Patience(seconds(20)));
      EXPECT_TRUE(status.ok()) << status;
      pool_.reset();
    }
    LeavesNothing::TearDown();
  }

  // A pool of a template "limited" with these, and "others" without limits. False when the test is
  // to end: skipped, or failed.
  bool Start(const Limits& limits, std::uint32_t parked = 1) {
    Spec spec;
    spec.limits = limits;
    return StartWith(spec, parked);
  }
  bool StartWith(const Spec& spec, std::uint32_t parked = 1) {
    [&] { BROOD_NEEDS_LIMITS(spec.limits); }();
    if (IsSkipped()) return false;
    PoolOptions options;
    options.templates.push_back({.name = "limited", .spec = spec, .parked = parked, .fault = {}});
    options.templates.push_back({.name = "others", .spec = {}, .parked = 8, .fault = {}});
    auto pool = Pool::Create(std::move(options));
    EXPECT_TRUE(pool.ok()) << pool.status();
    if (!pool.ok()) return false;
    pool_ = *std::move(pool);
    const absl::Status ready = pool_->AwaitParked("others", 4, kHang);
    EXPECT_TRUE(ready.ok()) << ready;
    return ready.ok();
  }

  Outcome Run(Request request) {
    absl::StatusOr<Outcome> outcome = pool_->Run(std::move(request));
    EXPECT_TRUE(outcome.ok()) << outcome.status();
    return outcome.ok() ? *std::move(outcome) : Outcome{};
  }

  std::string ParentPath() { return pool_->CgroupPath(); }

  std::unique_ptr<Pool> pool_;
};

TEST_F(LimitTest, AForkBombIsStoppedByPidsMax) {
  constexpr std::uint64_t kPids = 24;
  if (!Start({.pids = kPids})) return;
  const Others others(*pool_);
  Request bomb = GuardedShell("bomb() { bomb | bomb & bomb; }; bomb 2>/dev/null");
  bomb.command.timeout = Patience(seconds(3));  // where it does not burn out by itself
  const Outcome outcome = Run(std::move(bomb));
  EXPECT_FALSE(outcome.ok());
  EXPECT_GT(outcome.usage.pids_refused.value_or(0), 0U) << Told(outcome);
  EXPECT_EQ(outcome.usage.pids_peak.value_or(kPids), kPids);
  EXPECT_THAT(outcome.limits_met,
              ElementsAre(HasSubstr("its own pids limit (24, pids.max) was reached")));
}

TEST_F(LimitTest, AMemoryHogIsStoppedByItsOwnLimit) {
  constexpr std::uint64_t kBytes = 32 << 20;
  if (!Start({.memory_bytes = kBytes})) return;
  const Others others(*pool_);
  for (const SpawnPath path : {SpawnPath::kParked, SpawnPath::kZygote, SpawnPath::kCold}) {
    Request hog = GuardedShell("head -c 200m /dev/zero | tail");
    hog.path = path;
    const Outcome outcome = Run(std::move(hog));
    EXPECT_EQ(outcome.end, End::kOom) << SpawnPathName(path) << " " << Told(outcome);
    EXPECT_EQ(CauseOfOom(outcome.usage), OomCause::kOwnLimit);
    // All of it, not only the process that asked for too much.
    EXPECT_GE(outcome.usage.oom_kills.value_or(0), 2U);
    EXPECT_EQ(outcome.usage.oom_group_kills.value_or(1), 1U);
    if (outcome.usage.memory_peak_bytes) {
      EXPECT_GT(*outcome.usage.memory_peak_bytes, kBytes * 9 / 10);
      EXPECT_LE(*outcome.usage.memory_peak_bytes, kBytes + (1 << 20));
    }
    EXPECT_THAT(outcome.limits_met, ElementsAre("its own memory limit (32 MiB, memory.max) was "
                                                "reached, and it was killed"));
  }
}

// The victim holds most of the parent cgroup's memory, far below its own limit, when a sibling
// wants more than there is.
TEST_F(LimitTest, ASiblingsHogIsToldAsTheFaultOfTheCgroupAbove) {
  if (!Start({.memory_bytes = 512 << 20}, 2)) return;
  const auto leaf = std::make_shared<std::promise<std::string>>();
  Request victim = GuardedShell("(head -c 60m /dev/zero; sleep 1000) | tail");
  victim.on_started = [leaf](const Started& started) { leaf->set_value(started.leaf); };
  auto submitted = Submit(*pool_, std::move(victim));
  ASSERT_TRUE(submitted.ok()) << submitted.status();
  const std::string current = ParentPath() + "/" + leaf->get_future().get() + "/memory.current";
  const auto holds = [&] {
    std::uint64_t bytes = 0;
    std::ifstream(current) >> bytes;
    return bytes > (58U << 20);
  };
  // Looked at once a turn: the kernel charges in batches and takes what is left of one back.
  const auto end = std::chrono::steady_clock::now() + kHang;
  bool held = holds();
  for (; !held && std::chrono::steady_clock::now() < end; held = holds()) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  ASSERT_TRUE(held);
  std::ofstream(ParentPath() + "/memory.max") << (90 << 20) << std::flush;
  std::ofstream(ParentPath() + "/memory.swap.max") << 0 << std::flush;
  const Others others(*pool_);
  const Outcome sibling = Run(GuardedShell("head -c 50m /dev/zero | tail > /dev/null"));
  EXPECT_TRUE(sibling.ok()) << Told(sibling);

  std::future<absl::StatusOr<Outcome>>& future = submitted->outcome;
  ASSERT_EQ(future.wait_for(kHang), std::future_status::ready);
  const absl::StatusOr<Outcome> outcome = future.get();
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->end, End::kOom) << Told(*outcome);
  EXPECT_EQ(CauseOfOom(outcome->usage), OomCause::kAbove);
  EXPECT_THAT(outcome->limits_met,
              ElementsAre("it was killed for memory, and not by its own limit (512 MiB, "
                          "memory.max): a cgroup above it, or the machine, had none left"));
}

TEST_F(LimitTest, ACpuHogIsHeldToItsShare) {
  constexpr double kCpus = 0.2;
  if (!Start({.cpus = kCpus})) return;
  const Others others(*pool_);
  Request hog = GuardedShell("while :; do :; done");
  hog.path = SpawnPath::kCold;  // born with the request: all that it uses is in the time measured
  hog.command.timeout = seconds(6);
  const Outcome outcome = Run(std::move(hog));
  EXPECT_EQ(outcome.end, End::kTimeout) << Told(outcome);
  ASSERT_TRUE(outcome.usage.cpu_us.has_value());
  const double share = static_cast<double>(*outcome.usage.cpu_us) / outcome.wall_us;
  EXPECT_NEAR(share, kCpus, kCpus / 10);
  RecordProperty("share", std::to_string(share));
  EXPECT_GT(outcome.usage.cpu_throttled_periods.value_or(0), 10U);
  EXPECT_GT(outcome.usage.cpu_throttled_us.value_or(0), 0U);
  EXPECT_GE(outcome.usage.cpu_periods.value_or(0), *outcome.usage.cpu_throttled_periods);
  EXPECT_THAT(outcome.limits_met, ElementsAre(HasSubstr("its cpu limit (0.2 cpus, cpu.max)")));
}

TEST_F(LimitTest, ATmpfsIsFullAtItsSize) {
  Spec spec;
  spec.tmp_bytes = 8 << 20;
  if (!StartWith(spec)) return;
  const Others others(*pool_);
  const Outcome outcome = Run(GuardedShell(
      "head -c 64m /dev/zero > /tmp/fill; stat -c %s /tmp/fill; echo still > /dev/shm/x"));
  EXPECT_TRUE(outcome.ok()) << Told(outcome);
  EXPECT_EQ(outcome.out, "8388608\n");
  EXPECT_THAT(outcome.err, HasSubstr("No space left"));
}

// cpuset.cpus, and that a cpu which is not to be had is an error and not some other cpu.
TEST_F(LimitTest, AWorkerStaysOnItsCpus) {
  const long count = sysconf(_SC_NPROCESSORS_CONF);
  const std::string last = std::to_string(count - 1);
  if (!Start({.cpuset_cpus = last})) return;
  const Outcome outcome = Run(GuardedShell("grep Cpus_allowed_list /proc/self/status"));
  EXPECT_EQ(outcome.out, "Cpus_allowed_list:\t" + last + "\n") << Told(outcome);

  Request beyond = GuardedShell("true");
  beyond.spec = Spec{};
  beyond.spec->limits.cpuset_cpus = "0-1023";
  const absl::Status refused = pool_->Run(std::move(beyond)).status();
  EXPECT_THAT(std::string(Message(refused)), HasSubstr("cpuset.cpus")) << refused;
}

TEST_F(LimitTest, WritesToADiskAreHeldToTheirRateAndCounted) {
  constexpr std::uint64_t kRate = 2 << 20;
  constexpr std::uint64_t kBytes = 6 << 20;
  const ScratchDirectory scratch;
  const absl::StatusOr<BlockDevice> disk = DiskOf(scratch.path);
  if (!disk.ok()) GTEST_SKIP() << "missing: a disk: " << Message(disk.status());
  Spec spec;
  spec.limits.io = {{.major = disk->major, .minor = disk->minor, .write_bytes = kRate}};
  spec.binds = {{.source = scratch.path, .target = "/mnt"}};
  if (StartWith(spec)) {
    const Others others(*pool_);
    const Outcome outcome =
        Run(GuardedShell("dd if=/dev/zero of=/mnt/file bs=64k count=96 oflag=direct 2>&1"));
    EXPECT_TRUE(outcome.ok()) << Told(outcome) << outcome.out;
    ASSERT_TRUE(outcome.usage.io.has_value());
    EXPECT_GE(outcome.usage.io->write_bytes, kBytes);
    EXPECT_GT(outcome.usage.io->write_ops, 0U);
    EXPECT_LE(static_cast<double>(kBytes) / (outcome.wall_us / 1e6), kRate * 1.1);
  }
}

TEST_F(LimitTest, APartitionOrNoDiskIsNamed) {
  Spec spec;
  spec.limits.io = {{.major = 4095, .minor = 7, .read_ops = 1}};
  if (!StartWith(spec, 0)) return;
  Request request = GuardedShell("true");
  request.path = SpawnPath::kZygote;
  const absl::Status refused = pool_->Run(std::move(request)).status();
  EXPECT_THAT(std::string(Message(refused)),
              ::testing::AllOf(HasSubstr("4095:7 riops=1"), HasSubstr("there is no such disk")));
}

// By page cache, which can be reclaimed: whoever cannot get below it is slowed to a crawl.
TEST_F(LimitTest, MemoryHighReclaimsAndIsCounted) {
  const ScratchDirectory scratch;
  if (!DiskOf(scratch.path).ok()) GTEST_SKIP() << "missing: a disk";
  Spec spec;
  spec.limits = {.memory_bytes = 256 << 20, .memory_high_bytes = 16 << 20};
  spec.binds = {{.source = scratch.path, .target = "/mnt"}};
  if (!StartWith(spec)) return;
  const Others others(*pool_);
  const Outcome outcome = Run(GuardedShell("dd if=/dev/zero of=/mnt/file bs=1M count=48 2>&1"));
  EXPECT_TRUE(outcome.ok()) << Told(outcome) << outcome.out;
  EXPECT_GT(outcome.usage.memory_high_events.value_or(0), 0U);
  EXPECT_EQ(outcome.usage.oom_kills, 0U);
  EXPECT_THAT(outcome.limits_met, ElementsAre(HasSubstr("memory.high (16 MiB) was passed")));
}

TEST_F(LimitTest, LimitsThatAreNotMetAreNotTold) {
  if (!Start({.memory_bytes = 256 << 20, .pids = 64})) return;
  const Outcome outcome = Run(GuardedShell("true"));
  EXPECT_TRUE(outcome.ok()) << Told(outcome);
  EXPECT_EQ(outcome.usage.oom_kills, 0U);
  EXPECT_EQ(outcome.usage.pids_refused, 0U);
  EXPECT_EQ(CauseOfOom(outcome.usage), std::nullopt);
  EXPECT_THAT(outcome.limits_met, IsEmpty());
}

TEST_F(LimitTest, ALimitTooSmallToParkInIsTheReasonThatIsTold) {
  if (!Start({.memory_bytes = 8 << 10}, 1)) return;
  const absl::Status status = pool_->AwaitParked("limited", 1, Patience(seconds(2)));
  EXPECT_THAT(std::string(Message(status)),
              HasSubstr("its own memory limit (8 KiB, memory.max) was reached"));
}

// The OOM killer ends everybody who shares its victim's memory.
TEST_F(LimitTest, ATinyMemoryLimitEndsOnlyItsOwnWorker) {
  BROOD_NEEDS_LIMITS(Limits{.memory_bytes = 1});
  RunWithTinyMemory(30);
}

// --- cgroups that nobody can be born in ----------------------------------------------------------

class Freeze {
 public:
  explicit Freeze(const std::string& cgroup) : file_(cgroup + "/cgroup.freeze") {
    std::ofstream(file_) << "1" << std::flush;
  }
  ~Freeze() { std::ofstream(file_) << "0" << std::flush; }
  Freeze(const Freeze&) = delete;
  Freeze& operator=(const Freeze&) = delete;

 private:
  const std::string file_;
};

TEST_F(LimitTest, AFrozenParentIsNamedAndThawedServesAgain) {
  if (!Start(Limits{})) return;
  if (access((ParentPath() + "/cgroup.freeze").c_str(), F_OK) != 0) {
    GTEST_SKIP() << "missing: cgroup.freeze (Linux 5.2)";
  }
  ASSERT_TRUE(pool_->AwaitParked("limited", 1, kHang).ok());
  {
    const Freeze freeze(ParentPath());
    // Where the caller waits by itself, where the pool's thread does, and with nobody parked.
    Request here = GuardedShell("true");
    here.template_name = "others";
    here.command.timeout.reset();
    here.command.stdio.mode = StdioMode::kNull;
    Request parked = GuardedShell("true");
    Request cold = GuardedShell("true");
    cold.path = SpawnPath::kCold;
    for (Request* request : {&here, &parked, &cold}) {
      const Outcome outcome = Run(std::move(*request));
      EXPECT_EQ(outcome.end, End::kSetupFailed) << Told(outcome);
      EXPECT_EQ(outcome.failure.step, Step::kBegin);
      EXPECT_THAT(outcome.message, HasSubstr("its cgroup is frozen"));
    }
    Request from_zygote = GuardedShell("true");
    from_zygote.path = SpawnPath::kZygote;
    const absl::StatusOr<Outcome> refused = pool_->Run(std::move(from_zygote));
    EXPECT_THAT(std::string(Message(refused.status())), HasSubstr("its cgroup is frozen"));
  }
  const Outcome outcome = Run(GuardedShell("true"));
  EXPECT_TRUE(outcome.ok()) << Told(outcome);
}

TEST_F(LimitTest, AParentThatMayHaveNoMoreCgroupsIsNamed) {
  Spec spec;
  spec.reuse = Reuse::kNone;  // slots that are made ahead leave cgroups that are used again
  if (!StartWith(spec, 0)) return;
  std::ofstream(ParentPath() + "/cgroup.max.descendants") << "1" << std::flush;
  for (const SpawnPath path : {SpawnPath::kZygote, SpawnPath::kCold}) {
    Request request = GuardedShell("true");
    request.path = path;
    const absl::Status refused = pool_->Run(std::move(request)).status();
    EXPECT_THAT(std::string(Message(refused)), HasSubstr("cgroup.max.descendants is used up"));
  }
  std::ofstream(ParentPath() + "/cgroup.max.descendants") << "max" << std::flush;
  const Outcome outcome = Run(GuardedShell("true"));
  EXPECT_TRUE(outcome.ok()) << Told(outcome);
}

}  // namespace
}  // namespace brood
