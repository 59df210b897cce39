// SPDX-License-Identifier: Apache-2.0

// What it costs to hear of the ends of many children: they all end at once, and each has to be
// reaped.
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <memory>
#include <utility>

#include "bench/harness/lab.h"
#include "bench/measures/bare_clone.h"
#include "bench/measures/measures.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/machine.h"

namespace brood::bench {
namespace {

constexpr int kOpWaitid = 50;  // IORING_OP_WAITID, Linux 6.7; not in the liburing of 2022

enum class Wait { kSigchld, kWaitid, kEpoll, kRingPoll, kRingWaitid, kAutoreap };

struct WaitName {
  Wait way;
  const char* name;
  bool pidfds;
};
constexpr std::array kWaits = {WaitName{Wait::kSigchld, "sigchld", false},
                               WaitName{Wait::kWaitid, "waitid", false},
                               WaitName{Wait::kEpoll, "epoll", true},
                               WaitName{Wait::kRingPoll, "ring-poll", true},
                               WaitName{Wait::kRingWaitid, "ring-waitid", true},
                               WaitName{Wait::kAutoreap, "autoreap", true}};

// Children that all wait for the same end of file. They share memory and descriptors with their
// parent, each on a small stack of its own, so that their own ends cost as little as may be.
class Children {
 public:
  static absl::StatusOr<std::unique_ptr<Children>> Make(int count, bool with_pidfds, Wait way) {
    std::unique_ptr<Children> all(new Children(count));
    all->autoreap_ = way == Wait::kAutoreap;
    all->stacks_ = mmap(nullptr, all->StackBytes(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all->stacks_ == MAP_FAILED) return ErrnoError(errno, "mapping {} stacks", count);
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
    all->hold_.reset(ends[0]);
    all->release_.reset(ends[1]);
    all->child_.hold_fd = ends[0];
    all->child_.parent = getpid();
    for (int i = 0; i < count; ++i) {
      int pidfd = -1;
      kernel::CloneArgs args;
      args.flags = kernel::kCloneVm | CLONE_FILES | CLONE_FS;
      if (with_pidfds) {
        args.flags |= kernel::kClonePidfd;
        args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
      }
      if (all->autoreap_) args.flags |= kernel::kCloneAutoreap;
      args.exit_signal = way == Wait::kSigchld ? static_cast<std::uint64_t>(SIGCHLD) : 0;
      args.stack = reinterpret_cast<std::uint64_t>(all->stacks_) +
                   static_cast<std::uint64_t>(i) * kStackBytes;
      args.stack_size = kStackBytes;
      const sys::Result pid = sys::Clone3(args, BareChildMain, &all->child_);
      if (pid < 0) return ErrnoError(static_cast<int>(-pid), "clone3 of child {} of {}", i, count);
      ++all->living_;
      if (with_pidfds) all->pidfds_.emplace_back(pidfd);
    }
    return all;
  }

  // Those that are left end, too.
  ~Children() {
    Release();
    // Those that are reaped by the kernel stand on the stacks until their pidfds tell of their end.
    for (std::size_t i = 0; autoreap_ && i < pidfds_.size(); ++i) {
      pollfd ended{pidfds_[i].get(), POLLIN, 0};
      poll(&ended, 1, -1);
    }
    while (!autoreap_ && living_ > 0 && ReapAny().ok()) {
    }
    if (stacks_ != nullptr) munmap(stacks_, StackBytes());
  }
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  void Release() { release_.reset(); }
  int living() const { return living_; }
  const std::vector<UniqueFd>& pidfds() const { return pidfds_; }

  absl::Status ReapAny() {
    siginfo_t info{};
    if (waitid(P_ALL, 0, &info, WEXITED | __WALL) != 0) return ErrnoError(errno, "waitid");
    return Count(info);
  }
  // All that have ended already.
  absl::Status ReapEnded() {
    while (living_ > 0) {
      siginfo_t info{};
      if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | __WALL) != 0) {
        return ErrnoError(errno, "waitid");
      }
      if (info.si_pid == 0) break;
      BROOD_RETURN_IF_ERROR(Count(info));
    }
    return absl::OkStatus();
  }
  // Reaped by the kernel, its exit code is kept with its pidfd.
  absl::Status AskPidfd(std::size_t index) {
    kernel::PidfdInfo told;
    told.mask = kernel::kPidfdInfoExit;
    if (ioctl(pidfds_[index].get(), kernel::kPidfdGetInfo, &told) != 0) {
      return ErrnoError(errno, "PIDFD_GET_INFO");
    }
    siginfo_t info{};
    info.si_code = WIFEXITED(told.exit_code) ? CLD_EXITED : CLD_KILLED;
    info.si_status = WIFEXITED(told.exit_code) ? WEXITSTATUS(told.exit_code) : told.exit_code;
    return Count(info);
  }
  absl::Status ReapByPidfd(std::size_t index) {
    if (autoreap_) return AskPidfd(index);
    siginfo_t info{};
    if (waitid(P_PIDFD, static_cast<id_t>(pidfds_[index].get()), &info, WEXITED | __WALL) != 0) {
      return ErrnoError(errno, "waitid on a pidfd");
    }
    return Count(info);
  }
  absl::Status Count(const siginfo_t& info) {
    --living_;
    if (info.si_code == CLD_EXITED && info.si_status == 0) return absl::OkStatus();
    return Error(absl::StatusCode::kFailedPrecondition, "a child ended with status {}",
                 info.si_status);
  }

