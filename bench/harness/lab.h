// SPDX-License-Identifier: Apache-2.0

// A subprocess to measure in: one with a gigabyte resident, with thousands of mounts or of open
// files, in a user namespace of its own. It is set up once and kept from round to round, since
// setting it up can take longer than all that is measured in it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/harness/row.h"
#include "bench/harness/samples.h"
#include "spawn/base/unique_fd.h"

namespace brood::bench {

// Owns the process, which ends with it, and also when this process dies. Not thread-safe.
class Lab {
 public:
  // Runs in the lab's process; whatever it changes, it changes there.
  using SetUp = std::function<absl::Status()>;
  // One measurement there.
  using Body = std::function<absl::Status(int warm_ups, int iterations, Series& series)>;

  // Forks it, so this process must have one thread. The error of `set_up`, when that fails.
  static absl::StatusOr<std::unique_ptr<Lab>> Start(const SetUp& set_up, const Body& body);
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  // One measurement: what `body` put into its series, or its error.
  absl::StatusOr<Series> Run(int warm_ups, int iterations);

 private:
  Lab(pid_t pid, UniqueFd socket) : pid_(pid), socket_(std::move(socket)) {}

  pid_t pid_;
  UniqueFd socket_;
};

// A row that is measured in a lab of its own, started when it is first measured.
Row LabRow(std::string name, Lab::SetUp set_up, Lab::Body body);

// The same for what needs no more than one call to be measured.
Row LabRow(std::string name, Lab::SetUp set_up, Once once);

}  // namespace brood::bench
