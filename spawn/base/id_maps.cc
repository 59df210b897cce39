// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/id_maps.h"

#include <fmt/format.h>

namespace brood {

std::array<IdMapFile, 3> MapOneId(uid_t inside_uid, uid_t uid, gid_t inside_gid, gid_t gid) {
  return {{{"setgroups", "deny"},
           {"gid_map", fmt::format("{} {} 1", inside_gid, gid)},
           {"uid_map", fmt::format("{} {} 1", inside_uid, uid)}}};
}

}  // namespace brood
