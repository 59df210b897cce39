// SPDX-License-Identifier: Apache-2.0

// One caller of a function: a connection that is kept, and one request after the other.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"

namespace brood::bench {

// As little as an HTTP client can do: what is measured is the other side. Not thread-safe.
class HttpCaller {
 public:
  // To 127.0.0.1.
  static absl::StatusOr<HttpCaller> Connect(std::uint16_t port);

  struct Answer {
    int status = 0;
    std::string path;  // Brood-Path: how the isolate came to be
    std::string body;
  };
  // Sends `request`, whole, and waits for its answer; kUnavailable when the connection ends.
  absl::StatusOr<Answer> Call(std::string_view request);

 private:
  explicit HttpCaller(UniqueFd socket) : socket_(std::move(socket)) {}
  absl::Status Read();

  UniqueFd socket_;
  std::string input_;
};

// A request to a function, with `body`.
std::string PostRequest(std::string_view function, std::string_view body);
std::string GetRequest(std::string_view path);

}  // namespace brood::bench
