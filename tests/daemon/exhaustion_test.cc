// SPDX-License-Identifier: Apache-2.0

// What the daemon says when processes, namespaces or memory run out, and that it goes on when there
// are some again. Every limit is the daemon's own: a cgroup, a user namespace, an rlimit.
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <sstream>

#include "tests/daemon/daemon_fixture.h"
#include "tests/daemon/limit_cgroup.h"
#include "tests/needs.h"

namespace brood {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

class ExhaustionTest : public DaemonTest {
 protected:
  void SetUp() override {
    BROOD_NEEDS_ROOT();
    DaemonTest::SetUp();
  }
  void TearDown() override {
    if (geteuid() == 0) DaemonTest::TearDown();
  }
  bool AllParked(int count) const {
    return ComesTrue([&] { return Stats()["parked"] == count; });
  }
  void ExpectRefused(const Words& command, const std::string& why) const {
    const Result refused = Run(command);
    EXPECT_EQ(refused.status, 125) << ::testing::PrintToString(command);
    EXPECT_THAT(refused.err, HasSubstr(why)) << ::testing::PrintToString(command);
  }
  // The share of a processor that the daemon takes while nothing is asked of it.
  double LoadWhileIdle() const {
    const auto ticks = [&] {
      const std::string stat = ReadText(fmt::format("/proc/{}/stat", daemon_->pid()));
      std::istringstream fields(stat.substr(stat.rfind(')') + 2));
      std::string word;
      for (int i = 0; i < 11; ++i) fields >> word;
      double user = 0;
      double system = 0;
      fields >> user >> system;
      return user + system;
    };
    const double before = ticks();
    const auto start = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(std::chrono::milliseconds(800));
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    return (ticks() - before) / static_cast<double>(sysconf(_SC_CLK_TCK)) / passed.count();
  }
};

// --- processes ----------------------------------------------------------------------------------

class ProcessLimitTest : public ExhaustionTest {
 protected:
  void SetUp() override {
    ExhaustionTest::SetUp();
    if (IsSkipped()) return;
    cgroup_.emplace("pids");
    if (!cgroup_->there()) GTEST_SKIP() << "needs the pids controller";
  }
  void TearDown() override {
    StopDaemon();
    cgroup_.reset();
    ExhaustionTest::TearDown();
  }
  std::optional<LimitCgroup> cgroup_;
};

constexpr char kNoProcess[] = "EAGAIN (Resource temporarily unavailable); pids.max is used up";

TEST_F(ProcessLimitTest, IsNamedAndPasses) {
  StartDaemon({"--pool", "3"}, [&] { cgroup_->Enter(); });
  ASSERT_TRUE(AllParked(3));
  // Fewer than there are: what runs goes on, and nothing new can begin.
  cgroup_->Set("1");
  std::vector<std::string> ids(3);
  for (std::string& id : ids) id = Detached({}, "exec sleep 1000");
  const std::size_t fds = DaemonFds();
  ExpectRefused({"submit", "--", "true"}, kNoProcess);
  ExpectRefused(Words{"submit", "-d"} + Shell("true"), kNoProcess);
  ExpectRefused({"exec", ids[0], "--", "true"}, kNoProcess);
  EXPECT_LT(LoadWhileIdle(), 0.5) << "it waits between its tries";
  // What they held is given back though the kernel has no thread to do it in.
  for (const std::string& id : ids) {
    EXPECT_EQ(Run({"kill", id}).status, 0);
    EXPECT_EQ(Run({"wait", id}).status, 137);
  }
  EXPECT_TRUE(ComesTrue([&] { return DaemonFds() < fds; })) << DaemonFds() << " was " << fds;
  cgroup_->Set("max");
  ExpectServes();
  EXPECT_TRUE(AllParked(3)) << "it refills";
}

TEST_F(ProcessLimitTest, ZygoteThatCannotBeReplacedIsTold) {
  StartDaemon({"--template", "one=--parked 0 --zygotes 1"}, [&] { cgroup_->Enter(); });
  ASSERT_EQ(Run({"submit", "--", "true"}).status, 0);
  cgroup_->Set("1");
  const auto tree = nlohmann::json::parse(Out({"tree", "--json"}));
  for (const auto& child : tree["children"]) {
    if (child["role"] == "zygote") kill(child["pid"], SIGKILL);
  }
  ASSERT_TRUE(ComesTrue([&] { return Stats()["zygotes_replaced"] == 1; }));
  ExpectRefused({"submit", "--", "true"},
                "the zygote of template one has died, and the next one "
                "cannot be started: cloning a zygote: EAGAIN");
  cgroup_->Set("max");
  EXPECT_TRUE(ComesTrue([&] { return Run({"submit", "--", "true"}).status == 0; }));
}

TEST_F(ProcessLimitTest, IsNamedAtTheStart) {
  // The daemon has three threads, then comes the zygote.
  for (int most = 1; most <= 3; ++most) {
    cgroup_->Set(std::to_string(most));
    Brood daemon(With({"serve", "--pool", "1"}), [&] { cgroup_->Enter(); });
    EXPECT_EQ(daemon.Wait(), 125) << most;
    EXPECT_THAT(daemon.err(), HasSubstr(most < 3 ? "starting a thread: " : "cloning a zygote: "));
    EXPECT_THAT(daemon.err(), HasSubstr(kNoProcess));
    EXPECT_FALSE(fs::exists(socket_)) << most;
  }
}

// --- namespaces ---------------------------------------------------------------------------------

class NamespaceLimitTest : public ExhaustionTest {
 protected:
  // Puts the daemon into a user namespace with all ids, whose counts are its own, and into a pid
  // namespace that belongs to it, or no /proc could be mounted. Whoever forked us stays between.
  static void Enter() {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) _exit(98);
    const pid_t self = getpid();
    // Only somebody outside may map all ids.
    const pid_t mapper = fork();
    if (mapper == 0) {
      char byte = 0;
      if (read(ends[0], &byte, 1) != 1) _exit(1);
      for (const char* file : {"gid_map", "uid_map"}) {
        std::ofstream map(fmt::format("/proc/{}/{}", self, file));
        map << "0 0 4294967295\n" << std::flush;
        if (!map) _exit(1);
      }
      _exit(0);
    }
    int status = 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID) != 0 || write(ends[1], "x", 1) != 1 ||
        waitpid(mapper, &status, 0) != mapper || status != 0) {
      _exit(98);
    }
    sigset_t passed_on;
    sigset_t before;
    sigemptyset(&passed_on);
    for (const int number : {SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&passed_on, number);
    sigprocmask(SIG_BLOCK, &passed_on, &before);
    const pid_t daemon = fork();
    if (daemon == 0) {
      sigprocmask(SIG_SETMASK, &before, nullptr);
      if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 ||
          mount("proc", "/proc", "proc", 0, nullptr) != 0) {
        _exit(98);
      }
      return;
    }
    for (int number = 0; waitpid(daemon, &status, WNOHANG) == 0;) {
      if (sigwait(&passed_on, &number) == 0 && number != SIGCHLD) kill(daemon, number);
    }
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 97);
  }
  // Sets user.max_KIND_namespaces of the daemon's user namespace.
  void SetMost(const std::string& kind, const std::string& count) const {
    const UniqueFd userns(
        open(fmt::format("/proc/{}/ns/user", daemon_->pid()).c_str(), O_RDONLY | O_CLOEXEC));
    const pid_t pid = fork();
    if (pid == 0) {
      if (setns(userns.get(), CLONE_NEWUSER) != 0) _exit(1);
      std::ofstream file(fmt::format("/proc/sys/user/max_{}_namespaces", kind));
      file << count << std::flush;
      _exit(file.good() ? 0 : 2);
    }
    int status = -1;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_EQ(status, 0) << kind;
  }
};

