// SPDX-License-Identifier: Apache-2.0

// Raw system calls, typed, for code that runs between clone3 and exec.
//
// A worker shares its parent's memory (CLONE_VM) and thread pointer until it execs, so it may not
// touch libc: errno, locks, stdio and malloc all belong to the parent. These functions return what
// the kernel returns: a result, or -errno. Freestanding, async-signal-safe, no state but setup_key.
#pragma once

#include <asm/unistd.h>
#include <linux/openat2.h>

#include <cstddef>
#include <cstdint>

#include "spawn/base/kernel.h"

namespace brood::sys {

using Result = long;  // >= 0, or -errno

#if defined(__x86_64__)
inline Result Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                   long f = 0) {
  Result result;
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  __asm__ volatile("syscall"
                   : "=a"(result)
                   : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
inline Result Call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0,
                   long f = 0) {
  register long x8 __asm__("x8") = number;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0"
                   : "+r"(x0)
                   : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                   : "memory");
  return x0;
}
#else
#error "brood knows the system call convention of x86_64 and aarch64"
#endif

// What the filter that workers inherit from their zygote wants with the calls that set a worker up,
// which it refuses to their commands (CompileInheritedSeccomp): a random number, in the sixth
// argument, at which the kernel does not look. Exec clears registers and memory. Set by a zygote
// before it serves; 0 elsewhere.
extern std::uint64_t setup_key;

inline long Arg(const void* pointer) { return reinterpret_cast<long>(pointer); }

inline Result SetupCall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
  return Call(number, a, b, c, d, e, static_cast<long>(setup_key));
}

[[noreturn]] inline void ExitGroup(int status) {
  // A filter may refuse it.
  for (;;) {
    Call(__NR_exit_group, status);
    __builtin_trap();
  }
}

// clone3(2) whose child runs function(argument) on the stack in `args` and must not return.
// Returns the child's pid, or -errno. The only clone3 of workers is spawn/child/birth.cc's, of
// cloners spawn/child/slot.cc's.
Result Clone3(const kernel::CloneArgs& args, void (*function)(void*), void* argument);

// clone(2) in the same manner, whose flags a seccomp filter can see: `flags` has the exit signal,
// too. `stack_end` is 16-byte aligned.
Result Clone(std::uint64_t flags, char* stack_end, void (*function)(void*), void* argument);

inline Result Read(int fd, void* to, std::size_t size) {
  return Call(__NR_read, fd, Arg(to), static_cast<long>(size));
}
inline Result Pread(int fd, void* to, std::size_t size, long at) {
  return Call(__NR_pread64, fd, Arg(to), static_cast<long>(size), at);
}
inline Result Write(int fd, const void* from, std::size_t size) {
  return Call(__NR_write, fd, Arg(from), static_cast<long>(size));
}
inline Result Close(int fd) { return Call(__NR_close, fd); }
inline Result OpenAt(int directory, const char* path, int flags, unsigned mode = 0) {
  return Call(__NR_openat, directory, Arg(path), flags, mode);
}
inline Result OpenAt2(int directory, const char* path, const open_how& how) {
  return Call(__NR_openat2, directory, Arg(path), Arg(&how), sizeof(how));
}
inline Result Dup3(int from, int to, int flags) { return Call(__NR_dup3, from, to, flags); }
inline Result Fcntl(int fd, int command, long argument = 0) {
  return Call(__NR_fcntl, fd, command, argument);
}
inline Result CloseRange(unsigned first, unsigned last, unsigned flags) {
  return Call(__NR_close_range, first, last, flags);
}
inline Result Chdir(const char* path) { return Call(__NR_chdir, Arg(path)); }
inline Result Chroot(const char* path) { return SetupCall(__NR_chroot, Arg(path)); }
inline Result Fchdir(int fd) { return Call(__NR_fchdir, fd); }
inline Result MkdirAt(int directory, const char* path, unsigned mode) {
  return Call(__NR_mkdirat, directory, Arg(path), mode);
}
inline Result SymlinkAt(const char* target, int directory, const char* path) {
  return Call(__NR_symlinkat, Arg(target), directory, Arg(path));
}
inline Result FchmodAt(int directory, const char* path, unsigned mode) {
  return Call(__NR_fchmodat, directory, Arg(path), mode);
}
inline Result Umask(unsigned mask) { return Call(__NR_umask, mask); }

inline Result Mount(const char* source, const char* target, const char* type, unsigned long flags,
                    const char* options) {
  return SetupCall(__NR_mount, Arg(source), Arg(target), Arg(type), static_cast<long>(flags),
                   Arg(options));
}
inline Result Umount2(const char* target, int flags) {
  return SetupCall(__NR_umount2, Arg(target), flags);
}
inline Result PivotRoot(const char* new_root, const char* put_old) {
  return SetupCall(__NR_pivot_root, Arg(new_root), Arg(put_old));
}
inline Result OpenTree(int directory, const char* path, unsigned flags) {
  return SetupCall(__NR_open_tree, directory, Arg(path), flags);
}
inline Result MoveMount(int from, const char* from_path, int to, const char* to_path,
                        unsigned flags) {
  return SetupCall(__NR_move_mount, from, Arg(from_path), to, Arg(to_path), flags);
}
inline Result Fsopen(const char* type, unsigned flags) {
  return SetupCall(__NR_fsopen, Arg(type), flags);
}
inline Result Fsconfig(int context, unsigned command, const char* key = nullptr,
                       const char* value = nullptr) {
  return SetupCall(__NR_fsconfig, context, command, Arg(key), Arg(value), 0);
}
inline Result Fsmount(int context, unsigned flags, std::uint64_t attributes) {
  return SetupCall(__NR_fsmount, context, flags, static_cast<long>(attributes));
}
inline Result MountSetattr(int directory, const char* path, unsigned flags,
                           const kernel::MountAttr& attributes) {
  return SetupCall(__NR_mount_setattr, directory, Arg(path), flags, Arg(&attributes),
                   sizeof(attributes));
}

