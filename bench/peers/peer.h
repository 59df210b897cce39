// SPDX-License-Identifier: Apache-2.0

// The programs that brood is compared with, as data.
//
// Words may hold ROOTFS, PAYLOAD, SCRATCH and BUNDLE, which Workshop puts the real paths in for.
// What is published is the words as they stand here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace brood::bench {

using Words = std::vector<std::string>;

struct Peer {
  std::string name = {};  // of the row peer/NAME
  // Its whole command. The first word is looked for where Debian installs, then in $PATH; "brood"
  // is the program that was built beside the benchmark.
  Words argv = {};
  std::string isolation = {};  // one sentence: what isolation it gives here, and what it does not
  std::string package = {};    // Debian 12's; empty where it has none
  Words version = {"--version"};

  bool bundle = false;                // reads an OCI bundle with a config.json
  std::vector<Words> set_up = {};     // run once, before the first measurement, with the service up
  std::vector<Words> tear_down = {};  // run once, in the end
  Words service = {};                 // a daemon of its own, up while it is measured and not longer
  std::string socket = {};            // where that listens

  // Where to look for what it has left: files in these directories, beside ROOTFS; and cgroups
  // with these names at the root of any hierarchy.
  Words state = {};
  Words cgroups = {};

  int iterations = 20;
  int warm_ups = 2;
  int every = 1;
};

// All of them, the floor first: the payload alone, started by the same means.
const std::vector<Peer>& Peers();

inline constexpr char kPeerFloor[] = "floor";
inline constexpr char kInside[] = "/bin/brood-true";  // the payload, as seen inside
// The OCI bundle's cgroup, and the image's name.
inline constexpr char kPeerMark[] = "brood-peer";

}  // namespace brood::bench
