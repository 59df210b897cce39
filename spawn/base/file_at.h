// SPDX-License-Identifier: Apache-2.0

// Small files by the descriptor of the directory that holds them, as those of cgroups are.
//
// Links are not followed, descriptors are close-on-exec. Any thread may call.
#pragma once

#include <string>
#include <string_view>

namespace brood {

// Reads all of `path` (relative to `directory`, or AT_FDCWD) into `text`. Returns 0 or an errno,
// which only the caller can turn into a sentence: a missing file is often an answer.
int ReadFileAt(int directory, const char* path, std::string& text);

// Writes `value` to an existing file in one write(2), as cgroup files want it. 0 or an errno.
int WriteFileAt(int directory, const char* path, std::string_view value);

}  // namespace brood
