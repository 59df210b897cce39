// SPDX-License-Identifier: Apache-2.0

// The pool's own thread: owns the ring, the templates and every worker.
//
//   inbox -> Admit -> waiting / direct -> Dispatch -> Launch / Order -> ring -> Reap -> callback
//
// One class, four files: reactor.cc has the loop, admission and shutdown; templates.cc adds and
// retires templates; refill.cc asks zygotes for workers and keeps zygotes alive; dispatch.cc
// launches, watches and reaps. All of it runs in one thread, so nothing here is locked.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/core/inbox.h"
#include "pool/core/launcher_resources.h"
#include "pool/core/ring.h"
#include "pool/core/template.h"
#include "pool/core/worker.h"
#include "pool/pool.h"

namespace brood {

class Reactor {
 public:
  Reactor(PoolOptions options, Inbox& inbox);
  ~Reactor();

  // Makes the parent cgroup, id ranges, ring, templates and zygotes.
  absl::Status Start();
  // Runs until a shutdown is complete.
  void Loop();
  // What could not be cleaned up; valid after Loop.
  const absl::Status& result() const { return result_; }

  // Tasks of other threads (Inbox::Task).
  void BeginShutdown(std::int64_t kill_at_ns);
  void SetParked(const std::string& name, std::uint32_t parked);
  using ParkedWaiter = std::function<void(absl::Status)>;
  void AwaitParked(const std::string& name, std::uint32_t count, std::int64_t deadline_ns,
                   ParkedWaiter waiter);
  PoolStats Stats() const;
  std::vector<int> ZygotePids() const;
  absl::Status Signal(std::uint64_t id, const SignalOrder& order);
  absl::Status Kill(std::uint64_t id);
  bool RunsCommand(std::uint64_t id);
  absl::Status PutTemplate(TemplateOptions options);
  absl::Status RemoveTemplate(const std::string& name);

  // For callbacks, which run in this thread.
  unsigned FdsOfAWatch() const { return 1 + ring_->fds_of_a_wait(); }
  absl::StatusOr<Pool::WatchId> Watch(int fd, short events, std::function<void(short)> ready);
  void Unwatch(Pool::WatchId id);
  // Shared with the callers' threads; by template name.
  std::vector<std::pair<std::string, std::shared_ptr<IdleList>>> IdleLists() const;
  std::uint32_t launch_window() const { return options_.launch_window; }
  std::string cgroup_path() const {
    return resources_.parent ? resources_.parent->path() : std::string();
  }

 private:
  struct FdWatch {
    int fd = -1;
    short events = 0;
    std::uint32_t generation = 0;
    std::shared_ptr<const std::function<void(short)>> ready;
  };
  struct Waiter {
    std::uint32_t tmpl;
    std::uint32_t count;
    std::int64_t deadline_ns;
    ParkedWaiter call;
  };

  // reactor.cc
  absl::Status PrepareLimits();
  void TakeInbox();
  void Admit(std::unique_ptr<ActiveRequest> request);
  bool HasRoom() const;
  void Dispatch();
  void Handle(const Completion& completion);
  void Tick();
  std::optional<std::chrono::nanoseconds> NextTimeout() const;
  bool Idle() const;
  void RunDeferredCloses();
  void AnswerWaiters();
  void Refuse(std::unique_ptr<ActiveRequest> request);
  void RefuseQueued();
  void EndEverything();
  Template* FindTemplate(const std::string& name);
  void OnWatch(const Completion& completion);
  void TellStarted(const Worker& worker);
  const Blueprint& BlueprintOf(const Worker& worker) const;
  void Answer(std::unique_ptr<ActiveRequest> request, absl::StatusOr<Outcome> outcome);