 private:
  static constexpr std::uint64_t kStackBytes = 4096;

  explicit Children(int count) : count_(count) {}
  std::uint64_t StackBytes() const { return static_cast<std::uint64_t>(count_) * kStackBytes; }

  int count_;
  int living_ = 0;
  bool autoreap_ = false;
  void* stacks_ = nullptr;
  BareChild child_;
  UniqueFd hold_;
  UniqueFd release_;
  std::vector<UniqueFd> pidfds_;
};

// What is set up before the children end is not measured: it is done while they run.
class Waiter {
 public:
  virtual ~Waiter() = default;
  virtual absl::Status Prepare(Children& children) = 0;
  virtual absl::Status WaitForAll(Children& children) = 0;
};

class SigchldWaiter : public Waiter {
 public:
  absl::Status Prepare(Children&) override {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals_, nullptr);
    return absl::OkStatus();
  }
  // Signals that come together are one: each may stand for any number of children.
  absl::Status WaitForAll(Children& children) override {
    while (children.living() > 0) {
      if (sigwaitinfo(&signals_, nullptr) < 0 && errno != EINTR) {
        return ErrnoError(errno, "sigwaitinfo");
      }
      BROOD_RETURN_IF_ERROR(children.ReapEnded());
    }
    return absl::OkStatus();
  }

 private:
  sigset_t signals_{};
};

class WaitidWaiter : public Waiter {
 public:
  absl::Status Prepare(Children&) override { return absl::OkStatus(); }
  absl::Status WaitForAll(Children& children) override {
    while (children.living() > 0) BROOD_RETURN_IF_ERROR(children.ReapAny());
    return absl::OkStatus();
  }
};

class EpollWaiter : public Waiter {
 public:
  absl::Status Prepare(Children& children) override {
    epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_.valid()) return ErrnoError(errno, "epoll_create1");
    for (std::size_t i = 0; i < children.pidfds().size(); ++i) {
      epoll_event event{};
      event.events = EPOLLIN | EPOLLONESHOT;
      event.data.u64 = i;
      if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, children.pidfds()[i].get(), &event) != 0) {
        return ErrnoError(errno, "epoll_ctl");
      }
    }
    return absl::OkStatus();
  }
  absl::Status WaitForAll(Children& children) override {
    std::array<epoll_event, 256> events{};
    while (children.living() > 0) {
      const int count = epoll_wait(epoll_.get(), events.data(), events.size(), -1);
      if (count < 0 && errno != EINTR) return ErrnoError(errno, "epoll_wait");
      for (int i = 0; i < count; ++i) {
        BROOD_RETURN_IF_ERROR(children.ReapByPidfd(events[static_cast<std::size_t>(i)].data.u64));
      }
    }
    return absl::OkStatus();
  }

 private:
  UniqueFd epoll_;
};

// Asks the ring for each child's end; `reaps` tells whether the ring reaps it, too.
class RingWaiter : public Waiter {
 public:
  explicit RingWaiter(bool reaps) : reaps_(reaps) {}
  ~RingWaiter() override {
    if (open_) io_uring_queue_exit(&ring_);
  }
  absl::Status Prepare(Children& children) override {
    const std::size_t count = children.pidfds().size();
    io_uring_params params{};
    params.flags = IORING_SETUP_CQSIZE;
    params.cq_entries = static_cast<unsigned>(std::max<std::size_t>(512, 2 * count));
    if (const int error = io_uring_queue_init_params(256, &ring_, &params); error < 0) {
      return ErrnoError(-error, "io_uring_setup");
    }
    open_ = true;
    infos_.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) {
        io_uring_submit(&ring_);
        sqe = io_uring_get_sqe(&ring_);
      }
      const int pidfd = children.pidfds()[i].get();
      if (reaps_) {
        // waitid(P_PIDFD, pidfd, &info, WEXITED | __WALL), as io_uring_prep_waitid lays it out.
        io_uring_prep_rw(kOpWaitid, sqe, pidfd, nullptr, P_PIDFD, 0);
        sqe->file_index = WEXITED | __WALL;
        sqe->addr2 = reinterpret_cast<std::uint64_t>(&infos_[i]);
      } else {
        io_uring_prep_poll_add(sqe, pidfd, POLLIN);
      }
      sqe->user_data = i;
    }
    const int submitted = io_uring_submit(&ring_);
    return submitted < 0 ? ErrnoError(-submitted, "io_uring_enter") : absl::OkStatus();
  }
  absl::Status WaitForAll(Children& children) override {
    while (children.living() > 0) {
      io_uring_cqe* cqe = nullptr;
      if (const int error = io_uring_wait_cqe(&ring_, &cqe); error < 0) {
        if (error == -EINTR) continue;
        return ErrnoError(-error, "io_uring_enter");
      }
      unsigned head = 0;
      unsigned seen = 0;
      absl::Status status;
      io_uring_for_each_cqe(&ring_, head, cqe) {
        ++seen;
        if (cqe->res < 0) {
          status = ErrnoError(-cqe->res, "an operation of the ring");
        } else if (reaps_) {
          status.Update(children.Count(infos_[cqe->user_data]));
        } else {
          status.Update(children.ReapByPidfd(cqe->user_data));
        }
      }
      io_uring_cq_advance(&ring_, seen);
      BROOD_RETURN_IF_ERROR(status);
    }
    return absl::OkStatus();
  }

 private:
  bool reaps_;
  bool open_ = false;
  io_uring ring_{};
  std::vector<siginfo_t> infos_;
};

