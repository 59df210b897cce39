// SPDX-License-Identifier: Apache-2.0

// Lays out one plan. Internal to blueprint*.cc, which hold the maker's parts by subject:
//
//   blueprint.cc           the order of the whole, the plan's header
//   blueprint_process.cc   the worker itself: namespaces, session, ids, capabilities, seccomp
//   blueprint_sources.cc   what comes from the host: the root, binds, device nodes
//   blueprint_places.cc    what is mounted below the root: where, and in which order
//   blueprint_mounts.cc    how the root is put together, by child or zygote
//   blueprint_dev_proc.cc  the file systems that brood makes: /dev, /proc, /sys, tmpfs, and
//   /etc/hosts
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/kernel.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/machine.h"
#include "spawn/plan/blueprint.h"
#include "spawn/plan/dev_tree.h"
#include "spawn/plan/plan_builder.h"
#include "spawn/plan/root_view.h"

namespace brood {

// One maker makes one blueprint. Each Add... appends the operations of one concern, in the order in
// which they have to run; one that takes a list leaves the choice of who runs them to its caller.
class BlueprintMaker {
 public:
  // `spec` must outlive the maker.
  BlueprintMaker(const Spec& spec, PlanKind kind);

  absl::StatusOr<Blueprint> Make(const FaultInjection& fault);

 private:
  using List = PlanBuilder::List;

  static constexpr std::size_t kNoTree = static_cast<std::size_t>(-1);

  // Something to be mounted below the root.
  struct Place {
    enum class What : std::uint8_t {
      kTree,  // a tree that is copied from the host
      kNew,   // a tree that the worker makes: /proc, /sys, cgroup2
      kTmpfs,
      kDev,
      kDevpts,
      kHosts,       // the file /etc/hosts
      kHostsBelow,  // the same where /etc has no such file: a read-only overlay of /etc
    };
    What what = What::kTree;
    std::string asked;  // the path as the spec has it
    std::string doing;  // for errors: "bind /srv on", "mount a tmpfs on"; empty: brood's own idea
    std::string at;     // resolved: absolute, without links
    std::size_t tree = kNoTree;  // kNoTree: of kDev, the child makes it where it is
    std::string type;            // kNew
    std::string copy;            // kNew: what to copy where the kernel refuses a new one
    std::string options;         // kTmpfs
    std::uint64_t flags = 0;
    Step step = Step::kAttachTree;  // kNew
    UniqueFd source;  // kTree: what will be seen there, where that decides other places
    bool directory = true;
    bool own = false;   // each worker's own, so no template can have it
    bool fresh = true;  // kNew: each worker makes its own, not the zygote one for all
    bool make = false;  // on a mount that brood makes, and has to be made there
    bool if_reachable = false;

    bool given() const { return !doing.empty(); }
    // A template prepares it as a part by itself, which is copied for each worker.
    bool part() const {
      return own && (what == What::kTree || what == What::kDev || (what == What::kNew && !fresh));
    }
  };

  bool InUserNamespace(List list) const {
    return zygote_user_ || (list == PlanBuilder::kWorker && new_user_);
  }

  // blueprint.cc
  absl::StatusOr<Blueprint> Finish(const FaultInjection& fault);
  absl::Status AddForked();
  void SetHeader(const FaultInjection& fault);
  std::uint64_t ZygoteCapabilities() const;

  // blueprint_process.cc
  absl::Status CheckIds() const;
  void MapOwnIds();
  absl::Status AddJoins();
  std::string WhyFresh() const;
  void AddEarly();
  void UnshareCgroupAndTime();
  void AddTimeOffsets(List list);
  void AddNetDefaults(std::size_t proc);
  void AddSeal(std::size_t proc);
  bool MayAddInterfaces() const;
  void AddRlimits();
  void AddIds(List list, std::uint32_t uid, std::uint32_t gid, bool keep_capabilities);
  void AddBounding();
  absl::Status AddPrivileges();
  absl::Status AddSeccomp();
  absl::Status AddInit();

