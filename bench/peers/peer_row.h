// SPDX-License-Identifier: Apache-2.0

// One peer's row.
#pragma once

#include <memory>

#include "bench/harness/row.h"
#include "bench/peers/peer.h"
#include "bench/peers/workshop.h"

namespace brood::bench {

// Tries `peer` once. Its row, or an unavailable one. The row keeps `workshop` alive.
Row PeerRow(const Peer& peer, const std::shared_ptr<Workshop>& workshop);

inline constexpr char kDockerRequest[] = "peer/docker-request";

// Docker without its command line program: the request to the daemon of `docker`, which is the
// table's peer of that name.
Row DockerRequestRow(const Peer& docker, const std::shared_ptr<Workshop>& workshop);

inline constexpr char kBroodRequest[] = "peer/brood-request";

// brood's daemon without the command line program, by brood::Client over one connection. `submit`
// is the table's peer that has the daemon.
Row BroodRequestRow(const Peer& submit, const std::shared_ptr<Workshop>& workshop);

}  // namespace brood::bench
