// The commands of the brood program, one file each. Each adds itself to the parser and gives back
// what to do when it was chosen; that returns the program's exit status.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string_view>

#include "absl/status/status.h"

namespace brood {

inline constexpr int kBroodFailed = 125;  // exit status of brood's own failures

using CommandAction = std::function<int()>;

CommandAction AddRunCommand(CLI::App& app);
CommandAction AddBurstCommand(CLI::App& app);
CommandAction AddVersionCommand(CLI::App& app);

// Prints "brood: <sentence>" to stderr and returns kBroodFailed.
int Complain(const absl::Status& status);

}  // namespace brood
