// SPDX-License-Identifier: Apache-2.0

// user.max_*_namespaces, and how deep user and pid namespaces go.
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <limits>
#include <vector>

#include "pool/stress/unit.h"
#include "spawn/base/kernel.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/spec.h"

namespace brood::limits {
namespace {

// unshare takes a process into these at once; into the others only its children come.
bool Moves(NamespaceKind kind) {
  return kind != NamespaceKind::kUser && kind != NamespaceKind::kPid;
}

std::string LimitOf(NamespaceKind kind) {
  return fmt::format("user.max_{}_namespaces", NamespaceProcName(kind));
}

// The file that sets it, each user namespace's own.
std::string FileOf(NamespaceKind kind) {
  return fmt::format("/proc/sys/user/max_{}_namespaces", NamespaceProcName(kind));
}

// Holds namespaces by descriptors: no process has to stay in them.
class Namespaces : public Pusher {
 public:
  explicit Namespaces(NamespaceKind kind) : kind_(kind) {}

  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    const std::optional<std::uint64_t> machine = FirstNumberOf(file_);
    BROOD_RETURN_IF_ERROR(EnterUserNamespace());
    // Counts are hierarchical, so the machine's own holds in here where nothing lower is set.
    if (!wanted) return machine.value_or(kNoMaximum);
    maximum_ = *wanted;
    BROOD_RETURN_IF_ERROR(SetMaximum(*wanted));
    return *wanted;
  }
  int AddOne() override {
    UniqueFd held;
    const int error = MakeOne(held);
    if (error == 0) held_.push_back(std::move(held));
    return error;
  }
  LimitQuestion Question(int error, std::uint64_t count) const override {
    LimitQuestion question{.call = Moves(kind_) ? LimitedCall::kUnshare : LimitedCall::kClone,
                           .error = error,
                           .namespaces = NamespaceFlag(kind_),
                           .made = count};
    question.depth = 1;  // all lie beside each other
    return question;
  }
  void Release() override {
    // The one that this process itself moved into is let go with the next that it makes.
    held_.clear();
  }
  bool Drained() override {
    // The kernel shows no count; but where one is allowed, one more can be made only when all
    // others are gone. The one of this process itself may be left, where unshare has moved it.
    const std::uint64_t own = Moves(kind_) ? 1 : 0;
    if (!SetMaximum(1 + own).ok()) return false;
    UniqueFd one;
    return MakeOne(one) == 0;
  }
  std::optional<std::uint64_t> Counted() override {
    // Under a maximum that is filled by those there are, dead ones among them, one more is refused,
    // which costs next to nothing; under the first that is not, it is made.
    UniqueFd one;
    std::uint64_t guess = 1;
    for (; SetMaximum(guess).ok(); guess += 1 + guess / 20) {
      const int error = MakeOne(one);
      if (error == ENOSPC) continue;
      const bool put_back = SetMaximum(maximum_).ok();
      return error == 0 && put_back ? std::optional(guess - 1) : std::nullopt;
    }
    return std::nullopt;
  }

 private:
  absl::Status SetMaximum(std::uint64_t maximum) const {
    const int error = WriteFile(file_, std::to_string(maximum));
    return error == 0 ? absl::OkStatus() : ErrnoError(error, "writing {} to {}", maximum, file_);
  }
  int MakeOne(UniqueFd& held) const {
    const std::uint64_t flag = NamespaceFlag(kind_);
    int child = 0;
    if (Moves(kind_)) {
      if (unshare(static_cast<int>(flag)) != 0) return errno;
    } else {
      child = ForkIdle(flag);
      if (child < 0) return -child;
    }
    const std::string file = NamespacePath(child > 0 ? child : getpid(), kind_);
    held.reset(open(file.c_str(), O_RDONLY | O_CLOEXEC));
    const int error = held.valid() ? 0 : errno;
    if (child > 0) {
      std::vector<int> children = {child};
      EndChildren(children);
    }
    return error;
  }

  NamespaceKind kind_;
  std::string file_ = FileOf(kind_);
  std::uint64_t maximum_ = std::numeric_limits<std::int32_t>::max();  // INT_MAX (ucount.c)
  std::vector<UniqueFd> held_;
};

// This process goes one user namespace deeper each time.
class UserDepth : public Pusher {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t>) override {
    return kernel::kUserNamespaceDepth;
  }
  int AddOne() override {
    const int error = unshare(CLONE_NEWUSER) == 0 ? 0 : errno;
    if (error != 0) return error;
    // An unmapped user or group may make no namespace inside.
    return MapOwnIds(uid_, uid_, gid_, gid_);
  }
  LimitQuestion Question(int error, std::uint64_t count) const override {
    return {.call = LimitedCall::kUnshare,
            .error = error,
            .namespaces = kernel::kCloneNewUser,
            .made = count == 0 ? 0 : 1,  // in the innermost: at most the one that failed
            .depth = count};
  }
  void Release() override {}
  bool Drained() override { return true; }  // they go with this process, which has to leave them

