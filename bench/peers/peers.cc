// SPDX-License-Identifier: Apache-2.0

#include "bench/peers/peers.h"

#include <algorithm>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "bench/peers/peer_row.h"
#include "bench/peers/run_command.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

// A request to a peer's daemon, beside its whole command.
struct Request {
  const char* peer;
  const char* row;
  Row (*make)(const Peer& peer, const std::shared_ptr<Workshop>& workshop);
};
constexpr std::array kRequests = {Request{"docker", kDockerRequest, DockerRequestRow},
                                  Request{"brood-submit", kBroodRequest, BroodRequestRow}};

const Request* RequestOf(const Peer& peer) {
  for (const Request& request : kRequests) {
    if (peer.name == request.peer) return &request;
  }
  return nullptr;
}

}  // namespace

std::vector<std::string> PeerNames() {
  std::vector<std::string> names;
  for (const Peer& peer : Peers()) {
    names.push_back("peer/" + peer.name);
    if (const Request* const request = RequestOf(peer)) names.emplace_back(request->row);
  }
  return names;
}

std::vector<Row> PeerRows(const PeerSetup& setup,
                          const std::function<bool(const std::string&)>& wanted) {
  std::vector<Row> rows;
  const std::vector<std::string> names = PeerNames();
  if (std::none_of(names.begin(), names.end(), wanted)) return rows;
  const auto is_wanted = [&](const std::string& name) {
    return name == std::string("peer/") + kPeerFloor || wanted(name);
  };
  absl::StatusOr<Workshop> made = Workshop::Create(setup.payload, setup.brood, setup.scratch);
  if (!made.ok()) {
    for (const std::string& name : names) {
      if (is_wanted(name)) {
        rows.push_back(UnavailableRow(name, std::string(Message(made.status()))));
      }
    }
    return rows;
  }
  const auto workshop = std::make_shared<Workshop>(*std::move(made));
  for (const Peer& peer : Peers()) {
    const Request* const request = RequestOf(peer);
    const bool whole = is_wanted("peer/" + peer.name);
    const bool without_program = request != nullptr && wanted(request->row);
    if (!whole && !without_program) continue;
    Row row = PeerRow(peer, workshop);
    if (without_program) {
      Row request_row = request->make(peer, workshop);
      request_row.unavailable = row.unavailable;
      rows.push_back(std::move(request_row));
    }
    if (whole) rows.push_back(std::move(row));
  }
  return rows;
}

nlohmann::ordered_json PeerVersions(const PeerSetup& setup) {
  nlohmann::ordered_json versions = nlohmann::ordered_json::object();
  absl::StatusOr<CommandRunner> runner = CommandRunner::Create();
  if (!runner.ok()) return versions;
  for (const Peer& peer : Peers()) {
    if (peer.version.empty()) continue;
    const std::string program = peer.argv[0] == "brood" ? setup.brood : FindProgram(peer.argv[0]);
    Words argv = {peer.argv[0]};
    argv.insert(argv.end(), peer.version.begin(), peer.version.end());
    if (program.empty() || !runner->Run(program, argv).ok()) continue;
    const std::string output = runner->Output();
    versions[peer.name] = output.substr(0, output.find('\n'));
  }
  return versions;
}

}  // namespace brood::bench
