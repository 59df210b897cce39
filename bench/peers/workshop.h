// SPDX-License-Identifier: Apache-2.0

// What the peers need to run: the root that all of them share, an OCI bundle, an image to import,
// and the real paths behind the words of their commands.
#pragma once

#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/peers/leftovers.h"
#include "bench/peers/peer.h"

namespace brood::bench {

// Owns what it makes in the scratch directory, and removes it in the end.
class Workshop {
 public:
  // `payload`: a static program. kNotFound when there is no static busybox.
  static absl::StatusOr<Workshop> Create(const std::string& payload, const std::string& brood,
                                         const std::filesystem::path& scratch);
  ~Workshop();
  Workshop(Workshop&&) = default;
  Workshop& operator=(Workshop&&) = delete;

  // The path of a program; kNotFound with where it comes from.
  absl::StatusOr<std::string> Find(const Peer& peer) const { return Find(peer, peer.argv[0]); }
  absl::StatusOr<std::string> Find(const Peer& peer, const std::string& word) const;

  // With real paths instead of ROOTFS and the others.
  std::string Resolve(const std::string& word) const;
  Words Resolve(const Words& words) const;
  // The other way: no path of this run's own is left in `text`.
  std::string Shorten(std::string text) const;

  Territory TerritoryOf(const Peer& peer) const;

  const std::filesystem::path& scratch() const { return scratch_; }

 private:
  Workshop(std::string payload, std::string brood, std::filesystem::path scratch)
      : payload_(std::move(payload)), brood_(std::move(brood)), scratch_(std::move(scratch)) {}
  absl::Status MakeRootfs() const;
  absl::Status MakeBundle() const;

  std::string payload_;
  std::string brood_;
  std::filesystem::path scratch_;  // empty once moved from
};

// Where Debian's packages put a program, then $PATH; empty when it is nowhere.
std::string FindProgram(const std::string& name);

}  // namespace brood::bench
