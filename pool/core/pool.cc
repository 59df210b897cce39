// SPDX-License-Identifier: Apache-2.0

#include "pool/pool.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pool/core/inbox.h"
#include "pool/core/reactor.h"
#include "pool/core/start_thread.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/launch/keep_namespaces.h"
#include "spawn/launch/reap.h"
#include "spawn/launch/session.h"

namespace brood {

// The callers' side: hands everything to the pool's thread.
class Pool::Front {
 public:
  absl::Status Start(PoolOptions options) {
    BROOD_RETURN_IF_ERROR(inbox_.Open());
    std::promise<absl::Status> started;
    std::future<absl::Status> result = started.get_future();
    // The thread makes ring and zygotes itself: rings may bind to their thread, and a worker dies
    // with the thread whose child it is.
    BROOD_RETURN_IF_ERROR(
        StartThread(thread_, [this, options = std::move(options), &started]() mutable {
          inbox_.BelongsToThisThread();
          Reactor reactor(std::move(options), inbox_);
          const absl::Status status = reactor.Start();
          cgroup_path_ = reactor.cgroup_path();
          idle_lists_ = reactor.IdleLists();
          reactor_ = &reactor;
          launch_window_ = reactor.launch_window();
          started.set_value(status);
          if (!status.ok()) reactor.BeginShutdown(NowNs());
          reactor.Loop();
          end_ = reactor.result();
        }));
    absl::Status status = result.get();
    if (!status.ok()) thread_.join();
    return status;
  }

  absl::Status Submit(Request request, Callback callback, std::uint64_t* id) {
    BROOD_RETURN_IF_ERROR(Validate(request.command));
    return Enqueue(std::move(request), std::move(callback), id);
  }

  absl::StatusOr<Outcome> Run(Request request) {
    BROOD_RETURN_IF_ERROR(Validate(request.command));
    if (std::optional<Outcome> outcome = RunHere(request)) return *std::move(outcome);
    std::promise<absl::StatusOr<Outcome>> promise;
    std::future<absl::StatusOr<Outcome>> result = promise.get_future();
    BROOD_RETURN_IF_ERROR(Enqueue(std::move(request), [&](absl::StatusOr<Outcome> outcome) {
      promise.set_value(std::move(outcome));
    }));
    return result.get();
  }

  absl::Status AskStatus(const std::function<absl::Status(Reactor&)>& task) {
    return Ask<absl::Status>(task, Error(absl::StatusCode::kUnavailable, "the pool is shut down"));
  }

  // Runs `task` in the pool's thread, which may be the caller's, and waits for what it returns;
  // `otherwise` when it is gone.
  template <typename Result, typename Task>
  Result Ask(Task task, Result otherwise) {
    if (std::this_thread::get_id() == thread_.get_id()) return task(*reactor_);
    auto promise = std::make_shared<std::promise<Result>>();
    std::future<Result> result = promise->get_future();
    if (!inbox_.Put([promise, task](Reactor& reactor) { promise->set_value(task(reactor)); })) {
      return otherwise;
    }
    return result.get();
  }

  absl::Status AwaitParked(const std::string& name, std::uint32_t count,
                           std::chrono::nanoseconds timeout) {
    auto promise = std::make_shared<std::promise<absl::Status>>();
    std::future<absl::Status> result = promise->get_future();
    const std::int64_t deadline = NowNs() + timeout.count();
    const auto task = [promise, name, count, deadline](Reactor& reactor) {
      reactor.AwaitParked(name, count, deadline,
                          [promise](const absl::Status& status) { promise->set_value(status); });
    };
    if (!inbox_.Put(task)) return Error(absl::StatusCode::kUnavailable, "the pool is shut down");
    return result.get();
  }

  bool Post(std::function<void()> task) {
    return inbox_.Put([task = std::move(task)](Reactor&) { task(); });
  }
  Reactor& reactor() { return *reactor_; }

  // Changes the templates in the pool's thread, and then what the callers see of them.
  absl::Status ChangeTemplates(const std::function<absl::Status(Reactor&)>& change) {
    return Ask<absl::Status>(
        [this, change](Reactor& reactor) {
          absl::Status changed = change(reactor);
          const std::lock_guard lock(idle_mutex_);
          idle_lists_ = reactor.IdleLists();
          return changed;
        },
        Error(absl::StatusCode::kUnavailable, "the pool is shut down"));
  }

  void SetParked(const std::string& name, std::uint32_t parked) {
    inbox_.Put([name, parked](Reactor& reactor) { reactor.SetParked(name, parked); });
  }

  // In a fork of the process that made it: no pool's thread came along, and its workers are not the
  // fork's children.
  bool is_copy() const { return getpid() != owner_; }

