// SPDX-License-Identifier: Apache-2.0

// What a command's own words lead to while brood's descriptors are open, and what a descriptor that
// a client hands over could lead to.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

#include "spawn/base/kernel.h"
#include "tests/daemon/daemon_fixture.h"
#include "tests/needs.h"
#include "tests/ordinary_user.h"

namespace brood {
namespace {

namespace fs = std::filesystem;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr int kDescriptors = 60;  // more than a zygote has

class DescriptorsTest : public DaemonTest {
 protected:
  void SetUp() override {
    DaemonTest::SetUp();
    if (!fs::exists(kBusybox))
      GTEST_SKIP() << "missing: a static " << kBusybox << " (busybox-static)";
    for (const char* each : {"bin", "dev", "etc", "proc", "run", "sys", "tmp"}) {
      fs::create_directories(root_ / each);
    }
    fs::copy_file(kBusybox, root_ / "bin/busybox");
    for (const char* name : {"sh", "cat", "pwd", "ls"}) {
      fs::create_symlink("busybox", root_ / "bin" / name);
    }
  }

  // Every kind of template that root can have.
  std::vector<std::pair<std::string, std::string>> Kinds() const {
    const std::string rooted = "--rootfs " + root_.string() + " --parked 2 ";
    return {{"host", "--parked 2"},
            {"ro", rooted},
            {"rw", rooted + "--root-mode rw"},
            {"overlay", rooted + "--root-mode overlay"},
            {"capable", rooted + "--cap-add SYS_ADMIN"},
            {"nouser", rooted + "--no-user"},
            {"none", "--rootfs " + root_.string() + " --parked 0"}};
  }
  Words Templates() const {
    Words words;
    for (const auto& [name, options] : Kinds()) {
      words.push_back("--template");
      words.push_back(fmt::format("{}={}", name, options));
    }
    return words;
  }

  static constexpr const char* kBusybox = "/usr/bin/busybox";
  const fs::path root_ = directory_ / "root";
};

TEST_F(DescriptorsTest, NoWordOfACommandLeadsThroughADescriptor) {
  BROOD_NEEDS_ROOT();
  StartDaemon(Templates());
  Client client = Connected();
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const UniqueFd out(memfd_create("out", MFD_CLOEXEC));
  const auto run = [&](const std::string& kind, Submit submit) {
    submit.template_name = kind;
    const auto ended = client.Run(submit, {null.get(), out.get(), null.get()});
    EXPECT_TRUE(ended.ok()) << ended.status();
    return ended.ok() ? *ended : Ended{};
  };
  std::vector<std::string> ways;
  for (int fd = 0; fd <= kDescriptors; ++fd) ways.push_back(fmt::format("/proc/self/fd/{}", fd));
  for (const char* each :
       {"/proc/thread-self/fd/7", "/proc/1/fd/6", "/proc/self/cwd", "/proc/self/root", "/dev/fd/8",
        "/proc/self/ns", "/proc/self/task/1/fd/7"}) {
    ways.emplace_back(each);
  }
  for (const auto& [kind, options] : Kinds()) {
    SCOPED_TRACE(kind);
    for (const std::string& way : ways) {
      SCOPED_TRACE(way);
      Submit there = SubmitOf({"/bin/sh", "-c", "pwd; ls ../../.."});
      there.cwd = way;
      const Ended ended = run(kind, there);
      // A directory of the worker's own /proc is no way out.
      if (way != "/proc/self/ns") {
        EXPECT_EQ(ended.exit_status, 125) << ended.message;
      }
      const Ended program = run(kind, SubmitOf({way + "/../bin/sh", "-c", "echo ran"}));
      EXPECT_THAT(program.exit_status, AnyOf(126, 127)) << program.message;
      Submit path = SubmitOf({"sh", "-c", "echo ran"});
      path.env = {fmt::format("PATH={0}/bin:{0}", way)};
      const Ended looked = run(kind, path);
      EXPECT_THAT(looked.exit_status, AnyOf(126, 127)) << looked.message;
    }
  }
  EXPECT_EQ(ReadAll(out.get()).find("ran"), std::string::npos);
}

TEST_F(DescriptorsTest, AClientOfAGroupReadsAndWritesNothingOfTheHosts) {
  BROOD_NEEDS_ROOT();
  fs::permissions(directory_, fs::perms(0755));
  StartDaemon(Templates() + Words{"--group", "nogroup"});
  const fs::path secret = directory_ / "secret";
  std::ofstream(secret) << "secret\n";
  chmod(secret.c_str(), 0600);
  const fs::path lair = directory_ / "lair";
  fs::create_directory(lair);
  fs::permissions(lair, fs::perms::all);
  for (const auto& [kind, options] : Kinds()) {
    SCOPED_TRACE(kind);
    for (int fd = 3; fd <= 40; fd += 1) {
      Brood brood(With({"submit", "--template", kind, "-w", fmt::format("/proc/self/fd/{}", fd),
                        "--", "/bin/sh", "-c",
                        fmt::format("cat ..{0}; cat ../..{0}; cat ../../..{0}; echo > ..{1}/mine",
                                    secret.string(), lair.string())}),
                  BecomeOrdinary);
      EXPECT_EQ(brood.Wait(), 125) << brood.err();
      EXPECT_EQ(brood.out(), "");
    }
  }
  EXPECT_TRUE(fs::is_empty(lair));
}

// What may not become stdin, stdout or stderr of a command.
struct Refused {
  std::string name;
  std::function<int()> open;
};

std::vector<Refused> RefusedDescriptors() {
  return {{"a directory", [] { return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }},
          {"a directory as a path", [] { return open("/", O_PATH | O_CLOEXEC); }},
          {"a directory of devices", [] { return open("/dev", O_RDONLY | O_CLOEXEC); }},
          {"a file as a path", [] { return open("/etc/passwd", O_PATH | O_CLOEXEC); }},
          {"a link", [] { return open("/proc/self/exe", O_PATH | O_NOFOLLOW | O_CLOEXEC); }},
          {"a network namespace", [] { return open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC); }},
          {"a mount namespace", [] { return open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC); }},
          {"a process", [] { return static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)); }},
          {"an epoll", [] { return epoll_create1(EPOLL_CLOEXEC); }},
          {"a mount", [] {
             return static_cast<int>(
                 syscall(SYS_open_tree, AT_FDCWD, "/",
                         kernel::kOpenTreeClone | kernel::kOpenTreeCloexec | kernel::kAtRecursive));
           }}};
}

