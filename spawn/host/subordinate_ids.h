// SPDX-License-Identifier: Apache-2.0

// The host ids that an ordinary user may give to a user namespace: a range in /etc/subuid and one
// in /etc/subgid, mapped by newuidmap(1) and newgidmap(1) (Debian: the package uidmap).
//
// Inside, the ids are those that root would map (spawn/host/id_ranges.h): 0 to 65535, the user's
// own keeping its number, so that whose files they are reads as it does outside. Id 0 inside is the
// first of the range: it owns nothing, not even what is the user's. All workers of a user have the
// same ids.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace brood {

// One line of an id map (user_namespaces(7)).
struct IdExtent {
  std::uint32_t inside = 0;
  std::uint32_t outside = 0;
  std::uint32_t count = 0;
};

// What this process can map. A plain value.
struct SubordinateIds {
  bool usable = false;
  std::string user;     // the name in /etc/passwd, or the number
  std::string why_not;  // when not usable: what is missing, and how to get it
  std::uint32_t first_uid = 0;
  std::uint32_t first_gid = 0;
  std::string newuidmap;  // the programs
  std::string newgidmap;
};

// Asked of the machine once; thread-safe.
const SubordinateIds& OurSubordinateIds();

// Gives them to `pid`, a child in a user namespace of its own that is not mapped yet. Runs two
// programs, which takes some milliseconds. An error tells what they said.
absl::Status MapSubordinateIds(pid_t pid);

// The first id of the first range of at least kIdsPerRange that `text`, of /etc/subuid's form, has
// for the user, by name or number. Pure.
std::optional<std::uint32_t> FindSubordinateRange(std::string_view text, std::string_view name,
                                                  std::uint32_t number);

// The map of a range that starts with `first`, and of the user's `own` id. Pure.
std::vector<IdExtent> SubordinateMap(std::uint32_t first, std::uint32_t own);

// The text for /proc/PID/uid_map of a user namespace nested in one with that map: all that is in
// the outer one, under the same numbers. Line by line, since the kernel takes no line that is
// mapped by several lines of the outer map. Pure.
std::string NestedMap(const std::vector<IdExtent>& outer);

}  // namespace brood
