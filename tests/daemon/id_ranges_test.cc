// SPDX-License-Identifier: Apache-2.0

// Launchers on one machine share its ranges of host ids.
#include <memory>
#include <string>
#include <vector>

#include "tests/daemon/daemon_fixture.h"
#include "tests/needs.h"

namespace brood {
namespace {

class IdRangesTest : public DaemonTest {
 protected:
  void SetUp() override {
    BROOD_NEEDS_ROOT();
    DaemonTest::SetUp();
  }
  // What the doctor says of ids.
  static std::string Told() {
    Brood doctor({"doctor", "--json"});
    doctor.Wait();
    const auto findings = nlohmann::json::parse(doctor.out(), nullptr, false);
    for (const auto& finding : findings) {
      if (finding["subject"] == "ids") return finding["what"];
    }
    return doctor.err();
  }
  // The number before `word` in what it says.
  static int Count(const std::string& word) {
    const std::string told = Told();
    const std::size_t end = told.find(word);
    if (end == std::string::npos) {
      ADD_FAILURE() << told;
      return -1;
    }
    const std::size_t start = told.find_last_not_of("0123456789", end - 1) + 1;
    return std::stoi(told.substr(start, end - start));
  }
};

TEST_F(IdRangesTest, ManyIdleDaemonsLeaveSomeToOthers) {
  const int before = Count(" of 32768");
  const int launchers_before = Count(" launcher");
  std::vector<std::unique_ptr<Brood>> daemons;
  for (int i = 0; i < 9; ++i) {
    const std::string socket = (directory_ / std::to_string(i)).string();
    daemons.push_back(std::make_unique<Brood>(Words{"serve", "--socket", socket, "--pool", "1"},
                                              [] { alarm(0); }));
  }
  for (const auto& daemon : daemons) {
    ASSERT_TRUE(ComesTrue([&] { return daemon->err().find("\"listening\"") != std::string::npos; }))
        << daemon->err();
  }
  Brood run({"run", "--", "true"});
  EXPECT_EQ(run.Wait(), 0) << run.err();
  ASSERT_TRUE(ComesTrue([&] { return Count(" of 32768") >= before + 9; })) << Told();
  EXPECT_LE(Count(" of 32768"), before + 9 * 64);
  EXPECT_EQ(Count(" launcher"), launchers_before + 9);
  for (const auto& daemon : daemons) daemon->Kill(SIGTERM);
  for (const auto& daemon : daemons) {
    EXPECT_EQ(daemon->Wait(), 0) << daemon->err();
  }
  EXPECT_EQ(Count(" of 32768"), before);
}

TEST_F(IdRangesTest, AreTakenWhenWorkersNeedThemAndGivenBack) {
  StartDaemon({"--pool", "0"});
  const int before = Count(" of 32768");
  std::vector<std::string> isolates;
  isolates.reserve(140);
  for (int i = 0; i < 140; ++i) isolates.push_back(Detached({}, "exec sleep 1000"));
  EXPECT_GE(Count(" of 32768"), before + 140 - 64) << Told();
  Out(Words{"kill"} + isolates);
  EXPECT_TRUE(ComesTrue([&] { return Count(" of 32768") <= before + 64; })) << Told();
}

}  // namespace
}  // namespace brood