  // blueprint_sources.cc
  absl::Status OpenRoot();
  void AddRootSource();
  absl::StatusOr<std::size_t> AddBindSource(const Bind& bind, Place& place);
  std::size_t AddTreeSource(std::string path, std::uint64_t attributes, bool idmap, bool recursive,
                            bool optional = false);
  void AddTreesByPath();
  std::size_t AddHostTree(const std::string& path, bool recursive);

  // blueprint_places.cc
  absl::Status AddPlaces();
  absl::Status AddGiven();
  void AddOwn();
  void AddHostMounts();
  void AddMountsBelowRoot();
  Place& AddPlace(Place::What what, std::string asked);
  absl::Status ResolvePlaces();
  absl::StatusOr<bool> ResolvePlace(Place& place);
  absl::Status DropCovered();
  absl::Status CheckGiven(const Place& place) const;
  absl::Status AddHosts();
  void AddResolvConf();
  std::string HostsText() const;
  const Place* FindPlace(Place::What what, std::string_view type = {}) const;
  Place* FindPlace(Place::What what, std::string_view type = {}) {
    return const_cast<Place*>(std::as_const(*this).FindPlace(what, type));
  }
  const Place* HolderOf(const Place& place) const;

  // blueprint_mounts.cc
  absl::Status AddMounts();
  bool CannotLeave() const;
  bool BornEmpty() const;
  bool InTreeFromBirth() const;
  void AddMountsToNothing();
  void AddTemplate();
  void AddColdRoot();
  void AddWorkerRoot();
  void AddSlotRoot();
  void AddOverlay(const std::string& staging);
  void AddHome();
  void MountPlaces(List list, bool own);
  void MountPlace(List list, const Place& place);
  void MakeTarget(List list, const std::string& holder, const std::string& target, bool directory);
  void AddAttach(List list, std::size_t tree, std::string_view target, bool if_reachable = false);
  void AddEnterRoot(List list, std::string_view path);
  void AddTmpfs(List list, std::string_view target, std::string_view options,
                std::uint64_t flags = kernel::kMsNosuid | kernel::kMsNodev);
  void In(List list, std::string_view path);
  void AddDirectory(List list, std::string_view path, std::uint64_t mode);
  void AddFile(List list, std::string_view path, std::string_view text = {});

  // blueprint_dev_proc.cc
  void PrepareDev();
  std::vector<DevEntry> DevEntries() const;
  void AddDev(List list, const std::string& at);
  std::string HostsSource() const;
  void AddNewMounts();
  void AddPrivateMounts();
  void AddMasks();
  void AddHiddenProc();

  const Spec& spec_;
  const PlanKind kind_;
  const Machine& machine_;
  List shared_ = PlanBuilder::kWorker;  // where operations go whose result workers can share
  List once_ = PlanBuilder::kWorker;    // and whose result those of one slot can
  bool new_user_ = false;
  bool zygote_user_ = false;  // Plan::zygote_user
  bool slots_ = false;        // its workers live in slots (spawn/child/slot.h)
  // Without root's privilege namespaces are joined as a member of the user namespace that owns
  // them: a cold worker's setns helper goes there first.
  bool enters_user_ = false;
  bool range_ = false;  // a range of ids is mapped, not the caller's alone

  Blueprint out_;
  PlanBuilder builder_;
  Plan header_;
  std::vector<sock_filter> filter_;
  std::string staging_;
  std::optional<RootView> view_;
  std::string hosts_text_;  // of the worker's /etc/hosts; empty: it has the root's
  int join_user_index_ = -1;
  std::uint64_t kept_capabilities_ = 0;
  bool own_time_offsets_ = false;  // the worker writes them, not the zygote
  std::size_t tree_count_ = 0;
  std::vector<Place> places_;                              // in the order in which they are mounted
  std::array<std::string, PlanBuilder::kListCount> here_;  // where kGo has gone to, if it is known
  std::vector<std::size_t> device_trees_;
  std::size_t hosts_tree_ = kNoTree;
  std::size_t hidden_proc_ = kNoTree;
};

}  // namespace brood
