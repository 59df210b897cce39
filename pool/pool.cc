#include "pool/pool.h"

#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>
#include <utility>

#include "pool/inbox.h"
#include "pool/reactor.h"
#include "spawn/reap.h"
#include "spawn/status.h"

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
    thread_ = std::thread([this, options = std::move(options), &started]() mutable {
      Reactor reactor(std::move(options), inbox_);
      const absl::Status status = reactor.Start();
      cgroup_path_ = reactor.cgroup_path();
      shelves_ = reactor.Shelves();
      launch_window_ = reactor.launch_window();
      started.set_value(status);
      if (!status.ok()) reactor.BeginShutdown(NowNs());
      reactor.Loop();
      end_ = reactor.result();
    });
    const absl::Status status = result.get();
    if (!status.ok()) thread_.join();
    return status;
  }

  absl::Status Submit(Request request, Callback callback) {
    BROOD_RETURN_IF_ERROR(Validate(request.command));
    auto active = std::make_unique<ActiveRequest>();
    active->id = next_id_.fetch_add(1, std::memory_order_relaxed);
    active->request = std::move(request);
    active->callback = std::move(callback);
    active->submitted_ns = NowNs();
    LaunchHere(*active);
    if (inbox_.Put(std::move(active))) return absl::OkStatus();
    return Error(absl::StatusCode::kUnavailable, "the pool is shut down");
  }

  // Launches a parked worker for the request right here, if one is free and nobody waits.
  void LaunchHere(ActiveRequest& request) {
    if (request.request.path != SpawnPath::kParked) return;
    Shelf* shelf = ShelfOf(request.request.template_name);
    if (shelf == nullptr || !LaunchesAnywhere(request.request.command)) return;
    const std::optional<Shelf::Entry> parked = shelf->TakeForCaller(launch_window_);
    if (!parked) return;
    parked->zygote->WriteLaunch(parked->slot, request.request.command);
    parked->zygote->Wake(parked->slot, WorkerState::kLaunch);
    request.launched = parked->worker;
  }

  // Runs `task` in the pool's thread and waits for what it returns; `otherwise` when it is gone.
  template <typename Result, typename Task>
  Result Ask(Task task, Result otherwise) {
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
                          [promise](absl::Status status) { promise->set_value(status); });
    };
    if (!inbox_.Put(task)) return Error(absl::StatusCode::kUnavailable, "the pool is shut down");
    return result.get();
  }

  void SetParked(const std::string& name, std::uint32_t parked) {
    inbox_.Put([name, parked](Reactor& reactor) { reactor.SetParked(name, parked); });
  }

  absl::Status Shutdown(std::chrono::nanoseconds grace) {
    const std::lock_guard lock(shutdown_mutex_);
    if (!thread_.joinable()) return end_;
    const std::int64_t kill_at = NowNs() + grace.count();
    inbox_.Put([kill_at](Reactor& reactor) { reactor.BeginShutdown(kill_at); });
    thread_.join();
    return end_;
  }

  const std::string& cgroup_path() const { return cgroup_path_; }

 private:
  Shelf* ShelfOf(const std::string& name) const {
    for (const auto& [owner, shelf] : shelves_) {
      if (name.empty() || owner == name) return shelf.get();
    }
    return nullptr;
  }

  Inbox inbox_;
  std::atomic<std::uint64_t> next_id_{1};
  std::mutex shutdown_mutex_;
  std::thread thread_;
  // Written before Start returns.
  std::string cgroup_path_;
  std::vector<std::pair<std::string, std::shared_ptr<Shelf>>> shelves_;
  std::uint32_t launch_window_ = 0;
  absl::Status end_;         // written by the thread, read after it has been joined
};

Pool::Pool(std::unique_ptr<Front> front) : front_(std::move(front)) {}

Pool::~Pool() { (void)front_->Shutdown(std::chrono::nanoseconds(0)); }

absl::StatusOr<std::unique_ptr<Pool>> Pool::Create(PoolOptions options) {
  auto front = std::make_unique<Front>();
  BROOD_RETURN_IF_ERROR(front->Start(std::move(options)));
  return std::unique_ptr<Pool>(new Pool(std::move(front)));
}

absl::Status Pool::Submit(Request request, Callback callback) {
  return front_->Submit(std::move(request), std::move(callback));
}

absl::StatusOr<Outcome> Pool::Run(Request request) {
  std::promise<absl::StatusOr<Outcome>> promise;
  std::future<absl::StatusOr<Outcome>> result = promise.get_future();
  BROOD_RETURN_IF_ERROR(front_->Submit(std::move(request), [&](absl::StatusOr<Outcome> outcome) {
    promise.set_value(std::move(outcome));
  }));
  return result.get();
}

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

std::vector<int> Pool::ZygotePids() {
  return front_->Ask([](Reactor& reactor) { return reactor.ZygotePids(); }, std::vector<int>{});
}

absl::Status Pool::Shutdown(std::chrono::nanoseconds grace) { return front_->Shutdown(grace); }

std::string Pool::CgroupPath() const { return front_->cgroup_path(); }

}  // namespace brood
