// SPDX-License-Identifier: Apache-2.0

// Many isolated processes: a pool that keeps workers parked and gives each request one of its own.
//
//   auto pool = brood::Pool::Create({.templates = {{.name = "web", .spec = spec, .parked = 64}}});
//   absl::StatusOr<brood::Outcome> outcome = (*pool)->Run({.command = {.argv = {"/bin/true"}}});
//
// A request goes to a template, whose zygotes have cloned workers ahead: each is isolated
// completely and waits. A worker runs one command and is used once. The pool parks new ones in the
// background.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/failure.h"
#include "spawn/outcome.h"
#include "spawn/signal_order.h"
#include "spawn/spec.h"

namespace brood {

struct TemplateOptions {
  std::string name = "default";
  Spec spec;
  std::uint32_t parked = 16;      // workers kept ready; 0: none, each request is a clone
  std::uint32_t max_workers = 0;  // parked, being made and running together; 0: 4096 or more if
                                  // `parked` asks for it
  std::uint32_t zygotes = 0;      // 0: one for every two processors, at least one, at most 4
  FaultInjection fault;           // test switch, see spawn/failure.h
};

struct PoolOptions {
  std::vector<TemplateOptions> templates;
  // Workers that may be between launch and exec at once; 0: two for each processor. More only slow
  // each other, since that stretch is all kernel work.
  std::uint32_t launch_window = 0;
  // Limits that requests with a spec of their own may have, beside those of the templates (the
  // values do not matter). Their controllers are enabled at the start, where possible.
  Limits limits_wanted;
  std::uint32_t max_running = 0;  // workers that may run at once; 0: as many as descriptors allow
  // Most descriptors that the program around the pool watches. Up to half of RLIMIT_NOFILE is left
  // for them; the pool takes three quarters of the rest.
  std::uint64_t watched_fds = 0;
  std::uint32_t max_queue = 1U << 20;  // requests that may wait; beyond, Submit refuses
  int ring_refusal = 0;                // test switch: io_uring is refused with this errno
};

// What to do with a request when no worker is parked.
enum class WhenEmpty : std::uint8_t {
  kWait,    // for the next one to be parked
  kSlower,  // clone one for it now; the outcome names the path and the reason
  kRefuse,  // kResourceExhausted
};

// A worker on its way to the command.
struct Started {
  std::uint64_t id = 0;  // of the request
  std::int32_t host_pid = 0;
  std::string leaf;            // its cgroup below Pool::CgroupPath; empty: none of its own
  std::uint32_t id_first = 0;  // the host id of its id 0; 0: it has no range of ids
  SpawnPath path = SpawnPath::kParked;
  std::optional<SlotUse> slot;  // none: its namespaces are all its own
  const Spec* spec = nullptr;   // what it was made from; valid during the call, and for the pool's
                                // life if it is a template's (any path but cold)
};

struct Request {
  std::string template_name;  // empty: the first template
  Command command;
  SpawnPath path = SpawnPath::kParked;  // the path wanted
  WhenEmpty when_empty = WhenEmpty::kWait;
  // All its namespaces are made for it, and not used again, whatever the template's spec says
  // (Spec::reuse). Then a worker is cloned for it, since a parked one has them already.
  bool fresh = false;

  // A spec for this request alone, which is then served cold; the template gives only its name.
  std::optional<Spec> spec;
  // With `spec`: start in this cgroup leaf of the pool, which belongs to a running worker.
  std::string leaf;
  // Called in the pool's thread before the callback, once there is a worker; called again if that
  // worker is killed before it saw the request and another takes it. Must not block.
  std::function<void(const Started&)> on_started;
};

// What TemplateOptions::zygotes 0 stands for here.
std::uint32_t DefaultZygotes();

// Slots of one zygote that keep their namespaces, each with a process of some 60 KB, while they
// have a worker; beyond it, the worker that has lived longest ends with its namespaces. They are
// for slots that are used again and again, not for thousands of parked workers.
inline constexpr std::uint32_t kKeptSlots = 256;

struct SlotStats {
  // Workers made in the namespaces of one before, and in new ones; of those, by SlotFault
  // (spawn/failure.h), why the ones before were not used again.
  std::uint64_t reused = 0;
  std::uint64_t made = 0;
  std::array<std::uint64_t, kSlotFaults> given_up{};
  std::uint32_t idle = 0;  // slots that have namespaces, and no worker
};
// {"used_again": N, "made": N, "idle": N, "given_up": {"sockets": N, ...}}
nlohmann::ordered_json ToJson(const SlotStats& slots);

struct PoolStats {
  std::uint32_t parked = 0;
  std::uint32_t being_made = 0;
  std::uint32_t running = 0;
  std::uint32_t queued = 0;
  std::uint64_t served[3] = {0, 0, 0};  // by SpawnPath
  std::uint64_t parked_total = 0;       // workers that ever parked
  std::uint64_t lost_workers = 0;       // parked workers found dead
  std::uint64_t zygotes_replaced = 0;
  SlotStats slots;
  std::vector<Fallback> fallbacks;  // what this pool wanted but could not have
  std::vector<double> park_us;      // how long the latest (at most 4096) took to be made
};

// Thread-safe. Destroying it ends what still runs.
class Pool {
 public:
  // Starts the zygotes and returns when every template is ready; parking goes on in the background
  // (AwaitParked waits for it). Raises this process's soft RLIMIT_NOFILE to the hard one.
  static absl::StatusOr<std::unique_ptr<Pool>> Create(PoolOptions options);

