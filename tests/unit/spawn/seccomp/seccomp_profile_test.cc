// SPDX-License-Identifier: Apache-2.0

// Profile files as other engines have them.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/seccomp/seccomp.h"
#include "tests/unit/spawn/seccomp/seccomp_programs.h"

namespace brood {
namespace {

TEST(ProfileFile, IsTakenBareOrWithinAConfig) {
  const std::string bare = R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_RISCV64"],
    "flags": ["SECCOMP_FILTER_FLAG_TSYNC"],
    "syscalls": [{"names": ["read", "cachestat", "no_such_call"], "action": "SCMP_ACT_ALLOW"}]})";
  const std::string config = R"({"ociVersion": "1.0", "linux": {"seccomp": )" + bare + "}}";
  for (const std::string& text : {bare, config}) {
    const SeccompProgram program = ProgramFromFile(text);
    EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber("read"))), kAllow);
    // Within the numbers that the file names, the file's default; above them, ENOSYS.
    EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber("mount"))),
              SECCOMP_RET_ERRNO | 13);
    EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber("cachestat") + 1)),
              kEnosys);
    EXPECT_FALSE(program.allows_launch);
  }
}

TEST(ProfileFile, MapsEveryAction) {
  struct Case {
    const char* action;
    std::uint32_t expected;
  };
  const Case cases[] = {
      {R"("SCMP_ACT_ALLOW")", kAllow},
      {R"("SCMP_ACT_ERRNO")", kEperm},
      {R"("SCMP_ACT_ERRNO", "errnoRet": 38)", kEnosys},
      {R"("SCMP_ACT_ERRNO", "errnoRet": null)", kEperm},
      {R"("SCMP_ACT_KILL")", SECCOMP_RET_KILL_THREAD},
      {R"("SCMP_ACT_KILL_THREAD")", SECCOMP_RET_KILL_THREAD},
      {R"("SCMP_ACT_KILL_PROCESS")", SECCOMP_RET_KILL_PROCESS},
      {R"("SCMP_ACT_TRAP")", SECCOMP_RET_TRAP},
      {R"("SCMP_ACT_LOG")", SECCOMP_RET_LOG},
      {R"("SCMP_ACT_TRACE")", SECCOMP_RET_TRACE | EPERM},
      {R"("SCMP_ACT_TRACE", "errnoRet": 65535)", SECCOMP_RET_TRACE | 65535},
  };
  for (const Case& c : cases) {
    const SeccompProgram program =
        ProgramFromFile(std::string(R"({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 99,
                 "syscalls": [{"names": ["getpid", "io_uring_setup"], "action": )") +
                        c.action + "}]}");
    EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber("getpid"))), c.expected)
        << c.action;
    EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber("mount"))),
              SECCOMP_RET_ERRNO | 99);
  }
}

TEST(ProfileFile, MayAllowByDefault) {
  const SeccompProgram program = ProgramFromFile(R"({"defaultAction": "SCMP_ACT_ALLOW",
      "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]})");
  EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber("mount"))), kEperm);
  EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(900)), kAllow);
#if defined(__x86_64__)
  // The same call by its x32 number is no way around.
  EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(0x40000000 | CallNumber("mount"))),
            kEnosys);
#endif
  EXPECT_TRUE(program.allows_launch);
  const SeccompProgram nothing = ProgramFromFile(R"({"defaultAction": "SCMP_ACT_KILL_PROCESS"})");
  EXPECT_EQ(EvaluateSeccomp(nothing.instructions, SystemCall(0)), SECCOMP_RET_KILL_PROCESS);
}

TEST(ProfileFile, MayRepeatItsDefault) {
  const SeccompProgram program =
      ProgramFromFile(R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
      {"names": ["mount"], "action": "SCMP_ACT_ERRNO"},
      {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
      {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]})");
  EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber("mount"))), kEperm);
  EXPECT_EQ(EvaluateSeccomp(program.instructions, SystemCall(CallNumber("read"))), kAllow);
}

