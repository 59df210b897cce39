// SPDX-License-Identifier: Apache-2.0

// What every filter shares, from a profile or from brood: system call numbers, and the checks of
// architecture and number around the decisions. Internal to seccomp.cc and seccomp_profile.cc.
#pragma once

#include <linux/seccomp.h>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/seccomp/seccomp.h"
#include "spawn/seccomp/seccomp_eval.h"

namespace brood {

// The filter's answer that makes a call fail with an errno.
constexpr std::uint32_t SeccompErrno(int error_number) {
  return SECCOMP_RET_ERRNO | (static_cast<std::uint32_t>(error_number) & SECCOMP_RET_DATA);
}

// Whether bit `capability` of a mask is set.
constexpr bool HasCapability(std::uint64_t capability_mask, int capability) {
  return (capability_mask >> capability & 1) != 0;
}

// The machine's number for a call; nothing for one that it does not have or that is unknown here.
std::optional<std::uint32_t> CallNumber(std::string_view name);

// The number of a call since Linux 5.1, from which on all architectures have the same.
std::optional<std::uint32_t> NewerCallNumber(std::string_view name);

// What a filter decides about the system calls of one architecture: number n by `by_number[n]`,
// those above them by `beyond`.
struct SeccompDecisions {
  std::vector<SeccompAssembler::Node> by_number;
  SeccompAssembler::Node beyond;
};

// The whole filter. Without decisions about `compat` (spawn/seccomp/seccomp_compat.h) its calls end
// the process, as those of every other architecture do. `origin` begins the message of an error:
// kResourceExhausted for a program longer than the kernel takes.
absl::StatusOr<SeccompProgram> FrameSeccomp(SeccompAssembler& assembler,
                                            const SeccompDecisions& native,
                                            const std::optional<SeccompDecisions>& compat,
                                            std::string_view origin);

}  // namespace brood
