// SPDX-License-Identifier: Apache-2.0

// Mapping one user and one group into a user namespace, as anybody may (user_namespaces(7)).
#pragma once

#include <sys/types.h>

#include <array>
#include <string>
#include <string_view>

namespace brood {

struct IdMapFile {
  std::string_view name;  // in /proc/PID
  std::string text;
};

// What has to be written, in this order: who has no privilege outside gives up setgroups(2) before
// it may map a group. `uid` and `gid` are those outside, the writer's own. Pure.
std::array<IdMapFile, 3> MapOneId(uid_t inside_uid, uid_t uid, gid_t inside_gid, gid_t gid);

}  // namespace brood
