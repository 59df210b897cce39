// SPDX-License-Identifier: Apache-2.0

#include "spawn/plan/plan_builder.h"

#include <cstring>

namespace brood {

std::uint32_t PlanBuilder::Intern(std::string_view text) {
  if (text.empty()) return 0;
  const auto offset = static_cast<std::uint32_t>(pool_.size());
  pool_.append(text);
  pool_.push_back('\0');
  return offset;
}

void PlanBuilder::Add(List list, OpCode code, Step step, const OpTexts& texts, std::uint64_t number,
                      std::uint64_t second_number, std::uint16_t index) {
  Op op{};
  op.code = code;
  op.step = step;
  op.index = index;
  op.text[0] = Intern(texts.first);
  op.text[1] = Intern(texts.second);
  op.text[2] = Intern(texts.third);
  op.number[0] = number;
  op.number[1] = second_number;
  lists_[list].push_back(op);
}

std::vector<char> PlanBuilder::Build(Plan plan, const std::vector<sock_filter>& filter) const {
  // Layout: header, operations of each list, filter, strings. Every part keeps 8-byte alignment.
  std::size_t end = (sizeof(Plan) + 7) & ~std::size_t{7};
  std::array<OpList, kListCount> places;
  for (std::size_t i = 0; i < kListCount; ++i) {
    places[i] = {static_cast<std::uint32_t>(end), static_cast<std::uint32_t>(lists_[i].size())};
    end += lists_[i].size() * sizeof(Op);
  }
  const std::size_t filter_offset = end;
  end += filter.size() * sizeof(sock_filter);
  const std::size_t text_offset = end;
  end += pool_.size();

  plan.bytes = static_cast<std::uint32_t>(end);
  plan.tmpl = places[kTmpl];
  plan.home = places[kHome];
  plan.copies = places[kCopies];
  plan.idmaps = places[kIdmaps];
  plan.worker = {places[kSlot].offset, places[kSlot].count + places[kWorker].count};
  plan.slot_ops = places[kSlot].count;
  plan.early_ops += places[kSlot].count;
  plan.seccomp_offset = static_cast<std::uint32_t>(filter_offset);
  plan.seccomp_count = static_cast<std::uint32_t>(filter.size());

  for (std::uint32_t* const text : {&plan.uid_map, &plan.gid_map}) {
    if (*text != 0) *text += static_cast<std::uint32_t>(text_offset);
  }

  std::vector<char> block(end, '\0');
  std::memcpy(block.data(), &plan, sizeof(plan));
  for (std::size_t i = 0; i < kListCount; ++i) {
    char* to = block.data() + places[i].offset;
    for (Op op : lists_[i]) {
      for (std::uint32_t& text : op.text) {
        if (text != 0) text += static_cast<std::uint32_t>(text_offset);
      }
      std::memcpy(to, &op, sizeof(op));
      to += sizeof(op);
    }
  }
  if (!filter.empty()) {
    std::memcpy(block.data() + filter_offset, filter.data(), filter.size() * sizeof(sock_filter));
  }
  std::memcpy(block.data() + text_offset, pool_.data(), pool_.size());
  return block;
}

}  // namespace brood
