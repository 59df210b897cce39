// SPDX-License-Identifier: Apache-2.0

// The default filter: what it decides, and how long it is.
#include "spawn/seccomp/seccomp.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <csignal>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/seccomp/seccomp_compat.h"
#include "spawn/seccomp/seccomp_eval.h"
#include "tests/unit/spawn/seccomp/seccomp_programs.h"

namespace brood {
namespace {

constexpr std::uint64_t kKey = 0x8765'4321'0abc'def0;

std::vector<sock_filter> Inherited() {
  const auto program = CompileInheritedSeccomp(kKey);
  EXPECT_TRUE(program.ok()) << program.status();
  if (!program.ok()) return {};
  EXPECT_TRUE(program->allows_launch);
  return program->instructions;
}

TEST(InheritedFilter, IsTheDefaultForWhoeverHasNoKey) {
  const SeccompProgram whole = DefaultProgram();
  const std::vector<sock_filter> inherited = Inherited();
  std::vector<std::uint32_t> architectures = {seccomp_arch_native(), 0x12345678};
  if (kCompat) architectures.push_back(kCompat->arch);
  std::vector<std::uint64_t> arguments = {
      0, 1, AF_ALG, AF_VSOCK, TIOCSTI, SIGCHLD, kHighBits | AF_ALG, ~std::uint64_t{0}};
  for (int bit = 0; bit < 64; ++bit) arguments.push_back(std::uint64_t{1} << bit);
  const std::uint64_t guesses[] = {0, kKey & 0xffffffff, kKey & ~std::uint64_t{0xffffffff},
                                   kKey ^ 1, kKey ^ (std::uint64_t{1} << 63)};
  for (const std::uint32_t arch : architectures) {
    for (const std::uint32_t base : {0U, 0x40000000U}) {
      for (std::uint32_t number = base; number < base + 700; ++number) {
        for (std::size_t i = 0; i < arguments.size(); ++i) {
          const std::uint64_t argument = arguments[i];
          const std::uint64_t guess = guesses[i % std::size(guesses)];
          // The key is no other argument's.
          seccomp_data call = SystemCall(number, {argument, argument, kKey, kKey, kKey, guess});
          call.arch = arch;
          ASSERT_EQ(EvaluateSeccomp(inherited, call), EvaluateSeccomp(whole.instructions, call))
              << fmt::format("call {} of {:x} with {:x}", number, arch, argument);
        }
      }
    }
  }
}

TEST(InheritedFilter, LetsWhatSetsAWorkerUpThroughWithTheKey) {
  const std::vector<sock_filter> inherited = Inherited();
  for (const char* name : {"mount", "clone3", "setns", "fsmount", "unshare", "open_tree"}) {
    seccomp_data call = SystemCall(CallNumber(name), {0, 0, 0, 0, 0, kKey});
    EXPECT_EQ(EvaluateSeccomp(inherited, call), kAllow) << name;
    call.args[kSetupKeyArgument] ^= 1;
    EXPECT_NE(EvaluateSeccomp(inherited, call), kAllow) << name;
  }
  const seccomp_data clone = SystemCall(CallNumber("clone"), {CLONE_NEWUSER, 0, 0, 0, 0, kKey});
  EXPECT_EQ(EvaluateSeccomp(inherited, clone), kEperm);
  const seccomp_data reboot = SystemCall(CallNumber("reboot"), {0, 0, 0, 0, 0, kKey});
  EXPECT_EQ(EvaluateSeccomp(inherited, reboot), kEperm);
}

struct DefaultCase {
  const char* name;
  std::initializer_list<std::uint64_t> args;
  std::uint64_t capability_mask;
  std::uint32_t expected;
};

TEST(DefaultFilter, DecidesAsDocumented) {
  const DefaultCase cases[] = {
    {"read", {}, 0, kAllow},
    {"openat2", {}, 0, kAllow},
    {"execve", {}, 0, kAllow},
    {"ptrace", {}, 0, kAllow},
    {"seccomp", {}, 0, kAllow},
    {"futex_waitv", {}, 0, kAllow},

    {"clone3", {}, 0, kEnosys},
    {"clone3", {}, CapabilityBit(CAP_SYS_ADMIN), kAllow},
    {"clone", {CLONE_VM | CLONE_THREAD | CLONE_SIGHAND}, 0, kAllow},
    {"clone", {SIGCHLD}, 0, kAllow},
    {"clone", {CLONE_NEWNS}, 0, kEperm},
    {"clone", {CLONE_NEWUTS}, 0, kEperm},
    {"clone", {CLONE_NEWIPC}, 0, kEperm},
    {"clone", {CLONE_NEWUSER | SIGCHLD}, 0, kEperm},
    {"clone", {CLONE_NEWPID}, 0, kEperm},
    {"clone", {CLONE_NEWNET}, 0, kEperm},
    {"clone", {CLONE_NEWCGROUP}, 0, kEperm},
    {"clone", {kHighBits | CLONE_NEWUSER}, 0, kEperm},
    {"clone", {CLONE_NEWNS}, CapabilityBit(CAP_SYS_ADMIN), kAllow},

    {"socket", {AF_INET}, 0, kAllow},
    {"socket", {AF_NETLINK}, 0, kAllow},
    {"socket", {AF_ALG + 1}, 0, kAllow},
    {"socket", {AF_ALG}, 0, kEperm},
    {"socket", {AF_VSOCK}, 0, kEperm},
    {"socket", {kHighBits | AF_ALG}, 0, kEperm},
    {"socket", {AF_ALG}, kEveryCapability, kEperm},

    {"ioctl", {0, TCGETS}, 0, kAllow},
    {"ioctl", {0, TIOCSTI}, 0, kEperm},
    {"ioctl", {0, TIOCLINUX}, 0, kEperm},
    {"ioctl", {0, kHighBits | TIOCSTI}, 0, kEperm},
    {"ioctl", {TIOCSTI, TCGETS}, 0, kAllow},
    {"ioctl", {0, TIOCSTI}, kEveryCapability, kEperm},

    {"personality", {0}, 0, kAllow},
    {"personality", {0x8}, 0, kAllow},
    {"personality", {0x20000}, 0, kAllow},
    {"personality", {0x20008}, 0, kAllow},
    {"personality", {0xffffffff}, 0, kAllow},
    {"personality", {0x0040000 /* ADDR_NO_RANDOMIZE */}, 0, kEperm},

    {"unshare", {}, 0, kEperm},
    {"unshare", {}, CapabilityBit(CAP_SYS_ADMIN), kAllow},
    {"setns", {}, 0, kEperm},
    {"setns", {}, CapabilityBit(CAP_SYS_ADMIN), kAllow},
    {"mount", {}, 0, kEperm},
    {"mount", {}, CapabilityBit(CAP_SYS_ADMIN), kAllow},
    {"umount2", {}, 0, kEperm},
    {"open_tree", {}, 0, kEperm},
    {"move_mount", {}, 0, kEperm},
    {"fsopen", {}, 0, kEperm},
    {"fsopen", {}, CapabilityBit(CAP_SYS_ADMIN), kAllow},
    {"mount_setattr", {}, 0, kEperm},
    {"pivot_root", {}, kEveryCapability, kEperm},

    {"bpf", {}, 0, kEperm},
    {"bpf", {}, CapabilityBit(CAP_BPF), kAllow},
    {"perf_event_open", {}, 0, kEperm},
    {"perf_event_open", {}, CapabilityBit(CAP_PERFMON), kAllow},
    {"open_by_handle_at", {}, 0, kEperm},
    {"open_by_handle_at", {}, CapabilityBit(CAP_DAC_READ_SEARCH), kAllow},
    {"init_module", {}, CapabilityBit(CAP_SYS_ADMIN), kEperm},
    {"init_module", {}, CapabilityBit(CAP_SYS_MODULE), kAllow},
    {"chroot", {}, 0, kEperm},
    {"chroot", {}, CapabilityBit(CAP_SYS_CHROOT), kAllow},
    {"kcmp", {}, 0, kEperm},
    {"kcmp", {}, CapabilityBit(CAP_SYS_PTRACE), kAllow},
    {"acct", {}, CapabilityBit(CAP_SYS_PACCT), kAllow},
    {"reboot", {}, 0, kEperm},
    {"reboot", {}, CapabilityBit(CAP_SYS_BOOT), kAllow},
    {"mbind", {}, 0, kEperm},
    {"mbind", {}, CapabilityBit(CAP_SYS_NICE), kAllow},
    {"clock_settime", {}, 0, kEperm},
    {"clock_settime", {}, CapabilityBit(CAP_SYS_TIME), kAllow},
    {"vhangup", {}, 0, kEperm},
    {"vhangup", {}, CapabilityBit(CAP_SYS_TTY_CONFIG), kAllow},
    {"syslog", {}, 0, kEperm},
    {"syslog", {}, CapabilityBit(CAP_SYSLOG), kAllow},
#if defined(__x86_64__)
    {"iopl", {}, 0, kEperm},
    {"iopl", {}, CapabilityBit(CAP_SYS_RAWIO), kAllow},
    {"arch_prctl", {}, 0, kAllow},
#endif
  };
  for (const DefaultCase& c : cases) {
    const SeccompProgram program = DefaultProgram(c.capability_mask);
    EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber(c.name), c.args)),
              c.expected)
        << c.name << "(" << testing::PrintToString(c.args) << ") with capabilities 0x" << std::hex
        << c.capability_mask;
  }
}

