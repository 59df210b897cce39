// SPDX-License-Identifier: Apache-2.0

// What a container is: a shell on a terminal, four sleeps below it, the same processes inside and
// outside with other numbers. Each number is checked against /proc.
#include <fmt/format.h>

#include <map>
#include <regex>

#include "tests/daemon/daemon_fixture.h"
#include "tests/terminal.h"

namespace brood {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

bool IsRaw(const termios& mode) { return (mode.c_lflag & (ICANON | ECHO | ISIG)) == 0; }

class StoryTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    for (const char* needed : {"/bin/bash", "/bin/ps"}) {
      if (access(needed, X_OK) != 0) GTEST_SKIP() << "needs " << needed;
    }
    // On a distribution's minimal tree where there is one, else on the host's.
    const char* rootfs = std::getenv("BROOD_TEST_ROOTFS");
    const bool debian = rootfs != nullptr &&
                        std::filesystem::exists(std::filesystem::path(rootfs) / "bin/bash") &&
                        std::filesystem::exists(std::filesystem::path(rootfs) / "bin/ps");
    StartDaemon({"--template", debian ? fmt::format("deb=--rootfs {} --parked 3", rootfs)
                                      : std::string("host=--parked 3")});
  }
  nlohmann::json Tree() const { return nlohmann::json::parse(Out({"tree", "--json"})); }
  // The node of an isolate by its name.
  nlohmann::json Isolate(const std::string& name) const {
    const nlohmann::json tree = Tree();
    for (const auto& child : tree["children"]) {
      if (child.value("name", "") == name) return child;
    }
    return {};
  }
  // A number's second column of a line in /proc/PID/status.
  static std::string Status(int pid, const std::string& key) {
    std::ifstream status(fmt::format("/proc/{}/status", pid));
    std::string line;
    while (std::getline(status, line)) {
      if (line.starts_with(key + ":")) return line.substr(key.size() + 2);
    }
    return "";
  }
};

TEST_F(StoryTest, TheSameProcessesInsideAndOutside) {
  Terminal one(BroodWords(
      With({"submit", "-it", "-e", "TERM=dumb", "--name", "one", "--", "/bin/bash", "--norc"})));
  one.Await("bash-[0-9.]+# ");
  one.Type("ps -eo pid,ppid,args --no-headers; echo do''ne\n");
  const std::string alone = one.Await("\ndone");
  EXPECT_TRUE(std::regex_search(alone, std::regex("1 +0 /bin/bash --norc"))) << alone;
  const std::regex process(R"((\d+) +(\d+) \S)");
  EXPECT_EQ(std::distance(std::sregex_iterator(alone.begin(), alone.end(), process), {}), 2)
      << "bash and ps, nothing else: " << alone;

  one.Type("stty size; sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 &\necho st''arted\n");
  EXPECT_THAT(one.Await("\nstarted"), HasSubstr("40 132"));
  one.Type("for p in $(jobs -p); do echo job=$p; done; echo li''sted\n");
  const std::string listed = one.Await("\nlisted");
  std::vector<int> inside;
  const std::regex job("job=(\\d+)");
  for (std::sregex_iterator i(listed.begin(), listed.end(), job), end; i != end; ++i) {
    inside.push_back(std::stoi((*i)[1]));
  }
  ASSERT_EQ(inside.size(), 4U) << listed;

  const nlohmann::json isolate = Isolate("one");
  const int bash = isolate["pid"];
  EXPECT_EQ(isolate["inside_pid"], 1);
  EXPECT_EQ(isolate["ppid"], daemon_->pid()) << "an ordinary child of the daemon";
  EXPECT_EQ(Status(bash, "PPid"), std::to_string(daemon_->pid()));
  EXPECT_EQ(isolate["own"].size(), 8U);
  EXPECT_NE(isolate["uid"], 0);
  EXPECT_EQ(isolate["inside_uid"], 0);
  ASSERT_EQ(isolate["children"].size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    const nlohmann::json& sleep = isolate["children"][i];
    const int outside = sleep["pid"];
    EXPECT_EQ(sleep["inside_pid"], inside[i]);
    EXPECT_NE(outside, inside[i]);
    EXPECT_EQ(sleep["command"], "sleep 1000");
    // The kernel's own words.
    EXPECT_EQ(Status(outside, "PPid"), std::to_string(bash));
    EXPECT_EQ(Status(outside, "NSpid"), fmt::format("{}\t{}", outside, inside[i]));
    EXPECT_EQ(std::filesystem::read_symlink(fmt::format("/proc/{}/ns/pid", outside)),
              std::filesystem::read_symlink(fmt::format("/proc/{}/ns/pid", bash)));
  }

  // A second one stands beside it and sees nothing of the first.
  Terminal two(BroodWords(
      With({"submit", "-it", "-e", "TERM=dumb", "--name", "two", "--", "/bin/bash", "--norc"})));
  two.Await("bash-[0-9.]+# ");
  two.Type("ps -eo args --no-headers; echo do''ne\n");
  EXPECT_THAT(two.Await("\ndone"), Not(HasSubstr("sleep")));
  EXPECT_EQ(Isolate("two")["ppid"], daemon_->pid());
  EXPECT_NE(Isolate("two")["namespaces"]["pid"], isolate["namespaces"]["pid"]);
  two.Type("exit 6\n");
  EXPECT_EQ(two.Wait(), 6);

  one.Type("exit 5\n");
  EXPECT_EQ(one.Wait(), 5);
  for (const auto& sleep : isolate["children"]) {
    EXPECT_FALSE(std::filesystem::exists(fmt::format("/proc/{}", sleep["pid"].get<int>())));
  }
}

