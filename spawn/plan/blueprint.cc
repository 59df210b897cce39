// SPDX-License-Identifier: Apache-2.0

#include "spawn/plan/blueprint.h"

#include <fcntl.h>
#include <linux/capability.h>

#include <cerrno>
#include <utility>

#include "spawn/base/capabilities.h"
#include "spawn/base/status.h"
#include "spawn/child/setns_helper.h"
#include "spawn/child/syscalls.h"
#include "spawn/host/own_attributes.h"
#include "spawn/host/subordinate_ids.h"
#include "spawn/host/without.h"
#include "spawn/limits/advice.h"
#include "spawn/plan/blueprint_maker.h"

namespace brood {
namespace {

// Whether it has namespaces to join that a worker cannot enter by itself, or not early enough.
bool JoinsBeforeBirth(const Spec& spec) {
  for (const NamespaceKind kind : {NamespaceKind::kUser, NamespaceKind::kPid, NamespaceKind::kNet,
                                   NamespaceKind::kIpc, NamespaceKind::kUts}) {
    if (spec.ns(kind).mode == NamespaceMode::kJoin) return true;
  }
  return false;
}

absl::Status TooManyMounts(std::size_t count) {
  return InvalidError(
      "too many mounts for one worker ({}; at most {}): use a root with fewer mounts below it "
      "(--rootfs)",
      count, kMaxTrees);
}

}  // namespace

BlueprintMaker::BlueprintMaker(const Spec& spec, PlanKind kind)
    : spec_(spec), kind_(kind), machine_(ThisMachine()) {
  new_user_ = spec.is_new(NamespaceKind::kUser);
  enters_user_ = kind == PlanKind::kCold && !machine_.id_ranges && JoinsBeforeBirth(spec);
  // A zygote prepares mounts only with the privilege to do so. An ordinary user's has it in a user
  // namespace of its own, in which those of its workers are nested.
  const bool template_mounts = kind == PlanKind::kTemplate && spec.is_new(NamespaceKind::kMount);
  zygote_user_ = template_mounts && !machine_.mount_admin && new_user_;
  if (template_mounts && (machine_.mount_admin || zygote_user_)) shared_ = PlanBuilder::kTmpl;
  range_ = new_user_ && (machine_.id_ranges ||
                         (machine_.subordinate_ids && (kind == PlanKind::kCold || zygote_user_)));
}

absl::StatusOr<Blueprint> BlueprintMaker::Make(const FaultInjection& fault) {
  BROOD_RETURN_IF_ERROR(Validate(spec_));
  BROOD_RETURN_IF_ERROR(CheckIds());
  BROOD_ASSIGN_OR_RETURN(kept_capabilities_, CapabilityMask(spec_.capabilities));
  // Without it nobody may map root's id into a user namespace of his making (Linux 5.12), and its
  // own is the only one that an unprivileged process may map.
  if (spec_.nesting && spec_.uid == 0 && new_user_) kept_capabilities_ |= 1ULL << CAP_SETFCAP;
  // Before each takes a descriptor.
  if (spec_.binds.size() > kMaxTrees) return TooManyMounts(spec_.binds.size());
  if (kind_ == PlanKind::kForked) {
    BROOD_RETURN_IF_ERROR(AddForked());
    return Finish(fault);
  }
  BROOD_RETURN_IF_ERROR(AddJoins());
  out_.fresh_ = WhyFresh();
  slots_ = out_.fresh_.empty();
  if (slots_) once_ = PlanBuilder::kSlot;
  AddEarly();
  if (own_time_offsets_) AddTimeOffsets(PlanBuilder::kWorker);
  // A new user namespace leaves the worker with ids nobody maps; files it makes need an owner.
  if (range_) AddIds(PlanBuilder::kWorker, 0, 0, /*keep_capabilities=*/false);
  if (spec_.is_new(NamespaceKind::kMount)) {
    BROOD_RETURN_IF_ERROR(AddMounts());
  } else if (spec_.is_new(NamespaceKind::kNet)) {
    AddNetDefaults(kNoTree);
  }
  AddRlimits();
  BROOD_RETURN_IF_ERROR(AddPrivileges());
  return Finish(fault);
}

// The process has its root, ids, limits and joined namespaces; its clone makes its own of the rest,
// with the capabilities of a user namespace in which only its own ids are mapped. What the spec
// binds below one of those is copied from the process, before it is covered.
absl::Status BlueprintMaker::AddForked() {
  range_ = false;
  MapOwnIds();
  AddEarly();
  BROOD_RETURN_IF_ERROR(OpenRoot());
  BROOD_RETURN_IF_ERROR(AddPlaces());
  for (Place& place : places_) {
    if (place.own && place.what == Place::What::kTree) place.tree = AddHostTree(place.at, true);
  }
  AddNewMounts();
  AddPrivateMounts();
  return AddPrivileges();
}

absl::StatusOr<Blueprint> BlueprintMaker::Finish(const FaultInjection& fault) {
  if (builder_.size(PlanBuilder::kWorker) > kMaxOps ||
      builder_.size(PlanBuilder::kTmpl) > kMaxOps || tree_count_ > kMaxTrees) {
    return TooManyMounts(tree_count_);
  }
  SetHeader(fault);
  out_.spec_ = spec_;
  out_.kind_ = kind_;
  out_.block_ = builder_.Build(header_, filter_);
  return std::move(out_);
}

void BlueprintMaker::SetHeader(const FaultInjection& fault) {
  for (const NamespaceKind kind :
       {NamespaceKind::kMount, NamespaceKind::kPid, NamespaceKind::kNet, NamespaceKind::kIpc,
        NamespaceKind::kUts, NamespaceKind::kUser}) {
    if (spec_.is_new(kind)) header_.clone_flags |= NamespaceFlag(kind);
  }
  if (slots_) {
    constexpr std::uint64_t kKept =
        kernel::kCloneNewUser | kernel::kCloneNewNet | kernel::kCloneNewUts;
    header_.slot_flags = header_.clone_flags & (kKept | kernel::kCloneNewNs);
    header_.clone_flags &= ~kKept;
  }
  header_.tree_count = static_cast<std::uint32_t>(tree_count_);
  const bool helped = range_ && !machine_.id_ranges;  // the range is mapped by newuidmap
  if (new_user_) {
    header_.maps_by = helped && kind_ == PlanKind::kCold ? MapsBy::kLauncher : MapsBy::kCloner;
  }
  header_.zygote_user = zygote_user_ ? 1 : 0;
  if (zygote_user_ && range_) {
    const SubordinateIds& ids = OurSubordinateIds();
    header_.zygote_range = 1;
    header_.uid_map = builder_.AddText(NestedMap(SubordinateMap(ids.first_uid, machine_.uid)));
    header_.gid_map = builder_.AddText(NestedMap(SubordinateMap(ids.first_gid, machine_.gid)));
  }
  header_.deny_setgroups = new_user_ && !range_ ? 1 : 0;
  // The OOM killer ends every process that shares its victim's memory, so a worker that can be
  // the victim of its own limit shares none. To enter a time namespace, by setns or birth, demands
  // the same; what the zygote has entered its workers inherit.
  const bool joins_time = spec_.ns(NamespaceKind::kTime).mode == NamespaceMode::kJoin;
  const bool born_into_time =
      !machine_.exec_enters_time && spec_.is_new(NamespaceKind::kTime) && !spec_.time_offsets.any();
  const bool enters_time = born_into_time || (joins_time && kind_ == PlanKind::kCold) ||
                           (!machine_.exec_enters_time && own_time_offsets_);
  if (born_into_time) header_.clone_flags |= kernel::kCloneNewTime;
  // A worker that leaves its user's ids makes the memory it shares undumpable, and with it the
  // launcher: newuidmap would then refuse to serve it.
  const bool leaves_ids = header_.maps_by == MapsBy::kLauncher;
  // So does whoever shares memory with one whose OOM score is put back.
  const bool keeps_score = kind_ != PlanKind::kCold || !HasOomScore();
  header_.share_memory =
      keeps_score && !spec_.limits.memory_bytes && !enters_time && !leaves_ids && !enters_user_ ? 1
                                                                                                : 0;
  header_.record_ops = kind_ == PlanKind::kCold ? 1 : 0;
  header_.zygote_capabilities = ZygoteCapabilities();
  header_.fail_step = fault.step;
  header_.fail_error = fault.error;
  header_.fail_index = static_cast<std::uint16_t>(fault.index);
  header_.fail_in_template = fault.in_template ? 1 : 0;
  if (fault.step == Step::kNone && Without(Way::kIdmap)) {
    header_.fail_step = Step::kIdmapTree;
    header_.fail_error = EOPNOTSUPP;
    header_.fail_index = 0xffff;
  }
}

// A zygote that is root on the host clones into namespaces, maps ids, and goes to and fro between
// its two mount namespaces. Its workers set themselves up with what they have from it, unless they
// get all in a user namespace of their own.
std::uint64_t BlueprintMaker::ZygoteCapabilities() const {
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  // An ordinary user's has them over a user namespace of its own alone, and is not its root there.
  if (kind_ != PlanKind::kTemplate || !machine_.mount_admin) return kAll;
  std::uint64_t keep = kept_capabilities_;
  const auto add = [&](int capability) { keep |= 1ULL << capability; };
  // CAP_SYS_PTRACE: to open a worker's user namespace, whose memory is undumpable, for idmapped
  // mounts.
  for (const int needed :
       {CAP_SYS_ADMIN, CAP_SYS_CHROOT, CAP_SYS_PTRACE, CAP_SETUID, CAP_SETGID, CAP_SETFCAP}) {
    add(needed);
  }
  if (!new_user_) {
    for (const int needed : {CAP_DAC_OVERRIDE, CAP_NET_ADMIN, CAP_SETPCAP, CAP_SYS_RESOURCE,
                             CAP_SYS_NICE, CAP_SYS_TIME}) {
      add(needed);
    }
  }
  return keep & machine_.capabilities;
}

absl::StatusOr<Blueprint> Blueprint::Make(const Spec& spec, PlanKind kind,
                                          const FaultInjection& fault) {
  return BlueprintMaker(spec, kind).Make(fault);
}

absl::StatusOr<std::vector<UniqueFd>> Blueprint::OpenTrees() const {
  std::vector<UniqueFd> trees(plan().tree_count);
  if (!ThisMachine().mount_admin) return trees;
  if (dev_ != nullptr) {
    BROOD_ASSIGN_OR_RETURN(trees[dev_index_], dev_->Open());
  }
  for (std::size_t i = 0; i < tree_sources_.size(); ++i) {
    const TreeSource& source = tree_sources_[i];
    if (source.path.empty()) continue;
    const auto copy = [&](bool recursive) {
      return sys::OpenTree(AT_FDCWD, source.path.c_str(),
                           kernel::kOpenTreeClone | kernel::kOpenTreeCloexec |
                               (recursive ? kernel::kAtRecursive : 0));
    };
    sys::Result copied = copy(source.recursive);
    // Where the submounts are locked (a container's user namespace) only all can be copied.
    if (copied == -EINVAL && !source.recursive) copied = copy(true);
    if (copied < 0 && source.optional) continue;
    if (copied < 0) {
      return ErrnoError(static_cast<int>(-copied), "copying the mounts of {}", source.path);
    }
    UniqueFd tree(static_cast<int>(copied));
    kernel::MountAttr attributes;
    attributes.attr_set = source.attributes;
    // The copy of a shared mount is a peer of it, and pivot_root refuses peers.
    attributes.propagation = kernel::kMsPrivate;
    const sys::Result result =
        sys::MountSetattr(tree.get(), "", kernel::kAtEmptyPath | kernel::kAtRecursive, attributes);
    if (result < 0 && source.optional) continue;
    if (result < 0) {
      return ErrnoError(static_cast<int>(-result), "restricting the mounts of {}", source.path);
    }
    trees[i] = std::move(tree);
  }
  return trees;
}

std::string Blueprint::Describe(const Failure& failure, const OpList& list,
                                const Command* command) const {
  std::string subject;
  const Plan& plan = this->plan();
  if (failure.index < list.count) {
    const Op& op = plan.ops(list)[failure.index];
    if (op.step == failure.step) {
      const char* text = plan.text(op.code == OpCode::kMount ? op.text[1] : op.text[0]);
      if (text != nullptr) subject = text;
    }
  }
  if (failure.step == Step::kJoinNamespace && failure.index >= kHelperJoinsAt &&
      std::size_t{failure.index} - kHelperJoinsAt < launcher_joins_.size()) {
    const NamespaceKind kind = launcher_joins_[failure.index - kHelperJoinsAt].kind;
    subject = fmt::format("{} ({})", spec_.ns(kind).path, NamespaceName(kind));
  }
  if (command != nullptr && failure.step == Step::kExec) subject = command->argv.front();
  if (command != nullptr && failure.step == Step::kWorkingDirectory) subject = command->cwd;

  std::string sentence(StepAction(failure.step));
  if (!subject.empty() && sentence.find(subject) == std::string::npos) sentence += " " + subject;
  sentence += ": " + ErrnoText(failure.error);
  if (const std::string advice = AdviceHere(failure.step, failure.error); !advice.empty()) {
    sentence += fmt::format("; {}", advice);
  }
  return sentence;
}

}  // namespace brood
