// SPDX-License-Identifier: Apache-2.0

// What one user may keep in the kernel's keyrings, which answers EDQUOT: no quota of a disk.
#include <linux/keyctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pool/stress/unit.h"
#include "spawn/base/status.h"

namespace brood::limits {
namespace {

constexpr const char* kMaxKeys = "kernel.keys.maxkeys";
constexpr const char* kMaxBytes = "kernel.keys.maxbytes";

long AddKey(const std::string& name, const std::string& payload) {
  return syscall(SYS_add_key, "user", name.c_str(), payload.data(), payload.size(),
                 KEY_SPEC_PROCESS_KEYRING);
}

// As a user whom nobody is, with one key, and the keyring that it lies in.
class Keys : public Pusher {
 public:
  absl::StatusOr<std::uint64_t> Confine(std::optional<std::uint64_t>) override {
    BROOD_RETURN_IF_ERROR(BecomeNobodyElse());
    if (AddKey("first", "0") < 0) {
      return Error(absl::StatusCode::kUnavailable, "adding a first key: {}", ErrnoText(errno));
    }
    BROOD_RETURN_IF_ERROR(Prepare());
    const LimitReading now = Reading(limit_);
    if (!now.maximum || !now.used) {
      return Error(absl::StatusCode::kUnavailable, "/proc/key-users does not tell");
    }
    before_ = *now.used;
    return *now.maximum;
  }
  std::uint64_t ThereBefore() const override { return before_; }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kAddKey, .error = error};
  }
  void Release() override {
    syscall(SYS_keyctl, KEYCTL_CLEAR, KEY_SPEC_PROCESS_KEYRING, 0L, 0L, 0L);
  }
  bool Drained() override {
    // Unlinked keys are counted until the kernel's collector of keys has been by.
    const std::optional<std::uint64_t> used = Counted();
    return used && *used < before_;
  }
  std::optional<std::uint64_t> Counted() override { return Reading(limit_).used; }

 protected:
  explicit Keys(std::string_view limit) : limit_(limit) {}

  // What else is to be there before.
  virtual absl::Status Prepare() { return absl::OkStatus(); }
  // One of kernel.keys.*, as it stands for this user.
  static LimitReading Reading(std::string_view limit) {
    for (LimitReading& one : LimitsBehind({.call = LimitedCall::kAddKey, .error = EDQUOT})) {
      if (one.name == limit) return std::move(one);
    }
    return {};
  }

 private:
  std::string_view limit_;
  std::uint64_t before_ = 0;
};

class KeyCount : public Keys {
 public:
  KeyCount() : Keys(kMaxKeys) {}
  int AddOne() override { return AddKey(std::to_string(count_++), "0") < 0 ? errno : 0; }

 private:
  std::uint64_t count_ = 0;
};

// A key of its own for each byte would run out of keys first: one after another grows, byte by
// byte, to the page that an update may have.
class KeyBytes : public Keys {
 public:
  KeyBytes() : Keys(kMaxBytes) {}
  int AddOne() override {
    if (payload_.size() == kMostPayload && at_ + 1 < keys_.size()) {
      ++at_;
      payload_.resize(1);
    }
    payload_.push_back('0');
    return syscall(SYS_keyctl, KEYCTL_UPDATE, keys_[at_], payload_.data(), payload_.size(), 0L) < 0
               ? errno
               : 0;
  }

 private:
  static constexpr std::size_t kMostPayload = 4096;

  absl::Status Prepare() override {
    const LimitReading keys = Reading(kMaxKeys);
    const std::uint64_t most = keys.maximum.value_or(0);
    const std::uint64_t wanted = std::min(Reading(kMaxBytes).maximum.value_or(0) / kMostPayload + 1,
                                          most - std::min(keys.used.value_or(0), most));
    for (std::uint64_t i = 0; i < wanted; ++i) {
      const long key = AddKey(std::to_string(i), payload_);
      if (key < 0) {
        return Error(absl::StatusCode::kUnavailable, "adding {} keys: {}", wanted,
                     ErrnoText(errno));
      }
      keys_.push_back(key);
    }
    return absl::OkStatus();
  }
  std::vector<long> keys_;
  std::size_t at_ = 0;
  std::string payload_ = "0";
};

}  // namespace

std::vector<Unit> KeyUnits() {
  return {{.name = "keys",
           .limit = kMaxKeys,
           .call = "add_key",
           .what = "keys of one user",
           .where = "/proc/sys/kernel/keys/maxkeys",
           .cost = {.bytes = 500},
           .make = [] { return std::make_unique<KeyCount>(); }},
          {.name = "key-bytes",
           .limit = kMaxBytes,
           .call = "keyctl(KEYCTL_UPDATE)",
           .what = "bytes in keys of one user",
           .where = "/proc/sys/kernel/keys/maxbytes",
           .make = [] { return std::make_unique<KeyBytes>(); }}};
}

}  // namespace brood::limits
