#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>
#include <string_view>

#include "spawn/blueprint_maker.h"
#include "spawn/status.h"

namespace brood {
namespace {

struct DeviceNode {
  std::string_view name;
  unsigned major;
  unsigned minor;
};
constexpr DeviceNode kDeviceNodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                                       {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

// Below /dev: see AddHiddenProc.
constexpr std::string_view kHidden = "/brood";

// What Docker and podman hide or protect below /proc.
constexpr std::string_view kMaskedFiles[] = {
    "/proc/kcore",       "/proc/keys",          "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/latency_stats", "/proc/interrupts"};
constexpr std::string_view kMaskedDirectories[] = {"/proc/acpi", "/proc/asound", "/proc/scsi"};
constexpr std::string_view kProtected[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/bus",
                                           "/proc/fs", "/proc/irq"};

}  // namespace

// The host's device nodes, for a child that may make none.
void BlueprintMaker::AddDeviceTrees() {
  for (const DeviceNode& node : kDeviceNodes) {
    device_trees_.push_back(AddHostTree(fmt::format("/dev/{}", node.name), false));
  }
}

absl::Status BlueprintMaker::OpenDeviceTrees() {
  for (const DeviceNode& node : kDeviceNodes) {
    BROOD_ASSIGN_OR_RETURN(const int tree, OpenHostTree(fmt::format("/dev/{}", node.name)));
    device_trees_.push_back(tree);
  }
  return absl::OkStatus();
}

// A minimal /dev on a tmpfs at `at`.
void BlueprintMaker::AddDev(List list, const std::string& at) {
  AddTmpfs(list, at, "size=64k,mode=0755", kernel::kMsNosuid | kernel::kMsNoexec);
  for (std::size_t i = 0; i < std::size(kDeviceNodes); ++i) {
    const DeviceNode& node = kDeviceNodes[i];
    const std::string path = fmt::format("{}/{}", at, node.name);
    if (device_trees_.empty()) {
      builder_.Add(list, OpCode::kMakeNode, Step::kMakeDevice, {path}, S_IFCHR | 0666,
                   makedev(node.major, node.minor));
    } else {
      AddFile(list, path);
      AddAttach(list, static_cast<std::size_t>(device_trees_[i]), path);
    }
  }
  const std::array<std::array<std::string_view, 2>, 5> links{{{"fd", "/proc/self/fd"},
                                                              {"stdin", "/proc/self/fd/0"},
                                                              {"stdout", "/proc/self/fd/1"},
                                                              {"stderr", "/proc/self/fd/2"},
                                                              {"ptmx", "pts/ptmx"}}};
  for (const auto& [name, target] : links) {
    builder_.Add(list, OpCode::kMakeSymlink, Step::kMakeSymlink,
                 {fmt::format("{}/{}", at, name), target});
  }
  AddDirectory(list, at + "/pts", 0755);
  AddDirectory(list, at + "/shm", 01777);
  AddDirectory(list, at + "/mqueue", 0755);  // empty; also what masked directories show
  if (spec_.nesting) AddDirectory(list, at + std::string(kHidden), 0755);
}

void BlueprintMaker::ProtectDev(List list, std::string_view at) {
  builder_.Add(list, OpCode::kRemount, Step::kRemount, {at},
               kernel::kMsRdonly | kernel::kMsNosuid | kernel::kMsNoexec);
}

// The sockets of the host's services live in /run, and a read-only mount does not keep anyone
// from connecting.
void BlueprintMaker::AddRun(List list) { AddTmpfs(list, "/run", "size=1m,mode=0755"); }

// What no two workers may share.
void BlueprintMaker::AddPrivateMounts() {
  constexpr List kWorker = PlanBuilder::kWorker;
  if (proc_tree_ < 0) {
    builder_.Add(kWorker, OpCode::kMount, Step::kMountProc, {"proc", "/proc"},
                 kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec);
  }
  // A forked function's own /proc, of which the call has a copy, is protected already.
  if (kind_ == PlanKind::kForked && spec_.is_new(NamespaceKind::kNet)) {
    AddLowPorts();
    AddPing();
  }
  AddMasks();
  if (spec_.nesting && proc_tree_ < 0) AddHiddenProc();
  // gid 5 is tty on Debian and its descendants; it must be mapped to be named.
  builder_.Add(kWorker, OpCode::kMount, Step::kMountDevpts,
               {"devpts", "/dev/pts",
                range_ || !new_user_ ? "newinstance,ptmxmode=0666,mode=0620,gid=5"
                                     : "newinstance,ptmxmode=0666,mode=0620"},
               kernel::kMsNosuid | kernel::kMsNoexec);
  const std::string sticky = fmt::format("size={},mode=1777", spec_.tmp_bytes);
  AddTmpfs(kWorker, "/dev/shm", sticky, kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec);
  const bool own_tmp = std::any_of(spec_.tmpfs.begin(), spec_.tmpfs.end(),
                                   [](const Tmpfs& tmpfs) { return tmpfs.target == "/tmp"; }) ||
                       std::any_of(spec_.binds.begin(), spec_.binds.end(),
                                   [](const Bind& bind) { return bind.target == "/tmp"; });
  if (!own_tmp) AddTmpfs(kWorker, "/tmp", sticky);
  for (const Tmpfs& tmpfs : spec_.tmpfs) {
    if (OnOurMounts(tmpfs.target) && tmpfs.target != "/tmp") {
      MakeTargetOnOurMounts(kWorker, tmpfs.target, true);
    }
    AddTmpfs(kWorker, tmpfs.target, fmt::format("size={},mode={:04o}", tmpfs.bytes, tmpfs.mode));
  }
  for (const auto& bind : binds_) {
    if (!UnderPrivateTmpfs(bind.target)) continue;
    if (bind.target != "/tmp") MakeTargetOnOurMounts(kWorker, bind.target, bind.directory);
    AddAttach(kWorker, bind.tree, bind.target);
  }
}

// A user namespace may mount a /proc only while its mount namespace has one that nothing lies over
// (mount_too_revealing), and on /proc lie our masks. One with nothing on it is kept where no path
// leads: below a tmpfs over the directory that it is in. In namespaces made from here it is locked
// in that place.
void BlueprintMaker::AddHiddenProc() {
  constexpr List kWorker = PlanBuilder::kWorker;
  constexpr std::uint64_t kFlags = kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec;
  const std::string place = fmt::format("/dev{}", kHidden);
  AddTmpfs(kWorker, place, "size=4k,mode=0755", kFlags);
  AddDirectory(kWorker, place + "/proc", 0555);
  builder_.Add(kWorker, OpCode::kMount, Step::kMountProc, {"proc", place + "/proc"}, kFlags);
  AddTmpfs(kWorker, place, "size=4k,mode=0555", kFlags | kernel::kMsRdonly);
}

// The worker's host ids own nothing, so files below /proc that only their owner may touch need no
// cover; every mount saved is saved for each worker. With the host's ids everything is covered, and
// what is the caller's where the worker has its one id.
void BlueprintMaker::AddMasks() {
  const auto needs_cover = [&](std::string_view path, mode_t others) {
    struct stat status = {};
    if (stat(std::string(path).c_str(), &status) != 0) return false;
    return !new_user_ || (status.st_mode & others) != 0 ||
           (!range_ && status.st_uid == machine_.uid);
  };
  for (const std::string_view path : kMaskedFiles) {
    if (!needs_cover(path, S_IROTH | S_IWOTH)) continue;
    builder_.Add(PlanBuilder::kWorker, OpCode::kMask, Step::kMaskPath, {path});
  }
  for (const std::string_view path : kMaskedDirectories) {
    if (!needs_cover(path, S_IXOTH)) continue;
    builder_.Add(PlanBuilder::kWorker, OpCode::kMask, Step::kMaskPath, {path}, 1);
  }
  for (const std::string_view path : kProtected) {
    // /proc/sys has entries that belong to the worker's own namespaces.
    if (path != "/proc/sys" && !needs_cover(path, S_IWOTH)) continue;
    builder_.Add(PlanBuilder::kWorker, OpCode::kWriteProtect, Step::kMaskPath, {path});
  }
}

}  // namespace brood
