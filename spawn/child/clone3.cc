// SPDX-License-Identifier: Apache-2.0

// clone3(2), and clone(2) where a filter may refuse that, for a child on a stack of its own. libc
// offers no wrapper, and syscall(2) cannot return twice on different stacks.
#include "spawn/child/syscalls.h"

namespace brood::sys {

std::uint64_t setup_key = 0;

#if defined(__x86_64__)
Result Clone3(const kernel::CloneArgs& args, void (*function)(void*), void* argument) {
  Result result;
  register void (*r12)(void*) __asm__("r12") = function;
  register void* r13 __asm__("r13") = argument;
  register std::uint64_t r9 __asm__("r9") = setup_key;
  // The child starts with the parent's registers but its own stack: clear the frame pointer so
  // that unwinders stop here, and call.
  __asm__ volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "movq %%r13, %%rdi\n\t"
      "callq *%%r12\n\t"
      "hlt\n"
      "1:"
      : "=a"(result)
      : "a"(__NR_clone3), "D"(&args), "S"(sizeof(args)), "r"(r9), "r"(r12), "r"(r13)
      : "rcx", "r11", "memory");
  return result;
}
Result Clone(std::uint64_t flags, char* stack_end, void (*function)(void*), void* argument) {
  Result result;
  register void (*r12)(void*) __asm__("r12") = function;
  register void* r13 __asm__("r13") = argument;
  register long r10 __asm__("r10") = 0;
  register long r8 __asm__("r8") = 0;
  __asm__ volatile(
      "syscall\n\t"
      "testq %%rax, %%rax\n\t"
      "jnz 1f\n\t"
      "xorl %%ebp, %%ebp\n\t"
      "movq %%r13, %%rdi\n\t"
      "callq *%%r12\n\t"
      "hlt\n"
      "1:"
      : "=a"(result)
      : "a"(__NR_clone), "D"(flags), "S"(stack_end), "d"(0L), "r"(r10), "r"(r8), "r"(r12), "r"(r13)
      : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
Result Clone3(const kernel::CloneArgs& args, void (*function)(void*), void* argument) {
  register long x0 __asm__("x0") = Arg(&args);
  register long x1 __asm__("x1") = sizeof(args);
  register std::uint64_t x5 __asm__("x5") = setup_key;
  register long x8 __asm__("x8") = __NR_clone3;
  register void (*x10)(void*) __asm__("x10") = function;
  register void* x11 __asm__("x11") = argument;
  __asm__ volatile(
      "svc 0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "mov x0, x11\n\t"
      "blr x10\n\t"
      "brk #0\n"
      "1:"
      : "+r"(x0)
      : "r"(x1), "r"(x5), "r"(x8), "r"(x10), "r"(x11)
      : "memory");
  return x0;
}
Result Clone(std::uint64_t flags, char* stack_end, void (*function)(void*), void* argument) {
  register long x0 __asm__("x0") = static_cast<long>(flags);
  register long x1 __asm__("x1") = Arg(stack_end);
  register long x2 __asm__("x2") = 0;
  register long x3 __asm__("x3") = 0;
  register long x4 __asm__("x4") = 0;
  register long x8 __asm__("x8") = __NR_clone;
  register void (*x10)(void*) __asm__("x10") = function;
  register void* x11 __asm__("x11") = argument;
  __asm__ volatile(
      "svc 0\n\t"
      "cbnz x0, 1f\n\t"
      "mov x29, xzr\n\t"
      "mov x0, x11\n\t"
      "blr x10\n\t"
      "brk #0\n"
      "1:"
      : "+r"(x0)
      : "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x8), "r"(x10), "r"(x11)
      : "memory");
  return x0;
}
#endif

}  // namespace brood::sys
