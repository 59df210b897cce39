// SPDX-License-Identifier: Apache-2.0

// One exchange with a server in an isolate: a request out, its answer in.
//
//   Write -> output -> socket      socket -> HttpResponseParser -> User
//
// Bounded both ways: its user writes only while it is not congested, and pauses it while it cannot
// take more of the answer. Only in the pool's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "pool/core/watched.h"
#include "pool/http/response_parser.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"

namespace brood {

class HttpUpstream : public std::enable_shared_from_this<HttpUpstream> {
 public:
  static constexpr std::size_t kHighWater = 64U << 10;  // bytes of output that wait

  // Is told nothing after Release. Must live until then.
  class User {
   public:
    virtual ~User() = default;
    // Some of the answer: its head, the first time; bytes of its body; and whether that is all.
    virtual void OnAnswer(const ResponseHead& head, std::string_view body, bool done) = 0;
    // There will be no more of an answer; a sentence. `reached`: something may have been read by
    // the server.
    virtual void OnBroken(const std::string& why, bool reached) = 0;
    virtual void OnRoom() = 0;     // it is congested no more
    virtual void OnConnected() {}  // the server's side has taken the connection
  };

  // `connected`: the socket is. Otherwise it is connected to `port` of 127.0.0.1. `to_head`: the
  // request is a HEAD.
  HttpUpstream(Pool& pool, UniqueFd socket, bool connected, std::uint16_t port, bool to_head,
               User& user)
      : pool_(pool),
        socket_(std::move(socket)),
        connected_(connected),
        was_connected_(connected),
        port_(port),
        user_(&user),
        parser_(to_head) {}
  ~HttpUpstream() { StopWatching(); }
  HttpUpstream(const HttpUpstream&) = delete;
  HttpUpstream& operator=(const HttpUpstream&) = delete;

  void Open();
  void Write(std::string_view bytes);
  bool congested() const { return output_.size() - sent_ > kHighWater; }
  void SetPaused(bool paused);
  // From now on bytes pass as they are: what comes is told as the body of an answer without end.
  void Tunnel() { tunnel_ = true; }

  // The socket; nothing is told from now on.
  UniqueFd Release();
  bool was_connected() const { return was_connected_; }  // before this exchange
  bool sent_any() const { return sent_any_; }            // of what was written
  // The exchange is whole, and another may follow over the socket.
  bool reusable() const;

 private:
  void Connect();
  void OnReady(short events);
  void Flush();
  void Read();
  bool Take();
  void Break(const std::string& why);
  void SetWatch();
  void StopWatching();

  Pool& pool_;
  UniqueFd socket_;
  bool connected_;
  const bool was_connected_;
  const std::uint16_t port_;
  User* user_;  // null: nothing is told any more
  HttpResponseParser parser_;
  std::string input_;
  std::string output_;
  std::size_t sent_ = 0;   // of output_
  bool sent_any_ = false;  // bytes have gone out
  bool paused_ = false;
  bool tunnel_ = false;
  bool told_done_ = false;
  bool reading_ = false;
  short watching_ = 0;
  Pool::WatchId watch_ = 0;
};

}  // namespace brood
