// SPDX-License-Identifier: Apache-2.0

// What a worker will see below its root, before anything is mounted: directories laid over each
// other, in which paths are resolved as the worker will resolve them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Links are followed below the root only, and those of /proc not at all. Not thread-safe.
class RootView {
 public:
  struct Found {
    std::string path;  // absolute, without links, "." and ".."
    bool exists = false;
    bool directory = false;
    bool ours = false;  // where it can be made if it is not there: on a mount that brood makes
  };

  // `root`: an O_PATH descriptor of the directory. `grows`: the worker's root is an overlay of it,
  // so that what is missing can be made there.
  explicit RootView(UniqueFd root, bool grows = false);

  // Lays the file or directory `source`, an O_PATH descriptor, over the path `at`, as Resolve gave
  // it. One that is not valid stands for a mount that brood makes, with nothing in it.
  void Lay(std::string at, UniqueFd source);
  // Takes away all that was laid.
  void Clear();

  // kNotFound, kPermissionDenied...: what does not exist, or cannot be looked at, on the way; the
  // sentence names it. A last name that is missing is no error on a mount of ours, or a root that
  // grows.
  absl::StatusOr<Found> Resolve(std::string_view path) const;

 private:
  struct Layer {
    std::string at;
    UniqueFd source;
  };
  struct Entry {
    bool exists = false;
    bool directory = false;
    bool ours = false;
    std::string link;  // where it leads, when it is one
  };
  absl::StatusOr<Entry> Look(const std::string& path) const;

  std::vector<Layer> layers_;  // the root first
  const bool grows_;
};

}  // namespace brood
