// SPDX-License-Identifier: Apache-2.0

// The commands of the brood program; related small ones share a file. Each adds itself to the
// parser and gives back what to do when it was chosen; that returns the program's exit status.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace brood {

inline constexpr int kBroodFailed = 125;  // exit status of brood's own failures

// Takes the words of the isolated command, which brood does not parse.
using CommandAction = std::function<int(const std::vector<std::string>& words)>;

CommandAction AddRunCommand(CLI::App& app);
CommandAction AddBurstCommand(CLI::App& app);
CommandAction AddServeCommand(CLI::App& app);
CommandAction AddSubmitCommand(CLI::App& app);
CommandAction AddExecCommand(CLI::App& app);
CommandAction AddPsCommand(CLI::App& app);
CommandAction AddTreeCommand(CLI::App& app);
CommandAction AddTopCommand(CLI::App& app);
CommandAction AddStatsCommand(CLI::App& app);
CommandAction AddInspectCommand(CLI::App& app);
CommandAction AddLogsCommand(CLI::App& app);
CommandAction AddKillCommand(CLI::App& app);
CommandAction AddStopCommand(CLI::App& app);
CommandAction AddWaitCommand(CLI::App& app);
CommandAction AddFunctionsCommand(CLI::App& app);
CommandAction AddInvokeCommand(CLI::App& app);
CommandAction AddDeployCommand(CLI::App& app);
CommandAction AddReloadCommand(CLI::App& app);
CommandAction AddDoctorCommand(CLI::App& app);
CommandAction AddStressCommand(CLI::App& app);
CommandAction AddVersionCommand(CLI::App& app);
// Hidden; the last, since it describes those before it.
CommandAction AddManualCommand(CLI::App& app);

// A command's help: how it is typed, "brood NAME [option...] ID", an empty line, and what it does.
// Its summary, which add_subcommand was given, stays what a list of commands shows.
void Describe(CLI::App& command, std::string_view text);

// --socket, which every command has that speaks to the daemon.
void AddSocketOption(CLI::App& command, std::string& socket);

// Writes `json` to `file`, or to `stream` when `file` is empty. `what` it is, for the error.
absl::Status WriteJson(const nlohmann::ordered_json& json, const std::string& file,
                       std::FILE* stream, std::string_view what);

// Complains of words that a command does not take.
int TakesOptionsOnly(std::string_view command, const std::vector<std::string>& extra);

// Prints "brood: <sentence>" to stderr and returns kBroodFailed.
int Complain(const absl::Status& status);

}  // namespace brood
