#include "bench/collector.h"

#include <nlohmann/json.hpp>

#include "spawn/status.h"

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
  json_.SetOutputStream(&text_);
  json_.SetErrorStream(&text_);
  // Ours is what the library flushes.
  SetOutputStream(&text_);
  SetErrorStream(&text_);
}

bool Collector::ReportContext(const Context& context) { return json_.ReportContext(context); }

void Collector::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    const std::string& name = run.run_name.function_name;
    if (const std::string error = ErrorOf(run); !error.empty()) errors_.emplace(name, error);
    if (!run.report_label.empty()) labels_.emplace(name, run.report_label);
  }
  json_.ReportRuns(runs);
}

void Collector::Finalize() { json_.Finalize(); }

absl::StatusOr<nlohmann::ordered_json> Collector::Json() const {
  nlohmann::ordered_json json =
      nlohmann::ordered_json::parse(text_.str(), nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    return Error(absl::StatusCode::kInternal, "Google Benchmark wrote JSON that does not parse");
  }
  if (const auto context = json.find("context"); context != json.end()) {
    context->erase("host_name");
    context->erase("executable");
  }
  return json;
}

}  // namespace brood::bench
