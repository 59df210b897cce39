// SPDX-License-Identifier: Apache-2.0

// What each namespace costs the process that makes or enters it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/harness/row.h"
#include "bench/measures/measures.h"
#include "spawn/base/kernel.h"
#include "spawn/spec.h"

namespace brood::bench {

// Names of the rows. A fresh namespace is made by each child; a prepared one was made before, and
// each child enters it.
inline constexpr char kNamespaceFloor[] = "namespace/none";
inline constexpr char kForkedNamespaceFloor[] = "namespace/none-forked";
inline constexpr char kFreshAll[] = "namespace/fresh/all";
inline constexpr char kPreparedAllButTime[] = "namespace/prepared/all-but-time";
inline constexpr char kFreshLoopback[] = "namespace/fresh/net+loopback";
inline constexpr char kFreshMounts[] = "namespace/fresh/mount+proc+tmp";
inline constexpr char kFreshIdMap[] = "namespace/fresh/user+map";
// Their children are cloned with CLONE_VM and CLONE_VFORK, make or enter what the row names, exit,
// and are reaped.
std::string FreshName(NamespaceKind kind);
std::string PreparedName(NamespaceKind kind);

// The flags that give a bare child all eight: for clone3, and for unshare in the child.
inline constexpr std::uint64_t kAllByClone = kernel::kCloneNewNs | kernel::kCloneNewPid |
                                             kernel::kCloneNewNet | kernel::kCloneNewIpc |
                                             kernel::kCloneNewUts | kernel::kCloneNewUser;
inline constexpr std::uint64_t kAllByUnshare = kernel::kCloneNewCgroup | kernel::kCloneNewTime;

// Why rows with a namespace of this kind cannot run; empty when they can.
std::string Obstacle(NamespaceKind kind);

// How the costs grow: with several at once, with the mounts that are copied, and what making and
// undoing one cost apart.
std::vector<Row> NamespaceSweepRows(const Setup& setup);

}  // namespace brood::bench
