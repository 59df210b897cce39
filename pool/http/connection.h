// SPDX-License-Identifier: Apache-2.0

// One HTTP connection: requests in, one at a time and in order; answers out.
//
//   socket -> input -> HttpParser -> Exchange
//   socket <- output <- Answer / Begin, Write, Finish <- Exchange
//
// Bounded both ways: nothing is read from the socket while the exchange is full, and an exchange
// writes only while the connection is not congested. Only in the pool's thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "pool/http/caller.h"
#include "pool/http/options.h"
#include "pool/http/request_parser.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

// Whatever a request with a body is handed to.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void OnBody(std::string_view bytes) = 0;
  virtual void OnBodyEnd() = 0;
  virtual bool full() const = 0;  // takes no more for now; it calls Resume when it does
  virtual void OnDrained() = 0;   // the connection is congested no more
  virtual void OnGone() = 0;      // the caller has gone; the connection must not be used again
  virtual void Kill() {}          // of a call: ends it, and tells its caller
  virtual bool over() const { return false; }
};

class HttpConnection : public Caller, public std::enable_shared_from_this<HttpConnection> {
 public:
  static constexpr std::size_t kHighWater = 256U << 10;  // bytes of output that wait

  // Answers at once and returns null, or returns the exchange that will.
  using Handler = std::function<std::shared_ptr<Exchange>(HttpConnection&, const RequestHead&)>;

  // `user`: whose process is at the other end, where the kernel has said so.
  HttpConnection(Pool& pool, const HttpOptions& options, UniqueFd socket,
                 std::optional<uid_t> user = std::nullopt)
      : pool_(pool), options_(options), socket_(std::move(socket)), user_(user) {}

  // `closed` is called once, when it has ended from either side.
  absl::Status Open(Handler handler, std::function<void()> closed);
  void Close();
  bool open() const override { return socket_.valid(); }
  // A request has been read whole, and its answer is not there yet.
  bool answering() const { return phase_ == Phase::kAnswer; }
  // The other side has ended it without having read all that was sent to it; told also of one that
  // has been closed.
  bool WasReset();
  // The fields behind the body of the request that has just been read whole.
  const Fields& trailers() const { return parser_->trailers(); }
  // Closes when its deadline has passed: no whole head, no byte of a body, an answer that is not
  // read.
  void Expire(std::int64_t now_ns);
  // No further request after the one under way, if any.
  void Retire();

  // Why it may be closed to make room for another, the least harm first.
  enum class Spare : std::uint8_t {
    kIdle,      // no request is under way, nor an answer
    kSlowHead,  // a request has begun to arrive
    kNo,
  };
  Spare spare() const;
  std::int64_t since_ns() const { return since_ns_; }  // it has been so; CLOCK_MONOTONIC
  // Closes it, telling a caller whose request has begun that it did not arrive in time.
  void GiveUp();

  void Answer(HttpStatus status, Fields fields, std::string_view body) override;
  // Without a length: chunked, or to HTTP/1.0 up to the connection's end. The trailer's fields are
  // left out for HTTP/1.0.
  void Begin(HttpStatus status, Fields fields, std::optional<std::uint64_t> length) override;
  void Write(std::string_view bytes) override;
  void Finish(const Fields& trailer) override;
  void Abort() override;
  bool Upgrade(const Fields& fields) override;

  std::shared_ptr<void> Hold() override { return shared_from_this(); }
  void Continue() override;  // 100
  void Resume() override;    // the exchange is no longer full
  bool congested() const override { return output_.size() - sent_ > kHighWater; }
  std::string peer() const override;
  std::optional<uid_t> user() const { return user_; }

 private:
  enum class Phase : std::uint8_t { kIdle, kHead, kBody, kAnswer, kTunnel, kLinger };

  void OnReadable(short events);
  void Advance();
  void TakeHead();
  void Refuse(int status, std::string_view why);
  void Ended();
  void Flush();
  void SetWatches();
  void SetPhase(Phase phase);
  void Put(const HttpStatus& status, const Fields& fields);

  Pool& pool_;
  const HttpOptions& options_;
  UniqueFd socket_;
  const std::optional<uid_t> user_;
  Handler handler_;
  std::function<void()> closed_;
  std::string input_;
  std::string output_;
  std::size_t sent_ = 0;  // of output_
  std::unique_ptr<HttpParser> parser_ = std::make_unique<HttpParser>();
  std::shared_ptr<Exchange> exchange_;
  Phase phase_ = Phase::kIdle;
  bool answered_ = false;    // the answer to this request has been queued whole
  bool begun_ = false;       // its head has been
  bool chunked_ = false;     // it goes out in chunks
  bool bodiless_ = false;    // it has no body, whatever is written
  bool keep_alive_ = false;  // another request may follow
  bool retired_ = false;
  bool reset_ = false;
  bool served_ = false;  // a request has been answered
  bool advancing_ = false;
  std::int64_t deadline_ns_ = 0;
  std::int64_t since_ns_ = 0;  // of the phase
  short watching_ = 0;
  Pool::WatchId watch_ = 0;
};

}  // namespace brood