TEST(DefaultFilter, NestingLetsNamespacesAndMountsThroughAndNothingElse) {
  const auto program = CompileSeccomp({}, 0, /*nesting=*/true);
  ASSERT_TRUE(program.ok()) << Message(program.status());
  EXPECT_TRUE(program->allows_launch);
  for (const char* name : {"clone3", "unshare", "setns", "mount", "umount2", "pivot_root", "chroot",
                           "move_mount", "open_tree", "sethostname"}) {
    EXPECT_EQ(EvaluateSeccomp(program->instructions, SystemCall(CallNumber(name))), kAllow) << name;
  }
  EXPECT_EQ(
      EvaluateSeccomp(program->instructions, SystemCall(CallNumber("clone"), {CLONE_NEWUSER})),
      kAllow);
  for (const char* name : {"bpf", "perf_event_open", "syslog", "quotactl", "io_uring_setup",
                           "keyctl", "userfaultfd", "reboot", "init_module", "open_by_handle_at"}) {
    EXPECT_EQ(EvaluateSeccomp(program->instructions, SystemCall(CallNumber(name))), kEperm) << name;
  }
}

TEST(DefaultFilter, NeverUnlocksWhatCapabilitiesDoNotCover) {
  const SeccompProgram program = DefaultProgram(kEveryCapability);
  for (const char* name :
       {"io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key", "request_key",
        "userfaultfd", "kexec_load", "kexec_file_load", "swapon", "swapoff", "pivot_root"}) {
    EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber(name))), kEperm) << name;
  }
}

