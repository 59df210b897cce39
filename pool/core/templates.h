// SPDX-License-Identifier: Apache-2.0

// Adds templates, and takes them away while their workers still run.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "pool/core/pool_state.h"
#include "pool/core/refill.h"
#include "pool/core/worker_records.h"

namespace brood {

// Fills in what an option left to the pool; kInvalidArgument when they contradict each other.
absl::Status CompleteOptions(TemplateOptions& options);

// Belongs to the pool's thread.
class Templates {
 public:
  Templates(PoolState& pool, WorkerRecords& records, Refill& refill)
      : pool_(pool), records_(records), refill_(refill) {}

  // Adds one, with complete options, and starts its zygotes.
  absl::Status Add(const TemplateOptions& options);
  // Adds one in the place of the one that has its name.
  absl::Status Put(TemplateOptions options);
  // kNotFound; kFailedPrecondition for the last one.
  absl::Status Remove(const std::string& name);
  // Removes leaves of all, and the zygotes of retired ones, that nobody uses any more.
  void Tick();

 private:
  void Retire(Template& tmpl, Template* successor);
  void EndRetired(Template& tmpl);

  PoolState& pool_;
  WorkerRecords& records_;
  Refill& refill_;
};

}  // namespace brood
