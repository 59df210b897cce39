// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/capabilities.h"

#include <sys/prctl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>

#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::string_view kPrefix = "CAP_";

// By number, as in linux/capability.h; spelled out here so that building against older headers
// does not lose the newest.
constexpr std::array<std::string_view, 41> kNames = {
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
};

// ASCII only, whatever the locale.
std::string ToUpper(std::string_view text) {
  std::string upper(text);
  for (char& c : upper) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return upper;
}

// "NET_ADMIN", "cap_net_admin": the kernel's spelling of it.
std::string Canonical(std::string_view name) {
  std::string upper = ToUpper(name);
  if (!upper.starts_with(kPrefix)) upper.insert(0, kPrefix);
  return upper;
}

// Insertions, deletions and replacements of one character that turn `a` into `b`.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row[b.size()];
}

// The name that `canonical` was most likely meant to be; empty when none is near.
std::string_view NearestName(std::string_view canonical) {
  constexpr std::size_t kLongest = 32;  // bounds the work done for a hostile name
  if (canonical.size() > kLongest) return {};
  // Three slips, but no more than one letter in three: beyond that it is another word.
  const std::size_t letters = canonical.size() - kPrefix.size();
  const std::size_t most_edits = std::min<std::size_t>(3, letters / 3);
  std::string_view nearest;
  std::size_t fewest = most_edits + 1;
  for (std::string_view name : kNames) {
    const std::size_t edits = EditDistance(canonical, name);
    if (edits < fewest) {
      fewest = edits;
      nearest = name;
    }
  }
  return nearest;
}

// Asks the bounding set rather than /proc/sys/kernel/cap_last_cap: it needs no mounted /proc.
int ProbeLastCapability() {
  constexpr int kBits = 64;  // width of the kernel's sets
  int count = 0;
  while (count < kBits && prctl(PR_CAPBSET_READ, count, 0, 0, 0) >= 0) ++count;
  return count - 1;
}

}  // namespace

absl::StatusOr<int> CapabilityFromName(std::string_view name) {
  const std::string canonical = Canonical(name);
  const auto found = std::find(kNames.begin(), kNames.end(), canonical);
  if (found != kNames.end()) return static_cast<int>(found - kNames.begin());

  if (const std::string_view nearest = NearestName(canonical); !nearest.empty()) {
    return InvalidError("there is no capability \"{}\"; did you mean {}?", name, nearest);
  }
  return InvalidError("there is no capability \"{}\"; capabilities(7) lists them, from {} to {}",
                      name, kNames.front(), kNames.back());
}

std::string_view CapabilityName(int capability) {
  const auto index = static_cast<std::size_t>(capability);  // a negative one is far out of range
  return index < kNames.size() ? kNames[index] : std::string_view();
}

int LastCapability() {
  static const int last = ProbeLastCapability();
  return last;
}

absl::StatusOr<std::uint64_t> CapabilityMask(const std::vector<std::string>& names) {
  std::uint64_t mask = 0;
  for (const std::string& name : names) {
    if (ToUpper(name) == "ALL") {
      mask |= ~std::uint64_t{0} >> (63 - std::max(LastCapability(), 0));
      continue;
    }
    BROOD_ASSIGN_OR_RETURN(const int capability, CapabilityFromName(name));
    if (capability > LastCapability()) {
      return Error(absl::StatusCode::kUnimplemented, "this kernel has no {}; its last is {}",
                   CapabilityName(capability), CapabilityName(LastCapability()));
    }
    mask |= std::uint64_t{1} << capability;
  }
  return mask;
}

}  // namespace brood