TEST(DefaultFilter, AnswersEnosysAboveTheNewestCallItNames) {
  constexpr std::uint32_t kNewest = 466;  // removexattrat, Linux 6.13
  for (const std::uint64_t capability_mask : {std::uint64_t{0}, kEveryCapability}) {
    const auto program = DefaultProgram(capability_mask).instructions;
    EXPECT_EQ(EvaluateSeccomp(program, SystemCall(kNewest)), kAllow);
    for (std::uint32_t number = kNewest + 1; number < 2000; ++number) {
      ASSERT_EQ(EvaluateSeccomp(program, SystemCall(number)), kEnosys) << number;
    }
    EXPECT_EQ(EvaluateSeccomp(program, SystemCall(0xffffffff)), kEnosys);
    EXPECT_EQ(EvaluateSeccomp(program, SystemCall(0x40000000 | CallNumber("read"))), kEnosys)
        << "x32";
  }
}

TEST(DefaultFilter, KillsCallsOfOtherArchitectures) {
  const auto program = DefaultProgram(kEveryCapability).instructions;
  for (const std::uint32_t arch :
       std::initializer_list<std::uint32_t>{SCMP_ARCH_X86, SCMP_ARCH_ARM, SCMP_ARCH_S390X, 0}) {
    if (kCompat && arch == kCompat->arch) continue;
    seccomp_data call = SystemCall(CallNumber("getpid"));
    call.arch = arch;
    EXPECT_EQ(EvaluateSeccomp(program, call), SECCOMP_RET_KILL_PROCESS) << arch;
  }
}

TEST(DefaultFilter, StaysShort) {
  EXPECT_TRUE(DefaultProgram().allows_launch);
  EXPECT_TRUE(DefaultProgram(kEveryCapability).allows_launch);
  // Every worker pays for each of them; libseccomp's own program for this list has over 400 for the
  // machine's own architecture alone.
  EXPECT_LT(DefaultProgram().instructions.size(), 256U);
  // And every call for each that it meets: two loads, the architecture, the search, the answer.
  for (const char* name : {"read", "write", "futex", "clock_gettime", "epoll_wait", "mmap"}) {
    if (seccomp_syscall_resolve_name(name) < 0) continue;
    EXPECT_LE(StepsTo(DefaultProgram().instructions, SystemCall(CallNumber(name))), 11U) << name;
  }
}

seccomp_data CompatCall(const char* name, std::initializer_list<std::uint64_t> args = {}) {
  seccomp_data call = SystemCall(CompatCallNumber(name).value_or(0xffff), args);
  call.arch = kCompat->arch;
  return call;
}

