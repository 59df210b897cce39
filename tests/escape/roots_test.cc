// SPDX-License-Identifier: Apache-2.0

// Roots whose author, or whoever writes to them while brood sets a worker up, would like to have
// something made, mounted or run outside.
#include <gmock/gmock.h>
#include <sys/syscall.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "tests/escape/outside.h"
#include "tests/needs.h"
#include "tests/ordinary_user.h"

namespace brood {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

#ifndef RENAME_EXCHANGE
constexpr unsigned RENAME_EXCHANGE = 2;
#endif

// What leads out, at /way of the root: `place` is where an option is to use it.
struct Way {
  std::string name;
  std::string link;   // the path of the link in the root
  std::string leads;  // what it says
  std::string place;
};

class RootsTest : public OutsideTest {
 protected:
  std::vector<Way> Ways() const {
    const std::string out = outside_.string();
    return {{"absolute", "/way", out, "/way"},
            {"up and over", "/way", up_ + out, "/way"},
            {"up from below", "/deep/er/way", up_ + out, "/deep/er/way"},
            {"a link in the middle", "/way", up_ + base_.string(), "/way/outside"},
            {"a link to a link", "/way", "other", "/way"},
            {"up behind a directory", "/way", "mnt/" + up_ + out, "/way"},
            {"dangling", "/way", up_ + out + "/none", "/way"},
            {"in a circle", "/way", "way", "/way"},
            {"of /proc", "/way", "/proc/self/root" + out, "/way"},
            {"of a descriptor", "/way", "/proc/self/fd/3", "/way"}};
  }
  void Make(const Way& way) {
    MakeRoot();
    const fs::path link = root_ / fs::path(way.link).relative_path();
    fs::create_directories(link.parent_path());
    fs::create_symlink(way.leads, link);
    fs::create_symlink(up_ + outside_.string(), root_ / "other");
  }
  std::vector<Words> Uses(const std::string& place) const {
    const std::string file = (base_ / "file").string();
    std::ofstream(file) << "given\n";
    return {{"--tmpfs", place},
            {"--tmpfs", place + "/x"},
            {"-v", base_.string() + ":" + place},
            {"-v", base_.string() + ":" + place + "/x"},
            {"-v", file + ":" + place + "/file"},
            {"-w", place + "/x"}};
  }

  // Whether somebody else's program could be run by that path: it would leave a trace.
  Words Program(const std::string& place) const { return {"--", place + "/program"}; }

