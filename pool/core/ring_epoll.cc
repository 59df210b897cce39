// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "pool/core/ring.h"
#include "pool/core/start_thread.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"

namespace brood {
namespace {

// Closes descriptors in a thread of its own, which starts with the first of them.
class ThreadedCloser {
 public:
  absl::Status Open() {
    wake_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wake_.valid()) return ErrnoError(errno, "making an eventfd");
    return absl::OkStatus();
  }
  ~ThreadedCloser() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void Close(int fd) {
    if (!thread_.joinable() && !StartThread(thread_, [this] { Loop(); }).ok()) {
      close(fd);
      return;
    }
    {
      const std::lock_guard lock(mutex_);
      queued_.push_back(fd);
      ++pending_;
    }
    changed_.notify_all();
  }
  std::uint64_t pending() const {
    const std::lock_guard lock(mutex_);
    return pending_;
  }
  void Finish() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return pending_ == 0; });
  }
  // Readable when some have been closed since it was last read.
  int wake_fd() const { return wake_.get(); }

 private:
  void Loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stop_ || !queued_.empty(); });
      if (queued_.empty()) return;
      const std::vector<int> fds = std::exchange(queued_, {});
      lock.unlock();
      for (const int fd : fds) close(fd);
      lock.lock();
      pending_ -= fds.size();
      changed_.notify_all();
      const std::uint64_t one = 1;
      (void)!write(wake_.get(), &one, sizeof(one));
    }
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> queued_;
  std::uint64_t pending_ = 0;  // queued, or being closed
  bool stop_ = false;
  UniqueFd wake_;
  std::thread thread_;  // last: it uses the others
};

// Each wait has a descriptor of its own, a duplicate: it holds the open file as io_uring does,
// epoll takes the same file as often as it is waited for, and closing it is all there is to ending
// a wait.
class EpollRing : public Ring {
 public:
  absl::Status Open() {
    epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_.valid()) return ErrnoError(errno, "making an epoll instance");
    BROOD_RETURN_IF_ERROR(closer_.Open());
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = closer_.wake_fd();
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, closer_.wake_fd(), &event) != 0) {
      return ErrnoError(errno, "watching an eventfd");
    }
    return absl::OkStatus();
  }

  absl::Status Await(int fd, short events, Token token) override {
    UniqueFd own(fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!own.valid()) return ErrnoError(errno, "duplicating a descriptor to wait for");
    epoll_event event{};
    event.events = static_cast<unsigned short>(events) | EPOLLONESHOT;
    event.data.fd = own.get();
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, own.get(), &event) != 0) {
      if (errno != EPERM) return ErrnoError(errno, "waiting for a descriptor");
      // Of a kind that is always ready, as a regular file.
      ready_.push_back({token, events & (POLLIN | POLLOUT)});
      return absl::OkStatus();
    }
    const int number = own.get();
    by_token_.emplace(token.Pack(), number);
    waits_.emplace(number, Waiting{std::move(own), token});
    return absl::OkStatus();
  }

  absl::Status AwaitAgain(int fd, short events, Token token) override {
    const auto spent = std::find_if(spent_.begin(), spent_.end(), [&](int own) {
      return waits_.at(own).token.Pack() == token.Pack();
    });
    if (spent == spent_.end()) return Await(fd, events, token);
    epoll_event event{};
    event.events = static_cast<unsigned short>(events) | EPOLLONESHOT;
    event.data.fd = *spent;
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, *spent, &event) != 0) {
      return ErrnoError(errno, "waiting for a descriptor again");
    }
    by_token_.emplace(token.Pack(), *spent);
    spent_.erase(spent);
    return absl::OkStatus();
  }

  void Cancel(Token token) override {
    const auto found = by_token_.find(token.Pack());
    if (found == by_token_.end()) return;
    Forget(found->second);
    by_token_.erase(found);
    ready_.push_back({token, -ECANCELED});
  }

  void CloseElsewhere(int fd) override { closer_.Close(fd); }
  std::uint64_t closing() const override { return closer_.pending(); }
  absl::Status FinishCloses() override {
    closer_.Finish();
    return absl::OkStatus();
  }

  absl::Status Wait(std::optional<std::chrono::nanoseconds> timeout,
                    std::vector<Completion>& out) override {
    for (const int own : spent_) Forget(own);
    spent_.clear();
    if (!ready_.empty()) timeout = std::chrono::nanoseconds(0);
    out.insert(out.end(), ready_.begin(), ready_.end());
    ready_.clear();
    // epoll_wait counts in milliseconds, which is long against an exec.
    if (timeout && timeout->count() > 0) {
      constexpr std::int64_t kSecond = 1'000'000'000;
      const timespec left{timeout->count() / kSecond, timeout->count() % kSecond};
      pollfd any{epoll_.get(), POLLIN, 0};
      if (ppoll(&any, 1, &left, nullptr) < 0 && errno != EINTR) {
        return ErrnoError(errno, "waiting on epoll");
      }
    }
    std::array<epoll_event, 256> events;
    const int count =
        epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout ? 0 : -1);
    if (count < 0 && errno != EINTR) return ErrnoError(errno, "waiting on epoll");
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.fd == closer_.wake_fd()) {
        std::uint64_t closed = 0;
        (void)!read(closer_.wake_fd(), &closed, sizeof(closed));
        continue;
      }
      const auto wait = waits_.find(event.data.fd);
      if (wait == waits_.end()) continue;
      out.push_back({wait->second.token, static_cast<int>(event.events)});
      const auto [first, last] = by_token_.equal_range(wait->second.token.Pack());
      for (auto at = first; at != last; ++at) {
        if (at->second != event.data.fd) continue;
        by_token_.erase(at);
        break;
      }
      spent_.push_back(event.data.fd);
    }
    return absl::OkStatus();
  }

  unsigned fds_of_a_wait() const override { return 1; }

 private:
  struct Waiting {
    UniqueFd fd;
    Token token;
  };

  // Closing alone does not do: epoll goes by the open file, which other descriptors keep.
  void Forget(int own) {
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, own, nullptr);
    waits_.erase(own);
  }

  UniqueFd epoll_;
  ThreadedCloser closer_;
  std::unordered_map<int, Waiting> waits_;  // by their own descriptors
  std::vector<int> spent_;                  // those that are over, kept for AwaitAgain until Wait
  std::unordered_multimap<std::uint64_t, int> by_token_;
  std::vector<Completion> ready_;  // without the kernel's help
};

}  // namespace

absl::StatusOr<std::unique_ptr<Ring>> Ring::WithEpoll() {
  auto ring = std::make_unique<EpollRing>();
  BROOD_RETURN_IF_ERROR(ring->Open());
  return ring;
}

}  // namespace brood
