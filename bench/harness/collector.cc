// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/collector.h"

namespace brood::bench {
namespace {

// Google Benchmark 1.8 renamed the fields of a failed run. Empty: it did not fail.
template <typename Run>
std::string ErrorOf(const Run& run) {
  if constexpr (requires { run.error_occurred; }) {
    if (!run.error_occurred) return "";
    return run.error_message.empty() ? "failed" : run.error_message;
  } else {
    if (static_cast<int>(run.skipped) == 0) return "";
    return run.skip_message.empty() ? "failed" : run.skip_message;
  }
}

}  // namespace

Collector::Collector() {
  // Ours is what the library flushes.
  SetOutputStream(&text_);
  SetErrorStream(&text_);
}

bool Collector::ReportContext(const Context&) { return true; }

void Collector::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    if (error_.empty()) error_ = ErrorOf(run);
    if (label_.empty()) label_ = run.report_label;
  }
}

}  // namespace brood::bench