  void TryAll(const Words& command, const Words& options, const std::function<void()>& user) {
    for (const Way& way : Ways()) {
      SCOPED_TRACE(way.name);
      Make(way);
      const std::string before = Outside();
      for (const Words& use : Uses(way.place)) {
        const Words words =
            command + Words{"--rootfs", root_.string()} + options + use + Words{"--", "/bin/true"};
        const Result result = Run(words, user);
        EXPECT_LT(result.status, 128) << ::testing::PrintToString(words) << result.err;
        ASSERT_EQ(Outside(), before) << ::testing::PrintToString(words) << result.err;
      }
      const Result result =
          Run(command + Words{"--rootfs", root_.string()} + options + Program(way.place), user);
      EXPECT_GE(result.status, command[0] == "run" ? 125 : 1) << result.err;
      ASSERT_EQ(Outside(), before) << result.err;
    }
  }
  void AddProgram() {
    std::ofstream(outside_ / "program")
        << "#!/bin/sh\necho out > " << (outside_ / "trace").string() << "\n";
    chmod((outside_ / "program").c_str(), 0755);
  }
};

TEST_F(RootsTest, NoPathLeadsOutOfAColdWorkersRoot) {
  BROOD_NEEDS_ROOT();
  AddProgram();
  for (const char* mode : {"ro", "rw", "overlay"}) {
    for (const Words& users : {Words{}, Words{"--no-user"}}) {
      SCOPED_TRACE(fmt::format("{} {}", mode, ::testing::PrintToString(users)));
      TryAll({"run"}, Words{"--root-mode", mode} + users, [] {});
    }
  }
}

TEST_F(RootsTest, NoPathLeadsOutOfAParkedWorkersRoot) {
  BROOD_NEEDS_ROOT();
  AddProgram();
  for (const Words& options : {Words{"--root-mode", "ro"}, Words{"--root-mode", "rw", "--no-user"},
                               Words{"--root-mode", "overlay"}, Words{"--cap-add", "SYS_ADMIN"}}) {
    SCOPED_TRACE(::testing::PrintToString(options));
    TryAll({"burst", "-n", "1"}, options, [] {});
  }
}

TEST_F(RootsTest, NoPathLeadsOutForAnOrdinaryUser) {
  AddProgram();
  TryAll({"run"}, {}, [] {
    if (geteuid() == 0) BecomeOrdinary();
  });
}

// A directory of brood's own that is a link in the root is mounted where it leads, inside.
TEST_F(RootsTest, WhatBroodMountsIsThereWhereverTheRootsLinksLead) {
  BROOD_NEEDS_ROOT();
  struct Case {
    const char* link;
    std::string leads;
    const char* script;  // prints "yes" when all is well
  };
  const std::string over = up_ + (outside_ / "x").string();
  const std::vector<Case> cases = {
      {"tmp", "var/tmp", "touch /tmp/t && [ -e /var/tmp/t ] && echo yes"},
      {"tmp", over, "touch /tmp/t && echo yes"},
      {"run", "var/run", "touch /run/t && [ -e /var/run/t ] && echo yes"},
      {"dev", over, "[ -c /dev/null ] && echo no > /dev/null && echo yes"},
      {"proc", over, "[ -d /proc/self ] && echo yes"},
      {"sys", over, "[ -d /sys/class/net/lo ] && echo yes"}};
  for (const char* mode : {"ro", "rw", "overlay"}) {
    for (const Case& each : cases) {
      SCOPED_TRACE(fmt::format("{} {} -> {}", mode, each.link, each.leads));
      MakeRoot();
      fs::create_directories(root_ / "var/run");
      fs::remove(root_ / each.link);
      fs::create_symlink(each.leads, root_ / each.link);
      const std::string before = Outside();
      const Result result = Run({"run", "--rootfs", root_.string(), "--root-mode", mode, "--",
                                 "/bin/sh", "-c", each.script});
      EXPECT_EQ(result.out, "yes\n") << result.err;
      EXPECT_EQ(Outside(), before);
      for (const char* place : {"var/tmp/t", "var/run/t"}) {
        EXPECT_FALSE(fs::exists(root_ / place)) << "it is private";
      }
      EXPECT_FALSE(fs::exists(Mirror(outside_ / "x/t")));
    }
  }
}

TEST_F(RootsTest, ABindBelowALinkIsThereToBeSeen) {
  BROOD_NEEDS_ROOT();
  fs::create_symlink("../run", root_ / "var/run");
  std::ofstream(base_ / "given") << "given\n";
  const std::string bind = (base_ / "given").string() + ":/var/run/y";
  const Words options = {"--rootfs", root_.string(), "-v", bind};
  const Words script = Inside("cat /run/y /var/run/y");
  EXPECT_EQ(Run(Words{"run"} + options + script).out, "given\ngiven\n");
  const Result parked = Run(Words{"burst", "-n", "1"} + options + script);
  EXPECT_EQ(parked.status, 0) << parked.err;
}

TEST_F(RootsTest, DirectoriesThatLeadIntoEachOtherAreRefused) {
  BROOD_NEEDS_ROOT();
  fs::remove(root_ / "tmp");
  fs::create_symlink("proc", root_ / "tmp");
  const Result result = Run({"run", "--rootfs", root_.string(), "--", "/bin/true"});
  EXPECT_EQ(result.status, 125);
  EXPECT_THAT(result.err, HasSubstr("each must be a directory of its own"));
}

// A worker of a writable root, or whoever else can write there, puts a link where a directory was
// when brood looked. BROOD_ESCAPE_TRIES: how often it is tried.
TEST_F(RootsTest, ADirectoryThatBecomesALinkMeanwhileLeadsNowhere) {
  BROOD_NEEDS_ROOT();
  const char* const wanted = std::getenv("BROOD_ESCAPE_TRIES");
  const int tries = wanted == nullptr ? 40 : std::atoi(wanted);
  fs::create_directories(root_ / "mnt/place/x");
  fs::create_symlink(up_ + outside_.string(), root_ / "mnt/link");
  const std::string before = Outside();
  std::atomic<bool> over{false};
  std::thread swapper([&] {
    const std::string one = (root_ / "mnt/place").string();
    const std::string other = (root_ / "mnt/link").string();
    while (!over) {
      syscall(SYS_renameat2, AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
    }
  });
  for (int i = 0; i < tries; ++i) {
    for (const Words& use :
         {Words{"--tmpfs", "/mnt/place/x"}, Words{"-v", base_.string() + ":/mnt/place"}}) {
      const Result result =
          Run(Words{"run", "--no-user", "--root-mode", "rw", "--rootfs", root_.string()} + use +
              Words{"--", "/bin/true"});
      EXPECT_LT(result.status, 128) << result.err;
    }
    if (HasFailure()) break;
  }
  over = true;
  swapper.join();
  EXPECT_EQ(Outside(), before);
}

}  // namespace
}  // namespace brood
