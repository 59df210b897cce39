// SPDX-License-Identifier: Apache-2.0

// Slots: what a worker gets of the one before, and what it must not get.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/fd_message.h"
#include "spawn/base/unique_fd.h"
#include "tests/needs.h"
#include "tests/ordinary_user.h"
#include "tests/pool/slots.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

TEST_F(SlotTest, OutcomesTellTheSlotAndHowOftenItWasUsed) {
  StartOne(0);
  AwaitSlots();
  std::map<std::uint32_t, std::uint32_t> uses;
  for (int i = 0; i < 20; ++i) {
    const Outcome outcome = RunOn(SpawnPath::kZygote, "exit 0");
    ASSERT_TRUE(outcome.slot.has_value()) << outcome.message;
    const auto [seen, first] = uses.try_emplace(outcome.slot->number, outcome.slot->used);
    EXPECT_EQ(outcome.slot->used, seen->second++);
    EXPECT_TRUE(!first || outcome.slot->used <= 1) << "at most by the one it was made with";
    EXPECT_EQ(outcome.fresh, "");
    usleep(5000);  // or it is another's turn
  }
  const PoolStats stats = pool_->Stats();
  EXPECT_GT(stats.slots.reused, 0U);
  // Where a request takes its time, another slot is made ahead meanwhile.
  EXPECT_GE(stats.slots.made + stats.slots.reused, 22U);
  EXPECT_EQ(stats.slots.idle, stats.slots.made);
}

TEST_F(SlotTest, AFewAreMadeAheadWhereNoWorkerIsParked) {
  StartOne(0);
  AwaitSlots();
  EXPECT_EQ(pool_->Stats().parked, 0U);
  EXPECT_EQ(pool_->Stats().running, 0U);
  const Outcome outcome = RunOn(SpawnPath::kZygote, "exit 0");
  ASSERT_TRUE(outcome.slot.has_value()) << outcome.message;
  EXPECT_EQ(outcome.slot->used, 1U) << "by the worker that it was made with";
}

