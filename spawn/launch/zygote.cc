// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/zygote.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "spawn/base/capabilities.h"
#include "spawn/base/fd_message.h"
#include "spawn/base/file_at.h"
#include "spawn/base/id_maps.h"
#include "spawn/base/sealed_memory.h"
#include "spawn/base/status.h"
#include "spawn/child/birth.h"
#include "spawn/host/machine.h"
#include "spawn/host/subordinate_ids.h"
#include "spawn/launch/cold.h"
#include "spawn/launch/reap.h"
#include "spawn/limits/advice.h"

extern "C" const char brood_zygote_image[];
extern "C" const char brood_zygote_image_end[];

namespace brood {
namespace {

// A stack above its guard, for a child that shares our memory until it execs.
class SharedStack {
 public:
  SharedStack() {
    if (valid()) mprotect(memory_, kStackGuardBytes, PROT_NONE);
  }
  ~SharedStack() {
    if (valid()) munmap(memory_, kGuardedStackBytes);
  }
  SharedStack(const SharedStack&) = delete;
  SharedStack& operator=(const SharedStack&) = delete;

  bool valid() const { return memory_ != MAP_FAILED; }
  char* low() const { return static_cast<char*>(memory_) + kStackGuardBytes; }

 private:
  void* const memory_ = mmap(nullptr, kGuardedStackBytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
};

absl::Status MakeSocketPair(UniqueFd& ours, UniqueFd& theirs) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return ErrnoError(errno, "making a socket to a zygote");
  }
  ours.reset(ends[0]);
  theirs.reset(ends[1]);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Zygote>> Zygote::Start(const Blueprint& blueprint,
                                                      const Options& options) {
  std::unique_ptr<Zygote> zygote(new Zygote);
  zygote->lane_of_.fill(-1);
  zygote->big_of_.fill(-1);
  zygote->slot_count_ = options.slots;
  BROOD_RETURN_IF_ERROR(zygote->MapRegion(blueprint, options));
  BROOD_RETURN_IF_ERROR(zygote->Execute(blueprint, options));
  BROOD_RETURN_IF_ERROR(zygote->AwaitReady(blueprint));
  return zygote;
}

void Zygote::Stop() {
  if (!pidfd_.valid()) return;
  syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  (void)Reap(pidfd_.get());
  pidfd_.reset();
}

Zygote::~Zygote() {
  Stop();
  if (memory_ != nullptr) munmap(memory_, bytes_);
}

absl::Status Zygote::MapRegion(const Blueprint& blueprint, const Options& options) {
  Region region;
  region.plan_offset = PageUp(sizeof(Region));
  region.slot_offset = region.plan_offset + PageUp(blueprint.block().size());
  region.big_offset = region.slot_offset + options.slots * kSlotBytes;
  region.bytes = region.big_offset + kBigMessages * kBigMessageBytes;
  region.slot_count = options.slots;
  region.tree_count = blueprint.plan().tree_count;
  region.fd_count = static_cast<std::uint32_t>(blueprint.namespace_fds().size());
  bytes_ = region.bytes;

  region_fd_.reset(memfd_create("brood-region", MFD_CLOEXEC));
  if (!region_fd_.valid() || ftruncate(region_fd_.get(), static_cast<off_t>(bytes_)) != 0) {
    return ErrnoError(errno, "making {} bytes of memory to share with a zygote", bytes_);
  }
  void* memory = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, region_fd_.get(), 0);
  if (memory == MAP_FAILED) {
    return ErrnoError(errno, "mapping {} bytes of memory to share with a zygote", bytes_);
  }
  memory_ = static_cast<char*>(memory);
  std::memcpy(memory_, &region, sizeof(region));
  std::memcpy(memory_ + region.plan_offset, blueprint.block().data(), blueprint.block().size());
  region_ = reinterpret_cast<Region*>(memory_);
  // A fresh memfd is all zeros, which is what an empty mailbox is.
  slots_ = memory_ + region.slot_offset;
  return absl::OkStatus();
}

absl::Status Zygote::Execute(const Blueprint& blueprint, const Options& options) {
  const std::span<const char> program(brood_zygote_image, brood_zygote_image_end);
  BROOD_ASSIGN_OR_RETURN(const UniqueFd image, SealedMemory("brood-zygote", program, true));
  BROOD_ASSIGN_OR_RETURN(const std::vector<UniqueFd> trees, blueprint.OpenTrees());
  UniqueFd their_control;
  BROOD_RETURN_IF_ERROR(MakeSocketPair(control_, their_control));
  fcntl(control_.get(), F_SETFL, O_NONBLOCK);
  for (std::size_t i = 0; i < kMaxLanes; ++i) {
    BROOD_RETURN_IF_ERROR(MakeSocketPair(lanes_[i], far_lanes_[i]));
  }
  notify_.reset(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!notify_.valid()) return ErrnoError(errno, "making an eventfd for a zygote");
  BROOD_ASSIGN_OR_RETURN(const LauncherFds launcher, LauncherFds::Open());
  const int null = launcher.null.get();
  // An open file of its own: the launcher's carries the lock that says the parent cgroup is in use.
  UniqueFd parent;
  if (options.parent_fd >= 0) {
    parent.reset(openat(options.parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!parent.valid()) return ErrnoError(errno, "opening the parent cgroup for a zygote");
  }

  std::vector<int> sources(static_cast<std::size_t>(ZygoteFd::kFirstPlanFd), null);
  sources[ZygoteFd::kControl] = their_control.get();
  sources[ZygoteFd::kRegion] = region_fd_.get();
  sources[ZygoteFd::kNotify] = notify_.get();
  if (parent.valid()) sources[ZygoteFd::kParent] = parent.get();
  sources[ZygoteFd::kProc] = launcher.proc.get();
  sources[ZygoteFd::kLauncher] = launcher.self.get();
  for (std::size_t i = 0; i < kMaxLanes; ++i) {
    sources[ZygoteFd::kFirstLane + i] = far_lanes_[i].get();
  }
  for (const UniqueFd& tree : trees) sources.push_back(tree.valid() ? tree.get() : null);
  for (const UniqueFd& fd : blueprint.namespace_fds()) sources.push_back(fd.get());

  const bool own_user = blueprint.plan().zygote_user != 0;
  ZygoteExec exec;
  exec.sources = sources.data();
  exec.count = static_cast<int>(sources.size());
  exec.image = image.get();
  const SharedStack stack;
  if (!stack.valid()) return ErrnoError(errno, "mapping a stack for a zygote's start");
  int pidfd = -1;
  kernel::CloneArgs args;
  args.flags = kernel::kCloneVm | kernel::kClonePidfd | kernel::kCloneClearSighand;
  std::uint32_t shares = 1;  // our memory: until it has exec'd or died
  if (own_user) {
    exec.maps = static_cast<std::uint32_t>(ZygoteMaps::kAwaited);
    BROOD_ASSIGN_OR_RETURN(exec.capabilities, CapabilityMask({"ALL"}));
    args.flags |= kernel::kCloneNewUser | kernel::kCloneNewNs | kernel::kCloneChildCleartid;
    args.child_tid = reinterpret_cast<std::uint64_t>(&shares);
  } else {
    // Returns when the child has exec'd, so that `exec` may lie on our stack.
    args.flags |= kernel::kCloneVfork;
  }
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.stack = reinterpret_cast<std::uint64_t>(stack.low());
  args.stack_size = kWorkerStackBytes;
  if (options.cgroup_fd >= 0) {
    args.flags |= kernel::kCloneIntoCgroup;
    args.cgroup = static_cast<std::uint64_t>(options.cgroup_fd);
  }
  const sys::Result pid = sys::Clone3(args, ZygoteExecMain, &exec);
  if (pid < 0) {
    const int error = static_cast<int>(-pid);
    const std::string advice = AdviceHere(Step::kCloneWorker, error);
    return Error(CodeForErrno(error), "cloning a zygote: {}{}{}", ErrnoText(error),
                 advice.empty() ? "" : "; ", advice);
  }
  pid_ = static_cast<int>(pid);
  pidfd_.reset(pidfd);
  if (own_user) {
    const absl::Status mapped = MapIds(blueprint, launcher.proc.get());
    const ZygoteMaps word = mapped.ok() ? ZygoteMaps::kWritten : ZygoteMaps::kRefused;
    __atomic_store_n(&exec.maps, static_cast<std::uint32_t>(word), __ATOMIC_RELEASE);
    sys::FutexWake(&exec.maps, 1);
    while (__atomic_load_n(&shares, __ATOMIC_ACQUIRE) != 0) sys::FutexWait(&shares, 1);
    BROOD_RETURN_IF_ERROR(mapped);
  }
  if (exec.failure.failed()) {
    return Error(CodeForErrno(exec.failure.error), "starting a zygote: {}",
                 blueprint.Describe(exec.failure, OpList{}));
  }
  return absl::OkStatus();
}

// The ids of a zygote in a user namespace of its own: a range, or the launcher's alone as its root.
absl::Status Zygote::MapIds(const Blueprint& blueprint, int proc_fd) const {
  if (blueprint.plan().zygote_range != 0) return MapSubordinateIds(pid_);
  for (const IdMapFile& file : MapOneId(0, ThisMachine().uid, 0, ThisMachine().gid)) {
    const std::string path = fmt::format("{}/{}", pid_, file.name);
    const int error = WriteFileAt(proc_fd, path.c_str(), file.text);
    if (error == 0) continue;
    const std::string advice = AdviceHere(Step::kMapIds, error);
    return Error(CodeForErrno(error), "mapping ids into a zygote's user namespace ({}): {}{}{}",
                 file.name, ErrnoText(error), advice.empty() ? "" : "; ", advice);
  }
  return absl::OkStatus();
}

absl::Status Zygote::AwaitReady(const Blueprint& blueprint) {
  const auto state = [&] {
    return static_cast<ZygoteState>(__atomic_load_n(&region_->state, __ATOMIC_ACQUIRE));
  };
  while (state() == ZygoteState::kStarting) {
    // A zygote that dies before it says anything wakes nobody: look at its pidfd now and then.
    const timespec wait = {0, 50'000'000};
    syscall(SYS_futex, &region_->state, /*FUTEX_WAIT*/ 0, 0, &wait);
    // Its last word comes before its end.
    if (const bool ended = HasEnded(pidfd_); ended && state() == ZygoteState::kStarting) {
      BROOD_ASSIGN_OR_RETURN(const Exit exit, Reap(pidfd_.get()));
      pidfd_.reset();
      return Error(absl::StatusCode::kInternal, "a zygote ended with status {} before it was ready",
                   exit.status);
    }
  }
  if (state() == ZygoteState::kReady) return absl::OkStatus();
  const Plan& plan = blueprint.plan();
  return Error(
      CodeForErrno(region_->failure.error), "preparing the template: {}",
      blueprint.Describe(region_->failure, region_->failed_list == 0 ? plan.tmpl : plan.home));
}

absl::Status Zygote::Order(std::span<const std::uint32_t> slots) {
  const std::size_t bytes = slots.size() * sizeof(slots[0]);
  if (send(control_.get(), slots.data(), bytes, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes)) {
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kUnavailable, "ordering workers from a zygote: {}",
               ErrnoText(errno));
}

bool Zygote::WriteLaunch(std::uint32_t slot, const LaunchLayout& layout) {
  std::size_t offset = region_->slot_offset + slot * kSlotBytes + kSmallMessageAt;
  if (layout.bytes() > kSmallMessageBytes) {
    std::size_t area = 0;
    while (area < kBigMessages && big_of_[area] >= 0) ++area;
    if (area == kBigMessages) return false;
    big_of_[area] = slot;
    offset = region_->big_offset + area * kBigMessageBytes;
  }
  LaunchRecord record;
  layout.Write(memory_ + offset, region_->base + offset, record);
  mailbox(slot).launch = record;
  return true;
}

void Zygote::ReleaseLaunch(std::uint32_t slot) {
  mailbox(slot).launch = LaunchRecord{};
  for (std::int64_t& user : big_of_) {
    if (user == slot) user = -1;
  }
  for (std::size_t lane = 0; lane < kMaxLanes; ++lane) {
    if (lane_of_[lane] != slot) continue;
    // A worker that died before it took its descriptors leaves them in the lane.
    if (__atomic_load_n(&mailbox(slot).lane_taken, __ATOMIC_ACQUIRE) == 0) DrainLane(lane);
    lane_of_[lane] = -1;
  }
}

void Zygote::DrainLane(std::size_t lane) {
  char byte = 0;
  ReceivedFds<3> received;
  (void)ReceiveWithFds(far_lanes_[lane].get(), &byte, 1, received, MSG_DONTWAIT);
  for (std::size_t i = 0; i < received.count; ++i) UniqueFd(received.fds[i]).reset();
}

void Zygote::ReclaimLanes() {
  for (std::int64_t& slot : lane_of_) {
    if (slot < 0) continue;
    const Mailbox& box = mailbox(static_cast<std::uint32_t>(slot));
    if (__atomic_load_n(&box.lane_taken, __ATOMIC_ACQUIRE) != 0) slot = -1;
  }
}

absl::StatusOr<bool> Zygote::SendFds(std::uint32_t slot, const std::array<int, 3>& fds) {
  const auto free_lane = [&] { return std::find(lane_of_.begin(), lane_of_.end(), -1); };
  auto found = free_lane();
  if (found == lane_of_.end()) {
    ReclaimLanes();
    found = free_lane();
    if (found == lane_of_.end()) return false;
  }
  const auto lane = static_cast<std::size_t>(found - lane_of_.begin());
  const char byte = 0;
  if (SendWithFds<3>(lanes_[lane].get(), &byte, 1, fds.data(), fds.size(),
                     MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
    return ErrnoError(errno, "sending stdin, stdout and stderr to a worker");
  }
  __atomic_store_n(&mailbox(slot).lane_taken, 0U, __ATOMIC_RELEASE);
  mailbox(slot).launch.lane = static_cast<std::int32_t>(lane);
  lane_of_[lane] = slot;
  return true;
}

UniqueFd Zygote::TakePidfd(std::uint32_t slot, int pid) {
  HandedWorker worker;
  ReceivedFds<1> received;
  for (;;) {
    const ssize_t got =
        ReceiveWithFds(control_.get(), &worker, sizeof(worker), received, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    UniqueFd pidfd(received.count == 1 ? received.fds[0] : -1);
    if (got == sizeof(worker)) handed_.emplace_back(worker, std::move(pidfd));
  }
  UniqueFd found;
  std::erase_if(handed_, [&](auto& each) {
    if (each.first.slot != slot) return false;
    if (each.first.pid == pid) found = std::move(each.second);
    return true;
  });
  return found;
}

void Zygote::Wake(std::uint32_t slot, WorkerState state) {
  StoreState(mailbox(slot), state);
  sys::FutexWake(&mailbox(slot).state, 1);
}

}  // namespace brood
