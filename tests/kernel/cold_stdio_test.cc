// SPDX-License-Identifier: Apache-2.0

// stdin, stdout and stderr.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "tests/kernel/cold.h"
#include "tests/needs.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using std::chrono::milliseconds;
using ::testing::StartsWith;

TEST_F(ColdTest, CaptureIsBounded) {
  Command command = Shell("head -c 3145728 /dev/zero; head -c 2000 /dev/zero >&2");
  command.stdio.capture_bytes = 1 << 20;
  const Outcome outcome = Run({}, command);
  EXPECT_TRUE(outcome.ok()) << EndName(outcome.end);
  EXPECT_EQ(outcome.out.size(), 1U << 20);
  EXPECT_EQ(outcome.out_bytes, 3U << 20);
  EXPECT_EQ(outcome.err.size(), 2000U);
  EXPECT_EQ(outcome.err_bytes, 2000U);
  EXPECT_TRUE(outcome.truncated());
  command.stdio.capture_bytes = 0;
  const Outcome counted = Run({}, command);
  EXPECT_EQ(counted.out, "");
  EXPECT_EQ(counted.out_bytes, 3U << 20);
}

TEST_F(ColdTest, CaptureEndsWithTheWorker) {
  // Left behind in the background, a process would keep the pipe open for ever.
  for (const NamespaceMode pids : {NamespaceMode::kNew, NamespaceMode::kHost}) {
    Spec spec;
    spec.ns(NamespaceKind::kPid).mode = pids;
    EXPECT_EQ(Output(spec, "sleep 1000 & echo done"), "done\n");
  }
}

TEST_F(ColdTest, NullIsNull) {
  Command command = Shell(
      "cat | wc -c > /tmp/n; [ $(cat /tmp/n) = 0 ] || exit 3;"
      "for n in 0 1 2; do [ /proc/self/fd/$n -ef /dev/null ] || exit 4; done;"
      "echo x && echo y >&2");
  command.stdio.mode = StdioMode::kNull;
  const Outcome outcome = Run({}, command);
  EXPECT_EQ(outcome.out_bytes, 0U);
  // The launcher's /dev/null is another file system's than the worker's.
  EXPECT_EQ(outcome.end, End::kExited) << Ending(outcome);
  EXPECT_NE(outcome.exit_code, 3);
}

TEST_F(ColdRootTest, DescriptorsComeInAnyArrangement) {
  // The launcher's own 0, 1 and 2 hold what shall become others of them.
  const std::array<int, 3> cases[] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1},
                                      {2, 1, 0}, {7, 8, 9}, {7, 1, 0}, {2, 8, 1}, {1, 0, 700}};
  const std::string in = Write("in", "input\n");
  const std::string out = directory_ / "out";
  const std::string err = directory_ / "err";
  for (const std::array<int, 3>& fds : cases) {
    SCOPED_TRACE(fmt::format("{} {} {}", fds[0], fds[1], fds[2]));
    fs::remove(out);
    fs::remove(err);
    const int status = InAFork([&] {
      int high[3] = {open(in.c_str(), O_RDONLY | O_CLOEXEC),
                     open(out.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644),
                     open(err.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644)};
      for (int& fd : high) fd = fcntl(fd, F_DUPFD_CLOEXEC, 800);
      for (std::size_t i = 0; i < 3; ++i) {
        if (dup3(high[i], fds[i], O_CLOEXEC) < 0) return 2;
      }
      Command command = Shell("cat; echo error >&2");
      command.stdio = {StdioMode::kFds, fds, 0};
      Birthplace place;
      place.id_first = id_first_;
      const auto outcome = RunCold(Plan({}), command, place, nullptr);
      return outcome.ok() && outcome->ok() ? 0 : 3;
    });
    EXPECT_EQ(WEXITSTATUS(status), 0);
    EXPECT_EQ(TextOf(out), "input\n");
    EXPECT_EQ(TextOf(err), "error\n");
  }
}

TEST_F(ColdRootTest, LauncherWithClosedStdioGivesNothingOfItsOwn) {
  BROOD_NEEDS_WAY(Way::kIdmap);
  const std::string result = directory_ / "result";
  for (const StdioMode mode : {StdioMode::kInherit, StdioMode::kNull, StdioMode::kCapture}) {
    SCOPED_TRACE(static_cast<int>(mode));
    const int status = InAFork([&] {
      close_range(0, 2, 0);
      Command command =
          Shell("for n in 0 1 2; do readlink /proc/$$/fd/$n; done > /data/fds; echo out");
      command.stdio.mode = mode;
      Spec spec = Rooted(RootMode::kReadWrite);
      Birthplace place;
      place.id_first = id_first_;
      const auto outcome = RunCold(Plan(spec), command, place, nullptr);
      if (!outcome.ok() || !outcome->ok()) return 2;
      return mode != StdioMode::kCapture || outcome->out == "out\n" ? 0 : 3;
    });
    EXPECT_EQ(WEXITSTATUS(status), 0);
    const std::vector<std::string> fds = Lines(TextOf(root_ / "data/fds"));
    ASSERT_EQ(fds.size(), 3U);
    EXPECT_EQ(fds[0], "/dev/null");
    EXPECT_THAT(fds[2],
                mode == StdioMode::kCapture ? StartsWith("pipe:") : StartsWith("/dev/null"));
    fs::remove(root_ / "data/fds");
  }
}

TEST_F(ColdTest, SlowReaderLosesNothing) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  std::string got;
  std::thread reader([&] {
    char buffer[40'000];
    for (ssize_t n = 0; (n = read(from.get(), buffer, sizeof(buffer))) > 0;) {
      got.append(buffer, static_cast<std::size_t>(n));
      std::this_thread::sleep_for(milliseconds(2));
    }
  });
  Command command = Shell("head -c 1000000 /dev/zero | cat; echo THE END");
  command.stdio = {StdioMode::kFds, {from.get(), to.get(), to.get()}, 0};
  const Outcome outcome = Run({}, command);
  to.reset();
  reader.join();
  EXPECT_TRUE(outcome.ok()) << Ending(outcome);
  EXPECT_EQ(got.size(), 1'000'008U);
  EXPECT_TRUE(got.ends_with("THE END\n"));
}

}  // namespace
}  // namespace brood
