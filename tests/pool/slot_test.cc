// SPDX-License-Identifier: Apache-2.0

// Slots: what a worker gets of the one before, and what it must not get.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <ostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/fd_message.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/without.h"
#include "tests/pool/pool_test.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

constexpr std::uint32_t kMostSlots = 128;

// How often the worker of a slot tries to leave something for the next one.
int Tries() {
  const char* const tries = std::getenv("BROOD_SLOT_TRIES");
  return tries == nullptr ? 3 : std::atoi(tries);
}

class SlotTest : public PoolTest {
 protected:
  void SetUp() override {
    PoolTest::SetUp();
    if (Without(Way::kSlots)) GTEST_SKIP() << "needs slots, which BROOD_WITHOUT takes away";
  }

  // One zygote, so that a slot that is free is taken again at once.
  void StartOne(std::uint32_t parked, Spec spec = {}) {
    TemplateOptions options;
    options.spec = std::move(spec);
    options.zygotes = 1;
    Start(parked, std::move(options));
  }

  Outcome RunOn(SpawnPath path, const std::string& script) {
    Request request = GuardedShell(script);
    request.path = path;
    return Run(std::move(request));
  }
  std::uint64_t GivenUp(SlotFault fault) {
    return pool_->Stats().slots.given_up[static_cast<std::size_t>(fault)];
  }
};

TEST_F(SlotTest, OutcomesTellTheSlotAndHowOftenItWasUsed) {
  StartOne(0);
  std::vector<std::uint32_t> uses(kMostSlots);
  for (int i = 0; i < 20; ++i) {
    const Outcome outcome = RunOn(SpawnPath::kZygote, "exit 0");
    ASSERT_TRUE(outcome.slot.has_value()) << outcome.message;
    ASSERT_LT(outcome.slot->number, uses.size());
    EXPECT_EQ(outcome.slot->used, uses[outcome.slot->number]++);
    EXPECT_EQ(outcome.fresh, "");
    usleep(5000);  // or it is another's turn
  }
  const PoolStats stats = pool_->Stats();
  EXPECT_GT(stats.slots.reused, 0U);
  EXPECT_EQ(stats.slots.made + stats.slots.reused, 20U);
  EXPECT_EQ(stats.slots.idle, stats.slots.made);
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
     "cat /proc/sys/net/ipv4/ip_forward /proc/sys/user/max_user_namespaces", "0\n0\n"},
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
    {"addresses", "ip addr add 10.9.8.7/8 dev lo 2>/dev/null; ip link set lo down 2>/dev/null; :",
     "grep -c 10.9.8.7 /proc/net/fib_trie; tail -n +2 /proc/net/route | wc -l", "0\n0\n"},
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
    // Others may be there before it, since a slot rests.
    ASSERT_TRUE(left.slot.has_value());
    Outcome next;
    for (int look = 0; look < 40 && (look == 0 || next.slot->number != left.slot->number); ++look) {
      usleep(10'000);
      next = RunOn(path, leftover.look);
      EXPECT_EQ(next.out, clean) << next.err;
      ASSERT_TRUE(next.slot.has_value());
    }
    EXPECT_EQ(next.slot->number, left.slot->number);
    reused += next.slot->used > 0;
  }
  EXPECT_EQ(reused, Tries()) << ::testing::PrintToString(pool_->Stats().slots.given_up);
}

INSTANTIATE_TEST_SUITE_P(Each, SlotLeftoverTest,
                         ::testing::Combine(::testing::ValuesIn(kLeftovers),
                                            ::testing::Values(SpawnPath::kZygote,
                                                              SpawnPath::kParked)),
                         [](const ::testing::TestParamInfo<std::tuple<Leftover, SpawnPath>>& each) {
                           return std::string(std::get<0>(each.param).name) + "_" +
                                  std::string(SpawnPathName(std::get<1>(each.param)));
                         });

// A socket of a worker that somebody outside still has keeps its network namespace from being
// clean.
TEST_F(SlotTest, ASocketHeldOutsideCostsTheSlot) {
  StartOne(0);
  for (int i = 0; i < Tries(); ++i) {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    const UniqueFd ours(ends[0]);
    UniqueFd theirs(ends[1]);
    Request request = GuardedShell("exit 0");
    request.path = SpawnPath::kZygote;
    request.command.stdio = {};
    request.command.stdio.mode = StdioMode::kEndpoint;
    request.command.stdio.port = 77;
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    request.command.stdio.fds = {theirs.get(), null.get(), null.get()};
    const Outcome giver = Run(std::move(request));
    ASSERT_TRUE(giver.ok()) << giver.message;
    char byte = 0;
    ReceivedFds<1> received;
    ASSERT_EQ(ReceiveWithFds(ours.get(), &byte, 1, received, 0), 1);
    ASSERT_EQ(received.count, 1U);
    const UniqueFd held(received.fds[0]);
    Outcome next;
    for (int look = 0; look < 40 && (look == 0 || next.slot->number != giver.slot->number);
         ++look) {
      usleep(10'000);
      next = RunOn(SpawnPath::kZygote, "tail -n +2 /proc/net/tcp | wc -l");
      ASSERT_TRUE(next.slot.has_value());
    }
    EXPECT_EQ(next.slot->number, giver.slot->number);
    EXPECT_EQ(next.slot->used, 0U);
    EXPECT_EQ(next.out, "0\n");
    EXPECT_EQ(GivenUp(SlotFault::kSockets), static_cast<std::uint64_t>(i + 1));
  }
}

// What cannot be entered is unknown, and so it is given up.
TEST_F(SlotTest, ASlotThatCannotBeEnteredIsGivenUp) {
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
