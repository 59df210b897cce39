// SPDX-License-Identifier: Apache-2.0

// What the parts of the pool's thread share: its resources, its templates, and their records.
//
//   templates    adds, replaces and retires them
//   refill       keeps zygotes alive and has workers made
//   dispatch     gives requests to workers
//   supervise    watches workers that have a request, to their end
//   reactor      the loop that calls the four
//
// All of it belongs to one thread, so nothing here is locked.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "pool/core/launcher_resources.h"
#include "pool/core/ring.h"
#include "pool/core/template.h"
#include "pool/core/worker.h"
#include "pool/pool.h"
#include "spawn/base/unique_fd.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/session.h"

namespace brood {

struct PoolState {
  PoolOptions options;
  LauncherResources resources;  // its fallbacks are told in every outcome
  LauncherFds launcher_fds;
  UniqueFd zygote_leaf;  // O_PATH; not valid where there is no parent cgroup
  std::unique_ptr<Ring> ring;
  std::deque<Template> templates;
  // Never removed: their places are in tokens.
  std::vector<std::unique_ptr<ZygoteKeeper>> keepers;
  std::deque<Worker> workers;
  PoolStats totals;
  bool kill_all = false;  // the pool's grace is over: no command is to begin any more

  // A living template; the first one for an empty name. Null when there is none.
  Template* Find(const std::string& name);

  // Where no parent cgroup could be made: null.
  const ParentCgroup* parent() const { return resources.parent ? &*resources.parent : nullptr; }
  // Of a leaf of the parent cgroup; nothing and false where there is no parent cgroup.
  LeafUsage UsageOf(const std::string& leaf) const;
  bool LeafFrozen(const std::string& leaf) const;

  Template& TemplateOf(const Worker& worker) { return templates[worker.tmpl]; }
  Zygote& ZygoteOf(const Worker& worker) const { return *keepers[worker.keeper]->zygote; }
  const Blueprint& BlueprintOf(const Worker& worker) const;
  // Of a worker of a zygote.
  Mailbox& BoxOf(const Worker& worker) const { return ZygoteOf(worker).mailbox(worker.slot); }
  // Of any.
  Subject SubjectOf(const Worker& worker) const;
  // A completion with it is for this use of the record alone.
  Token TokenOf(Source source, std::uint32_t worker) const;
  bool IsCurrent(Token token) const;

  // Calls the request's callback.
  void Answer(std::unique_ptr<ActiveRequest> request, absl::StatusOr<Outcome> outcome);
};

}  // namespace brood