TEST_F(SlotTest, ParkedWorkersLiveInSlotsOfTheirOwn) {
  StartOne(4);
  std::set<std::uint32_t> seen;
  for (int i = 0; i < 12; ++i) {
    AwaitParked(4);
    const Outcome outcome = Run(ShellRequest("exit 0"));
    ASSERT_TRUE(outcome.slot.has_value());
    seen.insert(outcome.slot->number);
    usleep(20'000);
  }
  EXPECT_LT(seen.size(), 12U) << "they are used again";
  EXPECT_GT(pool_->Stats().slots.reused, 0U);
}

struct WhyCase {
  const char* why;
  void (*change)(Spec&);
  bool needs_root = false;
};

TEST_F(SlotTest, WhatCouldReachTheNextOneGetsFreshNamespaces) {
  const WhyCase cases[] = {
      {"its spec asks for that", [](Spec& spec) { spec.reuse = Reuse::kNone; }},
      {"keeps a capability", [](Spec& spec) { spec.capabilities = {"NET_ADMIN"}; }},
      {"may make namespaces", [](Spec& spec) { spec.nesting = true; }},
      {"filter", [](Spec& spec) { spec.seccomp.mode = SeccompMode::kOff; }},
      {"no ipc namespace",
       [](Spec& spec) { spec.ns(NamespaceKind::kIpc).mode = NamespaceMode::kHost; }},
      {"joins a uts namespace",
       [](Spec& spec) {
         spec.ns(NamespaceKind::kUts) = {NamespaceMode::kJoin, "/proc/self/ns/uts"};
         spec.hostname.clear();
       },
       /*needs_root=*/true},
  };
  for (const WhyCase& each : cases) {
    if (each.needs_root && geteuid() != 0) continue;
    Spec spec;
    each.change(spec);
    StartOne(0, spec);
    for (int i = 0; i < 2; ++i) {
      const Outcome outcome = RunOn(SpawnPath::kZygote, "exit 0");
      EXPECT_TRUE(outcome.ok()) << outcome.message;
      EXPECT_FALSE(outcome.slot.has_value()) << each.why;
      EXPECT_THAT(outcome.fresh, HasSubstr(each.why));
    }
    ASSERT_TRUE(pool_->Shutdown().ok());
    pool_.reset();
  }
}

TEST_F(SlotTest, AFreshRequestGetsNewNamespacesAndLeavesThemToNobody) {
  StartOne(1);
  AwaitParked(1);
  for (int i = 0; i < 3; ++i) {
    Request request = ShellRequest("exit 0");
    request.fresh = true;
    const Outcome outcome = Run(std::move(request));
    ASSERT_TRUE(outcome.slot.has_value());
    EXPECT_EQ(outcome.slot->used, 0U);
    EXPECT_EQ(outcome.spawn_path, SpawnPath::kZygote);
    EXPECT_THAT(outcome.fresh, HasSubstr("request"));
  }
  EXPECT_EQ(pool_->Stats().slots.reused, 0U);
}

// Left by one worker; `look` is what the next one in its slot runs, and must print.
struct Leftover {
  const char* name;
  const char* leave;
  const char* look;
  const char* found;
  // The kernel frees it a grace period of RCU after its close: a slot asked for sooner is given up.
  bool lingers = false;
};

void PrintTo(const Leftover& leftover, std::ostream* out) { *out << leftover.name; }

constexpr Leftover kLeftovers[] = {
    {"files",
     "for at in /tmp /run /dev/shm; do echo secret > $at/s; done; exec 9>/tmp/d;"
     " rm /tmp/d; echo secret >&9",
     "find /tmp /run /dev/shm -name s -o -name d", ""},
    {"system_v_ipc",
     "perl -e 'shmget(77, 4096, 01600) // die; msgget(77, 01600) // die; semget(77, 1, 01600) // "
     "die'",
     "cat /proc/sysvipc/shm /proc/sysvipc/msg /proc/sysvipc/sem | grep -vc key", "0\n"},
    {"processes", "setsid sleep 1000 & sleep 1000 & kill -STOP $!; setsid sh -c 'sleep 1000' &",
     "cat /proc/[0-9]*/comm | grep -c sleep", "0\n"},
    {"pid", ":", "echo $$", "1\n"},
    {"hostname", "hostname left 2>/dev/null; domainname left 2>/dev/null; :",
     "hostname; cat /proc/sys/kernel/domainname", "brood\n(none)\n"},
    {"sysctls",
     "for f in /proc/sys/net/*/* /proc/sys/net/ipv4/conf/lo/* /proc/sys/user/*; do [ -f $f ] || "
     "continue; { read v < $f && echo $v > $f; } 2>/dev/null && echo wrote $f >&2; done; :",
     "cat /proc/sys/net/ipv4/ip_forward /proc/sys/user/*", nullptr},
    {"abstract_socket",
     "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) or die; bind(S, pack(\"S a*\", AF_UNIX, "
     "\"\\0left\")) or die; listen(S, 1) or die'",
     "grep -c left /proc/net/unix", "0\n"},
    {"listener",
     "perl -MSocket -e 'socket(S, AF_INET, SOCK_STREAM, 0) or die; bind(S, sockaddr_in(77, "
     "INADDR_ANY)) or die; listen(S, 1) or die'",
     "tail -n +2 /proc/net/tcp | wc -l", "0\n"},
    {"closed_connection",
     "perl -MSocket -e 'socket(L, AF_INET, SOCK_STREAM, 0) or die; bind(L, sockaddr_in(77, "
     "INADDR_LOOPBACK)) or die; listen(L, 9) or die; for (1..9) { socket(C, AF_INET, SOCK_STREAM, "
     "0) or die; connect(C, sockaddr_in(77, INADDR_LOOPBACK)) or die; accept(A, L) or die; "
     "close(C); close(A) }'",
     "tail -n +2 /proc/net/tcp | wc -l", "0\n"},
    {"half_open_connection",
     "perl -MSocket -e 'socket(L, AF_INET, SOCK_STREAM, 0) or die; bind(L, sockaddr_in(77, "
     "INADDR_LOOPBACK)) or die; listen(L, 9) or die; for (1..9) { socket(C, AF_INET, SOCK_STREAM, "
     "0) or die; connect(C, sockaddr_in(77, INADDR_LOOPBACK)) or die; syswrite(C, \"left\"); "
     "push @all, \\*C }'",
     "tail -n +2 /proc/net/tcp | wc -l", "0\n"},
    {"multicast",
     "perl -MSocket=:all -e 'socket(S, AF_INET, SOCK_DGRAM, 0) or die; setsockopt(S, IPPROTO_IP, "
     "IP_ADD_MEMBERSHIP, pack(\"a4 a4\", inet_aton(\"239.1.2.3\"), INADDR_LOOPBACK)) or die'",
     "grep -c 030201EF /proc/net/igmp", "0\n"},
    {"multicast6",
     "perl -MSocket=:all -e 'socket(S, AF_INET6, SOCK_DGRAM, 0) or die; setsockopt(S, 41, 20, "
     "pack(\"n8 I\", 0xff02, 0, 0, 0, 0, 0, 0, 0x77, 1)) or die'",
     "grep -c ff020000000000000000000000000077 /proc/net/igmp6", "0\n"},
    {"netlink",
     "perl -MSocket -e 'socket(S, 16, SOCK_RAW, 0) or die; bind(S, pack(\"S S L L\", 16, 0, 77, "
     "1)) "
     "or die'",
     "grep -c '  *77 ' /proc/net/netlink", "0\n", true},
    {"addresses", "ip addr add 10.9.8.7/8 dev lo 2>/dev/null; ip link set lo down 2>/dev/null; :",
     "grep -c 10.9.8.7 /proc/net/fib_trie; tail -n +2 /proc/net/route | wc -l", "0\n0\n"},
    {"modes_and_times",
     "for at in / /dev /dev/pts /dev/shm /dev/mqueue /tmp /run /proc /sys; do chmod 700 $at; touch "
     "-d 2001-01-01 $at; done 2>/dev/null; :",
     "stat -c '%a %u %n' / /dev /dev/pts /dev/shm /tmp /run /proc /sys; find / /dev /dev/pts "
     "/dev/shm /tmp /run /sys -maxdepth 0 ! -newermt 2002-01-01",
     nullptr},
#if defined(__x86_64__)  // whose numbers of system calls these are
    // The filter refuses add_key and keyctl, and each worker has a session keyring of its own.
    {"keys",
     "perl -e '($t, $n, $s) = (\"user\", \"left\", \"secret\"); for (-5 .. -1) { syscall(248, $t, "
     "$n, $s, 6, $_) == -1 or die; syscall(250, 0, $_, 1) == -1 or die }'",
     "grep -c left /proc/keys", "0\n"},
    {"posix_queue", "perl -e '$n = \"left\"; syscall(240, $n, 0102, 0600, 0) >= 0 or die'",
     "perl -e '$n = \"left\"; print syscall(240, $n, 2, 0, 0)'", "-1"},
    // The kernel counts these for each user of a user namespace.
    {"inotify",
     "perl -e '$p = \"/tmp\"; for (1..100) { ($i = syscall(294, 0)) >= 0 or die; syscall(254, $i, "
     "$p, 2) >= 0 or die }'",
     "perl -e 'for (1..100) { syscall(294, 0) >= 0 or die } print \"all\"'", "all"},
    {"locked_memory",
     "perl -e '$m = \"x\" x 50_000; syscall(149, $m, 50_000) == 0 or die; fork or sleep 1000'",
     "perl -e '$m = \"x\" x 50_000; syscall(149, $m, 50_000) == 0 or die; print \"all\"'", "all"},
    {"timers",
     "perl -e '$SIG{ALRM} = \"IGNORE\"; $t = pack(\"q4\", 0, 1000, 0, 1000); syscall(38, 0, $t, 0) "
     "== 0 or die'",
     "perl -e 'select undef, undef, undef, 0.01; print alarm(0)'", "0"},
#endif
    {"locks", "exec 9</etc/passwd; flock -s 9", "exec 9</etc/passwd; flock -n -x 9 && echo free",
     "free\n"},
    {"id_map", ":", "awk '{print $1, $3}' /proc/self/uid_map", nullptr},
};

class SlotLeftoverTest : public SlotTest,
                         public ::testing::WithParamInterface<std::tuple<Leftover, SpawnPath>> {};

TEST_P(SlotLeftoverTest, IsNotThereForTheNextOne) {
  const auto& [leftover, path] = GetParam();
  StartOne(path == SpawnPath::kParked ? 1 : 0);
  const std::string clean =
      leftover.found != nullptr ? leftover.found : RunOn(path, leftover.look).out;
  std::uint32_t reused = 0;
  for (int i = 0; i < Tries(); ++i) {
    const Outcome left = RunOn(path, leftover.leave);
    ASSERT_TRUE(left.ok()) << left.err << left.message;
    EXPECT_EQ(left.err, "");
    ASSERT_TRUE(left.slot.has_value());
    const Outcome next = RunInSlot(left.slot->number, path, leftover.look);
    ASSERT_TRUE(next.slot.has_value());
    EXPECT_EQ(next.out, clean) << next.err;
    reused += next.slot->used > 0;
  }
  const auto given_up = pool_->Stats().slots.given_up;
  const auto sockets = given_up[static_cast<std::size_t>(SlotFault::kSockets)];
  EXPECT_EQ(reused + (leftover.lingers ? sockets : 0), Tries())
      << ::testing::PrintToString(given_up);
}

INSTANTIATE_TEST_SUITE_P(Each, SlotLeftoverTest,
                         ::testing::Combine(::testing::ValuesIn(kLeftovers),
                                            ::testing::Values(SpawnPath::kZygote,
                                                              SpawnPath::kParked)),
                         [](const ::testing::TestParamInfo<std::tuple<Leftover, SpawnPath>>& each) {
                           return std::string(std::get<0>(each.param).name) + "_" +
                                  std::string(SpawnPathName(std::get<1>(each.param)));
                         });

// What brood gets of a worker, a socket or the master of a terminal, held for longer than the
// worker lives.
class HeldOutsideTest : public SlotTest {
 protected:
  UniqueFd RunHolding(StdioMode mode, Outcome& giver) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd ours(ends[0]);
    UniqueFd theirs(ends[1]);
    Request request = GuardedShell("exit 0");
    request.path = SpawnPath::kZygote;
    request.command.stdio = {};
    request.command.stdio.mode = mode;
    if (mode == StdioMode::kEndpoint) request.command.stdio.port = 77;
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    request.command.stdio.fds = {theirs.get(), null.get(), null.get()};
    giver = Run(std::move(request));
    char byte = 0;
    ReceivedFds<1> received;
    EXPECT_EQ(ReceiveWithFds(ours.get(), &byte, 1, received, 0), 1);
    EXPECT_EQ(received.count, 1U);
    return UniqueFd(received.count == 1 ? received.fds[0] : -1);
  }
};

