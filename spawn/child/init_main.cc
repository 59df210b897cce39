// SPDX-License-Identifier: Apache-2.0

// The init of a command that was given one (Spec::init): the first process of its pid namespace,
// which has started the command before it became this. argv[1] is the command's number.
//
// Freestanding, as the zygote is: a few hundred bytes with no library behind them.
#include <linux/prctl.h>

#include <cstddef>
#include <cstdint>

#include "spawn/child/syscalls.h"

namespace brood {
namespace {

constexpr long kNoHang = 1;             // WNOHANG
constexpr long kAnyChild = 0x40000000;  // __WALL
constexpr int kSigchld = 17;
constexpr int kSigcont = 18;
constexpr int kSigstop = 19;
constexpr int kSigtstp = 20;
constexpr int kSigttou = 22;

long Number(const char* digits) {
  long number = 0;
  for (; *digits != '\0'; ++digits) number = number * 10 + (*digits - '0');
  return number;
}

// Reaps all that has ended. The command's end is its own, and with it everybody's.
void ReapAll(long command) {
  for (;;) {
    int status = 0;
    const sys::Result pid = sys::Call(__NR_wait4, -1, sys::Arg(&status), kNoHang | kAnyChild, 0);
    if (pid <= 0) return;
    if (pid != command) continue;
    const int signal = status & 0x7f;
    sys::ExitGroup(signal == 0 ? status >> 8 & 0xff : 128 + signal);
  }
}

[[noreturn]] void Main(long command) {
  sys::Prctl(PR_SET_NAME, sys::Arg("brood-init"));  // not its memfd's
  // All are blocked, from before the command was born.
  const std::uint64_t all = ~std::uint64_t{0};
  for (;;) {
    ReapAll(command);
    const sys::Result signal = sys::Call(__NR_rt_sigtimedwait, sys::Arg(&all), 0, 0, sizeof(all));
    if (signal <= 0 || signal == kSigchld) continue;
    // The command leads a session without a parent in it, whose process group only SIGSTOP stops.
    const bool stops = signal >= kSigtstp && signal <= kSigttou;
    if (stops || signal == kSigcont) {
      sys::Call(__NR_kill, -command, stops ? kSigstop : signal);
    } else {
      sys::Call(__NR_kill, command, signal);
    }
  }
}

}  // namespace
}  // namespace brood

// `stack` as the kernel leaves it: argc, then argv.
#if defined(__x86_64__)
__asm__(
    ".globl _start\n"
    "_start:\n"
    "xorl %ebp, %ebp\n"
    "movq %rsp, %rdi\n"
    "andq $-16, %rsp\n"
    "callq InitStart\n"
    "hlt\n");
#elif defined(__aarch64__)
__asm__(
    ".globl _start\n"
    "_start:\n"
    "mov x29, xzr\n"
    "mov x0, sp\n"
    "bl InitStart\n"
    "brk #0\n");
#endif

extern "C" [[noreturn, gnu::used]] void InitStart(const std::uint64_t* stack) {
  if (stack[0] < 2) brood::sys::ExitGroup(125);
  brood::Main(brood::Number(reinterpret_cast<const char*>(stack[2])));
}
