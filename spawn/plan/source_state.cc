// SPDX-License-Identifier: Apache-2.0

#include "spawn/plan/source_state.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <climits>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "spawn/host/host_mounts.h"

namespace brood {
namespace {

// A file's identity, and with `content` its last change.
void AddFile(const std::string& path, bool content, std::string& state) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) {
    state += fmt::format("{} -\n", path);
    return;
  }
  state += fmt::format("{} {}:{}", path, status.st_dev, status.st_ino);
  if (content) {
    state +=
        fmt::format(" {} {}.{}", status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  }
  state += '\n';
}

void AddMounts(const std::vector<std::string>& mounts, std::string& state) {
  for (const std::string& mount : mounts) AddFile(mount, /*content=*/false, state);
}

void AddTree(const std::string& path, std::string& state) {
  AddFile(path, /*content=*/false, state);
  char* const real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return;
  AddMounts(MountsBelow(real), state);
  std::free(real);
}

}  // namespace

std::string SourceState(const Spec& spec) {
  std::string state;
  if (spec.root.mode == RootMode::kHostReadOnly) {
    AddMounts(MountsOnRoot(), state);
  } else {
    AddTree(spec.root.directory, state);
  }
  for (const Bind& bind : spec.binds) AddTree(bind.source, state);
  for (const NamespaceChoice& choice : spec.namespaces) {
    if (choice.mode == NamespaceMode::kJoin) AddFile(choice.path, /*content=*/false, state);
  }
  if (spec.seccomp.mode == SeccompMode::kFile) {
    AddFile(spec.seccomp.file, /*content=*/true, state);
  }
  state += fmt::format("ids {}:{}\n", spec.uid, spec.gid);
  return state;
}

}  // namespace brood
