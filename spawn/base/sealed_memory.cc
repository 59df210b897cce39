// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/sealed_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "spawn/base/status.h"

namespace brood {

absl::StatusOr<UniqueFd> SealedMemory(const char* name, std::span<const char> bytes,
                                      bool executable) {
  constexpr unsigned kMfdNoexecSeal = 0x0008;
  constexpr unsigned kMfdExec = 0x0010;
  constexpr unsigned kFlags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  UniqueFd memory(memfd_create(name, kFlags | (executable ? kMfdExec : kMfdNoexecSeal)));
  if (!memory.valid() && errno == EINVAL) memory.reset(memfd_create(name, kFlags));
  if (!memory.valid()) return ErrnoError(errno, "making memory for {}", name);
  while (!bytes.empty()) {
    const ssize_t written = write(memory.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return ErrnoError(errno, "writing {}", name);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  if (fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) !=
      0) {
    return ErrnoError(errno, "sealing {}", name);
  }
  return memory;
}

}  // namespace brood