TEST(ProfileFile, ConditionOnALaunchCallDoesNotAllowLaunch) {
  const std::string_view start = R"({"defaultAction": "SCMP_ACT_ALLOW",
      "syscalls": [{"action": "SCMP_ACT_ERRNO", "names": [")";
  const std::string_view condition =
      R"("], "args": [{"index": 1, "value": 5, "op": "SCMP_CMP_EQ"}]}]})";
  const auto with = [&](std::string_view name) {
    return ProgramFromFile(std::string(start) + std::string(name) + std::string(condition))
        .allows_launch;
  };
  for (const char* name :
       {"futex",      "recvmsg", "read",          "write",          "close",        "close_range",
        "dup3",       "fcntl",   "chdir",         "execve",         "execveat",     "exit",
        "exit_group", "prctl",   "clock_gettime", "rt_sigprocmask", "rt_sigaction", "umask",
        "openat",     "openat2", "bind",          "listen",         "sendmsg",      "fchdir"}) {
    EXPECT_FALSE(with(name)) << name;
  }
  EXPECT_TRUE(with("mount"));
}

// libseccomp's own program for the same rules, which the shortened one must agree with.
std::vector<sock_filter> Reference(const std::function<void(scmp_filter_ctx)>& add_rules) {
  const scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(EPERM));
  add_rules(context);
  const UniqueFd memory(memfd_create("reference", MFD_CLOEXEC));
  EXPECT_EQ(seccomp_export_bpf(context, memory.get()), 0);
  seccomp_release(context);
  const auto bytes = static_cast<std::size_t>(lseek(memory.get(), 0, SEEK_END));
  std::vector<sock_filter> program(bytes / sizeof(sock_filter));
  EXPECT_EQ(pread(memory.get(), program.data(), bytes, 0), static_cast<ssize_t>(bytes));
  return program;
}

TEST(ProfileFile, AgreesWithLibseccompOnEveryComparison) {
  const SeccompProgram program =
      ProgramFromFile(R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
    {"names": ["read", "close", "getpid", "cachestat"], "action": "SCMP_ACT_ALLOW"},
    {"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"},
    {"names": ["openat"], "action": "SCMP_ACT_ALLOW",
     "args": [{"index": 2, "value": 3, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"}]},
    {"names": ["lseek"], "action": "SCMP_ACT_LOG",
     "args": [{"index": 0, "value": 4294967300, "op": "SCMP_CMP_LT"},
              {"index": 1, "value": 7, "op": "SCMP_CMP_NE"}]},
    {"names": ["socket"], "action": "SCMP_ACT_ALLOW",
     "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
    {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
     "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_GE"}]},
    {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
     "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_LE"},
              {"index": 0, "value": 18446744073709551614, "op": "SCMP_CMP_GT"}]}]})");
  const auto reference = Reference([](scmp_filter_ctx context) {
    const auto add = [&](std::uint32_t action, int number, std::vector<scmp_arg_cmp> conditions) {
      ASSERT_EQ(seccomp_rule_add_array(context, action, number,
                                       static_cast<unsigned>(conditions.size()), conditions.data()),
                0);
    };
    add(SCMP_ACT_ALLOW, SCMP_SYS(read), {});
    add(SCMP_ACT_ALLOW, SCMP_SYS(close), {});
    add(SCMP_ACT_ALLOW, SCMP_SYS(getpid), {});
    add(SCMP_ACT_ALLOW, 451, {});
    add(SCMP_ACT_KILL_PROCESS, SCMP_SYS(mount), {});
    add(SCMP_ACT_ALLOW, SCMP_SYS(openat), {{2, SCMP_CMP_MASKED_EQ, 3, 1}});
    add(SCMP_ACT_LOG, SCMP_SYS(lseek), {{0, SCMP_CMP_LT, 4294967300, 0}, {1, SCMP_CMP_NE, 7, 0}});
    add(SCMP_ACT_ALLOW, SCMP_SYS(socket), {{0, SCMP_CMP_EQ, 1, 0}});
    add(SCMP_ACT_ERRNO(97), SCMP_SYS(socket), {{0, SCMP_CMP_GE, 16, 0}});
    add(SCMP_ACT_ALLOW, SCMP_SYS(personality), {{0, SCMP_CMP_LE, 1, 0}});
    add(SCMP_ACT_ALLOW, SCMP_SYS(personality), {{0, SCMP_CMP_GT, ~std::uint64_t{0} - 1, 0}});
  });

  const std::uint64_t words[] = {0,
                                 1,
                                 2,
                                 3,
                                 5,
                                 7,
                                 15,
                                 16,
                                 17,
                                 4294967295,
                                 4294967296,
                                 4294967299,
                                 4294967300,
                                 4294967301,
                                 ~std::uint64_t{0} - 1,
                                 ~std::uint64_t{0}};
  std::set<std::uint32_t> answers;
  for (std::uint32_t number = 0; number <= 451; ++number) {
    for (const std::uint64_t first : words) {
      for (const std::uint64_t second : words) {
        const seccomp_data call = SystemCall(number, {first, second, second});
        const std::uint32_t answer = EvaluateSeccomp(program.instructions, call);
        ASSERT_EQ(answer, EvaluateSeccomp(reference, call))
            << number << "(" << first << ", " << second << ")";
        answers.insert(answer);
      }
    }
  }
  EXPECT_EQ(answers.size(), 5U);  // allow, log, two errnos, kill
}

