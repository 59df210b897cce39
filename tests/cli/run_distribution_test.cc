// SPDX-License-Identifier: Apache-2.0

// Programs of a distribution, in its own root.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "tests/cli/run_test.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

namespace fs = std::filesystem;

class DistributionTest : public RunTest {
 protected:
  void SetUp() override {
    const char* root = std::getenv("BROOD_TEST_ROOTFS");
    if (root == nullptr) GTEST_SKIP() << "missing: BROOD_TEST_ROOTFS, a distribution's root";
    root_ = root;
    RunTest::SetUp();
  }
  void TearDown() override {
    if (!root_.empty()) RunTest::TearDown();
  }

  void Require(const char* program) const {
    if (!fs::exists(root_ / "usr/bin" / program)) {
      GTEST_SKIP() << "missing: " << program << " in " << root_;
    }
  }

  std::string Output(std::string_view mode, const Words& command) const {
    Brood brood(Words{"run", "--rootfs", root_, "--root-mode", std::string(mode), "--"} + command);
    EXPECT_EQ(brood.Wait(), 0) << brood.err();
    EXPECT_EQ(brood.err(), "");
    return brood.out();
  }

  fs::path root_;
};

TEST_F(DistributionTest, BashSeesASystemOfItsOwn) {
  BROOD_NEEDS_ROOT();  // of the tree's owners, to have them inside
  BROOD_NEEDS_WAY(Way::kIdmap);
  for (const char* mode : {"ro", "overlay"}) {
    EXPECT_EQ(Output(mode, {"bash", "-c",
                            "set -e; echo $UID $$ $HOSTNAME; stat -c %U:%G /etc/passwd;"
                            "seq 100000 | sort -rn | head -n 1000 | tail -n 1;"
                            "mkfifo /tmp/f; echo through > /tmp/f & cat /tmp/f;"
                            "cat <<< here; diff <(echo a) <(echo a); wait"}),
              "0 1 brood\nroot:root\n99001\nthrough\nhere\n");
  }
}

TEST_F(DistributionTest, OverlayTakesWrites) {
  BROOD_NEEDS_ROOT();  // of the tree's owners, to have them inside
  BROOD_NEEDS_WAY(Way::kIdmap);
  EXPECT_EQ(Output("overlay", {"bash", "-c",
                               "echo x > /etc/brood; mv /etc/passwd /etc/passwd.old;"
                               "cat /etc/brood"}),
            "x\n");
  EXPECT_FALSE(fs::exists(root_ / "etc/brood"));
  EXPECT_TRUE(fs::exists(root_ / "etc/passwd"));
}

TEST_F(DistributionTest, OverlayTakesRemovalOfDirectories) {
  BROOD_NEEDS_ROOT();  // of the tree's owners, to have them inside
  BROOD_NEEDS_WAY(Way::kIdmap);
  // An overlay notes in an attribute that a directory hides the root's, where root is not the
  // host's in a user.* one; it keeps them on a tmpfs.
  const UniqueFd file(memfd_create("attribute", MFD_CLOEXEC));
  if (fsetxattr(file.get(), "user.brood", "", 0, 0) != 0 && errno == EOPNOTSUPP) {
    GTEST_SKIP() << "missing: user.* attributes on tmpfs (Linux 6.6)";
  }
  EXPECT_EQ(Output("overlay",
                   {"bash", "-c", "rm -r /var/lib; mkdir /var/lib; ls -A /var/lib; echo gone"}),
            "gone\n");
  EXPECT_TRUE(fs::exists(root_ / "var/lib"));
}

TEST_F(DistributionTest, PsSeesOnlyItself) {
  if (Require("ps"); IsSkipped()) return;
  EXPECT_THAT(Output("ro", {"ps", "-e", "-o", "pid=,comm="}), ::testing::MatchesRegex(" *1 ps\n"));
}

TEST_F(DistributionTest, PythonRuns) {
  if (Require("python3"); IsSkipped()) return;
  EXPECT_EQ(Output("ro", {"python3", "-c",
                          "import os, socket, subprocess, tempfile, threading\n"
                          "s = socket.create_server(('127.0.0.1', 0))\n"
                          "c = socket.create_connection(s.getsockname())\n"
                          "t = threading.Thread(target=lambda: c.sendall(b'hello')); t.start()\n"
                          "print(s.accept()[0].recv(5).decode(), os.getpid())\n"
                          "t.join()\n"
                          "with tempfile.TemporaryFile() as f: f.write(b'x' * 1000000)\n"
                          "print(subprocess.run(['echo', 'sub'], capture_output=True).stdout)\n"
                          "child = os.fork()\n"
                          "if child == 0: os._exit(3)\n"
                          "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"}),
            "hello 1\nb'sub\\n'\n3\n");
}

TEST_F(DistributionTest, BusyboxPipelineRuns) {
  if (Require("busybox"); IsSkipped()) return;
  EXPECT_EQ(
      Output("ro", {"busybox", "sh", "-c",
                    "busybox seq 1 20000 | busybox grep 7 | busybox sort -n | busybox wc -l"}),
      "6878\n");
}

}  // namespace
}  // namespace brood
