// SPDX-License-Identifier: Apache-2.0

// Assembles a plan's block: operations in lists, strings in a pool, one flat copy at the end.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/child/plan.h"

namespace brood {

// The strings of an operation; empty ones stand for "none".
struct OpTexts {
  std::string_view first;
  std::string_view second = {};
  std::string_view third = {};
};

class PlanBuilder {
 public:
  // kSlot comes before kWorker in what is Plan::worker.
  enum List : std::size_t { kTmpl, kHome, kCopies, kIdmaps, kSlot, kWorker, kListCount };

  // Appends an operation to `list`.
  void Add(List list, OpCode code, Step step, const OpTexts& texts = {}, std::uint64_t number = 0,
           std::uint64_t second_number = 0, std::uint16_t index = 0);

  // Adds a string that the header names; as Plan::uid_map.
  std::uint32_t AddText(std::string_view text) { return Intern(text); }

  std::size_t size(List list) const { return lists_[list].size(); }

  // The block; `plan` gives the header's flags, `filter` the worker's seccomp program.
  std::vector<char> Build(Plan plan, const std::vector<sock_filter>& filter) const;

 private:
  std::uint32_t Intern(std::string_view text);

  std::array<std::vector<Op>, kListCount> lists_;
  std::string pool_ = std::string(1, '\0');  // offset 0 means no text
};

}  // namespace brood