TEST(ProfileFile, HonoursWhatEngineProfilesIncludeAndExclude) {
  constexpr std::string_view kProfile = R"({"defaultAction": "SCMP_ACT_ERRNO",
    "archMap": [{"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": null},
                {"architecture": "SCMP_ARCH_RISCV64", "subArchitectures": null}],
    "syscalls": [
      {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "comment": "", "args": null,
       "includes": {"caps": ["CAP_SYS_ADMIN"]}, "excludes": {}},
      {"names": ["setns"], "action": "SCMP_ACT_ALLOW",
       "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_SYS_CHROOT"]}},
      {"names": ["sync"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
      {"names": ["getpid"], "action": "SCMP_ACT_ALLOW",
       "includes": {"arches": ["amd64", "arm64", "riscv64"], "minKernel": "4.8"}},
      {"names": ["getppid"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
      {"names": ["getuid"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["s390x"]}},
      {"names": ["getgid"], "action": "SCMP_ACT_ALLOW",
       "excludes": {"arches": ["amd64", "arm64", "riscv64"]}},
      {"names": ["gettid"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "1000.0"}},
      {"names": ["cachestat"], "action": "SCMP_ACT_ALLOW"}]})";
  struct Case {
    const char* name;
    std::uint32_t without;
    std::uint32_t with_admin;
  };
  const Case cases[] = {
      {"mount", kEperm, kAllow},  {"setns", kEperm, kEperm},   {"sync", kAllow, kEperm},
      {"getpid", kAllow, kAllow}, {"getppid", kEperm, kEperm}, {"getuid", kAllow, kAllow},
      {"getgid", kEperm, kEperm}, {"gettid", kEperm, kEperm},
  };
  const SeccompProgram without = ProgramFromFile(kProfile);
  const SeccompProgram with_admin = ProgramFromFile(kProfile, CapabilityBit(CAP_SYS_ADMIN));
  for (const Case& c : cases) {
    const seccomp_data call = SystemCall(CallNumber(c.name));
    EXPECT_EQ(EvaluateSeccomp(without.instructions, call), c.without) << c.name;
    EXPECT_EQ(EvaluateSeccomp(with_admin.instructions, call), c.with_admin) << c.name;
  }
}

