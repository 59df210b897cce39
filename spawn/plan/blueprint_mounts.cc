// SPDX-License-Identifier: Apache-2.0

#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "spawn/base/status.h"
#include "spawn/plan/blueprint_maker.h"

namespace brood {
namespace {

// Where a zygote's home keeps the place to attach a worker's tree (see AddHome), and where a slot
// keeps the one that all its workers' overlays are over.
constexpr std::string_view kHomeStaging = "/mnt";
constexpr std::string_view kHomeLower = "/lower";

absl::StatusOr<std::string> StagingDirectory() {
  for (const char* candidate : {"/tmp", "/mnt", "/var/tmp", "/run"}) {
    struct stat status = {};
    if (lstat(candidate, &status) == 0 && S_ISDIR(status.st_mode)) return candidate;
  }
  return Error(absl::StatusCode::kFailedPrecondition,
               "none of /tmp, /mnt, /var/tmp and /run is a directory: brood needs one to attach "
               "the new root to");
}

// Where a template keeps tree `tree` until it is copied for a worker.
std::string PartPlace(std::size_t tree) { return fmt::format("/{}", tree); }

}  // namespace

// In every plan the trees come first, while the host's paths lead to them, and new mounts, which
// the kernel grants a user namespace only where it sees an old one with nothing hidden ("too
// revealing"); then the root is entered, and the old one is out of reach or gone; only then is any
// path below the root followed.
absl::Status BlueprintMaker::AddMounts() {
  BROOD_RETURN_IF_ERROR(OpenRoot());
  BROOD_ASSIGN_OR_RETURN(staging_, StagingDirectory());
  AddRootSource();
  BROOD_RETURN_IF_ERROR(AddPlaces());

  if (BornEmpty()) {
    AddMountsToNothing();
  } else {
    builder_.Add(shared_, OpCode::kMakePrivate, Step::kPrivatePropagation);
    AddTreesByPath();
    PrepareDev();
  }
  AddNewMounts();
  if (shared_ == PlanBuilder::kTmpl) {
    AddTemplate();
    AddHome();
    AddWorkerRoot();
  } else {
    AddColdRoot();
    MountPlaces(PlanBuilder::kWorker, /*own=*/false);
  }
  AddPrivateMounts();
  return absl::OkStatus();
}

// A worker that keeps no capability, and whose filter lets it make no namespace to get new ones in,
// has no way to what lies below its root.
bool BlueprintMaker::CannotLeave() const {
  return spec_.capabilities.empty() && spec_.seccomp.mode == SeccompMode::kDefault &&
         !spec_.nesting && new_user_;
}

// A cold worker whose mount namespace begins with nothing pays neither for copying the host's
// mounts nor for taking them away. What it needs of them its launcher has to bring, so it must want
// nothing of the host's by path.
bool BlueprintMaker::BornEmpty() const {
  return kind_ == PlanKind::kCold && machine_.empty_mounts && CannotLeave() &&
         spec_.is_new(NamespaceKind::kPid) && !own_time_offsets_;
}

// The root goes over a /proc and a /sys of the host's with nothing hidden.
void BlueprintMaker::AddMountsToNothing() {
  constexpr List kWorker = PlanBuilder::kWorker;
  header_.clone_flags |= kernel::kCloneEmptyMntns;
  PrepareDev();
  const auto bring = [&](const char* path) {
    AddAttach(
        kWorker,
        AddTreeSource(path,
                      kernel::kMountAttrNosuid | kernel::kMountAttrNodev | kernel::kMountAttrNoexec,
                      /*idmap=*/false, /*recursive=*/false),
        "/");
  };
  bring("/proc");
  if (FindPlace(Place::What::kNew, "sysfs") != nullptr) bring("/sys");
}

// The root of a worker that does everything itself.
void BlueprintMaker::AddColdRoot() {
  constexpr List kWorker = PlanBuilder::kWorker;
  const bool over_nothing = BornEmpty();
  if (spec_.root.mode == RootMode::kOverlay) {
    AddOverlay(over_nothing ? "/.." : staging_);
  } else if (over_nothing) {
    builder_.Add(kWorker, OpCode::kEnterTree, Step::kEnterRoot, {"/"}, 0, 0, 0);
  } else {
    AddAttach(kWorker, 0, staging_);
    AddEnterRoot(kWorker, staging_);
  }
}

// The zygote's other mount namespace: a directory of parts, each copied for every worker. Part 0 is
// the root with all that workers can share mounted below it; what lies on a mount of the worker's
// own is a part by itself. An overlay is a worker's own, and all that lies on it.
void BlueprintMaker::AddTemplate() {
  constexpr List kTmpl = PlanBuilder::kTmpl;
  AddTmpfs(kTmpl, staging_, "size=1m,mode=0755");
  AddEnterRoot(kTmpl, staging_);
  const auto part = [&](std::size_t tree, bool directory) {
    std::string place = PartPlace(tree);
    if (directory) {
      AddDirectory(kTmpl, place, 0755);
    } else {
      AddFile(kTmpl, place);
    }
    builder_.Add(PlanBuilder::kCopies, OpCode::kBindPath, Step::kCopyTree, {place}, 1, 0,
                 static_cast<std::uint16_t>(tree));
    return place;
  };
  AddAttach(kTmpl, 0, part(0, true));
  for (Place& place : places_) {
    if (!place.part()) continue;
    if (place.tree != kNoTree) {
      AddAttach(kTmpl, place.tree, part(place.tree, place.directory), place.if_reachable);
    } else {
      place.tree = tree_count_++;
      AddDev(kTmpl, part(place.tree, true));
    }
  }
  builder_.Add(kTmpl, OpCode::kRootAt, Step::kEnterRoot, {PartPlace(0)});
  MountPlaces(kTmpl, /*own=*/false);
}

// Whether a slot's cloner can enter the root for its workers: it needs nothing of the home's after
// that, and no worker a copy of a part.
bool BlueprintMaker::InTreeFromBirth() const {
  return slots_ && spec_.root.mode != RootMode::kOverlay &&
         std::none_of(places_.begin(), places_.end(), [](const Place& place) {
           return place.part() || (place.fresh && !place.copy.empty());
         });
}

// A template's worker enters its copy of the finished tree. Below it stays the zygote's home: an
// empty directory, a /proc and a /sys. For a worker that might get there the home is taken away.
void BlueprintMaker::AddWorkerRoot() {
  constexpr List kWorker = PlanBuilder::kWorker;
  if (slots_) return AddSlotRoot();
  if (spec_.root.mode == RootMode::kOverlay) {
    AddOverlay(std::string(kHomeStaging));
  } else if (CannotLeave()) {
    builder_.Add(kWorker, OpCode::kEnterTree, Step::kEnterRoot, {"/"}, 0, 0, 0);
  } else {
    AddAttach(kWorker, 0, kHomeStaging);
    AddEnterRoot(kWorker, kHomeStaging);
  }
}

// The same in two parts. A slot's cloner mounts its copies once, in the home; a worker is born with
// a copy of all that, and copies no more than the parts that lie on mounts of its own.
void BlueprintMaker::AddSlotRoot() {
  constexpr List kSlot = PlanBuilder::kSlot;
  constexpr List kWorker = PlanBuilder::kWorker;
  if (InTreeFromBirth()) {
    builder_.Add(kSlot, OpCode::kEnterTree, Step::kEnterRoot, {"/"}, 0, 0, 0);
    builder_.Add(kWorker, OpCode::kRootAt, Step::kEnterRoot, {"/"});
    return;
  }
  for (const Place& place : places_) {
    if (!place.part()) continue;
    AddAttach(kSlot, place.tree, PartPlace(place.tree), place.if_reachable);
    builder_.Add(kWorker, OpCode::kBindPath, Step::kCopyTree, {PartPlace(place.tree)}, 1, 0,
                 static_cast<std::uint16_t>(place.tree));
  }
  if (spec_.root.mode == RootMode::kOverlay) {
    AddAttach(kSlot, 0, kHomeLower);
    AddOverlay(std::string(kHomeStaging));
  } else {
    AddAttach(kSlot, 0, kHomeStaging);
    builder_.Add(kWorker, OpCode::kEnterMount, Step::kEnterRoot, {kHomeStaging});
  }
}

// Mounts the overlay from tree 0 on staging/root and enters it.
void BlueprintMaker::AddOverlay(const std::string& staging) {
  constexpr List kWorker = PlanBuilder::kWorker;
  AddTmpfs(kWorker, staging, fmt::format("size={},mode=0755", spec_.root.overlay_bytes));
  for (const char* name : {"/upper", "/work", "/root"}) {
    AddDirectory(kWorker, staging + name, 0755);
  }
  std::string lower(kHomeLower);
  if (!slots_) {
    lower = staging + "/lower";
    AddDirectory(kWorker, lower, 0755);
    AddAttach(kWorker, 0, lower);
  }
  // userxattr: trusted.* attributes are not for a user namespace (5.11).
  builder_.Add(kWorker, OpCode::kMount, Step::kMountOverlay,
               {"overlay", staging + "/root",
                fmt::format("lowerdir={1},upperdir={0}/upper,workdir={0}/work{2}", staging, lower,
                            new_user_ ? ",userxattr" : "")},
               kernel::kMsNosuid | kernel::kMsNodev);
  here_[kWorker].clear();
  const bool stays = BornEmpty() || (shared_ == PlanBuilder::kTmpl && CannotLeave());
  if (stays) {
    builder_.Add(kWorker, OpCode::kEnterMount, Step::kEnterRoot, {staging + "/root"});
  } else {
    AddEnterRoot(kWorker, staging + "/root");
  }
}

// The zygote's home: a place to attach a worker's tree to, a /proc and a /sys with nothing hidden.
void BlueprintMaker::AddHome() {
  constexpr List kHome = PlanBuilder::kHome;
  builder_.Add(kHome, OpCode::kMakePrivate, Step::kPrivatePropagation);
  const auto bring = [&](const std::string& path) {
    const std::size_t tree = tree_count_++;
    builder_.Add(kHome, OpCode::kBindPath, Step::kBindPath, {path}, zygote_user_ ? 1 : 0, 0,
                 static_cast<std::uint16_t>(tree));
    return tree;
  };
  const Place* const new_sys = FindPlace(Place::What::kNew, "sysfs");
  const bool sys = new_sys != nullptr && new_sys->fresh;
  const std::size_t sys_tree = sys ? bring("/sys") : kNoTree;
  // A new one is for the owner of the pid namespace to mount, and the zygote is in the host's.
  const std::size_t proc_tree = zygote_user_ ? bring("/proc") : kNoTree;
  AddTmpfs(kHome, staging_, "size=16k,mode=0755");
  AddDirectory(kHome, staging_ + "/proc", 0555);
  AddDirectory(kHome, staging_ + std::string(kHomeStaging), 0755);
  if (slots_) {
    AddDirectory(kHome, staging_ + std::string(kHomeLower), 0755);
    for (const Place& place : places_) {
      if (!place.part()) continue;
      const std::string at = staging_ + PartPlace(place.tree);
      place.directory ? AddDirectory(kHome, at, 0755) : AddFile(kHome, at);
    }
  }
  if (sys) AddDirectory(kHome, staging_ + "/sys", 0555);
  if (proc_tree != kNoTree) {
    AddAttach(kHome, proc_tree, staging_ + "/proc");
  } else {
    builder_.Add(kHome, OpCode::kMount, Step::kMountProc, {"proc", staging_ + "/proc"},
                 kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec);
  }
  if (sys) AddAttach(kHome, sys_tree, staging_ + "/sys");
  AddEnterRoot(kHome, staging_);
}

// Those that workers may share, or each worker's own.
void BlueprintMaker::MountPlaces(List list, bool own) {
  for (const Place& place : places_) {
    if (place.own == own && place.what != Place::What::kHosts) MountPlace(list, place);
  }
  // A file below which nothing lies, and which comes out of /dev, wherever the root has that.
  const Place* const hosts = FindPlace(Place::What::kHosts);
  if (hosts != nullptr && hosts->own == own) MountPlace(list, *hosts);
}

void BlueprintMaker::MountPlace(List list, const Place& place) {
  const Place* const holder = HolderOf(place);
  // A mount of ours that is read-only by now had it made when it was made itself.
  if (place.make && (holder == nullptr || holder->what != Place::What::kDev)) {
    if (place.what == Place::What::kHosts) {
      // Where owners could not be mapped, /etc is nobody's, and the worker may make nothing there.
      In(list, place.at);
      builder_.Add(list, OpCode::kMakeFile, Step::kMakeFile, {place.at}, 1);
    } else {
      MakeTarget(list, holder == nullptr ? "/" : holder->at, place.at, place.directory);
    }
  }
  switch (place.what) {
    case Place::What::kTree:
    case Place::What::kNew:
      AddAttach(list, place.tree, place.at, place.if_reachable);
      break;
    case Place::What::kTmpfs:
      AddTmpfs(list, place.at, place.options, place.flags);
      break;
    case Place::What::kDev:
      if (place.tree != kNoTree) {
        AddAttach(list, place.tree, place.at);
      } else {
        AddDev(list, place.at);
      }
      break;
    case Place::What::kDevpts:
      // gid 5 is tty on Debian and its descendants; it must be mapped to be named.
      builder_.Add(list, OpCode::kMount, Step::kMountDevpts,
                   {"devpts", place.at,
                    range_ || !new_user_ ? "newinstance,ptmxmode=0666,mode=0620,gid=5"
                                         : "newinstance,ptmxmode=0666,mode=0620"},
                   kernel::kMsNosuid | kernel::kMsNoexec);
      here_[list].clear();
      break;
    case Place::What::kHosts:
      builder_.Add(list, OpCode::kBindPath, Step::kBindPath, {HostsSource() + "/hosts"}, 0, 0,
                   static_cast<std::uint16_t>(hosts_tree_));
      AddAttach(list, hosts_tree_, place.at, /*if_reachable=*/true);
      break;
    case Place::What::kHostsBelow:
      builder_.Add(list, OpCode::kMount, Step::kMountOverlay,
                   {"overlay", place.at, fmt::format("lowerdir={}:.", HostsSource())},
                   kernel::kMsRdonly | kernel::kMsNosuid | kernel::kMsNodev);
      here_[list].clear();
      break;
  }
}

// Makes the directories from the mount `holder` down to `target`, and that.
void BlueprintMaker::MakeTarget(List list, const std::string& holder, const std::string& target,
                                bool directory) {
  const std::size_t first = holder == "/" ? 1 : holder.size() + 1;
  for (std::size_t slash = target.find('/', first); slash != std::string::npos;
       slash = target.find('/', slash + 1)) {
    AddDirectory(list, target.substr(0, slash), 0755);
  }
  if (directory) {
    AddDirectory(list, target, 0755);
  } else {
    AddFile(list, target);
  }
}

void BlueprintMaker::AddAttach(List list, std::size_t tree, std::string_view target,
                               bool if_reachable) {
  builder_.Add(list, OpCode::kAttach, Step::kAttachTree, {target}, if_reachable ? 1 : 0, 0,
               static_cast<std::uint16_t>(tree));
  here_[list].clear();
}

void BlueprintMaker::AddEnterRoot(List list, std::string_view path) {
  builder_.Add(list, OpCode::kEnterRoot, Step::kEnterRoot, {path});
  here_[list].clear();
}

void BlueprintMaker::AddTmpfs(List list, std::string_view target, std::string_view options,
                              std::uint64_t flags) {
  builder_.Add(list, OpCode::kMount, Step::kMountTmpfs, {"tmpfs", target, options}, flags);
  here_[list].clear();
}

// Goes to the directory that `path` is in, unless the child is there already.
void BlueprintMaker::In(List list, std::string_view path) {
  const std::size_t slash = path.rfind('/');
  const std::string_view directory = slash == 0 ? "/" : path.substr(0, slash);
  if (here_[list] == directory) return;
  builder_.Add(list, OpCode::kGo, Step::kGo, {directory});
  here_[list] = directory;
}

void BlueprintMaker::AddDirectory(List list, std::string_view path, std::uint64_t mode) {
  In(list, path);
  builder_.Add(list, OpCode::kMakeDirectory, Step::kMakeDirectory, {path}, mode);
}

void BlueprintMaker::AddFile(List list, std::string_view path, std::string_view text) {
  In(list, path);
  builder_.Add(list, OpCode::kMakeFile, Step::kMakeFile, {path, text});
}

}  // namespace brood
