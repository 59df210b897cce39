// SPDX-License-Identifier: Apache-2.0

// The program that workers are cloned from, made safe from them.
#pragma once

namespace brood {

// Until its exec a cold worker's /proc/self/exe is the launcher's program, and a script of its root
// may name that as its interpreter. With the host's ids it could then open and overwrite the
// program on the host (CVE-2019-5736). So a launcher whose workers may keep the host's ids runs
// from a read-only mount of its own program that is attached nowhere.
//
// Executes this program again from there, with `argv`. Returns only where that is not needed or not
// possible: the program is on such a mount already, or the caller has no privilege over mounts, and
// then its workers have no more ids than it has.
void RunFromReadOnlyMount(char** argv);

}  // namespace brood
