// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "spawn/base/clock.h"

namespace brood::bench {
namespace {

// Drawing costs time that others measure in: seldom enough not to be seen in their figures.
constexpr std::int64_t kDrawEveryNs = 200'000'000;

}  // namespace

Progress::Progress(double total)
    : terminal_(isatty(STDERR_FILENO) != 0), total_(total), start_ns_(NowNs()) {}

Progress::~Progress() {
  if (terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::Begin(std::string_view what) { Draw(what, done_); }

void Progress::Partly(std::string_view what, double units, double fraction) {
  Draw(what, done_ + units * fraction);
}

void Progress::Done(double units) { done_ += units; }

void Progress::Draw(std::string_view what, double done) {
  if (!terminal_) return;
  const std::int64_t now = NowNs();
  if (drawn_ns_ != 0 && now - drawn_ns_ < kDrawEveryNs) return;
  drawn_ns_ = now;
  const double fraction = total_ > 0 ? std::min(1.0, done / total_) : 0;
  const double elapsed_s = static_cast<double>(now - start_ns_) / 1e9;
  std::string left;
  // The first few rows say little about the others.
  if (fraction > 0.05) {
    left = fmt::format(", about {:.0f} s left", elapsed_s / fraction - elapsed_s);
  }
  constexpr int kWidth = 24;
  const int filled = static_cast<int>(fraction * kWidth);
  const std::string line = fmt::format("\r[{:#<{}}{:.<{}}] {:3.0f}%{}  {}\033[K", "", filled, "",
                                       kWidth - filled, fraction * 100, left, what);
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

}  // namespace brood::bench
