// SPDX-License-Identifier: Apache-2.0

// A daemon of another program's, up for as long as this lives.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "bench/peers/run_command.h"

namespace brood::bench {

class Service {
 public:
  // Returns once it takes connections on `socket`, a path; an error with its own last words when it
  // ends before, or after 20 seconds.
  static absl::StatusOr<Service> Start(const std::string& program, const Words& argv,
                                       const std::string& socket);
  // Asks it to end, and kills it when it has not within 10 seconds.
  ~Service() { Stop(); }
  Service(Service&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), utterance_(std::move(other.utterance_)) {}
  Service& operator=(Service&&) = delete;

 private:
  Service(pid_t pid, Utterance utterance) : pid_(pid), utterance_(std::move(utterance)) {}
  void Stop();

  pid_t pid_;
  Utterance utterance_;
};

// A connection to whoever listens on the Unix socket `path`.
absl::StatusOr<UniqueFd> ConnectTo(const std::string& path);

}  // namespace brood::bench
