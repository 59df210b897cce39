// SPDX-License-Identifier: Apache-2.0

// The program that workers are cloned from, made safe from them.
#pragma once

namespace brood {

// Until its exec a cold worker's /proc/self/exe is the launcher's program, and a script of its root
// may name that as its interpreter: it then runs what it could, with the host's ids, open and
// overwrite on the host (CVE-2019-5736). So a launcher whose workers may keep the host's ids runs
// from a mount of its own program that is read-only and that nobody can get at.
//
// Executes this program anew from there, with `argv`, and returns only where that is not needed or
// not to be had: the program is on such a mount, or the caller has no privilege over mounts, so
// that no worker of its has more ids than it.
void RunFromReadOnlyMount(char** argv);

}  // namespace brood