 private:
  uid_t uid_ = geteuid();
  gid_t gid_ = getegid();
};

// A process in a pid namespace makes the next one inside its own, and so on: only the innermost
// reads orders.
class PidDepth : public Pusher {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t>) override {
    BROOD_RETURN_IF_ERROR(EnterUserNamespace());
    const auto limits = LimitsBehind({.call = LimitedCall::kUnshare,
                                      .error = ENOSPC,
                                      .namespaces = kernel::kCloneNewPid,
                                      .made = 0});
    for (const LimitReading& limit : limits) {
      if (limit.name == "pid namespace depth") before_ = limit.used.value_or(0);
    }
    std::array<int, 2> orders{};
    std::array<int, 2> reports{};
    if (pipe2(orders.data(), O_CLOEXEC) != 0 || pipe2(reports.data(), O_CLOEXEC) != 0) {
      return ErrnoError(errno, "making pipes");
    }
    orders_.reset(orders[1]);
    reports_.reset(reports[0]);
    const pid_t pid = fork();
    if (pid < 0) return ErrnoError(errno, "forking");
    if (pid == 0) ParentPath(orders[0], reports[1]);
    close(orders[0]);
    close(reports[1]);
    outermost_.push_back(pid);
    return kernel::kPidNamespaceDepth;
  }
  std::uint64_t ThereBefore() const override { return before_; }
  int AddOne() override {
    const char go = 1;
    int error = 0;
    if (write(orders_.get(), &go, 1) != 1) return errno;
    if (read(reports_.get(), &error, sizeof(error)) != sizeof(error)) return EIO;
    return error;
  }
  LimitQuestion Question(int error, std::uint64_t count) const override {
    return {.call = LimitedCall::kClone,
            .error = error,
            .namespaces = kernel::kCloneNewPid,
            .made = count,
            .depth = before_ + count};
  }
  void Release() override { EndChildren(outermost_); }
  bool Drained() override {
    // Reaping the outermost waits for all inside: each init waits for those in its namespace.
    return outermost_.empty();
  }

 private:
  [[noreturn]] static void ParentPath(int orders, int reports) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (char byte = 0; read(orders, &byte, 1) == 1;) {
      const long pid = syscall(SYS_clone, kernel::kCloneNewPid | SIGCHLD, 0L, 0L, 0L, 0L);
      const int error = pid < 0 ? errno : 0;
      if (pid == 0) prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (pid <= 0 && write(reports, &error, sizeof(error)) != sizeof(error)) _exit(1);
      if (pid > 0) {
        for (;;) pause();
      }
    }
    _exit(0);
  }

  std::uint64_t before_ = 0;
  UniqueFd orders_;
  UniqueFd reports_;
  std::vector<int> outermost_;
};

}  // namespace

std::vector<Unit> NamespaceUnits() {
  struct One {
    NamespaceKind kind;
    const char* call;
    std::uint64_t bytes;  // of kernel memory, about
  };
  static constexpr One kAll[] = {{NamespaceKind::kUser, "clone(CLONE_NEWUSER)", 16'000},
                                 {NamespaceKind::kMount, "unshare(CLONE_NEWNS)", 10'000},
                                 {NamespaceKind::kPid, "clone(CLONE_NEWPID)", 10'000},
                                 {NamespaceKind::kNet, "unshare(CLONE_NEWNET)", 180'000},
                                 {NamespaceKind::kIpc, "unshare(CLONE_NEWIPC)", 16'000},
                                 {NamespaceKind::kUts, "unshare(CLONE_NEWUTS)", 1'000},
                                 {NamespaceKind::kCgroup, "unshare(CLONE_NEWCGROUP)", 1'000},
                                 {NamespaceKind::kTime, "unshare(CLONE_NEWTIME)", 5'000}};
  std::vector<Unit> units;
  for (const One& one : kAll) {
    units.push_back({.name = fmt::format("{}-namespaces", NamespaceName(one.kind)),
                     .limit = LimitOf(one.kind),
                     .call = one.call,
                     .what = "namespaces that one user has in one user namespace",
                     .where = FileOf(one.kind),
                     .cost = {.descriptors = 1, .bytes = one.bytes},
                     .make = [kind = one.kind] { return std::make_unique<Namespaces>(kind); }});
  }
  units.push_back({.name = "user-depth",
                   .limit = "user namespace depth",
                   .call = "unshare(CLONE_NEWUSER)",
                   .what = "user namespaces inside each other",
                   .make = [] { return std::make_unique<UserDepth>(); }});
  units.push_back({.name = "pid-depth",
                   .limit = "pid namespace depth",
                   .call = "clone(CLONE_NEWPID)",
                   .what = "pid namespaces inside each other",
                   .cost = {.processes = 1},
                   .make = [] { return std::make_unique<PidDepth>(); }});
  return units;
}

}  // namespace brood::limits