TEST_F(NamespaceLimitTest, IsNamedAndPasses) {
  // Workers in slots need no new network and user namespaces.
  const fs::path config = directory_ / "brood.toml";
  std::ofstream(config) << "[template.default]\nparked = 1\nreuse = \"none\"\n";
  StartDaemon({"--config", config.string()}, Enter);
  ASSERT_EQ(Run({"submit", "--", "true"}).status, 0) << Log();
  for (const char* kind : {"net", "pid", "mnt", "ipc", "uts", "user", "cgroup", "time"}) {
    ASSERT_TRUE(AllParked(1)) << kind;
    SetMost(kind, "0");
    EXPECT_EQ(Run({"submit", "--", "true"}).status, 0) << "the one that was parked; " << kind;
    ExpectRefused({"submit", "--", "true"}, "user.max_");
    SetMost(kind, "10000");
    ExpectServes();
  }
}

// --- memory -------------------------------------------------------------------------------------

class MemoryLimitTest : public ExhaustionTest {
 protected:
  void SetAddressSpace(rlim_t bytes) const {
    const rlimit limit{bytes, RLIM_INFINITY};
    ASSERT_EQ(prlimit(daemon_->pid(), RLIMIT_AS, &limit, nullptr), 0);
  }
};

TEST_F(MemoryLimitTest, AddressSpaceIsNamedAndPasses) {
  StartDaemon({"--pool", "2", "--max-running", "1"});
  ASSERT_TRUE(AllParked(2));
  const std::string id = Detached({}, "exec sleep 1000");
  SetAddressSpace(static_cast<rlim_t>(DaemonStatus("VmSize")) << 10);
  // Long commands that wait fill the memory it has, each from a client of its own: whoever sends
  // half a message when there is no more is dropped.
  std::vector<Client> clients;
  std::string refusal;
  while (clients.size() < 200 && refusal.empty()) {
    Client& client = clients.emplace_back(Connected());
    Submit submit = SubmitOf({"true"});
    for (int i = 0; i < 10; ++i) submit.env.push_back("LONG=" + std::string(100'000, 'x'));
    const bool sent = client.Start(submit, {}).ok();
    pollfd answer{client.fd(), POLLIN, 0};
    if (!sent || poll(&answer, 1, 20) > 0) refusal = std::string(client.Next().status().message());
  }
  EXPECT_THAT(refusal, HasSubstr("the daemon has no memory left"));
  EXPECT_THAT(Out({"ps"}), HasSubstr(id)) << "one can still see what there is to end";
  // A client that goes takes its waiting commands with it.
  clients.clear();
  EXPECT_EQ(Run({"kill", id}).status, 0);
  SetAddressSpace(RLIM_INFINITY);
  ExpectServes();
  EXPECT_THAT(Out({"ps"}), Not(HasSubstr("waiting")));
}

TEST_F(MemoryLimitTest, WordsOfWaitingCommandsAreBounded) {
  StartDaemon({"--pool", "1", "--max-running", "1"});
  const std::string id = Detached({}, "exec sleep 1000");
  Submit submit = SubmitOf({"true"});
  submit.env.push_back("LONG=" + std::string(100'000, 'x'));
  for (int i = 0; i < 12; ++i) submit.env.push_back(submit.env.back());
  Client client = Connected();
  std::string refusal;
  for (int i = 0; i < 400 && refusal.empty(); ++i) {
    ASSERT_TRUE(client.Start(submit, {}).ok());
    pollfd answer{client.fd(), POLLIN, 0};
    if (poll(&answer, 1, 0) > 0) refusal = std::string(client.Next().status().message());
  }
  EXPECT_THAT(refusal, HasSubstr("MiB of arguments and environments"));
  EXPECT_LT(DaemonStatus("VmRSS"), 700 << 10);
  client = Connected();
  EXPECT_EQ(Run({"kill", id}).status, 0);
  ExpectServes();
}

TEST_F(MemoryLimitTest, AddressSpaceIsNamedAtTheStart) {
  // From too little for a thread's stack, over the launcher's memory, to the zygote's.
  for (const rlim_t mib : {48, 64, 80, 100, 120}) {
    Brood daemon(With({"serve", "--pool", "1"}), [mib] {
      const rlimit limit{mib << 20, mib << 20};
      setrlimit(RLIMIT_AS, &limit);
    });
    // Nothing but a sentence, whichever allocation it is.
    ASSERT_TRUE(ComesTrue(
        [&] { return daemon.Ended() || daemon.err().find("\"listening\"") != std::string::npos; }));
    if (!daemon.Ended()) {  // enough
      daemon.Kill(SIGTERM);
      EXPECT_EQ(daemon.Wait(), 0);
      break;
    }
    EXPECT_EQ(daemon.Wait(), 125) << mib << daemon.err();
    EXPECT_THAT(daemon.err(), AnyOf(HasSubstr("ENOMEM"), HasSubstr("EAGAIN"))) << mib;
  }
}

TEST_F(MemoryLimitTest, WorkerThatTakesAllIsKilledAlone) {
  LimitCgroup cgroup("memory");
  if (!cgroup.there()) GTEST_SKIP() << "needs the memory controller";
  cgroup.Set("200M");
  StartDaemon({"--pool", "2"}, [&] { cgroup.Enter(); });
  const std::string other = Detached({}, "exec sleep 1000");
  // One line without end, which it wants to keep whole.
  const Result eater = Run({"submit", "--", "tail", "/dev/zero"});
  EXPECT_EQ(eater.status, 137) << eater.err;
  EXPECT_EQ(Inspect(other)["state"], "running");
  ExpectServes();
  EXPECT_EQ(Stats()["zygotes_replaced"], 0);
  EXPECT_EQ(Run({"kill", other}).status, 0);
  StopDaemon();
}

}  // namespace
}  // namespace brood
