// SPDX-License-Identifier: Apache-2.0

// Waiting for descriptors: typed waits in, typed completions out.
//
// Everything the pool waits for is a descriptor that becomes readable (a worker's pidfd, an output
// pipe, a zygote's eventfd), so one operation is enough. A token carries what kind of thing it was,
// which one, and its generation: a completion that comes late, for something that has since been
// given another use, can be told apart by it.
//
// ring_uring.cc does it with io_uring and liburing. ring_epoll.cc does the same where io_uring is
// refused, as in most containers; it takes more system calls and one more descriptor for each wait.
#pragma once

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/outcome.h"

namespace brood {

enum class Source : std::uint8_t {
  kNothing,       // never handed out
  kSubmission,    // another thread queued a request
  kZygoteNotice,  // a worker of this zygote parked or failed
  kZygoteDeath,
  kWorkerExit,
  kWorkerOut,
  kWorkerErr,
  kWatch,  // a descriptor of the program around us
};

struct Token {
  Source source = Source::kNothing;
  std::uint32_t generation = 0;  // 24 bits count
  std::uint32_t index = 0;

  std::uint64_t Pack() const {
    return std::uint64_t{static_cast<std::uint8_t>(source)} << 56 |
           std::uint64_t{generation & 0xffffff} << 32 | index;
  }
  static Token Unpack(std::uint64_t data) {
    return {static_cast<Source>(data >> 56), static_cast<std::uint32_t>(data >> 32 & 0xffffff),
            static_cast<std::uint32_t>(data)};
  }
};

struct Completion {
  Token token;
  int result = 0;  // poll events, or -errno
};

// Not thread-safe: made, used and destroyed by one thread, since a ring may bind to the thread that
// made it. Close-on-exec.
class Ring {
 public:
  struct Options {
    unsigned entries = 1024;  // of io_uring's queues; more waits than that are fine
    int refusal = 0;          // a test switch: io_uring is taken to be refused with this errno
  };
  // With io_uring where it is available (Linux 5.11, for a timeout when waiting), else with epoll;
  // fallback() then tells why. An error if that fails too.
  static absl::StatusOr<std::unique_ptr<Ring>> Create(const Options& options);
  static absl::StatusOr<std::unique_ptr<Ring>> Create() { return Create(Options{}); }

  virtual ~Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  // Completes once with `token` when `fd` is ready for any of `events` (poll(2)), or hung up. The
  // ring holds the open file, so closing `fd` earlier does not end the wait; its completion is then
  // a stale one.
  virtual absl::Status Await(int fd, short events, Token token) = 0;
  absl::Status AwaitReadable(int fd, Token token) { return Await(fd, POLLIN, token); }
  // The same for a wait that is just over, between its completion and the next Wait: `fd` is the
  // open file that it was for. Needs no new descriptor, so it cannot fail for lack of one.
  virtual absl::Status AwaitAgain(int fd, short events, Token token) {
    return Await(fd, events, token);
  }
  // Ends a wait, so that the ring lets go of the open file. The wait completes, with -ECANCELED.
  virtual void Cancel(Token token) = 0;
  // Closes `fd` in another thread, for descriptors whose last close is slow. If that cannot be
  // done, it is closed at once.
  virtual void CloseElsewhere(int fd) = 0;
  // Descriptors it has not closed yet, among a few operations of other kinds.
  virtual std::uint64_t closing() const = 0;
  // Waits until all of them are closed. A ring that is destroyed before may drop the rest unclosed.
  virtual absl::Status FinishCloses() = 0;

  // Hands over what was queued and sleeps until something completes or `timeout` has passed;
  // appends the completions to `out`. No timeout: for as long as it takes. Zero: does not sleep. It
  // may wake for nothing.
  virtual absl::Status Wait(std::optional<std::chrono::nanoseconds> timeout,
                            std::vector<Completion>& out) = 0;

  // Descriptors that each wait costs while it lasts.
  virtual unsigned fds_of_a_wait() const = 0;
  // Why this is not io_uring.
  const std::optional<Fallback>& fallback() const { return fallback_; }

 protected:
  Ring() = default;

 private:
  // Null where there is no io_uring that will do, with `error` the errno.
  static std::unique_ptr<Ring> WithUring(unsigned entries, int& error);
  static absl::StatusOr<std::unique_ptr<Ring>> WithEpoll();

  std::optional<Fallback> fallback_;
};

}  // namespace brood
