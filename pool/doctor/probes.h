// SPDX-License-Identifier: Apache-2.0

// Trying what a launcher needs, in a child process that ends with the trial: a kernel's version
// tells what it may have, and only using it tells whether it is allowed here.
#pragma once

#include <functional>
#include <string>

#include "spawn/spec.h"

namespace brood {

// What the trial returned: 0, or an errno. A trial that does not come back is ETIMEDOUT; one that
// is killed (a filter's answer) is ENOSYS. Forks: the caller should have one thread.
int TryInChild(const std::function<int()>& trial);

// Each is 0, or the errno of what was refused. To be run in a child.
int MakeUserNamespace();
// Makes one and then does in it what only its owner may. AppArmor on Ubuntu 24.04 lets every user
// make one, but without privileges.
int UseUserNamespace();
// With one's own rights, or with those of a user namespace made for it.
int MakeNamespace(NamespaceKind kind, bool own_rights);
// A new /proc in new namespaces. The kernel refuses it where the old one is covered in places.
int MountProc(bool own_rights);
int SetUpRing();      // io_uring_setup
int InstallFilter();  // a seccomp filter that lets everything pass

// brood run of a program that only exits, fully isolated: its outcome as JSON, and its sentence
// when it failed. `brood` is the program's own file.
struct TrialRun {
  int exit_status = 0;
  std::string outcome;
  std::string error;
};
TrialRun RunTrial(const std::string& brood);

}  // namespace brood
