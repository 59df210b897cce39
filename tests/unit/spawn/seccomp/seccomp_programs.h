// SPDX-License-Identifier: Apache-2.0

// Filters to ask, and calls to ask them about.
#pragma once

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/seccomp/seccomp.h"
#include "spawn/seccomp/seccomp_eval.h"

namespace brood {

inline constexpr std::uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr std::uint32_t kEperm = SECCOMP_RET_ERRNO | EPERM;
constexpr std::uint32_t kEnosys = SECCOMP_RET_ERRNO | ENOSYS;
constexpr std::uint64_t kEveryCapability = ~std::uint64_t{0};
constexpr std::uint64_t kHighBits = std::uint64_t{1} << 32;

inline constexpr std::uint64_t CapabilityBit(int capability) {
  return std::uint64_t{1} << capability;
}

// The machine's number for a call that the test knows it has.
inline std::uint32_t CallNumber(const char* name) {
  const int number = seccomp_syscall_resolve_name(name);
  EXPECT_GE(number, 0) << name;
  return static_cast<std::uint32_t>(number);
}

inline seccomp_data SystemCall(std::uint32_t number,
                               std::initializer_list<std::uint64_t> args = {}) {
  seccomp_data call{};
  call.nr = static_cast<int>(number);
  call.arch = seccomp_arch_native();
  std::copy(args.begin(), args.end(), call.args);
  return call;
}

inline SeccompProgram DefaultProgram(std::uint64_t capability_mask = 0) {
  auto program = CompileSeccomp({.mode = SeccompMode::kDefault, .file = ""}, capability_mask);
  EXPECT_TRUE(program.ok()) << Message(program.status());
  return program.ok() ? *std::move(program) : SeccompProgram{};
}

// A profile on disk for as long as the object lives.
class ProfileFile {
 public:
  explicit ProfileFile(std::string_view text) {
    const int fd = mkstemp(path_.data());
    EXPECT_GE(fd, 0);
    close(fd);
    std::ofstream(path_) << text;
  }
  ProfileFile(const ProfileFile&) = delete;
  ProfileFile& operator=(const ProfileFile&) = delete;
  ~ProfileFile() { unlink(path_.c_str()); }

  const std::string& path() const { return path_; }
  absl::StatusOr<SeccompProgram> Compile(std::uint64_t capability_mask = 0) const {
    return CompileSeccomp({.mode = SeccompMode::kFile, .file = path_}, capability_mask);
  }

 private:
  std::string path_ = testing::TempDir() + "seccomp-profile-XXXXXX";
};

inline SeccompProgram ProgramFromFile(std::string_view text, std::uint64_t capability_mask = 0) {
  auto program = ProfileFile(text).Compile(capability_mask);
  EXPECT_TRUE(program.ok()) << Message(program.status());
  return program.ok() ? *std::move(program) : SeccompProgram{};
}

// What a filter says of a call, and how many instructions it takes for that.
inline std::size_t StepsTo(std::span<const sock_filter> program, const seccomp_data& call) {
  std::size_t steps = 0;
  std::uint32_t word = 0;
  for (std::size_t pc = 0; pc < program.size(); ++steps) {
    const sock_filter& in = program[pc];
    if (BPF_CLASS(in.code) == BPF_RET) return steps + 1;
    if (BPF_CLASS(in.code) == BPF_LD) {
      std::memcpy(&word, reinterpret_cast<const char*>(&call) + in.k, sizeof(word));
    }
    const bool taken = BPF_OP(in.code) == BPF_JEQ   ? word == in.k
                       : BPF_OP(in.code) == BPF_JGE ? word >= in.k
                                                    : (word & in.k) != 0;
    const bool branches = BPF_CLASS(in.code) == BPF_JMP;
    pc += 1 + (!branches ? 0 : BPF_OP(in.code) == BPF_JA ? in.k : taken ? in.jt : in.jf);
  }
  return steps;
}

// Runs `body` in a child under `program`; gives its exit status, or minus the signal it died of.
inline int UnderFilter(std::span<const sock_filter> program, const std::function<int()>& body) {
  constexpr int kNotInstalled = 200;
  const pid_t child = fork();
  if (child == 0) {
    const sock_fprog filter{static_cast<unsigned short>(program.size()),
                            const_cast<sock_filter*>(program.data())};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
      _exit(kNotInstalled);
    }
    _exit(body());
  }
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  if (WIFSIGNALED(status)) return -WTERMSIG(status);
  EXPECT_NE(WEXITSTATUS(status), kNotInstalled);
  return WEXITSTATUS(status);
}

template <typename... Args>
inline int ErrnoOf(long number, Args... args) {
  return syscall(number, args...) < 0 ? errno : 0;
}

}  // namespace brood
