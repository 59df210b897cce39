// SPDX-License-Identifier: Apache-2.0

// What receives a call's answer: a connection, or a record of it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace brood {

using Fields = std::vector<std::pair<std::string, std::string>>;

// Given either one Answer, or Begin, any number of Write, and Finish or Abort; then nothing more.
// Only in the pool's thread.
class Caller {
 public:
  virtual ~Caller() = default;

  // A whole answer.
  virtual void Answer(int status, Fields fields, std::string_view body) = 0;
  // One in pieces, of unknown length, with fields behind it.
  virtual void Begin(int status, Fields fields) = 0;
  virtual void Write(std::string_view bytes) = 0;
  virtual void Finish(const Fields& trailer) = 0;
  // Breaks off an answer that was begun, so that it is not taken for whole.
  virtual void Abort() = 0;

  virtual void Continue() = 0;         // the body is wanted
  virtual void Resume() = 0;           // more of it is taken
  virtual bool congested() const = 0;  // nothing is to be written for now
  virtual bool open() const = 0;       // the caller is still there
};

}  // namespace brood
