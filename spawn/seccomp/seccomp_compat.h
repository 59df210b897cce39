// SPDX-License-Identifier: Apache-2.0

// The other architecture whose programs the machine runs: a 64-bit x86 those of i386, arm64 those
// of 32-bit ARM. Internal to seccomp*.cc.
#pragma once

#include <seccomp.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace brood {

struct CompatArchitecture {
  std::uint32_t arch;         // AUDIT_ARCH_* and SCMP_ARCH_*, which are the same
  std::string_view oci_name;  // as profiles name it
};

#if defined(__x86_64__)
inline constexpr std::optional<CompatArchitecture> kCompat =
    CompatArchitecture{SCMP_ARCH_X86, "SCMP_ARCH_X86"};
#elif defined(__aarch64__)
inline constexpr std::optional<CompatArchitecture> kCompat =
    CompatArchitecture{SCMP_ARCH_ARM, "SCMP_ARCH_ARM"};
#else
inline constexpr std::optional<CompatArchitecture> kCompat;
#endif

// The number of a call there; nothing for one that it does not have or that is unknown here.
std::optional<std::uint32_t> CompatCallNumber(std::string_view name);

}  // namespace brood
