#include <sys/stat.h>

#include <string>
#include <string_view>

#include "spawn/blueprint_maker.h"
#include "spawn/status.h"

namespace brood {
namespace {

// Where a zygote's home keeps the place to attach a worker's tree (see AddHome).
constexpr std::string_view kHomeStaging = "/mnt";

absl::StatusOr<std::string> StagingDirectory() {
  for (const char* candidate : {"/tmp", "/mnt", "/var/tmp", "/run"}) {
    struct stat status = {};
    if (lstat(candidate, &status) == 0 && S_ISDIR(status.st_mode)) return candidate;
  }
  return Error(absl::StatusCode::kFailedPrecondition,
               "none of /tmp, /mnt, /var/tmp and /run is a directory: brood needs one to attach "
               "the new root to");
}

}  // namespace

absl::Status BlueprintMaker::AddMounts() {
  BROOD_RETURN_IF_ERROR(OpenRootSource());
  BROOD_ASSIGN_OR_RETURN(staging_, StagingDirectory());
  BROOD_RETURN_IF_ERROR(OpenBindSources());
  const bool shared = shared_ == PlanBuilder::kTmpl;

  if (BornEmpty()) return AddMountsToNothing();
  builder_.Add(shared_, OpCode::kMakePrivate, Step::kPrivatePropagation);
  AddTreesByPath();
  if (spec_.root.mode == RootMode::kOverlay) {
    if (shared) {
      old_root_stays_ = CannotLeave();
      AddOverlayParts();
      AddOverlay(std::string(kHomeStaging));
      for (const Part& part : parts_) AddAttach(PlanBuilder::kWorker, part.tree, part.target);
    } else {
      AddOverlay(staging_);
      AddDevAndBinds(PlanBuilder::kWorker);
    }
  } else {
    AddAttach(shared_, 0, staging_);
    AddEnterRoot(shared_, staging_);
    for (const Part& mount : host_mounts_) AddAttach(shared_, mount.tree, mount.target);
    AddDevAndBinds(shared_);
    if (shared) {
      builder_.Add(PlanBuilder::kTmpl, OpCode::kLeaveOldRoot, Step::kLeaveOldRoot);
      builder_.Add(PlanBuilder::kCopies, OpCode::kBindPath, Step::kCopyTree, {"/"}, 1, 0, 0);
      AddWorkerRoot();
    }
  }
  if (shared) AddHome();
  AddPrivateMounts();
  if (!old_root_stays_) {
    builder_.Add(PlanBuilder::kWorker, OpCode::kLeaveOldRoot, Step::kLeaveOldRoot);
  }
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

// The root goes over a /proc of the host's with nothing hidden, without which the kernel lets no
// user namespace mount its own ("too revealing").
absl::Status BlueprintMaker::AddMountsToNothing() {
  constexpr List kWorker = PlanBuilder::kWorker;
  header_.clone_flags |= kernel::kCloneEmptyMntns;
  old_root_stays_ = true;
  BROOD_RETURN_IF_ERROR(OpenDeviceTrees());
  BROOD_ASSIGN_OR_RETURN(const int proc, OpenHostTree("/proc"));
  AddAttach(kWorker, static_cast<std::size_t>(proc), "/");
  if (spec_.root.mode == RootMode::kOverlay) {
    AddOverlay("/..");
  } else {
    builder_.Add(kWorker, OpCode::kEnterTree, Step::kEnterRoot, {"/"}, 0, 0, 0);
    for (const Part& mount : host_mounts_) AddAttach(kWorker, mount.tree, mount.target);
  }
  AddDevAndBinds(kWorker);
  AddPrivateMounts();
  return absl::OkStatus();
}

// A template's worker enters its copy of the finished tree. Below it stays the zygote's home: an
// empty directory, and a /proc. For a worker that might get there the home is taken away.
void BlueprintMaker::AddWorkerRoot() {
  if (CannotLeave()) {
    builder_.Add(PlanBuilder::kWorker, OpCode::kEnterTree, Step::kEnterRoot, {"/"}, 0, 0, 0);
    old_root_stays_ = true;
    return;
  }
  AddAttach(PlanBuilder::kWorker, 0, kHomeStaging);
  AddEnterRoot(PlanBuilder::kWorker, kHomeStaging);
}

void BlueprintMaker::AddDevAndBinds(List list) {
  AddDev(list, "/dev");
  if (spec_.root.mode == RootMode::kHostReadOnly) AddRun(list);
  for (const auto& bind : binds_) {
    if (UnderPrivateTmpfs(bind.target)) continue;  // after that tmpfs: AddPrivateMounts
    if (OnOurMounts(bind.target)) MakeTargetOnOurMounts(list, bind.target, bind.directory);
    AddAttach(list, bind.tree, bind.target);
  }
  if (proc_tree_ >= 0) AddAttach(list, static_cast<std::size_t>(proc_tree_), "/proc");
  ProtectDev(list, "/dev");
}

void BlueprintMaker::MakeTargetOnOurMounts(List list, const std::string& target, bool directory) {
  for (std::size_t slash = target.find('/', 1); slash != std::string::npos;
       slash = target.find('/', slash + 1)) {
    AddDirectory(list, target.substr(0, slash), 0755);
  }
  if (directory) {
    AddDirectory(list, target, 0755);
  } else {
    AddFile(list, target);
  }
}

// Mounts the overlay from tree 0 on staging/root and enters it.
void BlueprintMaker::AddOverlay(const std::string& staging) {
  constexpr List kWorker = PlanBuilder::kWorker;
  AddTmpfs(kWorker, staging, fmt::format("size={},mode=0755", spec_.root.overlay_bytes));
  for (const char* name : {"/lower", "/upper", "/work", "/root"}) {
    AddDirectory(kWorker, staging + name, 0755);
  }
  AddAttach(kWorker, 0, staging + "/lower");
  // userxattr: trusted.* attributes are not for a user namespace (5.11).
  builder_.Add(kWorker, OpCode::kMount, Step::kMountOverlay,
               {"overlay", staging + "/root",
                fmt::format("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work{1}", staging,
                            new_user_ ? ",userxattr" : "")},
               kernel::kMsNosuid | kernel::kMsNodev);
  if (old_root_stays_) {
    builder_.Add(kWorker, OpCode::kEnterMount, Step::kEnterRoot, {staging + "/root"});
  } else {
    AddEnterRoot(kWorker, staging + "/root");
  }
}

// An overlay is each worker's own, so the template keeps what lies on it as separate parts:
// directories /0, /1, ... of its tree, copied one by one.
void BlueprintMaker::AddOverlayParts() {
  constexpr List kTmpl = PlanBuilder::kTmpl;
  AddTmpfs(kTmpl, staging_, "size=1m,mode=0755");
  const auto part = [&](std::size_t tree, const std::string& target, bool directory) {
    std::string place = fmt::format("{}/{}", staging_, tree);
    if (directory) {
      AddDirectory(kTmpl, place, 0755);
    } else {
      AddFile(kTmpl, place);
    }
    if (!target.empty()) parts_.push_back({tree, target});
    builder_.Add(PlanBuilder::kCopies, OpCode::kBindPath, Step::kCopyTree,
                 {fmt::format("/{}", tree)}, 1, 0, static_cast<std::uint16_t>(tree));
    return place;
  };
  AddAttach(kTmpl, 0, part(0, "", true));
  const std::size_t dev = tree_count_++;
  const std::string dev_place = part(dev, "/dev", true);
  AddDev(kTmpl, dev_place);
  ProtectDev(kTmpl, dev_place);
  for (const auto& bind : binds_) {
    AddAttach(kTmpl, bind.tree, part(bind.tree, bind.target, bind.directory));
  }
  if (proc_tree_ >= 0) {
    const auto tree = static_cast<std::size_t>(proc_tree_);
    AddAttach(kTmpl, tree, part(tree, "/proc", true));
  }
  AddEnterRoot(kTmpl, staging_);
  builder_.Add(kTmpl, OpCode::kLeaveOldRoot, Step::kLeaveOldRoot);
}

// The zygote's home: a place to attach a worker's tree to, and a /proc with nothing hidden,
// without which the kernel lets no user namespace mount its own ("too revealing").
void BlueprintMaker::AddHome() {
  constexpr List kHome = PlanBuilder::kHome;
  builder_.Add(kHome, OpCode::kMakePrivate, Step::kPrivatePropagation);
  AddTmpfs(kHome, staging_, "size=16k,mode=0755");
  AddDirectory(kHome, staging_ + "/proc", 0555);
  AddDirectory(kHome, staging_ + std::string(kHomeStaging), 0755);
  if (zygote_user_) {
    // A new one is for the owner of the pid namespace to mount, and the zygote is in the host's.
    const auto tree = static_cast<std::uint16_t>(tree_count_++);
    builder_.Add(kHome, OpCode::kBindPath, Step::kBindPath, {"/proc"}, 1, 0, tree);
    AddAttach(kHome, tree, staging_ + "/proc");
  } else {
    builder_.Add(kHome, OpCode::kMount, Step::kMountProc, {"proc", staging_ + "/proc"},
                 kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec);
  }
  AddEnterRoot(kHome, staging_);
  builder_.Add(kHome, OpCode::kLeaveOldRoot, Step::kLeaveOldRoot);
}

void BlueprintMaker::AddAttach(List list, std::size_t tree, std::string_view target) {
  builder_.Add(list, OpCode::kAttach, Step::kAttachTree, {target}, 0, 0,
               static_cast<std::uint16_t>(tree));
}

void BlueprintMaker::AddEnterRoot(List list, std::string_view path) {
  builder_.Add(list, OpCode::kEnterRoot, Step::kEnterRoot, {path});
}

void BlueprintMaker::AddTmpfs(List list, std::string_view target, std::string_view options,
                              std::uint64_t flags) {
  builder_.Add(list, OpCode::kMount, Step::kMountTmpfs, {"tmpfs", target, options}, flags);
}

void BlueprintMaker::AddDirectory(List list, std::string_view path, std::uint64_t mode) {
  builder_.Add(list, OpCode::kMakeDirectory, Step::kMakeDirectory, {path}, mode);
}

void BlueprintMaker::AddFile(List list, std::string_view path) {
  builder_.Add(list, OpCode::kMakeNode, Step::kMakeDevice, {path}, S_IFREG | 0644);
}

}  // namespace brood
