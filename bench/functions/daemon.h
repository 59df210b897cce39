// SPDX-License-Identifier: Apache-2.0

// `brood serve --http` with one function, up for as long as this lives.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/peers/service.h"

namespace brood::bench {

inline constexpr char kFunction[] = "measured";  // its name
inline constexpr char kForked[] = "forked";      // the mode that has isolation of its own

struct FunctionWanted {
  std::vector<std::string> command;
  std::string mode;         // as [function.NAME] takes it
  std::uint32_t ready = 0;  // workers kept parked, or primed, or whatever the mode keeps
};

class FunctionDaemon {
 public:
  // `brood`: the program. `place`: an empty directory's path for its files. Returns when all that
  // the function keeps ready is, and the machine is quiet.
  static absl::StatusOr<FunctionDaemon> Start(const std::string& brood,
                                              const std::filesystem::path& place,
                                              const FunctionWanted& function);

  std::uint16_t port() const { return port_; }

 private:
  FunctionDaemon(Service service, std::uint16_t port) : service_(std::move(service)), port_(port) {}

  Service service_;
  std::uint16_t port_;
};

}  // namespace brood::bench
