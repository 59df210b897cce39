// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/plan/blueprint_maker.h"

namespace brood {

// The view that every path of the root is resolved in.
absl::Status BlueprintMaker::OpenRoot() {
  const bool host = spec_.root.mode == RootMode::kHostReadOnly;
  const std::string path = host ? "/" : spec_.root.directory;
  UniqueFd root(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root.valid()) return ErrnoError(errno, "opening the root directory {}", path);
  view_.emplace(std::move(root), spec_.root.mode == RootMode::kOverlay);
  return absl::OkStatus();
}

// Tree 0. With privilege the host's comes without its submounts, which are chosen one by one:
// without, the child copies it from its own namespace, where each is locked to its parent. So does
// an overlay, which shows no submount of what it lies on.
void BlueprintMaker::AddRootSource() {
  const RootMode mode = spec_.root.mode;
  const bool host = mode == RootMode::kHostReadOnly;
  std::uint64_t attributes = kernel::kMountAttrNosuid | kernel::kMountAttrNodev;
  if (mode != RootMode::kReadWrite) attributes |= kernel::kMountAttrRdonly;
  const bool alone = (host || mode == RootMode::kOverlay) && machine_.mount_admin;
  AddTreeSource(host ? "/" : spec_.root.directory, attributes, /*idmap=*/!host,
                /*recursive=*/!alone);
}

absl::StatusOr<std::size_t> BlueprintMaker::AddBindSource(const Bind& bind, Place& place) {
  place.source.reset(open(bind.source.c_str(), O_PATH | O_CLOEXEC));
  struct stat status = {};
  if (!place.source.valid() || fstat(place.source.get(), &status) != 0) {
    return ErrnoError(errno, "opening {}, to be bound on {}", bind.source, bind.target);
  }
  place.directory = S_ISDIR(status.st_mode);
  std::uint64_t attributes = kernel::kMountAttrNosuid;
  if (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode)) attributes |= kernel::kMountAttrNodev;
  if (bind.read_only) attributes |= kernel::kMountAttrRdonly;
  return AddTreeSource(bind.source, attributes, /*idmap=*/true, /*recursive=*/true);
}

std::size_t BlueprintMaker::AddTreeSource(std::string path, std::uint64_t attributes, bool idmap,
                                          bool recursive, bool optional) {
  // The owners of a directory given to the worker appear as the same ids inside. The host's own
  // tree stays foreign: mapped, the worker's root could read what only root may.
  if (idmap && range_) {
    builder_.Add(PlanBuilder::kIdmaps, OpCode::kIdmap, Step::kIdmapTree, {path}, 0, 0,
                 static_cast<std::uint16_t>(tree_count_));
  }
  out_.tree_sources_.resize(tree_count_);
  out_.tree_sources_.push_back({std::move(path), attributes, recursive, optional});
  return tree_count_++;
}

// Trees that have to be copied before the old root is out of reach.
void BlueprintMaker::AddTreesByPath() {
  for (Place& place : places_) {
    if (place.what == Place::What::kTree && place.type == "proc") {
      place.tree = AddHostTree("/proc", true);
    }
  }
  if (machine_.mount_admin) return;
  for (std::size_t i = 0; i < out_.tree_sources_.size(); ++i) {
    const auto& source = out_.tree_sources_[i];
    if (source.path.empty()) continue;
    const auto index = static_cast<std::uint16_t>(i);
    builder_.Add(shared_, OpCode::kBindPath, Step::kBindPath, {source.path}, 1, 0, index);
    builder_.Add(shared_, OpCode::kTreeAttributes, Step::kTreeAttributes, {source.path},
                 source.attributes, 1, index);
  }
}

// Copied by the child, by path.
std::size_t BlueprintMaker::AddHostTree(const std::string& path, bool recursive) {
  builder_.Add(shared_, OpCode::kBindPath, Step::kBindPath, {path}, recursive ? 1 : 0, 0,
               static_cast<std::uint16_t>(tree_count_));
  return tree_count_++;
}

}  // namespace brood
