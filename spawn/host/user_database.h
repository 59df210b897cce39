// SPDX-License-Identifier: Apache-2.0

// Users and groups by name: those of this machine, or of the root that an isolate will have.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "spawn/spec.h"

namespace brood {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;  // of its primary group
};

// As /etc/passwd and /etc/group tell. Not what other name services know: asking those loads
// libraries of theirs, which takes longer than starting a process, and which a statically linked
// program may not find.
class UserDatabase {
 public:
  // This machine's.
  UserDatabase() = default;
  // Those that a worker will see whose root is the directory `root` (empty: the host's own tree),
  // with `binds` in it. Links in these lead nowhere else.
  UserDatabase(std::string root, std::vector<Bind> binds)
      : root_(std::move(root)), binds_(std::move(binds)) {}

  // kInvalidArgument when there is none of that name, or the file cannot be used.
  absl::StatusOr<User> FindUser(const std::string& name) const;
  absl::StatusOr<gid_t> FindGroup(const std::string& name) const;

 private:
  std::string root_;
  std::vector<Bind> binds_;
};

}  // namespace brood
