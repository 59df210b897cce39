// The users and groups of this machine, by name.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace brood {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;  // of its primary group
};

// As /etc/passwd and /etc/group tell. Not what other name services know: asking those loads
// libraries of theirs, which takes longer than starting a process, and which a statically linked
// program may not find.
std::optional<User> FindUser(const std::string& name);
std::optional<gid_t> FindGroup(const std::string& name);

}  // namespace brood
