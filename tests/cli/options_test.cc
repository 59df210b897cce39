// SPDX-License-Identifier: Apache-2.0

// Every option of the commands that need no daemon: none is accepted and ignored.
#include "tests/options.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "spawn/spec.h"
#include "tests/kernel/machine_state.h"
#include "tests/needs.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class OptionsTest : public LeavesNothing {
 protected:
  static std::string Link(std::string_view ns) {
    return std::filesystem::read_symlink(fmt::format("/proc/self/ns/{}", ns)).string();
  }
  static void Expect(const std::string& command, const std::vector<OptionCase>& cases) {
    for (const OptionCase& each : cases) {
      SCOPED_TRACE(fmt::format("{} {}", command, fmt::join(each.words, " ")));
      Words words = Words{command} + each.words;
      if (!each.script.empty()) words = words + Shell(each.script);
      Brood brood(words);
      EXPECT_EQ(brood.Wait(), each.status) << brood.out() << brood.err();
      EXPECT_THAT(brood.out() + brood.err(), HasSubstr(each.seen));
    }
  }
};

// Those that make a spec; brood burst and the daemon's templates take them, too.
std::vector<OptionCase> IsolationCases() {
  std::vector<OptionCase> cases = {
      {"--rootfs", {"--rootfs", "/none"}, "true", 125, "/none: ENOENT"},
      {"--root-mode", {"--root-mode", "rw"}, "true", 125, "needs --rootfs"},
      {"--overlay-size", {"--overlay-size", "1M"}, "true", 125, "--root-mode overlay"},
      {"--volume", {"-v", "/etc:/mnt"}, "ls /mnt/passwd", 0, "/mnt/passwd"},
      {"--tmpfs", {"--tmpfs", "/mnt:1M"}, "grep ' /mnt tmpfs' /proc/mounts", 0, "size=1024k"},
      {"--tmp-size", {"--tmp-size", "1M"}, "grep ' /tmp tmpfs' /proc/mounts", 0, "size=1024k"},
      {"--tmp-size", {"--tmp-size", "1M", "--no-mount"}, "true", 125, "mount namespace"},
      {"--net", {"--net", "none", "--no-net"}, "true", 125, "excludes --no-net"},
      {"--hostname", {"--hostname", "here"}, "uname -n", 0, "here"},
      {"--hostname", {"--hostname", "here", "--no-uts"}, "true", 125, "excludes --no-uts"},
      {"--monotonic-offset",
       {"--monotonic-offset", "1h", "--no-time"},
       "true",
       125,
       "need a new time namespace"},
      {"--boottime-offset",
       {"--boottime-offset", "1h", "--no-time"},
       "true",
       125,
       "need a new time namespace"},
      {"--user", {"-u", "5:6"}, "id -u; id -g", 0, "5\n6\n"},
      {"--cap-add", {"--cap-add", "NET_RAW"}, "grep CapEff /proc/self/status", 0, "2000\n"},
      {"--seccomp", {"--seccomp", "off"}, "grep Seccomp: /proc/self/status", 0, "Seccomp:\t0"},
      {"--nesting", {"--nesting"}, "unshare -U true && echo nested", 0, "nested"},
      {"--reuse", {"--reuse", "all"}, "true", 125, "namespaces or none"},
      {"--reuse", {"--reuse", ""}, "true", 125, "namespaces or none"},
      {"--reuse", {"--reuse", "none"}, "echo ran", 0, "ran"},
      {"--fresh", {"--fresh"}, "echo ran", 0, "ran"},
      {"--init",
       {"--init"},
       "until grep -q init /proc/1/comm; do sleep 0.01; done; cat /proc/1/comm",
       0,
       "brood-init"},
      {"--init", {"--init", "--no-pid"}, "true", 125, "new pid namespace"},
      {"--rlimit", {"--rlimit", "NOFILE=33"}, "ulimit -n", 0, "33\n"},
      {"--rlimit", {"--rlimit", "NOFILE=33", "--rlimit", "NOFILE=34"}, "true", 125, "twice"},
      {"--no-cgroup-leaf", {"--no-cgroup-leaf", "--pids", "9"}, "true", 125, "need a cgroup"},
  };
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    const std::string name(NamespaceName(kind));
    const std::string file(NamespaceProcName(kind));
    cases.push_back({"--no-" + name,
                     {"--no-" + name},
                     "readlink /proc/self/ns/" + file,
                     0,
                     std::filesystem::read_symlink("/proc/self/ns/" + file).string()});
    cases.push_back({"--join-" + name,
                     {"--join-" + name, "/etc/passwd"},
                     "true",
                     125,
                     fmt::format("is not a {} namespace", name)});
  }
  const std::vector<Words> limits = {
      {"--memory", "64M"},   {"--memory-high", "64M"}, {"--memory-swap", "64M", "--memory", "64M"},
      {"--pids", "9"},       {"--cpus", "1"},          {"--cpu-period", "20ms", "--cpus", "1"},
      {"--cpu-weight", "9"}, {"--cpuset-cpus", "0"},   {"--cpuset-mems", "0"},
      {"--io-weight", "9"}};
  for (const Words& words : limits) {
    cases.push_back({words[0], words + Words{"--no-cgroup-leaf"}, "true", 125, "need a cgroup"});
  }
  cases.push_back({"--io-max", {"--io-max", "/none:rbps=1M"}, "true", 125, "/none"});
  cases.push_back({"--memory-swap", {"--memory-swap", "64M"}, "true", 125, "needs --memory"});
  cases.push_back({"--cpu-period", {"--cpu-period", "20ms"}, "true", 125, "cpu"});
  return cases;
}