  // Called exactly once for each accepted request, in the pool's own thread: must not block, and
  // may call Submit. A status other than OK means that no worker ran the command, for a reason of
  // the pool's (refused, shut down). A step that failed inside a worker is an Outcome.
  using Callback = std::function<void(absl::StatusOr<Outcome>)>;

  // Queues a request. kInvalidArgument for a bad one, kNotFound for an unknown template,
  // kUnavailable after Shutdown; `callback` is not called then. Descriptors in the command (kFds)
  // are borrowed until the callback.
  // `id`, when not null, gets the request's number before any callback.
  absl::Status Submit(Request request, Callback callback, std::uint64_t* id = nullptr);

  // Submit, and wait for the outcome.
  absl::StatusOr<Outcome> Run(Request request);

  // Sends a signal to the worker of a request; it acts as on any process (spawn/signal_order.h).
  // kNotFound when the request has no worker, or no longer.
  absl::Status Signal(std::uint64_t id, const SignalOrder& order);
  // Ends a request: kills all in its worker's cgroup (End::kKilled), or answers it with kCancelled
  // if it still waits. kNotFound when it has been answered.
  absl::Status Kill(std::uint64_t id);

  // Whether the worker of a request has reached its command. Before, its isolation may be
  // incomplete, and its time namespace is not its own yet. Only in the pool's thread, as Watch.
  bool RunsCommand(std::uint64_t id);

  // Waits until `count` workers of a template are parked at once; kDeadlineExceeded otherwise, with
  // the reason when parking fails.
  absl::Status AwaitParked(const std::string& template_name, std::uint32_t count,
                           std::chrono::nanoseconds timeout);

  // Changes how many workers a template keeps parked; surplus ones are not ended.
  void SetParked(const std::string& template_name, std::uint32_t parked);

  PoolStats Stats();

  // Accepts no more requests and waits for queued and running ones to end, or kills them after
  // `grace`. Then ends the parked workers and zygotes and removes the cgroups. The status tells
  // what could not be cleaned up. When it returns, the callbacks of all accepted requests have
  // returned. Must not be called from a callback.
  absl::Status Shutdown(std::chrono::nanoseconds grace = std::chrono::hours(24));

  // Runs `task` in the pool's thread, soon. False when the pool has been shut down.
  bool Post(std::function<void()> task);
  // For programs that serve sockets beside their workers, without another thread: calls `ready`
  // with poll(2) events whenever `fd`, borrowed, is ready for `events`, until Unwatch. Only in the
  // pool's thread, that is in callbacks and in tasks of Post.
  using WatchId = std::uint64_t;
  absl::StatusOr<WatchId> Watch(int fd, short events, std::function<void(short)> ready);
  void Unwatch(WatchId id);
  // Descriptors that each watch uses: the one watched, and another where the pool waits with epoll.
  unsigned FdsOfAWatch() const;

  // Adds a template, or replaces the one of that name: later requests get the new one, running
  // workers go on, and the old one's parked workers end. Waits until it is ready; after an error
  // nothing has changed.
  absl::Status PutTemplate(TemplateOptions options);
  // Removes a template in the same way. kNotFound; kFailedPrecondition for the last one.
  absl::Status RemoveTemplate(const std::string& name);

  // Process ids of the zygotes, and of the processes that keep slots, for people and tests.
  std::vector<int> ZygotePids();
  std::vector<int> SlotPids();
  // The directory of the pool's cgroups; empty where it has none.
  std::string CgroupPath() const;

  ~Pool();

 private:
  class Front;
  explicit Pool(std::unique_ptr<Front> front);
  std::unique_ptr<Front> front_;
};

}  // namespace brood
