// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/switches.h"

#include <algorithm>
#include <string_view>

#include "spawn/base/text_file.h"

namespace brood {
namespace {

// The value of a sysctl, empty where this kernel has none of that name.
std::string Value(const std::string& proc, std::string name) {
  std::replace(name.begin(), name.end(), '.', '/');
  return FirstLineOf(proc + "/sys/" + name).value_or("");
}

Switch Set(std::string name, std::string value, std::string_view to,
           std::string_view or_else = "") {
  std::string remedy = "sysctl -w " + name + "=";
  remedy.append(to).append(or_else);
  return {std::move(name), std::move(value), std::move(remedy)};
}

}  // namespace

std::optional<Switch> UserNamespaceSwitch(const std::string& proc) {
  if (Value(proc, "user.max_user_namespaces") == "0") {
    return Set("user.max_user_namespaces", "0", "15000");
  }
  if (Value(proc, "kernel.unprivileged_userns_clone") == "0") {
    return Set("kernel.unprivileged_userns_clone", "0", "1");
  }
  if (Value(proc, "kernel.apparmor_restrict_unprivileged_userns") == "1") {
    return Set("kernel.apparmor_restrict_unprivileged_userns", "1", "0",
               ", or an AppArmor profile for brood that has \"userns,\"");
  }
  return std::nullopt;
}

std::optional<Switch> RingSwitch(const std::string& proc) {
  std::string value = Value(proc, "kernel.io_uring_disabled");
  if (value.empty() || value == "0") return std::nullopt;
  return Set("kernel.io_uring_disabled", std::move(value), "0");
}

}  // namespace brood
