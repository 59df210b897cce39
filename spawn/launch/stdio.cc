// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/stdio.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <utility>

#include "spawn/base/status.h"
#include "spawn/host/id_ranges.h"

namespace brood {
namespace {

constexpr std::array<std::string_view, 3> kStreamNames = {"stdin", "stdout", "stderr"};

// Standard input, output or error that can be handed on. A program started without one has some
// other file there, which is close-on-exec when it is ours.
bool IsInheritable(int fd) {
  const int flags = fcntl(fd, F_GETFD);
  return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

// The filesystem that pipes without a name are in.
dev_t PipeDevice() {
  static const dev_t device = [] {
    int ends[2];
    struct stat status = {};
    if (pipe2(ends, O_CLOEXEC) != 0) return dev_t{0};
    fstat(ends[0], &status);
    close(ends[0]);
    close(ends[1]);
    return status.st_dev;
  }();
  return device;
}

// What a regular file may be without being one: a namespace, a process, or something that the
// kernel keeps without a file (an io_uring, a BPF program...).
bool IsKernelObject(int fd) {
  constexpr long kNamespaces = 0x6e736673;  // NSFS_MAGIC
  constexpr long kProcesses = 0x50494446;   // PID_FS_MAGIC, 6.9
  struct statfs status = {};
  if (fstatfs(fd, &status) != 0) return false;
  const long type = static_cast<long>(status.f_type);
  return type == kNamespaces || type == kProcesses || type == ANON_INODE_FS_MAGIC;
}

// Through /proc/self/fd a file is opened anew, with the rights of who opens it.
bool GainsNothing(int fd, const struct stat& status) {
  constexpr unsigned kMemory = 1;  // /dev/null and its kin
  const bool null = S_ISCHR(status.st_mode) && major(status.st_rdev) == kMemory &&
                    (minor(status.st_rdev) == 3 || minor(status.st_rdev) == 5);
  return S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode) || null || isatty(fd) == 1;
}

absl::Status Check(std::string_view name, int fd, const struct stat& status, bool foreign) {
  const auto refuse = [&](std::string_view what) {
    return InvalidError(
        "{} is {}: through it the command would reach what is outside its isolate; give it "
        "a file, a pipe, a socket or a terminal",
        name, what);
  };
  const mode_t type = status.st_mode & S_IFMT;
  if (type == S_IFIFO || type == S_IFSOCK) return absl::OkStatus();
  if (type == S_IFDIR) return refuse("a directory");
  const int flags = fcntl(fd, F_GETFL);
  if (flags >= 0 && (flags & O_PATH) != 0) return refuse("a path that is not open (O_PATH)");
  const bool file = type == S_IFREG || type == S_IFCHR || type == S_IFBLK;
  if (!file || (type == S_IFREG && IsKernelObject(fd))) {
    return refuse("a kernel object, neither a file nor a stream");
  }
  if (foreign && !GainsNothing(fd, status)) {
    return Error(absl::StatusCode::kPermissionDenied,
                 "{} is a file of another user than the launcher, and this command runs with the "
                 "host's ids, with which it could reopen the file: give it a pipe (cat FILE | ...)",
                 name);
  }
  return absl::OkStatus();
}

// What is opened anew through /dev/stdin is checked against its owner: a pipe, which nobody but who
// holds it can get at, becomes everybody's, and the worker's.
void GivePipe(int fd, const struct stat& status, const std::optional<HostIds>& worker) {
  constexpr mode_t kEverybodys = 0666;
  if ((status.st_mode & 0777) != kEverybodys) (void)fchmod(fd, kEverybodys);
  if (worker && status.st_uid != worker->uid) (void)!fchown(fd, worker->uid, worker->gid);
}

absl::Status HandOver(PreparedStdio& stdio, std::size_t i, int null_fd,
                      const std::optional<HostIds>& worker, bool foreign) {
  const int fd = stdio.fds[i];
  if (fd < 0 || fd == null_fd) return absl::OkStatus();
  struct stat status = {};
  if (fstat(fd, &status) != 0) return ErrnoError(errno, "looking at {}", kStreamNames[i]);
  BROOD_RETURN_IF_ERROR(Check(kStreamNames[i], fd, status, foreign));
  if (S_ISFIFO(status.st_mode) && status.st_dev == PipeDevice()) GivePipe(fd, status, worker);
  if (worker && S_ISCHR(status.st_mode) && isatty(fd) == 1) {
    stdio.terminals.Lend(fd, {status.st_uid, status.st_gid}, *worker);
  }
  return absl::OkStatus();
}

}  // namespace

LentTerminals& LentTerminals::operator=(LentTerminals&& other) noexcept {
  if (this == &other) return *this;
  GiveBack();
  for (std::size_t i = 0; i < loans_.size(); ++i) {
    loans_[i] = std::exchange(other.loans_[i], std::nullopt);
  }
  return *this;
}

void LentTerminals::Lend(int fd, const HostIds& owner, const HostIds& to) {
  if (owner.uid == to.uid) return;
  Loan loan{UniqueFd(fcntl(fd, F_DUPFD_CLOEXEC, 0)), owner, to};
  // A launcher that was killed gave nothing back.
  if (owner.uid >= kFirstRangeId && owner.uid < kEndRangeId) {
    constexpr gid_t kTty = 5;
    loan.owner = {getuid(), kTty};
  }
  if (!loan.terminal.valid() || fchown(fd, to.uid, owner.gid) != 0) return;
  for (std::optional<Loan>& place : loans_) {
    if (place) continue;
    place = std::move(loan);
    return;
  }
}

void LentTerminals::GiveBack() {
  for (std::optional<Loan>& loan : loans_) {
    if (!loan) continue;
    struct stat status = {};
    if (fstat(loan->terminal.get(), &status) == 0 && status.st_uid == loan->borrower.uid) {
      (void)!fchown(loan->terminal.get(), loan->owner.uid, loan->owner.gid);
    }
    loan.reset();
  }
}

absl::StatusOr<PreparedStdio> PrepareStdio(const Stdio& stdio, int null_fd,
                                           const std::optional<HostIds>& worker,
                                           bool has_host_ids) {
  PreparedStdio out;
  out.fds.fill(null_fd);
  switch (stdio.mode) {
    case StdioMode::kNull:
      break;
    case StdioMode::kFds:
    case StdioMode::kEndpoint:
      out.fds = stdio.fds;
      break;
    case StdioMode::kTerminal:
      out.fds[0] = stdio.fds[0];
      break;
    case StdioMode::kInherit:
      for (int fd = 0; fd < 3; ++fd) {
        if (IsInheritable(fd)) out.fds[static_cast<std::size_t>(fd)] = fd;
      }
      break;
    case StdioMode::kCapture:
      for (std::size_t i = 0; i < 2; ++i) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe for output");
        out.outputs[i].reset(ends[0]);
        out.writers[i].reset(ends[1]);
        fcntl(ends[0], F_SETFL, O_NONBLOCK);
        out.fds[i + 1] = ends[1];
      }
      break;
  }
  for (std::size_t i = 0; i < 3; ++i) {
    BROOD_RETURN_IF_ERROR(HandOver(out, i, null_fd, worker, stdio.foreign && has_host_ids));
  }
  return out;
}

}  // namespace brood
