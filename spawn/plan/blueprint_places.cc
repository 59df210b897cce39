// SPDX-License-Identifier: Apache-2.0

// What is mounted below a worker's root.
//
// Each place is resolved below the root as it will be then, with what is mounted above it; what
// lies nearer to the root is mounted first, so nothing given is ever covered. What brood mounts by
// itself gives way to what the spec asks for, save /proc, /dev and /dev/pts.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/paths.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/host/host_mounts.h"
#include "spawn/plan/blueprint_maker.h"

namespace brood {
namespace {

std::ptrdiff_t Depth(std::string_view path) { return std::count(path.begin(), path.end(), '/'); }

bool IsPrivate(std::string_view path) {
  return IsUnder(path, "/proc") || IsUnder(path, "/dev") || IsUnder(path, "/run") ||
         IsUnder(path, "/tmp") || IsUnder(path, "/sys");
}

}  // namespace

BlueprintMaker::Place& BlueprintMaker::AddPlace(Place::What what, std::string asked) {
  Place& place = places_.emplace_back();
  place.what = what;
  place.asked = std::move(asked);
  return place;
}

absl::Status BlueprintMaker::AddPlaces() {
  AddOwn();
  BROOD_RETURN_IF_ERROR(AddGiven());
  if (kind_ != PlanKind::kForked) {
    if (spec_.root.mode == RootMode::kHostReadOnly) AddHostMounts();
    if (spec_.root.mode == RootMode::kOverlay) AddMountsBelowRoot();
  }
  BROOD_RETURN_IF_ERROR(ResolvePlaces());
  BROOD_RETURN_IF_ERROR(AddHosts());
  AddResolvConf();
  std::stable_sort(places_.begin(), places_.end(),
                   [](const Place& a, const Place& b) { return Depth(a.at) < Depth(b.at); });
  for (std::size_t i = 0; i < places_.size(); ++i) {
    const bool below_own = std::any_of(
        places_.begin(), places_.begin() + static_cast<std::ptrdiff_t>(i),
        [&](const Place& above) { return above.own && IsUnder(places_[i].at, above.at); });
    places_[i].own |= below_own || spec_.root.mode == RootMode::kOverlay;
  }
  return absl::OkStatus();
}

absl::Status BlueprintMaker::AddGiven() {
  for (const Bind& bind : spec_.binds) {
    Place& place = AddPlace(Place::What::kTree, bind.target);
    place.doing = "bind " + bind.source + " on";
    if (kind_ == PlanKind::kForked) {
      struct stat status = {};
      place.source.reset(open(bind.source.c_str(), O_PATH | O_CLOEXEC));
      place.directory = fstat(place.source.get(), &status) != 0 || S_ISDIR(status.st_mode);
      continue;
    }
    BROOD_ASSIGN_OR_RETURN(place.tree, AddBindSource(bind, place));
  }
  for (const Tmpfs& tmpfs : spec_.tmpfs) {
    Place& place = AddPlace(Place::What::kTmpfs, tmpfs.target);
    place.doing = "mount a tmpfs on";
    place.options = fmt::format("size={},mode={:04o}", tmpfs.bytes, tmpfs.mode);
    place.flags = kernel::kMsNosuid | kernel::kMsNodev;
    place.own = true;
  }
  return absl::OkStatus();
}

// What every worker has, whatever its root.
void BlueprintMaker::AddOwn() {
  constexpr std::uint64_t kPlain = kernel::kMsNosuid | kernel::kMsNodev;
  if (!spec_.is_new(NamespaceKind::kPid) && new_user_) {
    // A new one is for the owner of the pid namespace to mount.
    AddPlace(Place::What::kTree, "/proc").type = "proc";
  } else {
    Place& proc = AddPlace(Place::What::kNew, "/proc");
    proc.type = "proc";
    proc.step = Step::kMountProc;
    proc.flags = kernel::kMountAttrNosuid | kernel::kMountAttrNodev | kernel::kMountAttrNoexec;
    proc.own = true;
  }
  AddPlace(Place::What::kDev, "/dev");
  AddPlace(Place::What::kDevpts, "/dev/pts").own = true;
  const std::string sticky = fmt::format("size={},mode=1777", spec_.tmp_bytes);
  const auto tmpfs = [&](std::string asked, std::string options, std::uint64_t flags) {
    Place& place = AddPlace(Place::What::kTmpfs, std::move(asked));
    place.options = std::move(options);
    place.flags = flags;
    place.own = true;
  };
  tmpfs("/dev/shm", sticky, kPlain | kernel::kMsNoexec);
  tmpfs("/tmp", sticky, kPlain);
  // The sockets of the host's services live in /run, and a read-only mount does not keep anyone
  // from connecting.
  tmpfs("/run", "size=1m,mode=0755", kPlain);
  if (kind_ == PlanKind::kForked) return;  // its process has the rest

  constexpr std::uint64_t kReadOnly = kernel::kMountAttrRdonly | kernel::kMountAttrNosuid |
                                      kernel::kMountAttrNodev | kernel::kMountAttrNoexec;
  // /sys/class/net shows the network namespace that it was mounted in. The kernel goes through all
  // sysfs that there are to make one more, so a thousand parked workers have one together, of a
  // network namespace as empty as theirs.
  if (spec_.is_new(NamespaceKind::kNet)) {
    Place& sys = AddPlace(Place::What::kNew, "/sys");
    sys.type = "sysfs";
    sys.copy = "/sys";
    sys.step = Step::kMountSys;
    sys.flags = kReadOnly;
    sys.fresh = sys.own =
        shared_ != PlanBuilder::kTmpl || !machine_.mount_admin || MayAddInterfaces();
  } else if (machine_.mount_admin) {
    Place& sys = AddPlace(Place::What::kTree, "/sys");
    sys.type = "sysfs";
    sys.tree = AddTreeSource("/sys", kReadOnly, /*idmap=*/false, /*recursive=*/false);
  }
  // Runtimes such as the JVM, Go and Node size themselves by the limits they read there.
  if (spec_.use_cgroup && spec_.is_new(NamespaceKind::kCgroup) && places_.back().type == "sysfs") {
    Place& cgroup = AddPlace(Place::What::kNew, "/sys/fs/cgroup");
    cgroup.type = "cgroup2";
    cgroup.step = Step::kMountCgroup;
    cgroup.flags = kReadOnly;
    cgroup.own = true;
    cgroup.if_reachable = true;
  }
}

// A worker on the host's tree gets these, save the ones that tell of the host, hold its sockets, or
// that brood replaces: what is never attached can never be uncovered, and need not be copied for
// each worker.
void BlueprintMaker::AddHostMounts() {
  // Without privilege the root comes with all of them.
  if (!machine_.mount_admin) return;
  for (std::string& mount : MountsOnRoot()) {
    if (IsPrivate(mount)) continue;
    if (range_ && !ReachableByOthers(mount)) continue;
    Place& place = AddPlace(Place::What::kTree, mount);
    place.if_reachable = true;
    place.tree =
        AddTreeSource(std::move(mount),
                      kernel::kMountAttrNosuid | kernel::kMountAttrNodev | kernel::kMountAttrRdonly,
                      /*idmap=*/false, /*recursive=*/true, /*optional=*/true);
  }
}

// An overlay shows nothing of what is mounted below its lower directory, so that is mounted over it
// again.
void BlueprintMaker::AddMountsBelowRoot() {
  if (!machine_.mount_admin) return;
  std::array<char, PATH_MAX> text;
  if (realpath(spec_.root.directory.c_str(), text.data()) == nullptr) return;
  const std::string root = text.data();
  for (std::string& mount : MountsBelow(root)) {
    std::string below = root == "/" ? mount : mount.substr(root.size());
    if (IsPrivate(below)) continue;
    out_.fallbacks_.push_back({fmt::format("writes to {} in the overlay", below),
                               "read-only, since another filesystem is mounted there", 0});
    Place& place = AddPlace(Place::What::kTree, std::move(below));
    place.if_reachable = true;
    place.tree =
        AddTreeSource(std::move(mount),
                      kernel::kMountAttrNosuid | kernel::kMountAttrNodev | kernel::kMountAttrRdonly,
                      /*idmap=*/true, /*recursive=*/true, /*optional=*/true);
  }
}

// A place is resolved with all that is mounted above it in view, which is known only when all are
// resolved: so again, in the order found, until nothing moves.
absl::Status BlueprintMaker::ResolvePlaces() {
  constexpr int kMostRounds = 8;
  std::vector<std::string> before;
  for (Place& place : places_) place.at = place.asked;
  for (int round = 0; round < kMostRounds; ++round) {
    std::stable_sort(places_.begin(), places_.end(),
                     [](const Place& a, const Place& b) { return Depth(a.at) < Depth(b.at); });
    BROOD_RETURN_IF_ERROR(DropCovered());
    view_->Clear();
    std::vector<std::string> found;
    for (std::size_t i = 0; i < places_.size(); ++i) {
      BROOD_ASSIGN_OR_RETURN(const bool there, ResolvePlace(places_[i]));
      if (!there) {
        places_.erase(places_.begin() + static_cast<std::ptrdiff_t>(i--));
        continue;
      }
      Place& place = places_[i];
      BROOD_RETURN_IF_ERROR(CheckGiven(place));
      found.push_back(place.at);
      if (place.if_reachable) continue;  // seen through the root already
      const int source = place.source.get();
      view_->Lay(place.at, UniqueFd(source < 0 ? -1 : fcntl(source, F_DUPFD_CLOEXEC, 0)));
    }
    if (found == before) return DropCovered();
    before = std::move(found);
  }
  return InvalidError("links in the root {} make the mounts below it lead into each other",
                      spec_.root.directory.empty() ? "/" : spec_.root.directory);
}

// Whether the root has the place.
absl::StatusOr<bool> BlueprintMaker::ResolvePlace(Place& place) {
  const absl::StatusOr<RootView::Found> found = view_->Resolve(place.asked);
  if (place.given()) {
    const auto cannot = [&](absl::StatusCode code, std::string_view why) {
      return Error(code, "cannot {} {} inside the root: {}", place.doing, place.asked, why);
    };
    if (!found.ok()) {
      const bool missing = found.status().code() == absl::StatusCode::kNotFound;
      return cannot(found.status().code(),
                    fmt::format("{}{}", Message(found.status()),
                                missing ? "; make it first, or choose the root mode overlay, in "
                                          "which it is made"
                                        : ""));
    }
    if (found->exists && found->directory != place.directory) {
      return cannot(absl::StatusCode::kInvalidArgument,
                    place.directory ? "it is not a directory" : "it is a directory");
    }
  } else if (place.if_reachable) {
    // The kernel's own word for where it is, which no link is on the way to.
    if (!found.ok() || !found->exists) return false;
  } else {
    const bool needed = place.asked == "/proc" || place.asked == "/dev" || place.asked == "/tmp";
    const bool there = found.ok() && found->directory && (found->exists || found->ours);
    if (!there && needed && !(found.ok() && found->ours)) {
      return Error(absl::StatusCode::kFailedPrecondition,
                   "the root directory {0} has no directory {1}, where the worker's own {1} is "
                   "mounted: make it (mkdir -p {0}{1})",
                   spec_.root.directory, place.asked);
    }
    if (!there && !(found.ok() && found->ours)) return false;
  }
  place.at = found->path;
  place.make = found->ours && !found->exists;
  // What brood mounts shows what it shows, not what the root has below.
  if (place.type == "sysfs") place.source.reset(open("/sys", O_PATH | O_CLOEXEC));
  return true;
}

absl::Status BlueprintMaker::CheckGiven(const Place& place) const {
  const auto cannot = [&](std::string_view why) {
    return InvalidError("cannot {} {}: {}", place.doing, place.asked, why);
  };
  for (const Place& own : places_) {
    if (&own == &place || own.given()) continue;
    const bool proc = own.asked == "/proc";
    if (!place.given()) {
      const bool one =
          place.at == own.at && (place.what != Place::What::kTmpfs || place.what != own.what);
      if ((proc && IsUnder(place.at, own.at)) || one) {
        return Error(absl::StatusCode::kFailedPrecondition,
                     "{0} of the root {1} leads into its {2}: each must be a directory of its own",
                     place.asked, spec_.root.directory, own.asked);
      }
      continue;
    }
    if ((proc || own.what == Place::What::kDevpts) && IsUnder(place.at, own.at)) {
      return cannot(fmt::format("{} is the worker's own", own.asked));
    }
    if (own.what == Place::What::kDev && place.at == own.at) {
      return cannot("/dev is the worker's own: choose single files below it");
    }
  }
  if (place.given() && place.at == "/") return cannot("it is the root: give that as the root");
  return absl::OkStatus();
}

// What brood mounts of itself gives way where the spec mounts something there or above.
absl::Status BlueprintMaker::DropCovered() {
  std::vector<std::string> given;
  for (const Place& place : places_) {
    if (!place.given()) continue;
    const auto same = std::find_if(places_.begin(), places_.end(), [&](const Place& other) {
      return &other != &place && other.given() && other.at == place.at;
    });
    if (same != places_.end()) {
      return InvalidError("cannot {} {}: {} is to be mounted there, too", same->doing, same->asked,
                          place.asked);
    }
    given.push_back(place.at);
  }
  std::erase_if(places_, [&](const Place& place) {
    const bool stays = place.given() || place.asked == "/proc" || place.asked == "/dev" ||
                       place.asked == "/dev/pts";
    return !stays && std::any_of(given.begin(), given.end(),
                                 [&](const auto& at) { return IsUnder(place.at, at); });
  });
  return absl::OkStatus();
}

const BlueprintMaker::Place* BlueprintMaker::FindPlace(Place::What what,
                                                       std::string_view type) const {
  for (const Place& place : places_) {
    if (place.what == what && (type.empty() || place.type == type)) return &place;
  }
  return nullptr;
}

// The mount on which `place` lies; null: the root.
const BlueprintMaker::Place* BlueprintMaker::HolderOf(const Place& place) const {
  const Place* holder = nullptr;
  for (const Place& each : places_) {
    if (&each == &place) break;
    if (!IsUnder(place.at, each.at)) continue;
    if (holder == nullptr || each.at.size() >= holder->at.size()) holder = &each;
  }
  return holder;
}

// A name of its own is known to nobody, and the host's addresses mean nothing in another network.
absl::Status BlueprintMaker::AddHosts() {
  constexpr const char* kWanted = "an /etc/hosts that names localhost and itself";
  if (kind_ == PlanKind::kForked) return absl::OkStatus();
  hosts_text_ = HostsText();
  if (hosts_text_.empty()) return absl::OkStatus();
  Place place;
  place.what = Place::What::kHosts;
  place.asked = "/etc/hosts";
  place.directory = false;
  absl::StatusOr<RootView::Found> found = view_->Resolve(place.asked);
  const auto given = [&](std::string_view at) {
    return std::any_of(places_.begin(), places_.end(),
                       [&](const Place& each) { return each.given() && IsUnder(each.at, at); });
  };
  if (!found.ok() || !found->exists) {
    found = view_->Resolve("/etc");
    if (!found.ok() || !found->directory) {  // nothing in this root looks names up
      hosts_text_.clear();
      return absl::OkStatus();
    }
    found->path += "/hosts";
    place.make = spec_.root.mode == RootMode::kOverlay;
    if (!place.make) {
      place.what = Place::What::kHostsBelow;
      found->path = found->path.substr(0, found->path.rfind('/'));
      place.directory = true;
    }
    const bool dev_comes_later = Depth(FindPlace(Place::What::kDev)->at) > Depth(found->path);
    if (spec_.root.mode == RootMode::kReadWrite || found->path == "/" ||
        (!place.make && (given(found->path) || dev_comes_later))) {
      out_.fallbacks_.push_back(
          {kWanted, "none, since the root has no such file: make an empty one", 0});
      hosts_text_.clear();
      return absl::OkStatus();
    }
    if (place.make) {  // in the overlay
      out_.unmapped_fallbacks_.push_back(
          {kWanted, "none, since the root has no such file and its /etc belongs to nobody", 0});
    }
  } else {
    if (found->directory || given(found->path)) {
      hosts_text_.clear();
      return absl::OkStatus();
    }
    place.make = found->ours && !found->exists;
  }
  place.at = std::move(found->path);
  place.own = place.what == Place::What::kHostsBelow;
  if (place.what == Place::What::kHosts) hosts_tree_ = tree_count_++;
  places_.push_back(std::move(place));
  return absl::OkStatus();
}

std::string BlueprintMaker::HostsText() const {
  const bool own_net = spec_.is_new(NamespaceKind::kNet);
  const bool own_name = spec_.is_new(NamespaceKind::kUts) && !spec_.hostname.empty();
  if (!own_net && !own_name) return {};
  std::string text;
  if (own_net) {
    text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";
  } else {
    text = TextOf("/etc/hosts");
    if (!text.empty() && text.back() != '\n') text += '\n';
  }
  std::string name = own_name ? spec_.hostname : std::string();
  if (!own_name) {
    std::array<char, 256> host{};
    if (gethostname(host.data(), host.size() - 1) == 0) name = host.data();
  }
  if (!name.empty() && name != "localhost") text += fmt::format("127.0.0.1\t{}\n", name);
  return text;
}

// /etc/resolv.conf is often a link into /run, which is the worker's own: with the host's network it
// gets the text that the host's name leads to.
void BlueprintMaker::AddResolvConf() {
  if (kind_ == PlanKind::kForked || spec_.ns(NamespaceKind::kNet).mode != NamespaceMode::kHost) {
    return;
  }
  constexpr std::string_view kFile = "/etc/resolv.conf";
  const absl::StatusOr<RootView::Found> found = view_->Resolve(kFile);
  if (!found.ok() || !found->ours || found->exists || access(kFile.data(), R_OK) != 0) return;
  Place& place = AddPlace(Place::What::kTree, std::string(kFile));
  place.at = found->path;
  place.directory = false;
  place.make = true;
  place.tree = AddTreeSource(std::string(kFile),
                             kernel::kMountAttrRdonly | kernel::kMountAttrNosuid |
                                 kernel::kMountAttrNodev | kernel::kMountAttrNoexec,
                             /*idmap=*/false, /*recursive=*/false);
}

}  // namespace brood
