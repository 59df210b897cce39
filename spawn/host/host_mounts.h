// SPDX-License-Identifier: Apache-2.0

// The mounts of this process' namespace, as /proc/self/mountinfo tells them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace brood {

// Where mounts hang directly on the mount at "/", in the order they were made, each place once.
// Empty where mountinfo cannot be read.
std::vector<std::string> MountsOnRoot();

// Where mounts hang below `directory`, which is absolute and without links: those that lie below no
// other of them.
std::vector<std::string> MountsBelow(std::string_view directory);

// Whether all users may search all directories above `path`: otherwise a worker whose ids own
// nothing cannot reach what is mounted there.
bool ReachableByOthers(const std::string& path);

}  // namespace brood
