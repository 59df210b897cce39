// SPDX-License-Identifier: Apache-2.0

// A call's body on its way to the stdin of its worker, or of one more when the first saw nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "pool/core/watched.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Only in the pool's thread.
class CallInput {
 public:
  static constexpr std::size_t kMax = 64U << 10;  // bytes that wait for the pipe

  explicit CallInput(Pool& pool) : watch_(pool) {}

  void Add(std::string_view bytes);
  void End() { ended_ = true; }                          // all has been added
  bool full() const { return waiting_.size() >= kMax; }  // no more is to be added for now
  std::uint64_t bytes() const { return bytes_; }         // that have been added

  // Where it goes; not blocking. `keep`: what is written may have to be written again. `writable`
  // is called whenever the pipe takes more of what waits, and has to call Write.
  void Open(UniqueFd pipe, bool keep, std::function<void()> writable);
  // As much as the pipe takes, whose end is closed behind the last byte.
  void Write();
  // Nobody reads any more: what waits is dropped.
  void Close();

  // Whether something was written, and all of it, up to kMax, still lay there: `unread` bytes.
  bool Untouched(std::size_t unread) const;
  // What was written waits again, before all else, for another pipe.
  void Rewind();

 private:
  void Watch(bool on);

  std::string waiting_;
  std::string kept_;  // what was written, as long as it can be told to be untouched
  bool keep_ = false;
  bool ended_ = false;
  std::uint64_t bytes_ = 0;
  UniqueFd pipe_;
  Watched watch_;
  std::function<void()> writable_;
};

}  // namespace brood
