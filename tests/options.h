// SPDX-License-Identifier: Apache-2.0

// Whether a table of options has all that a command takes: an option that nobody has looked at is
// one that may be accepted and ignored.
#pragma once

#include <gtest/gtest.h>

#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "tests/program.h"

namespace brood {

// The long names, as "--rootfs", that the help of a command lists.
inline std::set<std::string> OptionsOf(const std::string& command) {
  Brood brood({command, "--help"});
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  std::set<std::string> options;
  std::istringstream lines(brood.out());
  const std::regex option("^  (-[a-zA-Z],)?(--[a-z-]+)( .*)?$");
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (std::regex_match(line, match, option)) options.insert(match[2]);
  }
  options.erase("--help");
  options.erase("--help-all");
  return options;
}

// One option shown not to be ignored: by what comes of it, or by a refusal where it cannot apply.
struct OptionCase {
  std::string option;
  Words words;         // it, and what it needs beside it
  std::string script;  // for a shell; empty: `true`
  int status = 0;
  std::string seen;  // in what the command or brood writes
};

inline void ExpectComplete(const std::string& command, const std::vector<OptionCase>& cases) {
  std::set<std::string> looked_at;
  for (const OptionCase& each : cases) looked_at.insert(each.option);
  EXPECT_EQ(looked_at, OptionsOf(command)) << "each option of brood " << command << " has a row";
}

}  // namespace brood
