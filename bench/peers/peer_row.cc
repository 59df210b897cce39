// SPDX-License-Identifier: Apache-2.0

#include "bench/peers/peer_row.h"

#include <fmt/ranges.h>

#include <chrono>
#include <functional>
#include <optional>
#include <thread>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "bench/peers/docker_api.h"
#include "bench/peers/leftovers.h"
#include "bench/peers/run_command.h"
#include "bench/peers/service.h"
#include "pool/daemon/client.h"
#include "pool/daemon/protocol.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/spec.h"

namespace brood::bench {
namespace {

// A peer that is ready to run: its programs found, its service up.
class Stage {
 public:
  // What only the first has to do, `set_up`, is done when `first`.
  static absl::StatusOr<Stage> Make(const Peer& peer, const Workshop& workshop, bool first);

  absl::Status RunOnce() { return runner_.Run(program_, argv_); }

 private:
  explicit Stage(CommandRunner runner) : runner_(std::move(runner)) {}

  CommandRunner runner_;
  std::string program_;
  Words argv_;
  std::optional<Service> service_;
};

absl::Status RunAll(const Peer& peer, const std::vector<Words>& commands, const Workshop& workshop,
                    CommandRunner& runner) {
  for (const Words& words : commands) {
    BROOD_ASSIGN_OR_RETURN(const std::string program, workshop.Find(peer, words[0]));
    BROOD_RETURN_IF_ERROR(runner.Run(program, workshop.Resolve(words)));
  }
  return absl::OkStatus();
}

absl::StatusOr<Service> StartService(const Peer& peer, const Workshop& workshop) {
  BROOD_ASSIGN_OR_RETURN(const std::string program, workshop.Find(peer, peer.service[0]));
  Words argv = workshop.Resolve(peer.service);
  // Ends with this program, however that ends.
  BROOD_ASSIGN_OR_RETURN(const std::string setpriv, workshop.Find(peer, "setpriv"));
  argv[0] = program;
  argv.insert(argv.begin(), {"setpriv", "--pdeathsig", "TERM", "--"});
  absl::StatusOr<Service> service = Service::Start(setpriv, argv, workshop.Resolve(peer.socket));
  // It listens before it is done with its own beginnings.
  if (service.ok()) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  return service;
}

absl::StatusOr<Stage> Stage::Make(const Peer& peer, const Workshop& workshop, bool first) {
  BROOD_ASSIGN_OR_RETURN(CommandRunner runner, CommandRunner::Create());
  Stage stage(std::move(runner));
  BROOD_ASSIGN_OR_RETURN(stage.program_, workshop.Find(peer));
  stage.argv_ = workshop.Resolve(peer.argv);
  if (!peer.service.empty()) {
    BROOD_ASSIGN_OR_RETURN(Service service, StartService(peer, workshop));
    stage.service_.emplace(std::move(service));
  }
  if (first) BROOD_RETURN_IF_ERROR(RunAll(peer, peer.set_up, workshop, stage.runner_));
  return stage;
}

// The peer of a row; when the row is gone, what setting it up has made is undone.
std::shared_ptr<const Peer> Hold(const Peer& peer, const std::shared_ptr<Workshop>& workshop) {
  return {new Peer(peer), [workshop](const Peer* held) {
            if (absl::StatusOr<CommandRunner> runner = CommandRunner::Create(); runner.ok()) {
              (void)RunAll(*held, held->tear_down, *workshop, *runner);
            }
            delete held;
          }};
}

void AddLeftovers(benchmark::State& state, Samples& samples, const Leftovers& left) {
  if (state.error_occurred()) return;
  samples.Add("left", static_cast<double>(left.count()));
  samples.Add("left_zombies", static_cast<double>(left.zombies.size()));
}

// Sets the stage, runs `measure` on it, and counts and clears what that has left.
void OnStage(const Peer& peer, const Workshop& workshop, benchmark::State& state, Samples& samples,
             const std::function<void(Stage&)>& measure) {
  const LeftoverWatch whole(workshop.TerritoryOf(peer));
  const auto clear = absl::MakeCleanup([&] { (void)whole.Clear(); });
  absl::StatusOr<Stage> stage = Stage::Make(peer, workshop, /*first=*/false);
  if (!stage.ok()) return Fail(state, stage.status());
  // Once unmeasured: what the first makes for all that follow is not left behind by them.
  if (const absl::Status ran = stage->RunOnce(); !ran.ok()) return Fail(state, ran);
  const LeftoverWatch watch(workshop.TerritoryOf(peer));
  measure(*stage);
  AddLeftovers(state, samples, watch.Find());
}

std::string Note(const Peer& peer) {
  return fmt::format("{} - {}", fmt::join(peer.argv, " "), peer.isolation);
}

absl::Status Try(const Peer& peer, const Workshop& workshop) {
  BROOD_ASSIGN_OR_RETURN(Stage stage, Stage::Make(peer, workshop, /*first=*/true));
  // What setting up has made, as an image, is there to stay.
  const LeftoverWatch watch(workshop.TerritoryOf(peer));
  const auto clear = absl::MakeCleanup([&] { (void)watch.Clear(); });
  return stage.RunOnce();
}

}  // namespace

Row PeerRow(const Peer& peer, const std::shared_ptr<Workshop>& workshop) {
  Row row;
  row.name = "peer/" + peer.name;
  if (peer.name != kPeerFloor) row.floor = std::string("peer/") + kPeerFloor;
  row.iterations = peer.iterations;
  row.warm_ups = peer.warm_ups;
  row.every = peer.every;
  row.leaves_debt = peer.name != kPeerFloor;
  row.note = Note(peer);
  const std::shared_ptr<const Peer> held = Hold(peer, workshop);
  if (const absl::Status tried = Try(peer, *workshop); !tried.ok()) {
    row.unavailable = workshop->Shorten(std::string(Message(tried)));
    return row;
  }
  row.run = [held, workshop](benchmark::State& state, Samples& samples) {
    OnStage(*held, *workshop, state, samples,
            [&](Stage& stage) { samples.Measure(state, [&] { return stage.RunOnce(); }); });
  };
  return row;
}

Row DockerRequestRow(const Peer& docker, const std::shared_ptr<Workshop>& workshop) {
  Row row;
  row.name = kDockerRequest;
  row.floor = std::string("peer/") + kPeerFloor;
  row.iterations = docker.iterations;
  row.warm_ups = docker.warm_ups;
  row.every = docker.every;
  row.leaves_debt = true;
  row.note =
      "POST /containers/create, start and wait on dockerd's own socket, without the docker program "
      "- " +
      docker.isolation;
  row.run = [docker, workshop](benchmark::State& state, Samples& samples) {
    const DockerApi api(workshop->Resolve(docker.socket));
    OnStage(docker, *workshop, state, samples, [&](Stage&) {
      samples.MeasurePart(state, [&]() -> absl::StatusOr<double> {
        const std::int64_t start = NowNs();
        BROOD_ASSIGN_OR_RETURN(const std::string id, api.Run(kPeerMark, kInside));
        const double us = static_cast<double>(NowNs() - start) / 1e3;
        BROOD_RETURN_IF_ERROR(api.Remove(id));
        return us;
      });
    });
  };
  return row;
}

Row BroodRequestRow(const Peer& submit, const std::shared_ptr<Workshop>& workshop) {
  Row row;
  row.name = kBroodRequest;
  row.floor = std::string("peer/") + kPeerFloor;
  row.iterations = submit.iterations;
  row.warm_ups = submit.warm_ups;
  row.leaves_debt = true;
  row.note = "brood::Client over one connection to brood serve, without the brood program - " +
             submit.isolation;
  row.run = [submit, workshop](benchmark::State& state, Samples& samples) {
    OnStage(submit, *workshop, state, samples, [&](Stage&) {
      absl::StatusOr<Client> client = Client::Connect(workshop->Resolve(submit.socket));
      if (!client.ok()) return Fail(state, client.status());
      Submit request;
      request.argv = {kInside};
      request.env = DefaultEnvironment();
      request.cwd = "/";
      request.io = ClientIo::kNone;
      samples.Measure(state, [&]() -> absl::Status {
        BROOD_ASSIGN_OR_RETURN(const Ended ended, client->Run(request, {}));
        if (ended.exit_status == 0) return absl::OkStatus();
        return Error(absl::StatusCode::kFailedPrecondition, "the payload ended with {}: {}",
                     ended.exit_status, ended.message);
      });
    });
  };
  return row;
}

}  // namespace brood::bench
