// SPDX-License-Identifier: Apache-2.0

#include "spawn/plan/dev_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "spawn/base/kernel.h"
#include "spawn/base/status.h"
#include "spawn/child/syscalls.h"

namespace brood {
namespace {

absl::StatusOr<UniqueFd> MakeTmpfs() {
  const auto done = [](sys::Result result, std::string_view doing) {
    if (result >= 0) return absl::OkStatus();
    return ErrnoError(static_cast<int>(-result), "{} a tmpfs for a worker's /dev", doing);
  };
  const sys::Result opened = sys::Fsopen("tmpfs", kernel::kFsopenCloexec);
  BROOD_RETURN_IF_ERROR(done(opened, "opening"));
  const UniqueFd context(static_cast<int>(opened));
  const auto set = [&](const char* key, const char* value) {
    return sys::Fsconfig(context.get(), kernel::kFsconfigSetString, key, value);
  };
  sys::Result made = set("source", "tmpfs");
  if (made >= 0) made = set("size", "64k");
  if (made >= 0) made = set("mode", "0755");
  if (made >= 0) made = sys::Fsconfig(context.get(), kernel::kFsconfigCreate);
  if (made >= 0) {
    made = sys::Fsmount(context.get(), kernel::kFsmountCloexec,
                        kernel::kMountAttrNosuid | kernel::kMountAttrNoexec);
  }
  BROOD_RETURN_IF_ERROR(done(made, "making"));
  return UniqueFd(static_cast<int>(made));
}

// The modes are set once more, as the umask may have taken of them.
bool Make(int dev, const DevEntry& entry) {
  const char* const name = entry.name.c_str();
  switch (entry.kind) {
    case DevEntry::Kind::kNode:
      return mknodat(dev, name, S_IFCHR | 0666, entry.device) == 0 &&
             fchmodat(dev, name, 0666, 0) == 0;
    case DevEntry::Kind::kLink:
      return symlinkat(entry.text.c_str(), dev, name) == 0;
    case DevEntry::Kind::kDirectory:
      return (mkdirat(dev, name, 0755) == 0 || errno == EEXIST) &&
             fchmodat(dev, name, 0755, 0) == 0;
    case DevEntry::Kind::kFile: {
      const UniqueFd file(openat(dev, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
      if (!file.valid()) return errno == EEXIST && entry.text.empty();  // to be mounted over
      return fchmod(file.get(), 0644) == 0 &&
             write(file.get(), entry.text.data(), entry.text.size()) ==
                 static_cast<ssize_t>(entry.text.size());
    }
  }
  return false;
}

absl::StatusOr<UniqueFd> MakeTree(const std::vector<DevEntry>& entries) {
  BROOD_ASSIGN_OR_RETURN(UniqueFd dev, MakeTmpfs());
  for (const DevEntry& entry : entries) {
    if (!Make(dev.get(), entry))
      return ErrnoError(errno, "making /dev/{} for a worker", entry.name);
  }
  kernel::MountAttr attributes;
  attributes.attr_set = kernel::kMountAttrRdonly;
  const sys::Result closed = sys::MountSetattr(dev.get(), "", kernel::kAtEmptyPath, attributes);
  if (closed < 0) {
    return ErrnoError(static_cast<int>(-closed), "making a worker's /dev read-only");
  }
  return dev;
}

}  // namespace

absl::StatusOr<UniqueFd> DevTree::Open() {
  const std::lock_guard lock(mutex_);
  // The only one that is asked for need not be copied, nor its last reference waited for.
  if (!shared_ || !std::exchange(opened_, true)) return MakeTree(entries_);
  if (!kept_.valid()) {
    BROOD_ASSIGN_OR_RETURN(kept_, MakeTree(entries_));
  }
  const sys::Result copy = sys::OpenTree(
      kept_.get(), "", kernel::kOpenTreeClone | kernel::kOpenTreeCloexec | kernel::kAtEmptyPath);
  if (copy < 0) return std::move(kept_);
  return UniqueFd(static_cast<int>(copy));
}

}  // namespace brood
