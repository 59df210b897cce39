// SPDX-License-Identifier: Apache-2.0

// What the doctor has to say of one thing on this machine.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace brood {

enum class Verdict : std::uint8_t {
  kFine,
  kNote,    // works; costs something, or could be more
  kLess,    // works with less isolation, or fewer workers, than was asked for
  kCannot,  // brood cannot run
};
// "fine", "note", "less", "cannot": stable names, used in JSON.
std::string_view VerdictName(Verdict verdict);

struct Finding {
  std::string subject = {};  // "user namespaces"
  Verdict verdict = Verdict::kFine;
  std::string what = {};    // what was found, with the errno where there is one
  std::string why = {};     // why it matters; empty when all is fine
  std::string remedy = {};  // the command that changes it; empty when there is none
};

// As a process reports it: 0 fine (notes too), 1 works with less, 2 cannot run.
int ExitStatus(const std::vector<Finding>& findings);

}  // namespace brood