std::vector<OptionCase> ProcessCases() {
  return {{"--env", {"-e", "A=b"}, "echo [$A]", 0, "[b]"},
          {"--clear-env", {"--clear-env"}, "echo [$HOME]", 0, "[]"},
          {"--workdir", {"-w", "/tmp"}, "pwd", 0, "/tmp\n"},
          {"--timeout", {"--timeout", "50ms"}, "sleep 1000", 124, ""}};
}

TEST_F(OptionsTest, OfRun) {
  BROOD_NEEDS_ROOT();
  std::vector<OptionCase> cases = {
      {"--tty", {"-t"}, "true", 125, "not a terminal"},
      {"--interactive", {"-i"}, "readlink /proc/self/fd/0", 0, "/dev/null"},  // this test's own
      {"--reuse", {"--reuse", "namespaces"}, "true", 125, "for a pool's workers"},
      {"--json", {"--json"}, "true", 0, "\"spawn_path\""}};
  for (const auto& more : {IsolationCases(), ProcessCases()}) {
    cases.insert(cases.end(), more.begin(), more.end());
  }
  ExpectComplete("run", cases);
  Expect("run", cases);
}

TEST_F(OptionsTest, OfBurst) {
  const Words one = {"-n", "1", "--no-floor"};
  std::vector<OptionCase> cases = {
      {"--count", {"-n", "2", "-c", "1", "--no-floor"}, "true", 0, "2 isolated processes, 1 at"},
      {"--concurrency", {"-n", "2", "-c", "1", "--no-floor"}, "true", 0, "1 at once"},
      {"--path", one + Words{"--path", "cold"}, "true", 0, "1 cold"},
      {"--parked", {"--parked", "2", "--path", "cold"}, "true", 125, "--parked is for"},
      {"--zygotes", {"--zygotes", "2", "--path", "cold"}, "true", 125, "--zygotes does nothing"},
      {"--launch-window", {"--launch-window", "0"}, "true", 125, "--launch-window"},
      {"--socket", {"--socket", "/none", "-n", "1"}, "true", 125, "no daemon listens on /none"},
      {"--template", {"--template", "web"}, "true", 125, "needs --socket"},
      {"--no-floor", one, "true", 0, "paths taken"},
      {"--json", one + Words{"--json"}, "true", 0, "\"latency_us\""},
      {"--env", one + Words{"-e", "A=b"}, "test $A = b", 0, "paths taken"},
      {"--clear-env", one + Words{"--clear-env"}, "test -z \"$HOME\"", 0, "paths taken"},
      {"--workdir", one + Words{"-w", "/tmp"}, "test $PWD = /tmp", 0, "paths taken"},
      {"--timeout", one + Words{"--timeout", "50ms"}, "sleep 1000", 1, "failed"}};
  // What a daemon's template decides cannot be had otherwise through it.
  for (const char* const word : {"--path=cold", "--parked=2", "--zygotes=2", "--launch-window=2"}) {
    const std::string option(word, std::string_view(word).find('='));
    cases.push_back({option, {"--socket", "/none", word}, "true", 125, option + " is set by the"});
  }
  for (const OptionCase& each : IsolationCases()) {
    if (each.status == 125) {
      cases.push_back({each.option, each.words, "true", 125, each.seen});
    } else {
      cases.push_back({each.option, Words{"--socket", "/none"} + each.words, "true", 125,
                       "set by the daemon's template"});
    }
  }
  ExpectComplete("burst", cases);
  Expect("burst", cases);
}

