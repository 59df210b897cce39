// SPDX-License-Identifier: Apache-2.0

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

#include "spawn/base/status.h"
#include "spawn/plan/blueprint_maker.h"

namespace brood {
namespace {

struct DeviceNode {
  std::string_view name;
  unsigned major;
  unsigned minor;
};
constexpr DeviceNode kDeviceNodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
                                       {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};

// Below /dev, and brood's own: an empty directory (see AddHiddenProc), and what is put elsewhere.
constexpr char kHidden[] = "brood";

// What Docker and podman hide or protect below /proc and /sys.
constexpr std::string_view kMaskedFiles[] = {
    "/proc/kcore",       "/proc/keys",        "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/latency_stats",
    "/proc/interrupts",  "/proc/slabinfo",    "/proc/vmallocinfo"};
constexpr std::string_view kMaskedDirectories[] = {"/proc/acpi", "/proc/asound", "/proc/scsi"};
constexpr std::string_view kProtected[] = {"/proc/sys", "/proc/sysrq-trigger", "/proc/bus",
                                           "/proc/fs", "/proc/irq"};
// Of the machine, and for root alone: hidden where the worker has the host's ids.
constexpr std::string_view kMaskedOfSys[] = {"/sys/firmware", "/sys/devices/virtual/powercap"};

}  // namespace

// A minimal /dev, made by a launcher that may make device nodes, or by the child. That has the
// host's nodes instead: brought by the launcher to one that has nothing of the host's before it,
// else copied by path.
void BlueprintMaker::PrepareDev() {
  if (machine_.makes_nodes) {
    // Root among the workers with the host's ids could write to it, with CAP_SYS_ADMIN.
    out_.dev_ = std::make_unique<DevTree>(DevEntries(), /*shared=*/new_user_);
    out_.dev_index_ = FindPlace(Place::What::kDev)->tree = tree_count_++;
    return;
  }
  for (const DeviceNode& node : kDeviceNodes) {
    const std::string path = fmt::format("/dev/{}", node.name);
    device_trees_.push_back(
        BornEmpty() ? AddTreeSource(path, kernel::kMountAttrNosuid | kernel::kMountAttrNoexec,
                                    /*idmap=*/false, /*recursive=*/false)
                    : AddHostTree(path, false));
  }
}

// All that will be needed there, since it is read-only then.
std::vector<DevEntry> BlueprintMaker::DevEntries() const {
  using Kind = DevEntry::Kind;
  std::vector<DevEntry> entries;
  for (const DeviceNode& node : kDeviceNodes) {
    entries.push_back({Kind::kNode, std::string(node.name), {}, makedev(node.major, node.minor)});
  }
  entries.push_back({Kind::kLink, "fd", "/proc/self/fd"});
  entries.push_back({Kind::kLink, "stdin", "/proc/self/fd/0"});
  entries.push_back({Kind::kLink, "stdout", "/proc/self/fd/1"});
  entries.push_back({Kind::kLink, "stderr", "/proc/self/fd/2"});
  entries.push_back({Kind::kLink, "ptmx", "pts/ptmx"});
  entries.push_back({Kind::kDirectory, "mqueue", {}});  // empty; also what masked directories show
  if (spec_.nesting || !hosts_text_.empty()) entries.push_back({Kind::kDirectory, kHidden, {}});
  if (!hosts_text_.empty()) {
    entries.push_back({Kind::kDirectory, fmt::format("{}/etc", kHidden), {}});
    entries.push_back({Kind::kFile, fmt::format("{}/etc/hosts", kHidden), hosts_text_});
  }
  const Place& dev = *FindPlace(Place::What::kDev);
  for (const Place& place : places_) {
    if (!place.make || HolderOf(place) != &dev) continue;
    const std::string name = place.at.substr(dev.at.size() + 1);
    for (std::size_t slash = name.find('/'); slash != std::string::npos;
         slash = name.find('/', slash + 1)) {
      entries.push_back({Kind::kDirectory, name.substr(0, slash), {}});
    }
    entries.push_back({place.directory ? Kind::kDirectory : Kind::kFile, name, {}});
  }
  return entries;
}

// On a tmpfs at `at`, by a child that may make no nodes.
void BlueprintMaker::AddDev(List list, const std::string& at) {
  AddTmpfs(list, at, "size=64k,mode=0755", kernel::kMsNosuid | kernel::kMsNoexec);
  for (const DevEntry& entry : DevEntries()) {
    const std::string path = fmt::format("{}/{}", at, entry.name);
    switch (entry.kind) {
      case DevEntry::Kind::kNode:
        AddFile(list, path);
        break;
      case DevEntry::Kind::kLink:
        In(list, path);
        builder_.Add(list, OpCode::kMakeSymlink, Step::kMakeSymlink, {path, entry.text});
        break;
      case DevEntry::Kind::kDirectory:
        AddDirectory(list, path, 0755);
        break;
      case DevEntry::Kind::kFile:
        AddFile(list, path, entry.text);
        break;
    }
  }
  for (std::size_t i = 0; i < device_trees_.size(); ++i) {
    AddAttach(list, device_trees_[i], fmt::format("{}/{}", at, kDeviceNodes[i].name));
  }
  builder_.Add(list, OpCode::kRemount, Step::kRemount, {at},
               kernel::kMsRdonly | kernel::kMsNosuid | kernel::kMsNoexec);
  here_[list].clear();
}

// The directory below the worker's /dev that holds its /etc/hosts.
std::string BlueprintMaker::HostsSource() const {
  return fmt::format("{}/{}/etc", FindPlace(Place::What::kDev)->at, kHidden);
}

// Made while an old one with nothing hidden can be seen.
void BlueprintMaker::AddNewMounts() {
  constexpr List kWorker = PlanBuilder::kWorker;
  const auto add = [&](const Place& place) {
    const std::size_t tree = tree_count_++;
    const List list = place.fresh ? kWorker : shared_;
    builder_.Add(list, OpCode::kNewMount, place.step, {place.type, place.copy}, place.flags,
                 place.if_reachable ? 1 : 0, static_cast<std::uint16_t>(tree));
    return tree;
  };
  for (Place& place : places_) {
    if (place.what != Place::What::kNew) continue;
    if (!place.fresh) {
      builder_.Add(shared_, OpCode::kUnshare, Step::kUnshare, {"net"}, kernel::kCloneNewNet);
      builder_.Add(shared_, OpCode::kLoopback, Step::kLoopback);
    }
    place.tree = add(place);
  }
  const Place* const proc = FindPlace(Place::What::kNew, "proc");
  const std::size_t tree = proc != nullptr ? proc->tree : kNoTree;
  if (spec_.is_new(NamespaceKind::kNet)) AddNetDefaults(tree);
  if (slots_) AddSeal(tree);
  if (spec_.nesting && proc != nullptr) hidden_proc_ = add(*proc);
}

// What no two workers may share.
void BlueprintMaker::AddPrivateMounts() {
  MountPlaces(PlanBuilder::kWorker, /*own=*/true);
  if (hidden_proc_ != kNoTree) AddHiddenProc();
  AddMasks();
}

// A user namespace may mount a /proc only while its mount namespace has one that nothing lies over
// (mount_too_revealing), and on /proc lie our masks. One with nothing on it is kept where no path
// leads: below a tmpfs over the directory that it is in. In namespaces made from here it is locked
// in that place.
void BlueprintMaker::AddHiddenProc() {
  constexpr List kWorker = PlanBuilder::kWorker;
  constexpr std::uint64_t kFlags = kernel::kMsNosuid | kernel::kMsNodev | kernel::kMsNoexec;
  const std::string place = fmt::format("{}/{}", FindPlace(Place::What::kDev)->at, kHidden);
  AddTmpfs(kWorker, place, "size=4k,mode=0755", kFlags);
  AddDirectory(kWorker, place + "/proc", 0555);
  AddAttach(kWorker, hidden_proc_, place + "/proc");
  AddTmpfs(kWorker, place, "size=4k,mode=0555", kFlags | kernel::kMsRdonly);
}

// The worker's host ids own nothing, so files below /proc that only their owner may touch need no
// cover; every mount saved is saved for each worker. With the host's ids everything is covered, and
// what is the caller's where the worker has its one id.
void BlueprintMaker::AddMasks() {
  constexpr List kWorker = PlanBuilder::kWorker;
  const auto needs_cover = [&](std::string_view path, mode_t others) {
    struct stat status = {};
    if (stat(std::string(path).c_str(), &status) != 0) return false;
    return !new_user_ || (status.st_mode & others) != 0 ||
           (!range_ && status.st_uid == machine_.uid);
  };
  const auto add = [&](OpCode code, const std::string& path, bool directory) {
    In(kWorker, path);
    builder_.Add(kWorker, code, Step::kMaskPath, {path}, directory ? 1 : 0);
  };
  const auto find = [&](std::string_view type) {
    const Place* const made = FindPlace(Place::What::kNew, type);
    return made != nullptr ? made : FindPlace(Place::What::kTree, type);
  };
  const std::string proc = find("proc")->at;
  const auto in_proc = [&](std::string_view path) {
    return proc + std::string(path.substr(std::string_view("/proc").size()));
  };
  for (const std::string_view path : kMaskedFiles) {
    // The kernel tells of keys whose owners are among the reader's ids, which are brood's own then.
    if (new_user_ && machine_.id_ranges && path == "/proc/keys") continue;
    if (needs_cover(path, S_IROTH | S_IWOTH)) add(OpCode::kMask, in_proc(path), false);
  }
  for (const std::string_view path : kMaskedDirectories) {
    if (needs_cover(path, S_IXOTH)) add(OpCode::kMask, in_proc(path), true);
  }
  for (const std::string_view path : kProtected) {
    // /proc/sys has entries that belong to the worker's own namespaces.
    if (path != "/proc/sys" && !needs_cover(path, S_IWOTH)) continue;
    add(OpCode::kWriteProtect, in_proc(path), false);
  }
  const Place* const sys = find("sysfs");
  if (sys == nullptr || new_user_) return;
  for (const std::string_view path : kMaskedOfSys) {
    add(OpCode::kMask, sys->at + std::string(path.substr(std::string_view("/sys").size())), true);
  }
}

}  // namespace brood
