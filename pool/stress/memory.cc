// SPDX-License-Identifier: Apache-2.0

// Memory: address space of a process, what a ring may pin, and all there is.
#include <liburing.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "pool/stress/unit.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"

namespace brood::limits {
namespace {

constexpr std::uint64_t kMiB = 1U << 20;

// Bytes behind a key of /proc/self/status.
std::uint64_t StatusBytes(std::string_view key) {
  return NumberBehind(TextOf("/proc/self/status"), key).value_or(0) * 1024;
}

absl::Status SetSoft(__rlimit_resource resource, std::uint64_t maximum) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0) return ErrnoError(errno, "reading an rlimit");
  limit.rlim_cur = maximum;
  if (setrlimit(resource, &limit) == 0) return absl::OkStatus();
  return Error(absl::StatusCode::kUnavailable, "setting an rlimit to {}: {}", maximum,
               ErrnoText(errno));
}

// Maps one MiB after another; `fill` touches it, too.
class Maps : public Pusher {
 public:
  explicit Maps(bool fill) : fill_(fill) {}

  int AddOne() override {
    void* const at =
        mmap(nullptr, kMiB, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | (fill_ ? MAP_POPULATE : MAP_NORESERVE), -1, 0);
    if (at == MAP_FAILED) return errno;
    held_.push_back(at);
    return 0;
  }
  void Release() override {
    for (void* const at : held_) munmap(at, kMiB);
    held_.clear();
  }

 private:
  bool fill_;
  std::vector<void*> held_;
};

class AddressSpace : public Maps {
 public:
  AddressSpace() : Maps(false) {}

  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    rlimit limit{};
    if (getrlimit(RLIMIT_AS, &limit) != 0) return ErrnoError(errno, "reading RLIMIT_AS");
    before_ = StatusBytes("VmSize:");
    if (!wanted) {
      maximum_ = limit.rlim_cur;
      return limit.rlim_cur == RLIM_INFINITY ? kNoMaximum : (maximum_ - before_) / kMiB;
    }
    // Almost one MiB more than wanted, for what this program itself maps meanwhile.
    maximum_ = before_ + *wanted * kMiB + kMiB - 4096;
    BROOD_RETURN_IF_ERROR(SetSoft(RLIMIT_AS, maximum_));
    return *wanted;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    // Looking takes memory.
    SetSoft(RLIMIT_AS, RLIM_INFINITY).IgnoreError();
    LimitQuestion question{.call = LimitedCall::kMap, .error = error};
    question.rlimit = maximum_;
    question.wanted = kMiB;
    return question;
  }
  bool Drained() override { return StatusBytes("VmSize:") < before_ + kMiB; }

 private:
  std::uint64_t before_ = 0;
  std::uint64_t maximum_ = 0;
};

class AllMemory : public Maps {
 public:
  AllMemory() : Maps(true) {}

  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    if (wanted) {
      return Error(
          absl::StatusCode::kUnavailable,
          "memory has no smaller place than the whole machine; --host uses it up to the reserve");
    }
    // Whoever is short of memory takes this process first.
    WriteFile("/proc/self/oom_score_adj", "1000");
    before_ = MeminfoBytes("MemAvailable:");
    return kNoMaximum;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kMap, .error = error};
  }
  bool Drained() override {
    // Others use memory, too: what is back within a hundredth is back.
    return MeminfoBytes("MemAvailable:") + before_ / 100 > before_;
  }

 private:
  std::uint64_t before_ = 0;
};

