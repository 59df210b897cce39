// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/lambda_call.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

namespace brood {

LambdaCall::LambdaCall(Pool& pool, std::weak_ptr<FunctionWorker> worker, UniqueFd input,
                       UniqueFd output)
    : worker_(std::move(worker)),
      input_(std::move(input)),
      output_(std::move(output)),
      input_watch_(pool),
      output_watch_(pool) {}

LambdaCall::~LambdaCall() {
  WatchInput(false);
  WatchOutput(false);
}

void LambdaCall::Open() { WatchInput(true); }

std::size_t LambdaCall::unseen() const {
  if (stage_ != Stage::kWaiting) return 0;
  int piped = 0;
  if (input_.valid() && ioctl(input_.get(), FIONREAD, &piped) != 0) piped = 0;
  return event_.size() + static_cast<std::size_t>(piped);
}

// Whole: an event has its length before it.
void LambdaCall::ReadInput() {
  const auto self = shared_from_this();
  std::array<char, 65536> buffer;
  for (;;) {
    const ssize_t got = read(input_.get(), buffer.data(), buffer.size());
    if (got > 0) {
      event_.append(buffer.data(), static_cast<std::size_t>(got));
    } else if (got == 0) {
      WatchInput(false);
      input_.reset();
      event_whole_ = true;
      // What is called may give it to somebody else, who sets another.
      if (const auto event = std::exchange(on_event, nullptr)) event();
      return;
    } else if (errno != EINTR) {
      return;
    }
  }
}

const std::string& LambdaCall::Call() {
  stage_ = Stage::kCalled;
  return event_;
}

void LambdaCall::OnUnread() {
  if (stage_ == Stage::kCalled) stage_ = Stage::kWaiting;
}

void LambdaCall::BeginAnswer() {
  stage_ = Stage::kAnswering;
  event_ = {};
}

void LambdaCall::Write(std::string_view bytes) {
  pending_ += bytes;
  Flush();
}

void LambdaCall::Flush() {
  const auto self = shared_from_this();
  const bool was_full = full();
  std::size_t written = 0;
  while (written < pending_.size()) {
    const ssize_t count =
        write(output_.get(), pending_.data() + written, pending_.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (count <= 0) {  // the call has been given up
      written = pending_.size();
      break;
    }
    written += static_cast<std::size_t>(count);
  }
  pending_.erase(0, written);
  WatchOutput(!pending_.empty());
  if (pending_.empty() && answered()) output_.reset();
  if (const auto room = on_room; was_full && !full() && room) room();
}

void LambdaCall::WatchInput(bool on) {
  if (!on) return input_watch_.Stop();
  (void)input_watch_.Start(input_.get(), POLLIN, [weak = weak_from_this()](short) {
    if (const auto self = weak.lock()) self->ReadInput();
  });
}

void LambdaCall::WatchOutput(bool on) {
  if (!on) return output_watch_.Stop();
  (void)output_watch_.Start(output_.get(), POLLOUT, [weak = weak_from_this()](short) {
    if (const auto self = weak.lock()) self->Flush();
  });
}

void LambdaCall::Succeed() {
  if (over()) return;
  stage_ = Stage::kAnswered;
  Flush();
}

bool LambdaCall::Fail(std::string error) {
  if (over()) return false;
  stage_ = Stage::kFailed;
  error_ = std::move(error);
  pending_.clear();
  WatchOutput(false);
  output_.reset();
  return true;
}

void LambdaCall::OnServerGone() {
  on_event = on_room = nullptr;
  if (answered()) return;
  WatchInput(false);
  WatchOutput(false);
  output_.reset();
}

}  // namespace brood