  absl::Status Shutdown(std::chrono::nanoseconds grace) {
    if (is_copy()) {
      return Error(absl::StatusCode::kFailedPrecondition,
                   "the pool belongs to process {}: a fork of that cannot shut it down", owner_);
    }
    const std::lock_guard lock(shutdown_mutex_);
    if (!thread_.joinable()) return end_;
    const std::int64_t kill_at = NowNs() + grace.count();
    inbox_.Put([kill_at](Reactor& reactor) { reactor.BeginShutdown(kill_at); });
    thread_.join();
    return end_;
  }

  const std::string& cgroup_path() const { return cgroup_path_; }

 private:
  absl::Status Enqueue(Request request, Callback callback, std::uint64_t* id = nullptr) {
    auto active = std::make_unique<ActiveRequest>();
    active->id = next_id_.fetch_add(1, std::memory_order_relaxed);
    if (id != nullptr) *id = active->id;
    active->submitted_ns = NowNs();
    if (auto launched = LaunchHere(request, IdleListOf(request.template_name).get())) {
      active->launched = launched->parked.worker;
      active->pidfd = std::move(launched->pidfd);
    }
    active->request = std::move(request);
    active->callback = std::move(callback);
    if (inbox_.Put(std::move(active))) return absl::OkStatus();
    return Error(absl::StatusCode::kUnavailable, "the pool is shut down");
  }

  // A worker that is the request's. Without a pidfd it has not been woken.
  struct Launched {
    IdleList::Entry parked;
    absl::StatusOr<UniqueFd> pidfd;
  };

  // Launches a parked worker for the request right here, if one is free, nobody waits, and it needs
  // no descriptors and no big message.
  std::optional<Launched> LaunchHere(const Request& request, IdleList* idle) const {
    if (idle == nullptr || request.path != SpawnPath::kParked ||
        request.command.stdio.mode != StdioMode::kNull || request.spec || request.fresh) {
      return std::nullopt;
    }
    const LaunchLayout layout(request.command);
    if (layout.bytes() > kSmallMessageBytes) return std::nullopt;
    const std::optional<IdleList::Entry> parked = idle->TakeForCaller(launch_window_);
    if (!parked) return std::nullopt;
    parked->zygote->WriteLaunch(parked->slot, layout);
    // While it is certainly there (spawn/launch/reap.h).
    Launched launched{*parked, OpenChild(parked->zygote->mailbox(parked->slot).pid)};
    if (launched.pidfd.ok()) parked->zygote->Wake(parked->slot, WorkerState::kLaunch);
    return launched;
  }

  // Runs a request to its end in the calling thread, when a parked worker is free and all there is
  // to do is wait: no other thread has to wake up for it. None when the pool's thread has to.
  std::optional<Outcome> RunHere(const Request& request) {
    const std::int64_t requested_ns = NowNs();
    const std::shared_ptr<IdleList> idle = IdleListOf(request.template_name);
    // A deadline has to be kept, and limits have counters to be read: the pool's business.
    if (idle == nullptr || idle->facts.has_limits || request.command.timeout ||
        request.on_started) {
      return std::nullopt;
    }
    const std::optional<Launched> launched = LaunchHere(request, idle.get());
    if (!launched) return std::nullopt;

    // What is done here runs beside the worker's exec.
    const IdleList::Entry& parked = launched->parked;
    const Mailbox& box = parked.zygote->mailbox(parked.slot);
    Inbox::Used used{parked.worker, {}, false};
    if (!launched->pidfd.ok()) {  // the pool's thread finds another, or says what is missing
      if (!absl::IsNotFound(launched->pidfd.status())) KillAndReap(box.pid);
      inbox_.Put(std::move(used));
      return std::nullopt;
    }
    const UniqueFd& pidfd = *launched->pidfd;
    used.kept =
        KeepNamespaces(idle->facts.blueprint->plan(), pidfd.get(), idle->facts.proc_fd, box);
    const std::string leaf = box.leaf;
    const Subject subject{.blueprint = *idle->facts.blueprint,
                          .box = box,
                          .pidfd = pidfd.get(),
                          .parent = idle->facts.parent,
                          .leaf = leaf};
    Session session;
    session.facts.requested_ns = requested_ns;
    AwaitLaunch(subject, session);
    (void)session.Ended(subject, Reap(pidfd.get()));
    session.facts.killed |= session.EndedBySigkill() && idle->closed();
    const bool unseen = session.NeverSeen(subject);
    Outcome outcome;
    outcome.id = next_id_.fetch_add(1, std::memory_order_relaxed);
    outcome.template_name = idle->facts.template_name;
    outcome.spawn_path = SpawnPath::kParked;
    outcome.fallbacks = idle->facts.fallbacks;
    session.Tell(subject, request.command, /*usage_wanted=*/false, outcome);
    used.leaf_spoilt = session.leaf_spoilt;
    inbox_.Put(std::move(used));
    // Killed while parked, it never saw the request: the pool's thread finds another.
    if (unseen) return std::nullopt;
    return outcome;
  }