// A socket of a worker that somebody outside still has keeps its network namespace from being
// clean.
TEST_F(HeldOutsideTest, ASocketCostsTheSlot) {
  StartOne(0);
  for (int i = 0; i < Tries(); ++i) {
    Outcome giver;
    const UniqueFd held = RunHolding(StdioMode::kEndpoint, giver);
    ASSERT_TRUE(giver.slot.has_value()) << giver.message;
    const Outcome next =
        RunInSlot(giver.slot->number, SpawnPath::kZygote, "tail -n +2 /proc/net/tcp | wc -l");
    ASSERT_TRUE(next.slot.has_value());
    EXPECT_EQ(next.slot->used, 0U);
    EXPECT_EQ(next.out, "0\n");
    EXPECT_EQ(GivenUp(SlotFault::kSockets), static_cast<std::uint64_t>(i + 1));
  }
}

// Its devpts was the last worker's alone.
TEST_F(HeldOutsideTest, ATerminalIsNotAmongThoseOfTheNextOne) {
  StartOne(0);
  for (int i = 0; i < Tries(); ++i) {
    Outcome giver;
    const UniqueFd held = RunHolding(StdioMode::kTerminal, giver);
    ASSERT_TRUE(giver.slot.has_value()) << giver.message;
    const Outcome next = RunInSlot(giver.slot->number, SpawnPath::kZygote, "ls /dev/pts");
    ASSERT_TRUE(next.slot.has_value());
    EXPECT_GT(next.slot->used, 0U);
    EXPECT_EQ(next.out, "ptmx\n");
  }
}

