// SPDX-License-Identifier: Apache-2.0

#include "pool/core/leaf_stock.h"

#include <chrono>

#include "spawn/base/status.h"

namespace brood {

absl::StatusOr<std::string> LeafStock::Take() {
  if (parent_ == nullptr) return std::string();
  if (!free_.empty()) {
    std::string leaf = std::move(free_.back());
    free_.pop_back();
    return leaf;
  }
  return parent_->MakeLeaf(fmt::format("{}{}", prefix_, made_++), limits_);
}

void LeafStock::Return(std::string leaf, bool empty) {
  if (parent_ == nullptr || leaf.empty()) return;
  if (empty && reusable_) {
    free_.push_back(std::move(leaf));
    return;
  }
  if (!empty) (void)parent_->KillLeaf(leaf);
  dying_.push_back(std::move(leaf));
  Sweep();
}

bool LeafStock::Sweep() {
  std::erase_if(dying_, [&](const std::string& leaf) {
    return parent_->RemoveLeaf(leaf, std::chrono::milliseconds(0)).ok();
  });
  return dying_.empty();
}

}  // namespace brood