TEST_F(DescriptorsTest, NothingButFilesAndStreamsBecomesStdio) {
  BROOD_NEEDS_ROOT();
  StartDaemon(Templates());
  const std::string running = Detached({"--template", "ro"}, "sleep 600");
  const Words program = {"--", "/bin/sh", "-c", "echo ran; ls /proc/self/fd/0/.."};
  const std::vector<Words> doors = {Words{"run", "--rootfs", root_.string()} + program,
                                    Words{"run", "--no-user", "--rootfs", root_.string()} + program,
                                    With(Words{"submit", "-i", "--template", "ro"} + program),
                                    With(Words{"submit", "-i", "--template", "nouser"} + program),
                                    With(Words{"submit", "-i", "--template", "none"} + program),
                                    With(Words{"exec", "-i", running} + program)};
  for (const Refused& each : RefusedDescriptors()) {
    SCOPED_TRACE(each.name);
    for (const Words& door : doors) {
      for (int place = 0; place < 2; ++place) {
        SCOPED_TRACE(fmt::format("{} as {}", ::testing::PrintToString(door), place));
        Brood brood(door, [&] {
          const int fd = each.open();
          if (fd < 0) _exit(97);
          dup2(fd, place);
        });
        const int status = brood.Wait();
        if (status == 97) continue;  // this kernel has no such thing
        EXPECT_EQ(status, 125) << brood.err();
        EXPECT_THAT(brood.err(), HasSubstr("outside its isolate"));
        if (place == 0) {
          EXPECT_EQ(brood.out(), "");
        }
      }
    }
  }
  EXPECT_EQ(Run({"kill", running}).status, 0);
}

