// SPDX-License-Identifier: Apache-2.0

// One line on a terminal: what is being measured, how far it is, how long it may still take.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace brood::bench {

// Draws on stderr, and only where that is a terminal. Not thread-safe.
class Progress {
 public:
  // `total` units of work; a unit is one repetition of one row.
  explicit Progress(double total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `what` is being done now.
  void Begin(std::string_view what);
  // As much of it as `fraction` of `units` is done; nothing is counted yet.
  void Partly(std::string_view what, double units, double fraction);
  void Done(double units);

 private:
  void Draw(std::string_view what, double done);

  bool terminal_;
  double total_;
  double done_ = 0;
  std::int64_t start_ns_;
  std::int64_t drawn_ns_ = 0;
};

}  // namespace brood::bench