TEST(ProfileFile, WorksOnceInstalled) {
  const SeccompProgram program =
      ProgramFromFile(R"({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
      {"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 42},
      {"names": ["getpgid"], "action": "SCMP_ACT_KILL_PROCESS",
       "args": [{"index": 0, "value": 4096, "op": "SCMP_CMP_EQ"}]}]})");
  EXPECT_EQ(UnderFilter(program.instructions, [] { return ErrnoOf(SYS_getppid); }), 42);
  EXPECT_EQ(UnderFilter(program.instructions, [] { return ErrnoOf(SYS_getpgid, 0); }), 0);
  EXPECT_EQ(UnderFilter(program.instructions, [] { return ErrnoOf(SYS_getpgid, 4096); }), -SIGSYS);
}

TEST(ProfileFile, SaysWhatIsWrongAndWhere) {
  // A rule with `text` among its members, in a document that is otherwise right.
  const auto rule = [](std::string_view text) {
    return R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
               {"names": ["read"], "action": "SCMP_ACT_ALLOW"}, {)" +
           std::string(text) + "}]}";
  };
  const auto arg = [&](std::string_view text) {
    return rule(R"("names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{)" + std::string(text) +
                "}]");
  };
  const auto top = [](std::string_view text) {
    return R"({"defaultAction": "SCMP_ACT_ERRNO", )" + std::string(text) + "}";
  };
  struct Case {
    std::string text;
    std::string_view complaint;
  };
  const std::vector<Case> cases = {
      {"", "is not JSON: see line 1"},
      {"{\n\"defaultAction\":\n!\n}", "is not JSON: see line 3"},
      {"{\"defaultAction\": \"SCMP_ACT_ALLOW\"\n", "is not JSON: see line 2"},
      {std::string(100'000, '['), "is not JSON: see line 1"},
      {std::string(100'000, '[') + std::string(100'000, ']'), "the document must be an object"},
      {"[]", "the document must be an object, not array"},
      {"{}", "the document has no \"defaultAction\""},
      {R"({"linux": {}})", "/linux has no \"seccomp\""},
      {R"({"linux": {"seccomp": 3}})", "/linux/seccomp must be an object, not number"},
      {R"({"linux": {"seccomp": {"defaultAction": 3}}})",
       "/linux/seccomp/defaultAction must be a string, not number"},
      {R"({"defaultAction": "ALLOW"})", "/defaultAction is \"ALLOW\", which is not an action"},
      {R"({"defaultAction": "SCMP_ACT_NOTIFY"})", "/defaultAction is SCMP_ACT_NOTIFY, which needs"},
      {R"({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1})",
       "/defaultErrnoRet has no meaning for SCMP_ACT_ALLOW"},
      {top(R"("defaultErrnoRet": 4096)"), "/defaultErrnoRet must be a whole number from 0 to 4095"},
      {top(R"("defaultErrnoRet": -1)"), "/defaultErrnoRet must be a whole number"},
      {top(R"("defaultErrnoRet": "EPERM")"), "/defaultErrnoRet must be a whole number"},
      {top(R"("architectures": ["SCMP_ARCH_MIPS"])"), "does not name this machine's SCMP_ARCH_"},
      {top(R"("architectures": [1])"), "/architectures/0 must be a string, not number"},
      {top(R"("archMap": [{}])"), "/archMap/0 has no \"architecture\""},
      {top(R"("flags": ["SECCOMP_FILTER_FLAG_LOG"])"), "/flags has \"SECCOMP_FILTER_FLAG_LOG\""},
      {top(R"("listenerPath": "/run/x")"), "/listenerPath asks for a listener"},
      {top(R"("syscalls": {})"), "/syscalls must be an array, not object"},
      {top(R"("syscalls": ["read"])"), "/syscalls/0 must be an object, not string"},
      {rule(""), "/syscalls/1 has no \"names\""},
      {rule(R"("names": "read")"), "/syscalls/1/names must be an array, not string"},
      {rule(R"("names": [3])"), "/syscalls/1/names/0 must be a string, not number"},
      {rule(R"("names": ["read"])"), "/syscalls/1 has no \"action\""},
      {rule(R"("names": ["read"], "action": "SCMP_ACT_NOTIFY")"),
       "/syscalls/1/action is SCMP_ACT_NOTIFY, which needs a listener"},
      {rule(R"("names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1)"),
       "/syscalls/1/errnoRet has no meaning for SCMP_ACT_ALLOW"},
      {rule(R"("names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536)"),
       "/syscalls/1/errnoRet must be a whole number from 0 to 65535"},
      {arg(""), "/syscalls/1/args/0 needs \"index\", \"value\" and \"op\""},
      {arg(R"("index": 6, "value": 0, "op": "SCMP_CMP_EQ")"),
       "/syscalls/1/args/0/index must be a whole number from 0 to 5"},
      {arg(R"("index": 0, "value": -1, "op": "SCMP_CMP_EQ")"),
       "/syscalls/1/args/0/value must be a whole number from 0 to 18446744073709551615"},
      {arg(R"("index": 0, "value": 1.5, "op": "SCMP_CMP_EQ")"), "/syscalls/1/args/0/value must be"},
      {arg(R"("index": 0, "value": 1, "valueTwo": "1", "op": "SCMP_CMP_EQ")"),
       "/syscalls/1/args/0/valueTwo must be"},
      {arg(R"("index": 0, "value": 1, "op": "==")"),
       "/syscalls/1/args/0/op is \"==\", which is not a comparison"},
      {rule(R"("names": [], "action": "SCMP_ACT_ALLOW", "includes": [])"),
       "/syscalls/1/includes must be an object, not array"},
      {rule(R"("names": [], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_NOPE"]})"),
       "/syscalls/1/includes/caps: there is no capability \"CAP_NOPE\""},
      {rule(R"("names": [], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "new"})"),
       "/syscalls/1/excludes/minKernel is not a kernel version"},
      {std::string((1U << 20) + 1, ' '), "is larger than the 1048576 bytes allowed"},
  };
  for (const Case& c : cases) {
    const ProfileFile file(c.text);
    const auto program = file.Compile();
    const std::string shown = c.text.substr(0, 300);
    ASSERT_FALSE(program.ok()) << shown;
    EXPECT_EQ(program.status().code(), absl::StatusCode::kInvalidArgument) << shown;
    const std::string_view message = Message(program.status());
    EXPECT_NE(message.find(c.complaint), std::string_view::npos) << message << "\n" << shown;
    EXPECT_NE(message.find(file.path()), std::string_view::npos) << message;
  }
}

TEST(ProfileFile, TooManyConditionsAreTooMuchForTheKernel) {
  std::string text = R"({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [)";
  for (std::uint64_t i = 0; i < 3000; ++i) {
    text += fmt::format(R"({}{{"names": ["read"], "action": "SCMP_ACT_ALLOW",
                        "args": [{{"index": 1, "value": {}, "op": "SCMP_CMP_EQ"}}]}})",
                        i == 0 ? "" : ",", (i << 32) + i * 3);
  }
  const auto program = ProfileFile(text + "]}").Compile();
  ASSERT_FALSE(program.ok());
  EXPECT_EQ(program.status().code(), absl::StatusCode::kResourceExhausted)
      << Message(program.status());
}

TEST(ProfileFile, MustBeAReadableRegularFile) {
  const auto compile = [](const std::string& path) {
    return CompileSeccomp({.mode = SeccompMode::kFile, .file = path}, 0).status();
  };
  EXPECT_EQ(compile("/nonexistent/profile.json").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(compile("/").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(compile("/dev/zero").code(), absl::StatusCode::kInvalidArgument);

  const std::string fifo = testing::TempDir() + fmt::format("seccomp-fifo-{}", getpid());
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(compile(fifo).code(), absl::StatusCode::kInvalidArgument);
  unlink(fifo.c_str());
}

}  // namespace
}  // namespace brood
