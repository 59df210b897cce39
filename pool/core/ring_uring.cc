// SPDX-License-Identifier: Apache-2.0

#include "pool/core/ring.h"

#include <liburing.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "spawn/base/status.h"

namespace brood {
namespace {

// A free entry; submits what is queued when there is none.
absl::StatusOr<io_uring_sqe*> Entry(io_uring* ring) {
  io_uring_sqe* entry = io_uring_get_sqe(ring);
  if (entry == nullptr) {
    if (const int result = io_uring_submit(ring); result < 0) {
      return ErrnoError(-result, "submitting to io_uring");
    }
    entry = io_uring_get_sqe(ring);
  }
  if (entry == nullptr) {
    return Error(absl::StatusCode::kResourceExhausted, "io_uring takes no more entries");
  }
  return entry;
}

class UringRing : public Ring {
 public:
  explicit UringRing(std::unique_ptr<io_uring> ring) : ring_(std::move(ring)) {
    // CloseElsewhere needs threads, but a flood of closes shall not take every processor.
    unsigned threads[2] = {1, 1};
    (void)io_uring_register_iowq_max_workers(ring_.get(), threads);
  }
  ~UringRing() override { io_uring_queue_exit(ring_.get()); }
  UringRing(const UringRing&) = delete;
  UringRing& operator=(const UringRing&) = delete;

  absl::Status Await(int fd, short events, Token token) override;
  void Cancel(Token token) override;
  void CloseElsewhere(int fd) override;
  std::uint64_t closing() const override { return unnamed_; }
  absl::Status FinishCloses() override;
  absl::Status Wait(std::optional<std::chrono::nanoseconds> timeout,
                    std::vector<Completion>& out) override;
  unsigned fds_of_a_wait() const override { return 0; }

 private:
  std::unique_ptr<io_uring> ring_;
  std::uint64_t unnamed_ = 0;  // closes and cancels under way, for whose end nobody asks
};

absl::Status UringRing::Await(int fd, short events, Token token) {
  BROOD_ASSIGN_OR_RETURN(io_uring_sqe * entry, Entry(ring_.get()));
  io_uring_prep_poll_add(entry, fd, static_cast<unsigned>(events));
  io_uring_sqe_set_data64(entry, token.Pack());
  return absl::OkStatus();
}

void UringRing::Cancel(Token token) {
  const absl::StatusOr<io_uring_sqe*> entry = Entry(ring_.get());
  if (!entry.ok()) return;
  io_uring_prep_poll_remove(*entry, token.Pack());
  io_uring_sqe_set_data64(*entry, Token{}.Pack());
  ++unnamed_;
}

void UringRing::CloseElsewhere(int fd) {
  const absl::StatusOr<io_uring_sqe*> entry = Entry(ring_.get());
  if (!entry.ok()) {
    close(fd);
    return;
  }
  io_uring_prep_close(*entry, fd);
  io_uring_sqe_set_flags(*entry, IOSQE_ASYNC);
  io_uring_sqe_set_data64(*entry, Token{.index = static_cast<std::uint32_t>(fd) + 1}.Pack());
  ++unnamed_;
}

absl::Status UringRing::FinishCloses() {
  std::vector<Completion> ignored;
  while (unnamed_ > 0) BROOD_RETURN_IF_ERROR(Wait(std::nullopt, ignored));
  return absl::OkStatus();
}

absl::Status UringRing::Wait(std::optional<std::chrono::nanoseconds> timeout,
                             std::vector<Completion>& out) {
  io_uring_cqe* first = nullptr;
  int result = 0;
  if (!timeout) {
    result = io_uring_submit_and_wait(ring_.get(), 1);
  } else if (timeout->count() <= 0) {
    result = io_uring_submit(ring_.get());
  } else {
    constexpr std::int64_t kSecond = 1'000'000'000;
    __kernel_timespec wait{timeout->count() / kSecond, timeout->count() % kSecond};
    result = io_uring_submit_and_wait_timeout(ring_.get(), &first, 1, &wait, nullptr);
  }
  // EBUSY: completions have to be taken before more can be submitted, which is what follows.
  if (result < 0 && result != -ETIME && result != -EINTR && result != -EBUSY && result != -EAGAIN) {
    return ErrnoError(-result, "waiting on io_uring");
  }
  unsigned head = 0;
  unsigned seen = 0;
  io_uring_cqe* entry = nullptr;
  io_uring_for_each_cqe(ring_.get(), head, entry) {
    ++seen;
    const Token token = Token::Unpack(entry->user_data);
    if (token.source == Source::kNothing) {
      --unnamed_;
      // Where no process can be added the kernel has no thread for it and gives it up.
      if (token.index != 0 && entry->res == -ECANCELED) close(static_cast<int>(token.index - 1));
    } else {
      out.push_back({token, entry->res});
    }
  }
  io_uring_cq_advance(ring_.get(), seen);
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Ring> Ring::WithUring(unsigned entries, int& error) {
  auto ring = std::make_unique<io_uring>();
  io_uring_params params{};
  params.flags = IORING_SETUP_CLAMP;
  if (const int result = io_uring_queue_init_params(entries, ring.get(), &params); result < 0) {
    error = -result;
    return nullptr;
  }
  auto out = std::make_unique<UringRing>(std::move(ring));
  if ((params.features & IORING_FEAT_EXT_ARG) != 0) return out;
  error = ENOSYS;
  return nullptr;
}

}  // namespace brood
