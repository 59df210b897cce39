// SPDX-License-Identifier: Apache-2.0

// A zygote as its launcher sees it: the process, the shared memory, and the workers' mailboxes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/base/unique_fd.h"
#include "spawn/child/mailbox.h"
#include "spawn/child/zygote_wire.h"
#include "spawn/launch/launch.h"
#include "spawn/plan/blueprint.h"

namespace brood {

// Not thread-safe. Must be started and used by one thread that outlives it and its workers: they
// are that thread's children.
class Zygote {
 public:
  struct Options {
    std::uint32_t slots = 64;  // most workers alive at once
    int parent_fd = -1;        // directory of the cgroup leaves, borrowed; -1: none
    int cgroup_fd = -1;        // the zygote's own leaf, borrowed; -1: the launcher's cgroup
  };

  // Starts a zygote for a template blueprint and waits until its template stands. A template
  // operation that fails is told in a sentence.
  static absl::StatusOr<std::unique_ptr<Zygote>> Start(const Blueprint& blueprint,
                                                       const Options& options);

  // Stops it.
  ~Zygote();
  Zygote(const Zygote&) = delete;
  Zygote& operator=(const Zygote&) = delete;

  // Kills the zygote, if it still runs, and reaps it. Workers are not touched, and their mailboxes
  // stay readable. No worker is cloned after that.
  void Stop();

  std::uint32_t slot_count() const { return slot_count_; }
  Mailbox& mailbox(std::uint32_t slot) {
    return *reinterpret_cast<Mailbox*>(slots_ + std::size_t{slot} * kSlotBytes);
  }

  // Asks for a worker in each of `slots`, whose mailboxes are filled in and kOrdered. At most
  // kMaxOrders. kUnavailable when the zygote is gone, or slow and its queue is full.
  absl::Status Order(std::span<const std::uint32_t> slots);

  // Writes a launch into the memory of `slot`. False when it needs a big message area and all are
  // taken; try again when a launch has ended. One of at most kSmallMessageBytes may be written by
  // any thread that owns the slot.
  bool WriteLaunch(std::uint32_t slot, const LaunchLayout& layout);
  // Gives back what WriteLaunch took. The worker must have exec'd or ended.
  void ReleaseLaunch(std::uint32_t slot);

  // Sends three descriptors to the worker of `slot`, whose LaunchRecord gets the lane. False when
  // every lane still holds a message.
  absl::StatusOr<bool> SendFds(std::uint32_t slot, const std::array<int, 3>& fds);

  // The pidfd of the worker `pid` in `slot`, which was ordered with its launch; it has been sent
  // once the worker is past kBorn. Invalid when it has not come, or no descriptor was free for it.
  // What came of earlier workers of the slot is closed.
  UniqueFd TakePidfd(std::uint32_t slot, int pid);

  // Lets a parked worker go (kLaunch), or end (kAbort).
  void Wake(std::uint32_t slot, WorkerState state);

  int pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }       // readable when the zygote has died
  int notify_fd() const { return notify_.get(); }  // eventfd: a worker parked or failed

 private:
  Zygote() = default;
  absl::Status MapRegion(const Blueprint& blueprint, const Options& options);
  absl::Status Execute(const Blueprint& blueprint, const Options& options);
  absl::Status MapIds(const Blueprint& blueprint, int proc_fd) const;
  absl::Status AwaitReady(const Blueprint& blueprint);
  void ReclaimLanes();
  void DrainLane(std::size_t lane);

  char* memory_ = nullptr;
  std::size_t bytes_ = 0;
  Region* region_ = nullptr;
  char* slots_ = nullptr;
  std::uint32_t slot_count_ = 0;
  UniqueFd region_fd_;
  UniqueFd control_;
  UniqueFd notify_;
  UniqueFd pidfd_;
  int pid_ = -1;
  std::array<UniqueFd, kMaxLanes> lanes_;        // our ends
  std::array<UniqueFd, kMaxLanes> far_lanes_;    // the workers' ends, to take back what none took
  std::array<std::int64_t, kMaxLanes> lane_of_;  // slot whose message a lane holds, or -1
  std::vector<std::pair<HandedWorker, UniqueFd>> handed_;  // not yet taken
  std::array<std::int64_t, kBigMessages> big_of_;          // slot that uses a big area, or -1
};

}  // namespace brood
