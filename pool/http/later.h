// SPDX-License-Identifier: Apache-2.0

// A request whose answer comes from elsewhere, later: from another thread, or a disk.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "pool/http/connection.h"

namespace brood {

// Only in the pool's thread.
class LaterAnswer : public Exchange, public std::enable_shared_from_this<LaterAnswer> {
 public:
  static constexpr std::size_t kMaxBody = 8192;  // bytes
  using Begin = std::function<void(std::shared_ptr<LaterAnswer> self, std::string body)>;

  // `begin` is called once the body is there whole; null: nothing of it is of interest.
  explicit LaterAnswer(HttpConnection& connection, Begin begin = nullptr)
      : connection_(&connection), begin_(std::move(begin)) {}

  // The connection, once; null when the caller has gone.
  HttpConnection* Take() { return std::exchange(connection_, nullptr); }

  void OnBody(std::string_view bytes) override {
    if (!begin_) return;
    body_ += bytes;
    if (body_.size() <= kMaxBody) return;
    begin_ = nullptr;
    if (HttpConnection* const to = Take()) {
      to->Answer(413, {{"Content-Type", "text/plain"}}, "the body is too long\n");
    }
  }
  void OnBodyEnd() override {
    if (const auto begin = std::exchange(begin_, nullptr)) {
      begin(shared_from_this(), std::move(body_));
    }
  }
  bool full() const override { return false; }
  void OnDrained() override {}
  void OnGone() override {
    connection_ = nullptr;
    begin_ = nullptr;
  }

 private:
  HttpConnection* connection_;
  Begin begin_;
  std::string body_;
};

}  // namespace brood
