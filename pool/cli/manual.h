// SPDX-License-Identifier: Apache-2.0

// What the manual pages and the shells' completions say: taken from the parser's own options, so
// that they cannot go stale.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace brood {

struct ManualOption {
  std::vector<std::string> names;  // with dashes, short ones first
  std::string value;               // "SIZE", "ro|rw", "[FILE]" when it may be left out; empty: none
  std::string description;
  std::string group;
};

struct ManualCommand {
  std::string name;
  std::string summary;
  std::string usage;  // "brood kill [-s SIGNAL] ID..."
  std::string text;   // paragraphs between empty lines; lines of an example are indented
  std::vector<ManualOption> options;

  // Whether its operands begin with isolates, and whether they end with a command of the user's.
  bool takes_isolates = false;
  bool takes_command = false;
};

struct ManualProgram {
  std::string summary;
  std::vector<ManualOption> options;
  std::vector<ManualCommand> commands;
};

std::vector<ManualOption> OptionsOf(const CLI::App& app);
// All but hidden commands.
ManualProgram ManualOf(const CLI::App& app);

// Writes brood.1, a page for each command as brood-run.1, and brood.toml.5 into a directory.
absl::Status WriteManualPages(const ManualProgram& program, const std::string& directory);

std::string BashCompletion(const ManualProgram& program);
std::string ZshCompletion(const ManualProgram& program);
std::string FishCompletion(const ManualProgram& program);

// What may stand for a value, for a shell to offer.
struct ValueWords {
  std::vector<std::string> words;
  bool files = false;
  bool directories = false;
};
ValueWords WordsFor(const ManualOption& option);

}  // namespace brood