std::unique_ptr<Waiter> MakeWaiter(Wait way) {
  switch (way) {
    case Wait::kSigchld:
      return std::make_unique<SigchldWaiter>();
    case Wait::kWaitid:
      return std::make_unique<WaitidWaiter>();
    case Wait::kEpoll:
      return std::make_unique<EpollWaiter>();
    case Wait::kRingPoll:
    case Wait::kAutoreap:
      return std::make_unique<RingWaiter>(false);
    case Wait::kRingWaitid:
      return std::make_unique<RingWaiter>(true);
  }
  return nullptr;
}

absl::Status RaiseDescriptors() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  return absl::OkStatus();
}

absl::Status WaitOnce(Wait way, bool pidfds, int count, Series* series) {
  const std::unique_ptr<Waiter> waiter = MakeWaiter(way);
  BROOD_ASSIGN_OR_RETURN(const std::unique_ptr<Children> children,
                         Children::Make(count, pidfds, way));
  BROOD_RETURN_IF_ERROR(waiter->Prepare(*children));
  const std::int64_t start = NowNs();
  children->Release();
  BROOD_RETURN_IF_ERROR(waiter->WaitForAll(*children));
  const auto us = static_cast<double>(NowNs() - start) / 1e3;
  if (series != nullptr) {
    (*series)[kLatency].push_back(us / count);
    (*series)["all_us"].push_back(us);
  }
  return absl::OkStatus();
}

// Why the ring cannot reap; empty when it can.
std::string ObstacleToRing(bool reaps) {
  io_uring_probe* const probe = io_uring_get_probe();
  if (probe == nullptr) return "io_uring is not to be had here";
  const bool knows = io_uring_opcode_supported(probe, kOpWaitid) != 0;
  io_uring_free_probe(probe);
  return reaps && !knows ? "this kernel's io_uring has no waitid (Linux 6.7)" : "";
}

}  // namespace

std::vector<Row> WaitRows(const Setup&) {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  const bool autoreap = CloneKnows(kernel::kClonePidfd | kernel::kCloneAutoreap);
  std::vector<Row> rows;
  for (const WaitName& each : kWaits) {
    for (const int count : {1, 10, 100, 1000, 10000, 20000}) {
      Row row = LabRow(fmt::format("wait/{}/children={}", each.name, count), RaiseDescriptors,
                       [each, count](int warm_ups, int iterations, Series& series) -> absl::Status {
                         for (int i = -warm_ups; i < iterations; ++i) {
                           BROOD_RETURN_IF_ERROR(
                               WaitOnce(each.way, each.pidfds, count, i < 0 ? nullptr : &series));
                         }
                         return absl::OkStatus();
                       });
      row.parameters = {{"children", count}};
      row.iterations = count >= 1000 ? 1 : count >= 100 ? 5 : 20;
      row.warm_ups = count >= 1000 ? 0 : 2;
      row.every = count >= 10000 ? 3 : 1;
      if (each.way != Wait::kWaitid) row.floor = fmt::format("wait/waitid/children={}", count);
      if (each.pidfds && files.rlim_max < static_cast<rlim_t>(count) + 64) {
        row.unavailable =
            fmt::format("needs as many descriptors, and RLIMIT_NOFILE is {}", files.rlim_max);
      }
      if (each.way == Wait::kAutoreap && !autoreap) {
        row.unavailable = "this kernel does not know CLONE_AUTOREAP (it came with Linux 7.1)";
      } else if (each.way >= Wait::kRingPoll) {
        if (std::string why = ObstacleToRing(each.way == Wait::kRingWaitid); !why.empty()) {
          row.unavailable = std::move(why);
        }
      }
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace brood::bench
