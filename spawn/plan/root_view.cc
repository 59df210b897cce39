// SPDX-License-Identifier: Apache-2.0

#include "spawn/plan/root_view.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <utility>

#include "spawn/base/paths.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr int kMostLinks = 40;  // the kernel's own limit (path_resolution(7))

// The names of `path`, the last one first.
std::vector<std::string> NamesBackwards(std::string_view path) {
  std::vector<std::string> names;
  std::size_t start = 0;
  while (start < path.size()) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string_view name = path.substr(start, end - start);
    if (!name.empty() && name != ".") names.emplace_back(name);
    start = end + 1;
  }
  std::reverse(names.begin(), names.end());
  return names;
}

}  // namespace

RootView::RootView(UniqueFd root, bool grows) : grows_(grows) {
  layers_.push_back({"/", std::move(root)});
}

void RootView::Lay(std::string at, UniqueFd source) {
  layers_.push_back({std::move(at), std::move(source)});
}

void RootView::Clear() { layers_.erase(layers_.begin() + 1, layers_.end()); }

absl::StatusOr<RootView::Entry> RootView::Look(const std::string& path) const {
  const Layer* layer = nullptr;
  for (const Layer& each : layers_) {
    const bool covers = IsUnder(path, each.at);
    if (covers && (layer == nullptr || each.at.size() >= layer->at.size())) layer = &each;
  }
  Entry entry;
  if (!layer->source.valid()) {
    entry.ours = true;
    entry.exists = entry.directory = path == layer->at;
    return entry;
  }
  const std::string_view below = PathBelow(path, layer->at);
  struct stat status = {};
  UniqueFd inside;
  int fd = layer->source.get();
  if (!below.empty()) {
    open_how how = {};
    how.flags = O_PATH | O_CLOEXEC | O_NOFOLLOW;
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    const std::string text(below);
    inside.reset(static_cast<int>(syscall(SYS_openat2, fd, text.c_str(), &how, sizeof(how))));
    if (!inside.valid() && errno == ENOENT && grows_ && layer == &layers_.front()) {
      entry.ours = true;
      return entry;
    }
    if (!inside.valid()) return ErrnoError(errno, "{}", path);
    fd = inside.get();
  }
  if (fstatat(fd, "", &status, AT_EMPTY_PATH) != 0) return ErrnoError(errno, "{}", path);
  entry.exists = true;
  entry.directory = S_ISDIR(status.st_mode);
  if (S_ISLNK(status.st_mode)) {
    std::array<char, PATH_MAX> text;
    const ssize_t length = readlinkat(fd, "", text.data(), text.size());
    if (length <= 0) return ErrnoError(length < 0 ? errno : ENOENT, "{}", path);
    entry.link.assign(text.data(), static_cast<std::size_t>(length));
  }
  return entry;
}

absl::StatusOr<RootView::Found> RootView::Resolve(std::string_view path) const {
  std::vector<std::string> names = NamesBackwards(path);
  std::string at;  // "" is "/"
  bool missing = false;
  int links = 0;
  Entry last;
  last.exists = last.directory = true;
  while (!names.empty()) {
    const std::string name = std::move(names.back());
    names.pop_back();
    if (name == "..") {
      at.erase(std::min(at.rfind('/'), at.size()));
      missing = false;
      BROOD_ASSIGN_OR_RETURN(last, Look(at.empty() ? "/" : at));
      continue;
    }
    const std::string next = fmt::format("{}/{}", at, name);
    if (missing) {  // below what is still to be made
      at = next;
      continue;
    }
    if (!last.directory) return ErrnoError(ENOTDIR, "{}", at);
    BROOD_ASSIGN_OR_RETURN(Entry entry, Look(next));
    if (!entry.link.empty()) {
      if (++links > kMostLinks) return ErrnoError(ELOOP, "{}", next);
      if (entry.link.starts_with('/')) at.clear();
      for (std::string& each : NamesBackwards(entry.link)) {
        names.push_back(std::move(each));
      }
      BROOD_ASSIGN_OR_RETURN(last, Look(at.empty() ? "/" : at));
      continue;
    }
    missing = !entry.exists;
    at = next;
    last = std::move(entry);
  }
  Found found;
  found.path = at.empty() ? "/" : at;
  found.exists = last.exists && !missing;
  found.directory = last.directory;
  found.ours = last.ours;
  return found;
}

}  // namespace brood
