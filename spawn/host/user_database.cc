// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/user_database.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string_view>

#include "spawn/base/paths.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood {
namespace {

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

// Far above any that people use; the author of a root is not trusted to stay below.
constexpr off_t kMostBytes = 16 << 20;

// Where a file of the user database comes from: a directory or file of the host's, and the path
// below it.
struct Place {
  std::string source;
  std::string below;  // empty: `source` is the file
  std::string Name() const {
    if (source == "/" || below.empty()) return source == "/" ? "/" + below : source;
    return fmt::format("/{} of {}", below, source);
  }
};

Place PlaceOf(std::string_view path, const std::string& root, const std::vector<Bind>& binds) {
  Place place = {root.empty() ? "/" : root, std::string(path.substr(1))};
  std::size_t longest = 0;
  for (const Bind& bind : binds) {
    // The last one of equals covers the others.
    if (!IsUnder(path, bind.target) || bind.target.size() < longest) continue;
    longest = bind.target.size();
    place = {bind.source, std::string(PathBelow(path, bind.target))};
  }
  return place;
}

absl::StatusOr<File> Open(const Place& place) {
  // Nonblocking, for a FIFO would wait for a writer.
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  const auto failed = [&](int error) {
    return InvalidError("opening {}: {}; give a number", place.Name(), ErrnoText(error));
  };
  UniqueFd fd;
  if (place.source == "/" || place.below.empty()) {
    fd.reset(
        open(place.below.empty() ? place.source.c_str() : ("/" + place.below).c_str(), kFlags));
  } else {
    const UniqueFd root(open(place.source.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root.valid()) return failed(errno);
    open_how how = {};
    how.flags = kFlags;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    fd.reset(
        static_cast<int>(syscall(SYS_openat2, root.get(), place.below.c_str(), &how, sizeof(how))));
  }
  if (!fd.valid()) return failed(errno);
  struct stat status = {};
  if (fstat(fd.get(), &status) != 0) return failed(errno);
  if (!S_ISREG(status.st_mode) || status.st_size > kMostBytes) {
    return InvalidError("{} is not a file of users or groups: it is {}; give a number",
                        place.Name(),
                        S_ISREG(status.st_mode) ? "larger than 16 MiB" : "not a regular file");
  }
  File file(fdopen(fd.get(), "r"));
  if (!file) return failed(errno);
  (void)fd.release();
  return file;
}

absl::Status None(std::string_view what, const std::string& name, const Place& place) {
  return InvalidError("there is no {} \"{}\" in {}; give a number", what, name, place.Name());
}

}  // namespace

absl::StatusOr<User> UserDatabase::FindUser(const std::string& name) const {
  const Place place = PlaceOf("/etc/passwd", root_, binds_);
  BROOD_ASSIGN_OR_RETURN(const File file, Open(place));
  while (const passwd* const entry = fgetpwent(file.get())) {
    if (name == entry->pw_name) return User{entry->pw_uid, entry->pw_gid};
  }
  return None("user", name, place);
}

absl::StatusOr<gid_t> UserDatabase::FindGroup(const std::string& name) const {
  const Place place = PlaceOf("/etc/group", root_, binds_);
  BROOD_ASSIGN_OR_RETURN(const File file, Open(place));
  while (const group* const entry = fgetgrent(file.get())) {
    if (name == entry->gr_name) return entry->gr_gid;
  }
  return None("group", name, place);
}

}  // namespace brood