inline Result Unshare(unsigned long flags) {
  return SetupCall(__NR_unshare, static_cast<long>(flags));
}
inline Result Setns(int fd, unsigned long flags) {
  return SetupCall(__NR_setns, fd, static_cast<long>(flags));
}
inline Result Sethostname(const char* name, std::size_t length) {
  return SetupCall(__NR_sethostname, Arg(name), static_cast<long>(length));
}
inline Result Setsid() { return Call(__NR_setsid); }
inline Result Setgroups(std::size_t count, const unsigned* groups) {
  return Call(__NR_setgroups, static_cast<long>(count), Arg(groups));
}
inline Result Setresgid(unsigned real, unsigned effective, unsigned saved) {
  return Call(__NR_setresgid, real, effective, saved);
}
inline Result Setresuid(unsigned real, unsigned effective, unsigned saved) {
  return Call(__NR_setresuid, real, effective, saved);
}
inline Result Prctl(int option, unsigned long a = 0, unsigned long b = 0, unsigned long c = 0,
                    unsigned long d = 0) {
  return Call(__NR_prctl, option, static_cast<long>(a), static_cast<long>(b), static_cast<long>(c),
              static_cast<long>(d));
}
inline Result Capset(const kernel::CapHeader& header, const kernel::CapData* data) {
  return Call(__NR_capset, Arg(&header), Arg(data));
}
inline Result Prlimit(int resource, const std::uint64_t limit[2]) {
  return Call(__NR_prlimit64, 0, resource, Arg(limit), 0);
}
inline Result Seccomp(unsigned operation, unsigned flags, const void* argument) {
  return Call(__NR_seccomp, operation, flags, Arg(argument));
}
inline Result Keyctl(int operation, long argument) {
  return Call(__NR_keyctl, operation, argument);
}

inline Result Execveat(int directory, const char* path, const char* const* argv,
                       const char* const* envp, int flags) {
  return Call(__NR_execveat, directory, Arg(path), Arg(argv), Arg(envp), flags);
}
inline Result Execve(const char* path, const char* const* argv, const char* const* envp) {
  return Call(__NR_execve, Arg(path), Arg(argv), Arg(envp));
}

inline Result Socket(int family, int type, int protocol) {
  return Call(__NR_socket, family, type, protocol);
}
inline Result Bind(int fd, const void* address, std::size_t length) {
  return Call(__NR_bind, fd, Arg(address), static_cast<long>(length));
}
inline Result Listen(int fd, int backlog) { return Call(__NR_listen, fd, backlog); }
inline Result Recvmsg(int fd, void* message, int flags) {
  return Call(__NR_recvmsg, fd, Arg(message), flags);
}
inline Result Sendmsg(int fd, const void* message, int flags) {
  return Call(__NR_sendmsg, fd, Arg(message), flags);
}
inline Result Ioctl(int fd, unsigned long request, void* argument) {
  return Call(__NR_ioctl, fd, static_cast<long>(request), Arg(argument));
}
inline Result Ppoll(void* fds, unsigned count, const void* timeout) {
  return Call(__NR_ppoll, Arg(fds), count, Arg(timeout), 0, 0);
}
inline Result SetSignalMask(std::uint64_t mask) {
  return Call(__NR_rt_sigprocmask, /*SIG_SETMASK*/ 2, Arg(&mask), 0, sizeof(mask));
}

// Gives `signal` its default action.
inline Result ResetSignal(int signal) {
  const std::uint64_t defaults[4] = {};  // struct sigaction of the kernel
  return Call(__NR_rt_sigaction, signal, Arg(defaults), 0, sizeof(std::uint64_t));
}

// Shared (not private) futexes: launcher, zygote and worker may map the word apart.
// Reaps the child `pid`, whatever exit signal it has, once it has ended.
inline void AwaitEnd(Result pid) {
  constexpr int kPid = 1;
  constexpr int kExitedOrClone = 0x40000004;  // WEXITED | __WALL
  while (Call(__NR_waitid, kPid, pid, 0, kExitedOrClone, 0) == -4 /* EINTR */) {
  }
}
inline Result FutexWait(const std::uint32_t* word, std::uint32_t expected) {
  return Call(__NR_futex, Arg(word), /*FUTEX_WAIT*/ 0, expected, 0);
}
inline Result FutexWake(const std::uint32_t* word, int count) {
  return Call(__NR_futex, Arg(word), /*FUTEX_WAKE*/ 1, count);
}

// CLOCK_MONOTONIC, in nanoseconds. The system call, not the vDSO: that needs libc's state.
inline std::int64_t MonotonicNs() {
  std::int64_t now[2] = {0, 0};
  Call(__NR_clock_gettime, /*CLOCK_MONOTONIC*/ 1, Arg(now));
  return now[0] * 1'000'000'000 + now[1];
}

}  // namespace brood::sys
