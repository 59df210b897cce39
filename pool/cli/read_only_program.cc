// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/read_only_program.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "spawn/base/kernel.h"
#include "spawn/base/unique_fd.h"
#include "spawn/child/syscalls.h"
#include "spawn/host/machine.h"

namespace brood {

void RunFromReadOnlyMount(char** argv) {
  constexpr const char* kProgram = "/proc/self/exe";
  struct statvfs status = {};
  if (statvfs(kProgram, &status) != 0 || (status.f_flag & ST_RDONLY) != 0) return;
  if (!ThisMachine().mount_admin) return;
  const sys::Result copied =
      sys::OpenTree(AT_FDCWD, kProgram, kernel::kOpenTreeClone | kernel::kOpenTreeCloexec);
  if (copied < 0) return;
  const UniqueFd program(static_cast<int>(copied));
  kernel::MountAttr attributes;
  attributes.attr_set = kernel::kMountAttrRdonly;
  if (sys::MountSetattr(program.get(), "", kernel::kAtEmptyPath, attributes) < 0) return;
  syscall(SYS_execveat, program.get(), "", argv, environ, AT_EMPTY_PATH);
}

}  // namespace brood
