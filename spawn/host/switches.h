// SPDX-License-Identifier: Apache-2.0

// Switches of a machine's administrator that forbid what brood needs, with their values.
#pragma once

#include <optional>
#include <string>

namespace brood {

struct Switch {
  std::string name;    // "kernel.unprivileged_userns_clone"
  std::string value;   // what it is
  std::string remedy;  // what changes it: "sysctl -w kernel.unprivileged_userns_clone=1"

  // "kernel.unprivileged_userns_clone is 0: sysctl -w kernel.unprivileged_userns_clone=1"
  std::string Sentence() const { return name + " is " + value + ": " + remedy; }
};

// The one that keeps an ordinary user from making user namespaces, or from using them: a count of
// zero, Debian's switch, or that of Ubuntu's AppArmor (24.04), with which they can be made but give
// no privileges. None where none is set. Reads files below `proc`; any thread may ask.
std::optional<Switch> UserNamespaceSwitch(const std::string& proc = "/proc");

// kernel.io_uring_disabled (Linux 6.6), where it is not 0: 1 refuses it to ordinary users outside
// kernel.io_uring_group, 2 to all users.
std::optional<Switch> RingSwitch(const std::string& proc = "/proc");

}  // namespace brood
