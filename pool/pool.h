// Many isolated processes: a pool that keeps workers parked and gives each request one of its own.
//
//   auto pool = brood::Pool::Create({.templates = {{.name = "web", .spec = spec, .parked = 64}}});
//   absl::StatusOr<brood::Outcome> outcome = (*pool)->Run({.command = {.argv = {"/bin/true"}}});
//
// A request goes to a template; the template's zygotes have cloned workers ahead, each complete
// behind its fences, waiting. A worker runs one command and is used once. The pool parks new ones
// in the background.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/blueprint.h"
#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood {

struct TemplateOptions {
  std::string name = "default";
  Spec spec;
  std::uint32_t parked = 16;      // workers kept ready; 0: none, each request is a clone
  std::uint32_t max_workers = 0;  // parked, being made and running together; 0: 4096 or more if
                                  // `parked` asks for it
  std::uint32_t zygotes = 0;      // 0: one for every two processors, at least one, at most 4
  FaultInjection fault;           // test switch, see spawn/blueprint.h
};

struct PoolOptions {
  std::vector<TemplateOptions> templates;
  // Workers that may be on their way from launch to exec at once; 0: two for each processor. More
  // only fight over them, since that stretch is nothing but kernel work.
  std::uint32_t launch_window = 0;
  std::uint32_t max_queue = 1U << 20;  // requests that may wait; beyond, Submit refuses
};

// What to do with a request when no parked worker is there.
enum class WhenEmpty : std::uint8_t {
  kWait,    // for the next one to be parked
  kSlower,  // clone one for it now; the outcome names the path and says why
  kRefuse,  // kResourceExhausted
};

struct Request {
  std::string template_name;  // empty: the first template
  Command command;
  SpawnPath path = SpawnPath::kParked;  // the path wanted
  WhenEmpty when_empty = WhenEmpty::kWait;
};

struct PoolStats {
  std::uint32_t parked = 0;
  std::uint32_t being_made = 0;
  std::uint32_t running = 0;
  std::uint32_t queued = 0;
  std::uint64_t served[3] = {0, 0, 0};  // by SpawnPath
  std::uint64_t parked_total = 0;       // workers that ever parked
  std::uint64_t lost_workers = 0;       // parked workers found dead
  std::uint64_t zygotes_replaced = 0;
  std::vector<double> park_us;  // how long the latest (at most 4096) took to be made
};

// Thread-safe. Destroying it ends what still runs.
class Pool {
 public:
  // Starts the zygotes and returns when every template stands; parking goes on in the background
  // (AwaitParked waits for it). Raises this process's soft RLIMIT_NOFILE to the hard one.
  static absl::StatusOr<std::unique_ptr<Pool>> Create(PoolOptions options);

  // Called exactly once for each accepted request, in the pool's own thread: must not block, and
  // may call Submit. A status other than OK: no worker ran the command, for a reason of the pool's
  // (refused, shut down); a step that failed inside a worker is an Outcome.
  using Callback = std::function<void(absl::StatusOr<Outcome>)>;

  // Queues a request. kInvalidArgument for a bad one, kNotFound for an unknown template,
  // kUnavailable after Shutdown; `callback` is not called then. Descriptors in the command (kFds)
  // are borrowed until the callback.
  absl::Status Submit(Request request, Callback callback);

  // Submit, and wait for the outcome.
  absl::StatusOr<Outcome> Run(Request request);

  // Waits until `count` workers of a template are parked at once; kDeadlineExceeded otherwise, with
  // the reason when parking fails.
  absl::Status AwaitParked(const std::string& template_name, std::uint32_t count,
                           std::chrono::nanoseconds timeout);

  // Changes how many workers a template keeps parked; those above are not ended.
  void SetParked(const std::string& template_name, std::uint32_t parked);

  PoolStats Stats();

  // Accepts no more, lets queued and running requests end, or kills them after `grace`; ends the
  // parked workers and zygotes and removes the cgroups. Tells what could not be cleaned. Callbacks
  // of all accepted requests have returned when it returns. Must not be called from a callback.
  absl::Status Shutdown(std::chrono::nanoseconds grace = std::chrono::hours(24));

  // Process ids of the zygotes, for people and tests.
  std::vector<int> ZygotePids();
  // The directory of the pool's cgroups; empty where it has none.
  std::string CgroupPath() const;

  ~Pool();

 private:
  class Front;
  explicit Pool(std::unique_ptr<Front> front);
  std::unique_ptr<Front> front_;
};

}  // namespace brood