  // Waits until the worker has ended, or got as far as its command.
  static void AwaitLaunch(const Subject& subject, Session& session) {
    constexpr int kLook = static_cast<int>(kLongLaunchNs / 1'000'000);
    pollfd ended{subject.pidfd, POLLIN, 0};
    while (!HasLetGo(subject.box)) {
      const int ready = poll(&ended, 1, kLook);
      if (ready > 0 || (ready == 0 && session.EndIfFrozen(subject))) return;
    }
  }

  std::shared_ptr<IdleList> IdleListOf(const std::string& name) const {
    const std::lock_guard lock(idle_mutex_);
    for (const auto& [owner, idle] : idle_lists_) {
      if (name.empty() || owner == name) return idle;
    }
    return nullptr;
  }

  const pid_t owner_ = getpid();
  Inbox inbox_;
  std::atomic<std::uint64_t> next_id_{1};
  std::mutex shutdown_mutex_;
  std::thread thread_;
  // Written before Start returns.
  std::string cgroup_path_;
  Reactor* reactor_ = nullptr;  // to be used in its own thread only
  mutable std::mutex idle_mutex_;
  std::vector<std::pair<std::string, std::shared_ptr<IdleList>>> idle_lists_;
  std::uint32_t launch_window_ = 0;
  absl::Status end_;  // written by the thread, read after it has been joined
};

Pool::Pool(std::unique_ptr<Front> front) : front_(std::move(front)) {}

Pool::~Pool() {
  // Nobody is there to be joined, and what it holds is a copy that ends with the fork.
  if (front_->is_copy()) {
    (void)front_.release();
  } else {
    (void)front_->Shutdown(std::chrono::nanoseconds(0));
  }
}

absl::StatusOr<std::unique_ptr<Pool>> Pool::Create(PoolOptions options) {
  auto front = std::make_unique<Front>();
  BROOD_RETURN_IF_ERROR(front->Start(std::move(options)));
  return std::unique_ptr<Pool>(new Pool(std::move(front)));
}

absl::Status Pool::Submit(Request request, Callback callback, std::uint64_t* id) {
  return front_->Submit(std::move(request), std::move(callback), id);
}

absl::Status Pool::Signal(std::uint64_t id, const SignalOrder& order) {
  return front_->AskStatus([=](Reactor& reactor) { return reactor.Signal(id, order); });
}

absl::Status Pool::Kill(std::uint64_t id) {
  return front_->AskStatus([=](Reactor& reactor) { return reactor.Kill(id); });
}

bool Pool::RunsCommand(std::uint64_t id) { return front_->reactor().RunsCommand(id); }

bool Pool::Post(std::function<void()> task) { return front_->Post(std::move(task)); }

absl::StatusOr<Pool::WatchId> Pool::Watch(int fd, short events, std::function<void(short)> ready) {
  return front_->reactor().watches().Watch(fd, events, std::move(ready));
}

void Pool::Unwatch(WatchId id) { front_->reactor().watches().Unwatch(id); }

unsigned Pool::FdsOfAWatch() const { return front_->reactor().FdsOfAWatch(); }

absl::Status Pool::PutTemplate(TemplateOptions options) {
  return front_->ChangeTemplates(
      [&](Reactor& reactor) { return reactor.PutTemplate(std::move(options)); });
}

absl::Status Pool::RemoveTemplate(const std::string& name) {
  return front_->ChangeTemplates([&](Reactor& reactor) { return reactor.RemoveTemplate(name); });
}

absl::StatusOr<Outcome> Pool::Run(Request request) { return front_->Run(std::move(request)); }

absl::Status Pool::AwaitParked(const std::string& template_name, std::uint32_t count,
                               std::chrono::nanoseconds timeout) {
  return front_->AwaitParked(template_name, count, timeout);
}

void Pool::SetParked(const std::string& template_name, std::uint32_t parked) {
  front_->SetParked(template_name, parked);
}

PoolStats Pool::Stats() {
  return front_->Ask([](Reactor& reactor) { return reactor.Stats(); }, PoolStats{});
}

std::vector<int> Pool::SlotPids() {
  return front_->Ask([](Reactor& reactor) { return reactor.SlotPids(); }, std::vector<int>{});
}

std::vector<int> Pool::ZygotePids() {
  return front_->Ask([](Reactor& reactor) { return reactor.ZygotePids(); }, std::vector<int>{});
}

absl::Status Pool::Shutdown(std::chrono::nanoseconds grace) { return front_->Shutdown(grace); }

std::string Pool::CgroupPath() const { return front_->cgroup_path(); }

}  // namespace brood