TEST_F(StoryTest, KeysBecomeSignalsInside) {
  Terminal terminal(
      BroodWords(With({"submit", "-it", "-e", "TERM=dumb", "--", "/bin/bash", "--norc"})));
  terminal.Await("bash-[0-9.]+# ");
  EXPECT_TRUE(IsRaw(terminal.Mode()));
  terminal.Type("sleep 1000\n");
  terminal.Await("sleep 1000");
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  terminal.Type("\x03");
  terminal.Type("echo status=$?\n");
  terminal.Await("status=130");
  terminal.Resize(50, 100);
  kill(terminal.pid(), SIGWINCH);
  EXPECT_TRUE(ComesTrue([&] {
    terminal.Type("stty size; echo si''zed\n");
    return terminal.Await("\nsized").find("50 100") != std::string::npos;
  }));
  terminal.Type("exit\n");
  EXPECT_EQ(terminal.Wait(), 0);
  EXPECT_FALSE(IsRaw(terminal.Mode()));
}

TEST_F(StoryTest, TerminalIsRestoredWhateverIsKilled) {
  for (const std::string who : {"client", "daemon"}) {
    Terminal terminal(BroodWords(
        With({"submit", "-it", "-e", "TERM=dumb", "--name", "k", "--", "/bin/bash", "--norc"})));
    terminal.Await("bash-[0-9.]+# ");
    ASSERT_TRUE(IsRaw(terminal.Mode()));
    kill(who == "client" ? terminal.pid() : daemon_->pid(), SIGKILL);
    terminal.Wait();
    EXPECT_TRUE(ComesTrue([&] { return !IsRaw(terminal.Mode()); })) << who;
    if (who == "client") {
      EXPECT_TRUE(ComesTrue([&] { return Isolate("k").is_null(); })) << "it ends with its client";
    }
  }
  daemon_->Wait();
  daemon_.reset();
  StartDaemon();  // clears what the killed one has left
}

TEST_F(StoryTest, ExecAndRunHaveTerminals) {
  const std::string id = Detached({}, "sleep 1000");
  for (const Words& command :
       {With({"exec", "-it", id, "--", "/bin/sh"}), Words{"run", "-it", "--", "/bin/sh"}}) {
    Terminal terminal(BroodWords(command));
    terminal.Await("# ");
    terminal.Type("tty; stty size; ps -o tty= -p $$; echo do''ne\n");
    const std::string seen = terminal.Await("\ndone");
    EXPECT_THAT(seen, HasSubstr("/dev/pts/0"));
    EXPECT_THAT(seen, HasSubstr("40 132"));
    EXPECT_THAT(seen, HasSubstr("pts/0"));
    terminal.Type("exit 9\n");
    EXPECT_EQ(terminal.Wait(), 9);
    EXPECT_FALSE(IsRaw(terminal.Mode()));
  }
  EXPECT_EQ(Run({"kill", id}).status, 0);
}

}  // namespace
}  // namespace brood