// Buffers registered with a ring are pinned, and counted against the user who made the ring.
class RingMemory : public Pusher {
 public:
  ~RingMemory() override {
    if (ring_.ring_fd > 0) io_uring_queue_exit(&ring_);
  }
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t> wanted) override {
    rlimit limit{};
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return ErrnoError(errno, "reading RLIMIT_MEMLOCK");
    // Pages are counted by user, and CAP_IPC_LOCK is exempt.
    BROOD_RETURN_IF_ERROR(BecomeNobodyElse());
    page_ = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    maximum_ = wanted ? *wanted * page_ : limit.rlim_cur;
    BROOD_RETURN_IF_ERROR(MakeRing());
    const std::uint64_t pages =
        maximum_ == RLIM_INFINITY ? kMostBuffers : std::min(maximum_ / page_ + 1, kMostBuffers);
    if (const int error = io_uring_register_buffers_sparse(&ring_, static_cast<unsigned>(pages));
        error != 0) {
      return Error(absl::StatusCode::kUnavailable, "registering {} empty buffers: {}", pages,
                   ErrnoText(-error));
    }
    memory_ = static_cast<char*>(
        mmap(nullptr, pages * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory_ == MAP_FAILED) return ErrnoError(errno, "mapping {} pages", pages);
    // Not as one huge page, which is pinned, and counted, as a whole.
    madvise(memory_, pages * page_, MADV_NOHUGEPAGE);
    return maximum_ == RLIM_INFINITY ? kMostBuffers : maximum_ / page_;
  }
  std::uint64_t ThereBefore() const override { return before_; }
  int AddOne() override {
    iovec page{memory_ + count_ * page_, page_};
    const __u64 tag = 0;
    const int done =
        io_uring_register_buffers_update_tag(&ring_, static_cast<unsigned>(count_), &page, &tag, 1);
    if (done < 0) return -done;
    ++count_;
    return 0;
  }
  LimitQuestion Question(int error, std::uint64_t) const override {
    LimitQuestion question{.call = LimitedCall::kRing, .error = error};
    question.rlimit = maximum_;
    question.wanted = page_ * (1 + before_);
    return question;
  }
  void Release() override { io_uring_unregister_buffers(&ring_); }
  bool Drained() override { return StatusBytes("VmPin:") == 0; }

 private:
  static constexpr std::uint64_t kMostBuffers = 1U << 14;  // IORING_MAX_REG_BUFFERS
  static constexpr std::uint64_t kMostOwn = 16;

  // The ring's own memory counts on some kernels (up to 5.11, and again from 6.14), and no file
  // tells how much: the least limit that lets one be made is it.
  absl::Status MakeRing() {
    int error = 0;
    for (before_ = 0; before_ <= kMostOwn; ++before_) {
      BROOD_RETURN_IF_ERROR(SetSoft(RLIMIT_MEMLOCK, before_ * page_));
      error = -io_uring_queue_init(1, &ring_, 0);
      if (error != ENOMEM) break;
    }
    BROOD_RETURN_IF_ERROR(SetSoft(RLIMIT_MEMLOCK, maximum_));
    if (error == 0) return absl::OkStatus();
    return Error(absl::StatusCode::kUnavailable, "io_uring_setup: {}", ErrnoText(error));
  }

  io_uring ring_{};
  char* memory_ = nullptr;
  std::uint64_t page_ = 0;
  std::uint64_t maximum_ = 0;
  std::uint64_t before_ = 0;  // pages of the ring itself
  std::uint64_t count_ = 0;
};

}  // namespace

std::vector<Unit> MemoryUnits() {
  return {{.name = "address-space",
           .limit = "RLIMIT_AS",
           .call = "mmap",
           .what = "MiB of address space of a process",
           .where = "setrlimit(RLIMIT_AS)",
           .make = [] { return std::make_unique<AddressSpace>(); }},
          {.name = "ring-memory",
           .limit = "RLIMIT_MEMLOCK",
           .call = "io_uring_register(IORING_REGISTER_BUFFERS_UPDATE)",
           .what = "pages that one user's rings have pinned",
           .where = "setrlimit(RLIMIT_MEMLOCK)",
           .cost = {.bytes = 4096},
           .make = [] { return std::make_unique<RingMemory>(); }},
          {.name = "memory",
           .limit = "memory",
           .call = "mmap(MAP_POPULATE)",
           .what = "MiB of memory",
           .where = "the machine's size",
           .cost = {.bytes = kMiB},
           .make = [] { return std::make_unique<AllMemory>(); }}};
}

}  // namespace brood::limits
