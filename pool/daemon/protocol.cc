// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/protocol.h"

#include "spawn/base/status.h"

namespace brood {

void FieldWriter::operator()(const std::string& text) {
  (*this)(static_cast<std::uint32_t>(text.size()));
  out_.append(text);
}

void FieldWriter::operator()(const std::vector<std::string>& list) {
  (*this)(static_cast<std::uint32_t>(list.size()));
  for (const std::string& text : list) (*this)(text);
}

bool FieldReader::Take(std::size_t count, std::string_view& bytes) {
  ok_ = ok_ && count <= rest_.size();
  if (!ok_) return false;
  bytes = rest_.substr(0, count);
  rest_.remove_prefix(count);
  return true;
}

void FieldReader::operator()(std::string& text) {
  std::uint32_t length = 0;
  (*this)(length);
  if (std::string_view bytes; Take(length, bytes)) text.assign(bytes);
}

void FieldReader::operator()(std::vector<std::string>& list) {
  std::uint32_t count = 0;
  (*this)(count);
  // Each string takes four bytes at least, whatever `count` says.
  if (count > rest_.size() / sizeof(std::uint32_t)) ok_ = false;
  for (std::uint32_t i = 0; ok_ && i < count; ++i) (*this)(list.emplace_back());
}

void FieldReader::operator()(std::vector<IoLimit>& list) {
  constexpr std::size_t kLeast = 2 * sizeof(std::uint32_t) + 4;  // two numbers, four absent ones
  std::uint32_t count = 0;
  (*this)(count);
  if (count > rest_.size() / kLeast) ok_ = false;
  for (std::uint32_t i = 0; ok_ && i < count; ++i) ListFields(*this, list.emplace_back());
}

absl::Status CheckHeader(const MessageHeader& header) {
  if (header.magic != kProtocolMagic) {
    return InvalidError("the data on the socket is not a brood message");
  }
  if (header.version != kProtocolVersion) {
    return Error(absl::StatusCode::kFailedPrecondition,
                 "the other end speaks version {} of brood's protocol, this one version {}: client "
                 "and daemon must be of the same release; restart the daemon after an update",
                 header.version, kProtocolVersion);
  }
  if (header.length > kMaxBody) {
    return InvalidError("a message of {} bytes is too long: {} are allowed", header.length,
                        kMaxBody);
  }
  if (header.fds > kMaxMessageFds) {
    return InvalidError("{} descriptors with one message are too many: {} are allowed", header.fds,
                        kMaxMessageFds);
  }
  return absl::OkStatus();
}

}  // namespace brood
