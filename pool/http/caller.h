// SPDX-License-Identifier: Apache-2.0

// What receives a call's answer: a connection, or a record of it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "pool/http/fields.h"

namespace brood {

// An answer's status. The reason behind it is the one that is usual, unless it is given.
struct HttpStatus {
  // NOLINTNEXTLINE(google-explicit-constructor): a number says all that most have to say
  HttpStatus(int number, std::string why = {}) : code(number), reason(std::move(why)) {}
  int code;
  std::string reason;  // field content (IsFieldValue)

  // Answers of this status have a body (RFC 9110, 6.4.1).
  bool has_body() const { return code >= 200 && code != 204 && code != 304; }
};

// Given either one Answer, or Begin, any number of Write, and Finish or Abort; then nothing more.
// Only in the pool's thread.
class Caller {
 public:
  virtual ~Caller() = default;

  // A whole answer.
  virtual void Answer(HttpStatus status, Fields fields, std::string_view body) = 0;
  // One in pieces, with fields behind it. `length`: of its body, where that is known; then it has
  // no fields behind it.
  virtual void Begin(HttpStatus status, Fields fields,
                     std::optional<std::uint64_t> length = std::nullopt) = 0;
  virtual void Write(std::string_view bytes) = 0;  // of none: what is begun is to be sent now
  virtual void Finish(const Fields& trailer) = 0;
  // Breaks off an answer that was begun, so that it is not taken for whole.
  virtual void Abort() = 0;
  // Instead of Begin: 101, with `fields`. From the next Resume on, bytes pass both ways as they
  // are, over Exchange::OnBody and Write, until Finish. False: not over this.
  virtual bool Upgrade(const Fields& fields) = 0;

  // Keeps it from being destroyed when it ends in what it is told.
  virtual std::shared_ptr<void> Hold() = 0;

  virtual void Continue() = 0;           // the body is wanted
  virtual void Resume() = 0;             // more of it is taken
  virtual bool congested() const = 0;    // nothing is to be written for now
  virtual bool open() const = 0;         // the caller is still there
  virtual std::string peer() const = 0;  // its address; empty: it has none
};

}  // namespace brood
