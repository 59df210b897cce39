// SPDX-License-Identifier: Apache-2.0

// Other programs as rows: failures in their own words, and what they leave behind.
#include "bench/peers/peers.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <set>

#include "bench/harness/record.h"
#include "bench/harness/rounds.h"
#include "bench/peers/peer.h"
#include "bench/peers/peer_row.h"
#include "bench/peers/run_command.h"
#include "bench/peers/workshop.h"
#include "tests/kernel/machine_state.h"

namespace brood::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

class PeersTest : public LeavesNothing {
 protected:
  void SetUp() override {
    if (FindProgram("busybox").empty()) GTEST_SKIP() << "needs busybox-static";
    LeavesNothing::SetUp();
    fs::create_directories(directory_ / "scratch");
    absl::StatusOr<Workshop> workshop =
        Workshop::Create(BROOD_PAYLOAD, "/no/brood", directory_ / "scratch");
    ASSERT_TRUE(workshop.ok()) << workshop.status();
    workshop_ = std::make_shared<Workshop>(*std::move(workshop));
  }
  void TearDown() override {
    workshop_.reset();
    fs::remove_all(directory_);
    if (!IsSkipped()) LeavesNothing::TearDown();
  }

  static Peer ShellPeer(const std::string& script) {
    Peer peer;
    peer.name = "fake";
    peer.argv = {"sh", "-c", script};
    peer.iterations = 3;
    peer.warm_ups = 1;
    return peer;
  }
  Measurement Measured(const Row& row) {
    EXPECT_EQ(row.unavailable, "");
    absl::StatusOr<Record> record =
        Record::Create(directory_ / "run", {{"brood", {{"commit", "c0ffee"}}}}, {row});
    EXPECT_TRUE(record.ok()) << record.status();
    EXPECT_TRUE(RunRounds({row}, 1, *record).ok());
    return record->measurements().at(0);
  }

  const fs::path directory_ = fs::path("/var/tmp") / ("brood_peers_" + std::to_string(getpid()));
  std::shared_ptr<Workshop> workshop_;
};

TEST_F(PeersTest, WhatWorksHasAFigureAndLeavesNothing) {
  const Measurement one = Measured(PeerRow(ShellPeer("true"), workshop_));
  EXPECT_EQ(one.error, "");
  EXPECT_EQ(one.values.at("us").size(), 3U);
  EXPECT_THAT(one.values.at("left"), ElementsAre(0));
}

TEST_F(PeersTest, WhatCannotRunHereSaysWhyInItsOwnWords) {
  EXPECT_THAT(PeerRow(ShellPeer("echo no luck today >&2; exit 3"), workshop_).unavailable,
              HasSubstr("exited with status 3: no luck today"));
  Peer missing = ShellPeer("");
  missing.argv = {"no-such-program-at-all"};
  missing.package = "its-package";
  EXPECT_THAT(PeerRow(missing, workshop_).unavailable,
              HasSubstr("is not installed; apt-get install its-package"));
}

TEST_F(PeersTest, WhatFailsLaterIsAFailureAndNeverAFigure) {
  // Works when it is tried and when it warms up; then it is fast and wrong.
  const Row row = PeerRow(ShellPeer("n=$(cat SCRATCH/count 2>/dev/null || echo 0); "
                                    "echo $((n + 1)) > SCRATCH/count; "
                                    "[ $n -lt 4 ] || { echo had enough >&2; exit 1; }"),
                          workshop_);
  const Measurement one = Measured(row);
  EXPECT_THAT(one.error, HasSubstr("had enough"));
  EXPECT_THAT(one.values, IsEmpty());
}

TEST_F(PeersTest, WhatIsLeftBehindIsCountedAndCleared) {
  // Each run leaves a process that goes on, one that nobody reaps, a mount and a file.
  const Row row = PeerRow(ShellPeer("(sleep 1000 >/dev/null 2>&1 &) ; (true &) ; "
                                    "mount -t tmpfs left ROOTFS/tmp; touch ROOTFS/var/$$"),
                          workshop_);
  const Measurement one = Measured(row);
  EXPECT_EQ(one.error, "");
  // Four runs of the row, warm-up included. A zombie more or less: its parent may have been seen.
  ASSERT_EQ(one.values.at("left").size(), 1U);
  EXPECT_GE(one.values.at("left")[0], 4 + 4 + 4);
  EXPECT_LE(one.values.at("left")[0], 4 + 4 + 4 + 4);
}

TEST(PeerTableTest, IsWellFormed) {
  std::set<std::string> names;
  for (const Peer& peer : Peers()) {
    EXPECT_TRUE(names.insert(peer.name).second) << peer.name;
    EXPECT_FALSE(peer.argv.empty()) << peer.name;
    EXPECT_THAT(peer.isolation, testing::EndsWith(".")) << peer.name;
    EXPECT_EQ(peer.service.empty(), peer.socket.empty()) << peer.name;
    EXPECT_GT(peer.iterations, 0) << peer.name;
  }
  EXPECT_EQ(Peers().front().name, kPeerFloor);
  for (const char* const wanted :
       {"brood-run", "brood-submit", "bubblewrap", "docker", "podman", "runc", "crun", "nsjail",
        "unshare", "systemd-nspawn", "firejail", "isolate", "minijail"}) {
    EXPECT_TRUE(names.contains(wanted)) << wanted;
  }
}

TEST(LastWordsTest, AreShortAndPlain) {
  EXPECT_EQ(LastWords(""), "it said nothing");
  EXPECT_EQ(LastWords("one\ntwo\nthree\n"), "two; three");
  EXPECT_EQ(LastWords("\x1b[31mred\x1b[0m\n"), "red");
  EXPECT_EQ(LastWords("time=\"x\" level=error msg=\"it \\\"broke\\\"\"\n"), "it \"broke\"");
  EXPECT_LT(LastWords(std::string(10000, 'x')).size(), 500U);
}

}  // namespace
}  // namespace brood::bench