  // refill.cc
  absl::Status AddTemplate(TemplateOptions options);
  void Retire(Template& tmpl, Template* successor);
  void EndRetired(Template& tmpl);
  absl::Status StartZygote(std::uint32_t tmpl);
  void RestartZygote(std::uint32_t tmpl);
  void Refill(std::uint32_t tmpl);
  bool Order(std::uint32_t tmpl, std::unique_ptr<ActiveRequest>& request);
  absl::Status TakeIds(Worker& worker, const Spec& spec);
  absl::Status Equip(Worker& worker, Template& tmpl);
  absl::Status EquipOwn(Worker& worker, const Request& request);
  void Unequip(Worker& worker, bool empty);
  void SendOrders(ZygoteKeeper& keeper);
  void OnZygoteNotice(std::uint32_t keeper);
  void CollectMade(std::uint32_t keeper, bool look_for_dead);
  void OnMade(std::uint32_t worker);
  void OnNotMade(std::uint32_t worker);
  void OnZygoteDeath(std::uint32_t keeper);
  void EndFrozenZygote(ZygoteKeeper& keeper);
  bool BuryIfDead(std::uint32_t worker);
  void SweepParked(Template& tmpl);
  std::uint32_t TakeWorkerRecord();
  void FreeWorker(std::uint32_t worker);
  void DropWorker(std::uint32_t worker);

  // dispatch.cc
  bool Launch(std::uint32_t worker, std::unique_ptr<ActiveRequest>& request);
  void Adopt(std::unique_ptr<ActiveRequest> request, Template& tmpl);
  void TakeBack(Inbox::Used used);
  absl::Status GiveStdio(Worker& worker, const Command& command, bool& not_now);
  bool StartCold(std::uint32_t tmpl, std::unique_ptr<ActiveRequest>& request);
  absl::Status WatchWorker(std::uint32_t worker);
  void EndUnseen(const Worker& worker);
  void Abandon(std::uint32_t worker, const absl::Status& why);
  void Launching(std::uint32_t worker);
  bool HasExeced(const Worker& worker);
  void ForgetLaunched();
  void OnWorkerExit(std::uint32_t worker);
  void OnOutput(std::uint32_t worker, std::size_t stream);
  // Of a leaf of the parent cgroup; nothing and false where there is no parent cgroup.
  LeafUsage UsageOf(const std::string& leaf) const;
  bool LeafFrozen(const std::string& leaf) const;
  Outcome NewOutcome(const Worker& worker, const ActiveRequest& request) const;
  void Finish(std::uint32_t worker);
  Mailbox& BoxOf(const Worker& worker);
  Subject SubjectOf(const Worker& worker);
  Token TokenOf(Source source, std::uint32_t worker) const;

  PoolOptions options_;
  Inbox& inbox_;
  LauncherResources resources_;  // its fallbacks are told in every outcome
  UniqueFd zygote_leaf_;
  LauncherFds launcher_fds_;
  std::unique_ptr<Ring> ring_;
  std::deque<Template> templates_;
  std::vector<std::unique_ptr<ZygoteKeeper>> keepers_;
  std::deque<Worker> workers_;
  std::vector<std::uint32_t> free_workers_;
  std::uint64_t own_leaves_ = 0;  // made for requests with a spec of their own
  std::deque<FdWatch> watches_;
  std::vector<std::uint32_t> free_watches_;
  std::vector<std::uint32_t> launching_;  // launched, not seen to have exec'd
  std::multimap<std::int64_t, Token> deadlines_;
  std::vector<Waiter> waiters_;
  std::vector<std::uint32_t> to_restart_;  // templates that have lost a zygote
  std::vector<std::string> used_up_;       // leaves of their own, to be removed
  std::vector<UniqueFd> deferred_closes_;  // namespaces of workers that have ended
  std::size_t deferred_closes_room_ = 0;
  std::uint64_t served_at_tick_ = 0;
  std::uint32_t running_ = 0;
  std::uint32_t max_running_ = 0;
  std::uint64_t usable_fds_ = 0;
  std::int64_t next_tick_ns_ = 0;
  std::optional<std::int64_t> kill_at_ns_;  // set by BeginShutdown
  bool killed_all_ = false;
  PoolStats totals_;
  std::size_t park_next_ = 0;
  absl::Status result_;
};

}  // namespace brood