TEST_F(OptionsTest, OfServe) {
  const std::string config =
      (std::filesystem::path(::testing::TempDir()) / fmt::format("brood_options_{}.toml", getpid()))
          .string();
  std::ofstream(config) << "[function.f]\ncommand = ['/not/there']\n";
  const std::string socket = config + ".s";
  const std::vector<OptionCase> cases = {
      {"--config", {"--config", "/none"}, "", 125, "/none"},
      {"--config", {"--config", config, "--socket", socket}, "", 125, "line 2: function f"},
      {"--socket", {"--socket", std::string(200, 's')}, "", 125, "is longer than"},
      {"--group", {"--group", "no-such-group", "--socket", socket}, "", 125, "no group"},
      {"--template", {"--template", "a=--frob"}, "", 125, "--frob"},
      {"--pool", {"--pool", "2", "--template", "a"}, "", 125, "--pool is for a daemon without"},
      {"--http", {"--http", "here"}, "", 125, "--http takes ADDRESS:PORT"},
      {"--max-running", {"--max-running", "x"}, "", 125, "--max-running"},
      {"--drain", {"--drain", "long"}, "", 125, "long"},
      {"--max-unclaimed", {"--max-unclaimed", "x"}, "", 125, "--max-unclaimed"},
      {"--verbose", {"--verbose=x"}, "", 125, "verbose"},
      {"--verbose", {"--verbose", "word"}, "", 125, "takes options only"}};
  ExpectComplete("serve", cases);
  Expect("serve", cases);
  std::filesystem::remove(config);
}

TEST_F(OptionsTest, OfStress) {
  const std::vector<OptionCase> cases = {
      {"--list", {"--list"}, "", 0, "KERNEL'S NAME"},
      {"--json", {"--list", "--json"}, "", 125, "--json is without effect"},
      {"--up-to", {"storm", "--up-to", "9"}, "", 125, "--up-to is without effect"},
      {"--budget", {"storm", "--budget", "9s"}, "", 125, "--budget is without effect"},
      {"--memory-reserve", {"storm", "--memory-reserve", "9"}, "", 125, "--memory-reserve is"},
      {"--host", {"storm", "--host"}, "", 125, "--host is without effect"},
      {"--yes", {"--yes", "nproc"}, "", 125, "--yes is without effect"},
      {"--namespace", {"nproc", "--namespace", "net"}, "", 125, "--namespace is for storms"},
      {"--rate", {"nproc", "--rate", "9"}, "", 125, "--rate is for storms"},
      {"--for", {"nproc", "--for", "9s"}, "", 125, "--for is for storms"}};
  ExpectComplete("stress", cases);
  Expect("stress", cases);
}

TEST_F(OptionsTest, OfOthersThatNeedNoDaemon) {
  for (const char* const command : {"version", "doctor"}) {
    Expect(command, {{"", {"word"}, "", 125, "takes options only, not \"word\""}});
  }
  ExpectComplete("version", {});
  const std::vector<OptionCase> doctor = {{"--json", {"--json=x"}, "", 125, "json"},
                                          {"--for", {"--for", "0"}, "", 125, "--for"}};
  ExpectComplete("doctor", doctor);
  Expect("doctor", doctor);
}

}  // namespace
}  // namespace brood
