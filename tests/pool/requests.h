// SPDX-License-Identifier: Apache-2.0

// What the pool's tests ask it to run.
#pragma once

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "pool/pool.h"
#include "tests/slowness.h"

namespace brood {

// A guard against hanging, not a measure.
inline const std::chrono::seconds kHang = Patience(std::chrono::seconds(60));

// A shell of the worker's runs `script`; what it writes is kept.
inline Request ShellRequest(std::string script) {
  Request request;
  request.command.argv = {"/bin/sh", "-c", std::move(script)};
  request.command.env = DefaultEnvironment();
  request.command.stdio.mode = StdioMode::kCapture;
  return request;
}

// The same, ended by brood where it hangs.
inline Request GuardedShell(std::string script) {
  Request request = ShellRequest(std::move(script));
  request.command.timeout = kHang;
  return request;
}

struct Submitted {
  std::uint64_t id = 0;
  std::future<absl::StatusOr<Outcome>> outcome;
};

// The answer may come after the test has given up.
inline absl::StatusOr<Submitted> Submit(Pool& pool, Request request) {
  Submitted submitted;
  const auto answer = std::make_shared<std::promise<absl::StatusOr<Outcome>>>();
  submitted.outcome = answer->get_future();
  const absl::Status status = pool.Submit(
      std::move(request),
      [answer](absl::StatusOr<Outcome> outcome) { answer->set_value(std::move(outcome)); },
      &submitted.id);
  if (!status.ok()) return status;
  return submitted;
}

}  // namespace brood