#if defined(__x86_64__)
// Descriptors of its namespaces, which a worker has given away, are of no use to whoever has no
// power over them already: neither to somebody outside nor to another worker.
TEST_F(HeldOutsideTest, DescriptorsOfNamespacesOpenThemToNobody) {
  BROOD_NEEDS_ROOT();
  StartOne(0);
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const char* const names[] = {"user", "net", "uts", "mnt", "cgroup"};
  Request giving = GuardedShell(
      "exec perl -e 'for (qw(user net uts mnt cgroup)) { open(my $f, q(/proc/self/ns/).$_) or die; "
      "syscall(308, fileno($f), 0) == -1 or die; push @f, $f } $fds = pack(q(i*), map(fileno($_), "
      "@f)); $b = q(x); $i = pack(q(PQ), $b, 1); "
      "$c = pack(q(Qii), 36, 1, 1).$fds.pack(q(x4)); "
      "$m = pack(q(QQPQPQQ), 0, 0, $i, 1, $c, length $c, 0); exit(syscall(46, 0, $m, 0) != 1)'");
  giving.path = SpawnPath::kZygote;
  giving.command.stdio = {StdioMode::kFds, {theirs.get(), null.get(), null.get()}, 0};
  const Outcome giver = Run(std::move(giving));
  ASSERT_TRUE(giver.ok()) << giver.message;
  char byte = 0;
  ReceivedFds<8> received;
  ASSERT_EQ(ReceiveWithFds(ours.get(), &byte, 1, received, 0), 1);
  ASSERT_EQ(received.count, std::size(names));
  std::vector<UniqueFd> held;
  for (std::size_t i = 0; i < received.count; ++i) held.emplace_back(received.fds[i]);

  for (std::size_t i = 0; i < held.size(); ++i) {
    const pid_t outsider = fork();
    if (outsider == 0) {
      BecomeOrdinary();
      _exit(setns(held[i].get(), 0) == 0 ? 0 : errno);
    }
    int status = 0;
    ASSERT_EQ(waitpid(outsider, &status, 0), outsider);
    EXPECT_EQ(WEXITSTATUS(status), EPERM) << names[i];
  }
}
#endif