TEST_F(DescriptorsTest, PipesCanBeOpenedAnewByPath) {
  BROOD_NEEDS_ROOT();
  StartDaemon(Templates());
  const std::string running = Detached({"--template", "ro"}, "sleep 600");
  const Words program = {"--", "/bin/sh", "-c",
                         "cat /dev/stdin > /dev/stdout; echo err > /dev/stderr"};
  const std::vector<Words> doors = {
      Words{"run", "--rootfs", root_.string()} + program,
      Words{"run", "-u", "1000", "--rootfs", root_.string()} + program,
      Words{"run", "--no-user", "--rootfs", root_.string()} + program,
      With(Words{"submit", "-i", "--template", "ro"} + program),
      With(Words{"submit", "-i", "--template", "none"} + program),
      With(Words{"exec", "-i", running} + program)};
  for (const Words& door : doors) {
    SCOPED_TRACE(::testing::PrintToString(door));
    int in[2];
    int out[2];
    ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
    ASSERT_EQ(write(in[1], "hi\n", 3), 3);
    close(in[1]);
    Brood brood(door, [&] {
      dup2(in[0], 0);
      dup2(out[1], 1);
      dup2(out[1], 2);
    });
    close(in[0]);
    close(out[1]);
    EXPECT_EQ(brood.Wait(), 0);
    char text[64] = {};
    std::string all;
    for (ssize_t n = 0; (n = read(out[0], text, sizeof(text))) > 0;) {
      all.append(text, static_cast<std::size_t>(n));
    }
    close(out[0]);
    EXPECT_EQ(all, "hi\nerr\n");
  }
  EXPECT_EQ(Run({"kill", running}).status, 0);
}

TEST_F(DescriptorsTest, AFileGivenAsStdinKeepsItsOwner) {
  BROOD_NEEDS_ROOT();
  const fs::path file = directory_ / "file";
  std::ofstream(file) << "text\n";
  chmod(file.c_str(), 0640);
  Brood brood({"run", "--rootfs", root_.string(), "--", "/bin/cat"},
              [&] { dup2(open(file.c_str(), O_RDONLY), 0); });
  EXPECT_EQ(brood.Wait(), 0) << brood.err();
  EXPECT_EQ(brood.out(), "text\n");
  struct stat status = {};
  ASSERT_EQ(stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0U);
  EXPECT_EQ(status.st_mode & 07777, 0640U);
}

// Opened anew by a worker that is the host's root, a file that somebody could only read could be
// written to.
TEST_F(DescriptorsTest, NobodysFileIsNotHandedToAWorkerWithTheHostsIds) {
  BROOD_NEEDS_ROOT();
  fs::permissions(directory_, fs::perms(0755));
  StartDaemon(Templates() + Words{"--group", "nogroup"});
  const fs::path file = directory_ / "file";
  std::ofstream(file) << "root's\n";
  for (const auto& [kind, status] : {std::pair<std::string, int>{"nouser", 125}, {"ro", 0}}) {
    SCOPED_TRACE(kind);
    Brood brood(With({"submit", "-i", "--template", kind, "--", "/bin/sh", "-c",
                      "echo mine > /proc/self/fd/0; cat"}),
                [&] {
                  BecomeOrdinary();
                  dup2(open(file.c_str(), O_RDONLY), 0);
                });
    EXPECT_EQ(brood.Wait(), status) << brood.err();
    EXPECT_EQ(ReadText(file), "root's\n");
  }
}

// What runs as /proc/self/exe: nothing of the host's by a command's own words; and by those of a
// script of the root, nothing that could then be overwritten.
TEST_F(DescriptorsTest, TheLaunchersProgramIsNotToBeRunByALinkNorWritten) {
  BROOD_NEEDS_ROOT();
  const Words users[] = {{}, {"--no-user"}};
  for (const Words& user : users) {
    const Words run = Words{"run", "--rootfs", root_.string()} + user;
    Brood link(run + Words{"--", "/proc/self/exe", "version"});
    EXPECT_EQ(link.Wait(), 126);
    EXPECT_THAT(link.err(), HasSubstr("a link of /proc"));
    EXPECT_EQ(link.out(), "");
  }
  std::ofstream(root_ / "bin/script") << "#!/proc/self/exe version\n";
  chmod((root_ / "bin/script").c_str(), 0755);
  Brood script({"run", "--no-user", "--rootfs", root_.string(), "--", "/bin/script"});
  EXPECT_LT(script.Wait(), 128) << "what it is by then runs inside";

  Brood running({"run", "--no-user", "--", "/bin/sh", "-c", "echo runs; sleep 600"});
  running.AwaitOutput("runs");
  // While it runs nobody may write to it (ETXTBSY); afterwards its mount is what keeps it.
  struct statvfs program = {};
  EXPECT_EQ(statvfs(fmt::format("/proc/{}/exe", running.pid()).c_str(), &program), 0);
  EXPECT_NE(program.f_flag & ST_RDONLY, 0U);
  running.Kill(SIGTERM);
  EXPECT_GE(running.Wait(), 128);
}

}  // namespace
}  // namespace brood
