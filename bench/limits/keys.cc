// What one user may keep in the kernel's keyrings, which answers EDQUOT: no quota of a disk.
#include <linux/keyctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "bench/limits/unit.h"
#include "spawn/status.h"

namespace brood::limits {
namespace {

// One user's line of /proc/key-users: "UID: usage nkeys/ninstantiated keys/max bytes/max".
struct KeyUser {
  std::uint64_t keys = 0;
  std::uint64_t maximum_keys = 0;
  std::uint64_t bytes = 0;
  std::uint64_t maximum_bytes = 0;
};

std::optional<KeyUser> ReadKeyUser() {
  std::ifstream file("/proc/key-users");
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string uid;
    std::string skipped;
    char slash = 0;
    KeyUser user;
    if (words >> uid >> skipped >> skipped && uid == fmt::format("{}:", geteuid()) &&
        words >> user.keys >> slash >> user.maximum_keys >> user.bytes >> slash >>
            user.maximum_bytes) {
      return user;
    }
  }
  return std::nullopt;
}

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
    std::optional<KeyUser> user = ReadKeyUser();
    if (user) BROOD_RETURN_IF_ERROR(Prepare(*user));
    user = ReadKeyUser();
    if (!user) return Error(absl::StatusCode::kUnavailable, "/proc/key-users does not tell");
    before_ = *user;
    return Maximum(*user);
  }
  std::uint64_t ThereBefore() const override { return Used(before_); }
  LimitQuestion Question(int error, std::uint64_t) const override {
    return {.call = LimitedCall::kAddKey, .error = error};
  }
  void Release() override {
    syscall(SYS_keyctl, KEYCTL_CLEAR, KEY_SPEC_PROCESS_KEYRING, 0L, 0L, 0L);
  }
  bool Drained() override {
    // Unlinked keys are counted until the kernel's collector of keys has been by.
    const std::optional<std::uint64_t> used = Counted();
    return used && *used < Used(before_);
  }
  std::optional<std::uint64_t> Counted() override {
    const std::optional<KeyUser> user = ReadKeyUser();
    return user ? std::optional(Used(*user)) : std::nullopt;
  }

 protected:
  virtual std::uint64_t Used(const KeyUser& user) const = 0;
  virtual std::uint64_t Maximum(const KeyUser& user) const = 0;
  // What else is to be there before.
  virtual absl::Status Prepare(const KeyUser&) { return absl::OkStatus(); }

 private:
  KeyUser before_;
};

class KeyCount : public Keys {
 public:
  int AddOne() override { return AddKey(std::to_string(count_++), "0") < 0 ? errno : 0; }

 private:
  std::uint64_t Used(const KeyUser& user) const override { return user.keys; }
  std::uint64_t Maximum(const KeyUser& user) const override { return user.maximum_keys; }

  std::uint64_t count_ = 0;
};

// A key of its own for each byte would run out of keys first: one after another grows, byte by
// byte, to the page that an update may have.
class KeyBytes : public Keys {
 public:
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

  absl::Status Prepare(const KeyUser& user) override {
    const std::uint64_t wanted =
        std::min(user.maximum_bytes / kMostPayload + 1,
                 user.maximum_keys - std::min(user.keys, user.maximum_keys));
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
  std::uint64_t Used(const KeyUser& user) const override { return user.bytes; }
  std::uint64_t Maximum(const KeyUser& user) const override { return user.maximum_bytes; }

  std::vector<long> keys_;
  std::size_t at_ = 0;
  std::string payload_ = "0";
};

}  // namespace

std::vector<Unit> KeyUnits() {
  return {{.name = "keys",
           .limit = "kernel.keys.maxkeys",
           .call = "add_key",
           .what = "keys of one user",
           .where = "/proc/sys/kernel/keys/maxkeys",
           .cost = {.bytes = 500},
           .make = [] { return std::make_unique<KeyCount>(); }},
          {.name = "key-bytes",
           .limit = "kernel.keys.maxbytes",
           .call = "keyctl(KEYCTL_UPDATE)",
           .what = "bytes in keys of one user",
           .where = "/proc/sys/kernel/keys/maxbytes",
           .make = [] { return std::make_unique<KeyBytes>(); }}};
}

}  // namespace brood::limits