// What cannot be counted is unknown, and so it is given up.
TEST_F(SlotTest, ASlotThatCannotBeLookedAtIsGivenUp) {
  TemplateOptions options;
  options.zygotes = 1;
  options.fault = {.step = Step::kJoinNamespace, .error = EPERM};
  Start(0, std::move(options));
  for (int i = 0; i < 3; ++i) {
    const Outcome outcome = RunOn(SpawnPath::kZygote, "exit 0");
    EXPECT_TRUE(outcome.ok()) << outcome.message;
    EXPECT_EQ(outcome.slot->used, 0U);
    usleep(30'000);
  }
  EXPECT_GE(GivenUp(SlotFault::kUnknown), 1U);
}

TEST_F(SlotTest, ACommandThatIsNotThereCostsNoSlot) {
  StartOne(0);
  AwaitSlots();
  for (int i = 0; i < 3; ++i) {
    Request request;
    request.command.argv = {"/not/there"};
    request.path = SpawnPath::kZygote;
    EXPECT_EQ(Run(std::move(request)).end, End::kSetupFailed);
    usleep(30'000);
  }
  const Outcome last = RunOn(SpawnPath::kZygote, "exit 0");
  EXPECT_TRUE(last.ok()) << last.message;
  EXPECT_GE(last.slot->used, 1U);
  EXPECT_THAT(pool_->Stats().slots.given_up, ::testing::Each(0U));
}

// Its owners are mapped once, for all workers of a slot.
TEST_F(SlotTest, ARootsOwnersAreShownToEachWorker) {
  BROOD_NEEDS_ROOT();
  BROOD_NEEDS_WAY(Way::kIdmap);
  const char* const root = std::getenv("BROOD_TEST_ROOTFS");
  if (root == nullptr) GTEST_SKIP() << "needs a Debian in BROOD_TEST_ROOTFS";
  Spec spec;
  spec.root = {RootMode::kReadOnly, root};
  StartOne(0, spec);
  for (int i = 0; i < 3; ++i) {
    const Outcome outcome = RunOn(SpawnPath::kZygote, "stat -c %u /etc/passwd");
    EXPECT_EQ(outcome.out, "0\n");
    EXPECT_TRUE(outcome.fallbacks.empty()) << ToText(outcome.fallbacks);
    usleep(30'000);
  }
}

TEST_F(SlotTest, ASlotOfAWorkerThatWasNotFinishedIsGivenUp) {
  TemplateOptions options;
  options.zygotes = 1;
  options.fault = {.step = Step::kMountProc, .error = EPERM};
  Start(0, std::move(options));
  for (int i = 0; i < 3; ++i) {
    const Outcome outcome = RunOn(SpawnPath::kZygote, "exit 0");
    EXPECT_EQ(outcome.end, End::kSetupFailed);
  }
  const PoolStats stats = pool_->Stats();
  EXPECT_EQ(stats.slots.reused, 0U);
  EXPECT_EQ(stats.slots.idle, 0U);
}

// Where a root is put together for each worker, a slot keeps what it is put together from.
struct RootCase {
  const char* name;
  void (*change)(Spec&, const std::string& directory);
};

void PrintTo(const RootCase& root, std::ostream* out) { *out << root.name; }

const RootCase kRoots[] = {
    {"read_only", [](Spec&, const std::string&) {}},
    {"overlay", [](Spec& spec, const std::string&) { spec.root.mode = RootMode::kOverlay; }},
    {"read_write",
     [](Spec& spec, const std::string& directory) {
       spec.binds.push_back({directory, "/opt", /*read_only=*/false});
     }},
    {"below_its_own",
     [](Spec& spec, const std::string& directory) {
       spec.binds.push_back({directory, "/tmp/given", /*read_only=*/true});
       spec.tmpfs.push_back({.target = "/srv"});
     }},
    {"overlay_below_its_own",
     [](Spec& spec, const std::string& directory) {
       spec.root.mode = RootMode::kOverlay;
       spec.binds.push_back({directory, "/run/given/deep", /*read_only=*/false});
     }},
    {"host_network",
     [](Spec& spec, const std::string&) {
       spec.ns(NamespaceKind::kNet).mode = NamespaceMode::kHost;
     }},
    {"init", [](Spec& spec, const std::string&) { spec.init = true; }},
    {"time_offset",
     [](Spec& spec, const std::string&) {
       spec.time_offsets.boottime = std::chrono::hours(24'000);
     }},
};

class SlotRootTest : public SlotTest, public ::testing::WithParamInterface<RootCase> {};

TEST_P(SlotRootTest, IsTheSameForEachWorkerOfASlot) {
  const char* const root = std::getenv("BROOD_TEST_ROOTFS");
  if (root == nullptr) GTEST_SKIP() << "needs a Debian in BROOD_TEST_ROOTFS";
  const std::string given = fmt::format("/tmp/brood_slot_test_{}", getpid());
  std::filesystem::create_directory(given);
  std::filesystem::permissions(given, std::filesystem::perms::all);
  std::ofstream(given + "/file") << "given\n";
  Spec spec;
  spec.root = {RootMode::kReadOnly, root};
  GetParam().change(spec, given);
  StartOne(0, spec);
  const std::string look =
      "cut -d' ' -f5,6 /proc/self/mountinfo | sort; id; hostname; cat /proc/self/uid_map; "
      "pids=$(ls /proc); echo \"$pids\" | grep -c '^[0-9]'; ls -A / /tmp /run /dev /dev/shm /srv "
      "/opt; cut -d' ' -f1 "
      "/proc/uptime | grep -c ........; find /tmp /run /opt -name file | xargs cat; "
      "echo left >/tmp/left; echo left >/left; echo left >/srv/left; exit 0";
  const Outcome first = RunOn(SpawnPath::kZygote, look);
  ASSERT_TRUE(first.ok()) << first.message << first.err;
  ASSERT_TRUE(first.slot.has_value()) << first.fresh;
  for (int i = 0; i < 2; ++i) {
    const Outcome next = RunInSlot(first.slot->number, SpawnPath::kZygote, look);
    ASSERT_TRUE(next.slot.has_value());
    EXPECT_GT(next.slot->used, 0U);
    EXPECT_EQ(next.out, first.out);
    EXPECT_EQ(next.err, first.err);
    EXPECT_EQ(next.fallbacks.size(), first.fallbacks.size());
  }
  ASSERT_TRUE(pool_->Shutdown().ok());
  std::filesystem::remove_all(given);
}

INSTANTIATE_TEST_SUITE_P(Each, SlotRootTest, ::testing::ValuesIn(kRoots),
                         [](const ::testing::TestParamInfo<RootCase>& each) {
                           return std::string(each.param.name);
                         });

TEST_F(SlotTest, SlotsSurviveTheDeathOfTheirWorkers) {
  StartOne(0);
  for (int i = 0; i < 5; ++i) {
    const Outcome outcome = RunOn(SpawnPath::kZygote, "kill -9 -1; kill -9 $$; :(){ :|:& };:");
    ASSERT_TRUE(outcome.slot.has_value());
    usleep(30'000);
  }
  const Outcome last = RunOn(SpawnPath::kZygote, "exit 0");
  EXPECT_TRUE(last.ok()) << last.message;
  EXPECT_GT(last.slot->used, 0U);
}

}  // namespace
}  // namespace brood
