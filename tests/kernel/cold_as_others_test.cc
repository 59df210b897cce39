// SPDX-License-Identifier: Apache-2.0

// The cold path of those who are not root, or root of a user namespace.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "spawn/base/text_file.h"
#include "tests/kernel/cold.h"
#include "tests/needs.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;

class ColdAsOthersTest : public ColdTest {
 protected:
  // Runs the tests for anybody in a fresh process of this program, after `become`.
  static void RunAs(const std::function<bool()>& become) {
    const UniqueFd program(open("/proc/self/exe", O_RDONLY));
    const std::string log =
        fs::path(::testing::TempDir()) / fmt::format("brood_cold_{}.log", getpid());
    const UniqueFd output(open(log.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600));
    ASSERT_TRUE(program.valid() && output.valid());
    const int status = InAFork([&] {
      if (!become()) return 99;
      dup2(output.get(), 1);
      dup2(output.get(), 2);
      const char* argv[] = {"cold_test", "--gtest_filter=ColdAnywhereTest.*", "--gtest_color=no",
                            nullptr};
      const char* envp[] = {"PATH=/usr/bin:/bin", nullptr};
      return fexecve(program.get(), const_cast<char**>(argv), const_cast<char**>(envp)), 98;
    });
    const std::string text = TextOf(log);
    fs::remove(log);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 99) GTEST_SKIP() << "missing: user namespaces";
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << text;
    EXPECT_THAT(text, HasSubstr("PASSED"));
  }

  static bool BecomeNobody() {
    return setgroups(0, nullptr) == 0 && setresgid(65534, 65534, 65534) == 0 &&
           setresuid(65534, 65534, 65534) == 0;
  }

  static bool WriteTo(const char* file, const char* text) {
    const UniqueFd fd(open(file, O_WRONLY | O_CLOEXEC));
    return write(fd.get(), text, strlen(text)) == static_cast<ssize_t>(strlen(text));
  }

  // As `unshare -Ur` does.
  static bool BecomeFakeRoot(int more_namespaces) {
    if (!BecomeNobody()) return false;
    prctl(PR_SET_DUMPABLE, 1);  // its own /proc files are its own again
    return unshare(CLONE_NEWUSER | more_namespaces) == 0 &&
           WriteTo("/proc/self/setgroups", "deny") && WriteTo("/proc/self/gid_map", "0 65534 1") &&
           WriteTo("/proc/self/uid_map", "0 65534 1");
  }
};

TEST_F(ColdAsOthersTest, OrdinaryUser) { RunAs(BecomeNobody); }

TEST_F(ColdAsOthersTest, FakeRootOfAUserNamespace) {
  RunAs([] { return BecomeFakeRoot(0); });
}

TEST_F(ColdAsOthersTest, FakeRootWithMountsOfItsOwn) {
  RunAs([] { return BecomeFakeRoot(CLONE_NEWNS); });
}

TEST_F(ColdAsOthersTest, RootOfAUserNamespaceWithARange) {
  // As a rootless container: many ids, but none of those that ranges come from.
  int ends[2];
  int answer[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(answer, O_CLOEXEC), 0);
  const UniqueFd in(ends[0]), out(ends[1]), answer_in(answer[0]), answer_out(answer[1]);
  std::thread mapper([&] {
    pid_t pid = -1;
    if (read(in.get(), &pid, sizeof(pid)) != sizeof(pid)) return;
    for (const char* file : {"gid_map", "uid_map"}) {
      std::ofstream(fmt::format("/proc/{}/{}", pid, file)) << "0 1610612736 65536\n";
    }
    (void)!write(answer_out.get(), "x", 1);
  });
  RunAs([&] {
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    const pid_t pid = getpid();
    char byte = 0;
    return write(out.get(), &pid, sizeof(pid)) == sizeof(pid) &&
           read(answer_in.get(), &byte, 1) == 1 && setresgid(0, 0, 0) == 0 &&
           setresuid(0, 0, 0) == 0;
  });
  mapper.join();
}

}  // namespace
}  // namespace brood
