// SPDX-License-Identifier: Apache-2.0

#include "spawn/seccomp/seccomp_compat.h"

#include <string>

#include "spawn/seccomp/seccomp_frame.h"

namespace brood {
namespace {

struct DirectCall {
  std::string_view name;
  std::uint32_t number;
};

// libseccomp answers with numbers of its own for what i386 also reaches through socketcall(2) and
// ipc(2). These are the kernel's: the first since Linux 4.3, the second since 5.1.
#if defined(__x86_64__)
constexpr DirectCall kDirectCalls[] = {
    {"socket", 359},      {"socketpair", 360},  {"bind", 361},       {"connect", 362},
    {"listen", 363},      {"accept4", 364},     {"getsockopt", 365}, {"setsockopt", 366},
    {"getsockname", 367}, {"getpeername", 368}, {"sendto", 369},     {"sendmsg", 370},
    {"recvfrom", 371},    {"recvmsg", 372},     {"shutdown", 373},   {"semget", 393},
    {"semctl", 394},      {"shmget", 395},      {"shmctl", 396},     {"shmat", 397},
    {"shmdt", 398},       {"msgget", 399},      {"msgsnd", 400},     {"msgrcv", 401},
    {"msgctl", 402},
};
#else
constexpr DirectCall kDirectCalls[] = {{"", 0}};
#endif

}  // namespace

std::optional<std::uint32_t> CompatCallNumber(std::string_view name) {
  if (!kCompat) return std::nullopt;
  const int number = seccomp_syscall_resolve_name_arch(kCompat->arch, std::string(name).c_str());
  if (number >= 0) return static_cast<std::uint32_t>(number);
  for (const DirectCall& call : kDirectCalls) {
    if (call.name == name) return call.number;
  }
  return NewerCallNumber(name);
}

}  // namespace brood
