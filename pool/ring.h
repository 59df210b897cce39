// The one owner of io_uring: typed waits in, typed completions out.
//
// Everything the pool waits for is a descriptor that becomes readable (a worker's pidfd, an output
// pipe, a zygote's eventfd), so one operation is enough. A token carries what kind of thing it was,
// which one, and its generation: a completion that comes late, for something that has since been
// given another use, is told apart by it.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

struct io_uring;

namespace brood {

enum class Source : std::uint8_t {
  kNothing,       // nobody waits for it; never handed out
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
};

struct Completion {
  Token token;
  int result = 0;  // poll events, or -errno
};

// Not thread-safe: made, used and destroyed by one thread, since a ring may bind to the thread that
// made it. Close-on-exec. Needs Linux 5.11 (a timeout for waiting).
class Ring {
 public:
  // kUnimplemented or kPermissionDenied where io_uring is missing or forbidden, with what to do.
  static absl::StatusOr<Ring> Create(unsigned entries = 1024);
  Ring(Ring&&) noexcept;
  Ring& operator=(Ring&&) noexcept;
  ~Ring();

  // Completes once with `token` when `fd` is readable or hung up. The ring holds the open file, so
  // closing `fd` earlier does not end the wait; its completion is then a stale one.
  absl::Status AwaitReadable(int fd, Token token);
  // The same for any poll(2) events.
  absl::Status Await(int fd, short events, Token token);
  // Ends a wait, so that the ring lets go of the open file. The wait completes, with -ECANCELED.
  void Cancel(Token token);
  // Closes `fd` in a thread of the kernel's, for descriptors whose last close is slow. When the
  // ring takes nothing more it is closed at once.
  void CloseElsewhere(int fd);
  // Descriptors it has not closed yet, among a few operations of other kinds.
  std::uint64_t closing() const { return unnamed_; }
  // Waits until all of them are closed. A ring that is destroyed before drops the rest unclosed.
  absl::Status FinishCloses();

  // Hands over what was queued and sleeps until something completes or `timeout` has passed;
  // appends the completions to `out`. No timeout: for as long as it takes. Zero: does not sleep.
  absl::Status Wait(std::optional<std::chrono::nanoseconds> timeout, std::vector<Completion>& out);

 private:
  Ring() = default;
  struct Closer {
    void operator()(io_uring* ring) const;
  };
  std::unique_ptr<io_uring, Closer> ring_;
  std::uint64_t unnamed_ = 0;  // closes and cancels under way, for whose end nobody asks
};

}  // namespace brood
