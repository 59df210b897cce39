// SPDX-License-Identifier: Apache-2.0

// The system call filter of a worker: from what the spec asks for to a program for seccomp(2).
//
// Compiled once a template, in the launcher; installed by every worker that is not in a slot, so
// what counts is that the program is short (spawn/seccomp/seccomp_eval.h has the reasons).
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/spec.h"

namespace brood {

// A filter ready for SECCOMP_SET_MODE_FILTER. A plain value.
struct SeccompProgram {
  // At most BPF_MAXINSNS (4096), which is what the kernel takes. Empty: install no filter.
  std::vector<sock_filter> instructions;

  // The calls a worker makes from its filter to its command pass (spawn/seccomp/launch_calls.h).
  // Where this is false the filter can only be installed as the last thing before exec, if at all.
  bool allows_launch = true;
  // No command can be run under it: execve ends with SIGSYS.
  bool kills_exec = false;
};

// Compiles the filter that `choice` names, for a worker that keeps the capabilities of
// `capability_mask` (bit n is capability n). Thread-safe; caches nothing.
//
// kDefault is the allow list that container engines agree on, for 64-bit machines:
//  - What is not on it fails with EPERM. Numbers above the newest call that it names fail with
//    ENOSYS: a program that probes for a call newer than the list falls back as on an old kernel.
//  - clone passes without CLONE_NEW* flags. clone3 fails with ENOSYS, since its flags are behind a
//    pointer that no filter can follow; C libraries then use clone.
//  - socket refuses AF_ALG and AF_VSOCK, ioctl refuses TIOCSTI and TIOCLINUX, personality takes
//    the few values that change no security property. Only the 32 bits that the kernel reads are
//    compared.
//  - A capability unlocks the calls that it exists for, as in those engines: CAP_SYS_ADMIN mount,
//    unshare, setns, clone3...; CAP_SYS_TIME clock_settime, and so on. Nothing unlocks io_uring,
//    the kernel's keyrings, userfaultfd, kexec, swap or pivot_root.
//
// kFile reads a profile of at most 1 MiB in the form of the OCI runtime specification
// (linux.seccomp): on its own, or within a whole config.json. The archMap, includes and excludes of
// engines' own profile files are understood too. The file decides everything:
//  - Names unknown here are skipped, as in runc. Numbers above the highest that the file names
//    fail with ENOSYS, unless its default action lets calls pass.
//  - Rules combine as libseccomp combines them: one without conditions beats those with.
//  - Refused: SCMP_ACT_NOTIFY and listeners (nothing would answer) and flags other than
//    SECCOMP_FILTER_FLAG_TSYNC (which a worker's single thread makes meaningless).
//
// 32-bit programs (i386 on x86-64, ARM on arm64) are held to the same rules by kDefault, and by a
// file that names their architecture beside the machine's own, which it must include if it names
// any. The machine's own calls take no instruction more for that. i386's socketcall(2) makes no
// sockets (ENOSYS): their family lies in memory, where no filter can look; socket(2) does, since
// Linux 4.3. A call by any other architecture kills the process with SIGSYS, and x32 calls fail
// with ENOSYS.
//
// Errors: kInvalidArgument for a malformed or unsupported profile, naming file and place;
// kResourceExhausted for one that compiles to more than the kernel takes; the code of the errno for
// a file that cannot be read.
//
// `nesting` (Spec::nesting): kDefault lets through what makes namespaces and mounts in them,
// whether the capabilities for that are kept or come with a user namespace. A file decides by
// itself.
absl::StatusOr<SeccompProgram> CompileSeccomp(const SeccompChoice& choice,
                                              std::uint64_t capability_mask, bool nesting = false);

// kDefault for workers without capabilities, installed by their zygote before it sets them up. The
// calls for that (mounts, namespaces) are let through where their sixth argument, which the kernel
// does not look at, is `key`: a random number that no command knows.
absl::StatusOr<SeccompProgram> CompileInheritedSeccomp(std::uint64_t key);
inline constexpr int kSetupKeyArgument = 5;

}  // namespace brood