// A 32-bit program is held to the same rules, and has the same calls by other names.
TEST(DefaultFilter, HoldsProgramsOfTheOtherArchitectureToTheSameRules) {
  if (!kCompat) GTEST_SKIP() << "there is none here";
  const auto program = DefaultProgram().instructions;
  const auto answer = [&](const char* name, std::initializer_list<std::uint64_t> args = {}) {
    return EvaluateSeccomp(program, CompatCall(name, args));
  };
  for (const char* name : {"read", "write", "openat", "execve", "mmap2", "fstat64", "getuid32",
                           "futex_time64", "clock_gettime64", "sigreturn", "rt_sigreturn",
                           "_llseek", "exit_group", "recvmsg", "sendmsg", "bind"}) {
    EXPECT_EQ(answer(name), kAllow) << name;
  }
  for (const char* name : {"mount", "unshare", "setns", "keyctl", "bpf", "io_uring_setup", "ptrace",
                           "clock_settime64", "swapon", "kexec_load", "userfaultfd"}) {
    EXPECT_EQ(answer(name), std::string_view(name) == "ptrace" ? kAllow : kEperm) << name;
  }
  EXPECT_EQ(answer("socket", {AF_INET}), kAllow);
  EXPECT_EQ(answer("socket", {AF_ALG}), kEperm);
  EXPECT_EQ(answer("socket", {AF_VSOCK}), kEperm);
  EXPECT_EQ(answer("ioctl", {0, TIOCSTI}), kEperm);
  EXPECT_EQ(answer("clone", {SIGCHLD}), kAllow);
  EXPECT_EQ(answer("clone", {CLONE_NEWUSER}), kEperm);
  EXPECT_EQ(answer("clone3"), kEnosys);
  EXPECT_EQ(answer("personality", {0x0040000}), kEperm);
#if defined(__x86_64__)
  EXPECT_EQ(answer("socketcall", {1}), kEnosys) << "the family of its socket cannot be seen";
  EXPECT_EQ(answer("socketcall", {3 /* connect */}), kAllow);
  EXPECT_EQ(answer("ipc", {1}), kAllow);
#endif
  const auto admin = DefaultProgram(CapabilityBit(CAP_SYS_ADMIN)).instructions;
  EXPECT_EQ(EvaluateSeccomp(admin, CompatCall("mount")), kAllow);
}

TEST(ProfileFile, IsForTheOtherArchitectureIfItSaysSo) {
  if (!kCompat) GTEST_SKIP() << "there is none here";
  const auto profile = [](std::string_view architectures) {
    return fmt::format(R"({{"defaultAction": "SCMP_ACT_ERRNO", {}, "syscalls": [
        {{"names": ["read", "_llseek", "exit_group"], "action": "SCMP_ACT_ALLOW"}},
        {{"names": ["personality"], "action": "SCMP_ACT_ALLOW",
          "args": [{{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}}]}}]}})",
                       architectures);
  };
  const std::string native(seccomp_arch_native() == SCMP_ARCH_X86_64 ? "SCMP_ARCH_X86_64"
                                                                     : "SCMP_ARCH_AARCH64");
  const auto alone = ProgramFromFile(profile(fmt::format(R"("architectures": ["{}"])", native)));
  EXPECT_EQ(EvaluateSeccomp(alone.instructions, CompatCall("read")), SECCOMP_RET_KILL_PROCESS);
  for (const std::string& names :
       {fmt::format(R"("architectures": ["{}", "{}"])", native, kCompat->oci_name),
        fmt::format(R"("archMap": [{{"architecture": "{}", "subArchitectures": ["{}"]}}])", native,
                    kCompat->oci_name)}) {
    const auto both = ProgramFromFile(profile(names)).instructions;
    EXPECT_EQ(EvaluateSeccomp(both, CompatCall("read")), kAllow) << names;
    EXPECT_EQ(EvaluateSeccomp(both, CompatCall("_llseek")), kAllow);
    EXPECT_EQ(EvaluateSeccomp(both, CompatCall("write")), kEperm);
    EXPECT_EQ(EvaluateSeccomp(both, CompatCall("personality", {8})), kAllow);
    EXPECT_EQ(EvaluateSeccomp(both, CompatCall("personality", {9})), kEperm);
    EXPECT_EQ(EvaluateSeccomp(both, SystemCall(CallNumber("read"))), kAllow);
    EXPECT_EQ(EvaluateSeccomp(both, SystemCall(CallNumber("write"))), kEperm);
  }
}

TEST(CompileSeccomp, OffIsNoProgram) {
  const auto program = CompileSeccomp({.mode = SeccompMode::kOff, .file = ""}, 0);
  ASSERT_TRUE(program.ok());
  EXPECT_TRUE(program->instructions.empty());
  EXPECT_TRUE(program->allows_launch);
}

}  // namespace
}  // namespace brood
