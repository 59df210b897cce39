// SPDX-License-Identifier: Apache-2.0

// From a Spec to a plan: checks it against this machine and lays out the operations of zygote and
// child.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/child/plan.h"
#include "spawn/outcome.h"
#include "spawn/plan/dev_tree.h"
#include "spawn/spec.h"

namespace brood {

enum class PlanKind : std::uint8_t {
  kCold,      // one child does everything
  kTemplate,  // a zygote prepares what workers can share
  kForked,    // a clone of a process that is isolated already (SplitForked().process) adds
              // what no two workers may share; see spawn/launch/forked.h
};

// A planned Spec. Immutable once made, so any thread may read it; move-only, since it owns
// descriptors. One blueprint serves any number of workers.
class Blueprint {
 public:
  // kInvalidArgument, kNotFound, kPermissionDenied, kFailedPrecondition: a sentence that names what
  // is wrong. Nothing has been spawned or mounted then.
  static absl::StatusOr<Blueprint> Make(const Spec& spec, PlanKind kind,
                                        const FaultInjection& fault = {});

  const Spec& spec() const { return spec_; }
  PlanKind kind() const { return kind_; }
  const Plan& plan() const { return *reinterpret_cast<const Plan*>(block_.data()); }
  // The plan as bytes, to be copied anywhere.
  std::span<const char> block() const { return block_; }

  // Detached copies of the directories the plan attaches, as they are now, by tree number; -1 where
  // the child makes the tree itself. Each set serves one cold child or one zygote: attaching uses
  // it up.
  absl::StatusOr<std::vector<UniqueFd>> OpenTrees() const;

  // Descriptors of joined namespaces, by Op::index of kSetns, and of an init's executable
  // (Plan::init_fd). Borrowed.
  const std::vector<UniqueFd>& namespace_fds() const { return namespace_fds_; }
  // Namespaces that the process which clones a cold child has to be in meanwhile, in this order.
  // Borrowed.
  struct LauncherJoin {
    NamespaceKind kind;
    int fd;
  };
  const std::vector<LauncherJoin>& launcher_joins() const { return launcher_joins_; }
  // What the spec wants and this root or machine cannot give.
  const std::vector<Fallback>& fallbacks() const { return fallbacks_; }
  // Why each worker's namespaces are all made for it; empty: it lives in a slot.
  const std::string& fresh() const { return fresh_; }
  // And what it cannot give either where the owners of the root's files are not mapped, which the
  // mailbox tells (Mailbox::idmap_error).
  const std::vector<Fallback>& unmapped_fallbacks() const { return unmapped_fallbacks_; }
  // A setns helper has to be in them, not the launcher (spawn/child/setns_helper.h).
  bool by_setns_helper() const { return !launcher_joins_.empty(); }

  // The sentence for a failure: what was being done, on what, the errno, what to do.
  // `list` is where its index points (plan().worker, or tmpl or home of a zygote); `command`, when
  // not null, is what should have run.
  std::string Describe(const Failure& failure, const OpList& list,
                       const Command* command = nullptr) const;

 private:
  friend class BlueprintMaker;

  // A directory or file to be copied into each child's tree. Named, not held open: a descriptor
  // would keep its mount from being taken away on the host as long as the blueprint lives.
  struct TreeSource {
    std::string path;              // empty for a tree that an operation makes
    std::uint64_t attributes = 0;  // MOUNT_ATTR_*
    bool recursive = true;
    bool optional = false;  // no tree where it is gone
  };

  Spec spec_;
  PlanKind kind_ = PlanKind::kCold;
  std::vector<char> block_;
  std::vector<TreeSource> tree_sources_;
  std::unique_ptr<DevTree> dev_;  // of tree dev_index_; null: the child makes it
  std::size_t dev_index_ = 0;
  std::vector<UniqueFd> namespace_fds_;
  std::vector<LauncherJoin> launcher_joins_;
  std::vector<Fallback> fallbacks_;
  std::string fresh_;
  std::vector<Fallback> unmapped_fallbacks_;
};

}  // namespace brood
