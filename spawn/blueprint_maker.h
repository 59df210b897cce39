// Lays out one plan. Internal to blueprint*.cc, which hold the maker's parts by subject:
//
//   blueprint.cc           the order of the whole, the plan's header
//   blueprint_process.cc   the worker itself: namespaces, session, ids, capabilities, seccomp
//   blueprint_sources.cc   what its root is made of: directories opened and checked
//   blueprint_mounts.cc    how the root is put together, by child or zygote
//   blueprint_dev_proc.cc  the file systems that brood makes: /dev, /proc, /run and tmpfs
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/blueprint.h"
#include "spawn/kernel.h"
#include "spawn/machine.h"
#include "spawn/plan_builder.h"

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

  struct Part {
    std::size_t tree;
    std::string target;
  };
  struct BindPlace {
    std::uint16_t tree;
    std::string target;
    bool directory;
  };

  bool InUserNamespace(List list) const {
    return zygote_user_ || (list == PlanBuilder::kWorker && new_user_);
  }

  // blueprint.cc
  absl::StatusOr<Blueprint> Finish(const FaultInjection& fault);
  absl::Status AddForked();
  void SetHeader(const FaultInjection& fault);

  // blueprint_process.cc
  absl::Status CheckIds() const;
  void MapOwnIds();
  absl::Status AddJoins();
  void AddEarly();
  void UnshareCgroupAndTime();
  void AddTimeOffsets(List list);
  void AddLowPorts();
  void AddPing();
  void AddRlimits();
  void AddIds(List list, std::uint32_t uid, std::uint32_t gid, bool keep_capabilities);
  void AddBounding();
  absl::Status AddPrivileges();
  absl::Status AddSeccomp();

  // blueprint_sources.cc
  absl::Status OpenRootSource();
  absl::Status OpenBindSources();
  void AddTreeSource(UniqueFd fd, std::string path, std::uint64_t attributes, bool idmap,
                     bool recursive);
  bool UnderPrivateTmpfs(std::string_view target) const;
  bool OnOurMounts(std::string_view target) const;
  absl::Status CheckTarget(const std::string& target, bool directory, std::string_view what);
  void AddTreesByPath();
  int AddHostTree(const std::string& path, bool recursive);
  absl::StatusOr<int> OpenHostTree(const std::string& path);

  // blueprint_mounts.cc
  absl::Status AddMounts();
  bool CannotLeave() const;
  bool BornEmpty() const;
  absl::Status AddMountsToNothing();
  void AddWorkerRoot();
  void AddDevAndBinds(List list);
  void MakeTargetOnOurMounts(List list, const std::string& target, bool directory);
  void AddOverlay(const std::string& staging);
  void AddOverlayParts();
  void AddHome();
  void AddAttach(List list, std::size_t tree, std::string_view target);
  void AddEnterRoot(List list, std::string_view path);
  void AddTmpfs(List list, std::string_view target, std::string_view options,
                std::uint64_t flags = kernel::kMsNosuid | kernel::kMsNodev);
  void AddDirectory(List list, std::string_view path, std::uint64_t mode);
  void AddFile(List list, std::string_view path);

  // blueprint_dev_proc.cc
  void AddDeviceTrees();
  absl::Status OpenDeviceTrees();
  void AddDev(List list, const std::string& at);
  void ProtectDev(List list, std::string_view at);
  void AddRun(List list);
  void AddPrivateMounts();
  void AddMasks();
  void AddHiddenProc();

  const Spec& spec_;
  const PlanKind kind_;
  const Machine& machine_;
  List shared_ = PlanBuilder::kWorker;  // where operations go whose result workers can share
  bool new_user_ = false;
  bool zygote_user_ = false;  // Plan::zygote_user
  // Without root's privilege namespaces are joined as a member of the user namespace that owns
  // them: a cold worker's usher goes there first.
  bool enters_user_ = false;
  bool range_ = false;  // a range of ids is mapped, not the caller's alone

  Blueprint out_;
  PlanBuilder builder_;
  Plan header_;
  std::vector<sock_filter> filter_;
  std::string staging_;
  int root_fd_ = -1;
  int join_user_index_ = -1;
  std::uint64_t kept_capabilities_ = 0;
  bool own_time_offsets_ = false;  // the worker writes them, not the zygote
  std::size_t tree_count_ = 0;
  std::vector<BindPlace> binds_;
  std::vector<Part> parts_;        // of an overlay template
  std::vector<Part> host_mounts_;  // below the host's root
  std::vector<int> device_trees_;
  int proc_tree_ = -1;
  bool old_root_stays_ = false;
};

}  // namespace brood
