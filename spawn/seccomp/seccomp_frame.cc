// SPDX-License-Identifier: Apache-2.0

#include "spawn/seccomp/seccomp_frame.h"

#include <seccomp.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <string>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/seccomp/launch_calls.h"
#include "spawn/seccomp/seccomp_compat.h"

namespace brood {
namespace {

// Death by SIGSYS says what happened; an errno would not even let a foreign binary exit.
constexpr std::uint32_t kForeignArchitecture = SECCOMP_RET_KILL_PROCESS;

struct NewerCall {
  std::string_view name;
  int number;
};

// Calls newer than the libseccomp in use may know. Since Linux 5.1 a new call has the same number
// on every architecture, so that a table will do.
constexpr NewerCall kNewerCalls[] = {
    {"cachestat", 451},          // Linux 6.5
    {"fchmodat2", 452},          // 6.6
    {"map_shadow_stack", 453},   // 6.6
    {"futex_wake", 454},         // 6.7
    {"futex_wait", 455},         // 6.7
    {"futex_requeue", 456},      // 6.7
    {"statmount", 457},          // 6.8
    {"listmount", 458},          // 6.8
    {"lsm_get_self_attr", 459},  // 6.8
    {"lsm_set_self_attr", 460},  // 6.8
    {"lsm_list_modules", 461},   // 6.8
    {"mseal", 462},              // 6.10
    {"setxattrat", 463},         // 6.13
    {"getxattrat", 464},         // 6.13
    {"listxattrat", 465},        // 6.13
    {"removexattrat", 466},      // 6.13
    {"open_tree_attr", 467},     // 6.15
    {"file_getattr", 468},       // 6.17
    {"file_setattr", 469},       // 6.17
};

bool Allows(std::span<const sock_filter> program, std::uint32_t arch, const LaunchCall& call) {
  std::optional<KnownArgument> known;
  if (call.argument >= 0) known = {static_cast<std::uint32_t>(call.argument), call.value};
  return AlwaysAllows(program, arch, call.number, known);
}

// Whether it ends whoever calls, with SIGSYS.
bool Kills(std::optional<std::uint32_t> answer) {
  if (!answer) return false;
  const std::uint32_t action = *answer & SECCOMP_RET_ACTION_FULL;
  return action == SECCOMP_RET_KILL_PROCESS || action == SECCOMP_RET_KILL_THREAD ||
         action == SECCOMP_RET_TRAP;
}

}  // namespace

std::optional<std::uint32_t> CallNumber(std::string_view name) {
  // Negative: unknown, or libseccomp's own number for a call of other architectures.
  const int number = seccomp_syscall_resolve_name(std::string(name).c_str());
  if (number >= 0) return static_cast<std::uint32_t>(number);
#if defined(__x86_64__)
  if (name == "uretprobe") return 335;  // Linux 6.11, of this architecture alone
#endif
  return NewerCallNumber(name);
}

std::optional<std::uint32_t> NewerCallNumber(std::string_view name) {
  for (const NewerCall& call : kNewerCalls) {
    if (call.name == name) return static_cast<std::uint32_t>(call.number);
  }
  return std::nullopt;
}

absl::StatusOr<SeccompProgram> FrameSeccomp(SeccompAssembler& assembler,
                                            const SeccompDecisions& native,
                                            const std::optional<SeccompDecisions>& compat,
                                            std::string_view origin) {
  using Node = SeccompAssembler::Node;
  const auto ranges_of = [](const SeccompDecisions& decisions) {
    std::vector<SeccompAssembler::Range> ranges;
    for (const Node decision : decisions.by_number) {
      ranges.push_back({static_cast<std::uint32_t>(ranges.size()), decision});
    }
    ranges.push_back({static_cast<std::uint32_t>(ranges.size()), decisions.beyond});
    return ranges;
  };
  std::vector<SeccompAssembler::Range> ranges = ranges_of(native);
#if defined(__x86_64__)
  // x32 calls come with the architecture of 64-bit ones. Without this a profile that allows by
  // default could be walked around by setting one bit.
  constexpr std::uint32_t kX32Bit = 0x40000000;
  ranges.push_back({kX32Bit, assembler.Return(SeccompErrno(ENOSYS))});
#endif

  const std::uint32_t arch = seccomp_arch_native();  // the same values as AUDIT_ARCH_*
  const Node by_number = assembler.Load(offsetof(seccomp_data, nr), assembler.Dispatch(ranges));
  // Asked about last: the machine's own calls take no step more for it.
  Node others = assembler.Return(kForeignArchitecture);
  if (kCompat && compat) {
    const Node by_its_number =
        assembler.Load(offsetof(seccomp_data, nr), assembler.Dispatch(ranges_of(*compat)));
    others = assembler.Branch(BPF_JEQ, kCompat->arch, by_its_number, others);
  }
  const Node entry = assembler.Load(offsetof(seccomp_data, arch),
                                    assembler.Branch(BPF_JEQ, arch, by_number, others));

  SeccompProgram program;
  program.instructions = assembler.Assemble(entry);
  if (program.instructions.size() > BPF_MAXINSNS) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "{} compiles to {} instructions, and the kernel takes at most {}; give it fewer "
                 "conditions on arguments",
                 origin, program.instructions.size(), BPF_MAXINSNS);
  }
  program.allows_launch = std::ranges::all_of(kLaunchCalls, [&](const LaunchCall& call) {
    return Allows(program.instructions, arch, call);
  });
  program.kills_exec = Kills(AlwaysAnswers(program.instructions, arch, __NR_execve));
  return program;
}

}  // namespace brood
