// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_id.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <chrono>

namespace brood {

std::string RandomDigits() {
  std::array<std::uint8_t, 16> bytes{};
  while (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
  }
  bytes[6] = static_cast<std::uint8_t>(0x40 | (bytes[6] & 0x0f));  // a UUID's version 4, and its
  bytes[8] = static_cast<std::uint8_t>(0x80 | (bytes[8] & 0x3f));  // variant (RFC 9562, 5.4)
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::string NewCallId() {
  const std::string digits = RandomDigits();
  return fmt::format("{}-{}-{}-{}-{}", digits.substr(0, 8), digits.substr(8, 4),
                     digits.substr(12, 4), digits.substr(16, 4), digits.substr(20));
}

std::int64_t EpochMs() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

}  // namespace brood
