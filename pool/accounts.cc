#include "pool/accounts.h"

#include <grp.h>
#include <pwd.h>

#include <cstdio>
#include <memory>

namespace brood {
namespace {

struct Closer {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Closer>;

}  // namespace

std::optional<User> FindUser(const std::string& name) {
  const File file(std::fopen("/etc/passwd", "re"));
  while (const passwd* const entry = file ? fgetpwent(file.get()) : nullptr) {
    if (name == entry->pw_name) return User{entry->pw_uid, entry->pw_gid};
  }
  return std::nullopt;
}

std::optional<gid_t> FindGroup(const std::string& name) {
  const File file(std::fopen("/etc/group", "re"));
  while (const group* const entry = file ? fgetgrent(file.get()) : nullptr) {
    if (name == entry->gr_name) return entry->gr_gid;
  }
  return std::nullopt;
}

}  // namespace brood
