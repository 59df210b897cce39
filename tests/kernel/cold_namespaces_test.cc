// SPDX-License-Identifier: Apache-2.0

// Namespaces that are the host's, another's or one's own.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/host/machine.h"
#include "spawn/launch/reap.h"
#include "tests/kernel/cold.h"

namespace brood {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;

TEST_F(ColdTest, EachNamespaceCanBeTheHosts) {
  for (std::size_t host = 0; host < kNamespaceCount; ++host) {
    const auto kept = static_cast<NamespaceKind>(host);
    SCOPED_TRACE(NamespaceName(kept));
    Spec spec;
    spec.ns(kept).mode = NamespaceMode::kHost;
    std::string script;
    for (std::size_t i = 0; i < kNamespaceCount; ++i) {
      script += fmt::format("readlink /proc/self/ns/{};",
                            NamespaceProcName(static_cast<NamespaceKind>(i)));
    }
    const std::vector<std::string> inside = Lines(Output(spec, script));
    ASSERT_EQ(inside.size(), kNamespaceCount);
    for (std::size_t i = 0; i < kNamespaceCount; ++i) {
      const auto kind = static_cast<NamespaceKind>(i);
      EXPECT_EQ(inside[i] == NamespaceOf("self", kind), kind == kept) << NamespaceName(kind);
    }
  }
}

TEST_F(ColdTest, HostsMountsAreNotCopiedWhereTheKernelNeedNot) {
  const auto copies = [](const Spec& spec) {
    return (Plan(spec).plan().clone_flags & kernel::kCloneEmptyMntns) == 0;
  };
  EXPECT_EQ(copies({}), !ThisMachine().empty_mounts);
  Spec capable;
  capable.capabilities = {"SYS_ADMIN"};
  EXPECT_TRUE(copies(capable)) << "it could look below its root";
}

TEST_F(ColdTest, AllNamespacesCanBeTheHosts) {
  Spec spec;
  for (NamespaceChoice& choice : spec.namespaces) choice.mode = NamespaceMode::kHost;
  const Outcome outcome = Run(spec, Shell("readlink /proc/self/ns/net; echo $$"));
  EXPECT_TRUE(outcome.ok()) << Ending(outcome);
  EXPECT_EQ(outcome.out,
            fmt::format("{}\n{}\n", NamespaceOf("self", NamespaceKind::kNet), outcome.host_pid));
  EXPECT_EQ(outcome.inside_pid, outcome.host_pid);
}

// A process that sits in one new namespace of `kind`.
class Target {
 public:
  explicit Target(NamespaceKind kind) : kind_(kind) {
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const UniqueFd ready(ends[0]);
    UniqueFd tell(ends[1]);
    // Of a pid namespace it must be the init; the others it can as well be born in. A time
    // namespace is only for children.
    const unsigned long flags = kind == NamespaceKind::kTime ? 0 : NamespaceFlag(kind);
    pid_ = static_cast<pid_t>(syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, 0));
    if (pid_ == 0) {
      if (kind == NamespaceKind::kTime && unshare(static_cast<int>(NamespaceFlag(kind))) != 0) {
        _exit(1);
      }
      if (write(tell.get(), "x", 1) != 1) _exit(1);
      for (;;) pause();
    }
    tell.reset();
    char byte = 0;
    EXPECT_EQ(read(ready.get(), &byte, 1), 1) << "making a namespace of its own";
    if (kind == NamespaceKind::kUser) {
      for (const char* file : {"gid_map", "uid_map"}) {
        std::ofstream(fmt::format("/proc/{}/{}", pid_, file)) << "0 0 65536\n";
      }
    }
  }
  ~Target() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  std::string path() const { return NamespacePath(pid_, kind_); }

 private:
  const NamespaceKind kind_;
  pid_t pid_ = -1;
};

TEST_F(ColdTest, EachNamespaceCanBeJoined) {
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    SCOPED_TRACE(NamespaceName(kind));
    const Target target(kind);
    const std::string wanted = LinkText(target.path());
    ASSERT_NE(wanted, NamespaceOf("self", kind));
    Spec spec;
    spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
    spec.ns(kind) = {NamespaceMode::kJoin, target.path()};
    EXPECT_EQ(Output(spec, fmt::format("readlink /proc/self/ns/{}", NamespaceProcName(kind))),
              wanted + "\n");
  }
}

// With users of its own a worker has no privilege over namespaces of the host's users, unless it
// enters them before.
TEST_F(ColdTest, EachNamespaceCanBeJoinedWithAUserNamespaceOfItsOwn) {
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    if (kind == NamespaceKind::kUser) continue;
    SCOPED_TRACE(NamespaceName(kind));
    const Target target(kind);
    Spec spec;
    spec.ns(kind) = {NamespaceMode::kJoin, target.path()};
    const auto blueprint = Blueprint::Make(spec, PlanKind::kCold);
    // Refusing to plan it is an answer too; to start and fail inside is not.
    if (!blueprint.ok()) {
      EXPECT_THAT(std::string(Message(blueprint.status())), HasSubstr("user namespace"));
      continue;
    }
    const std::string script = fmt::format("readlink /proc/self/ns/{}", NamespaceProcName(kind));
    EXPECT_EQ(Output(spec, script), LinkText(target.path()) + "\n");
  }
}

TEST_F(ColdTest, JoinedPidNamespaceLeavesTheLauncherWhereItWas) {
  const Target target(NamespaceKind::kPid);
  Spec spec;
  spec.ns(NamespaceKind::kUser).mode = NamespaceMode::kHost;
  spec.ns(NamespaceKind::kPid) = {NamespaceMode::kJoin, target.path()};
  Command command = Shell("echo $$");
  const Outcome outcome = Run(spec, command);
  EXPECT_TRUE(outcome.ok()) << Ending(outcome);
  EXPECT_EQ(outcome.out, "2\n") << "the second process of that namespace";
  EXPECT_EQ(LinkText("/proc/self/ns/pid_for_children"), LinkText("/proc/self/ns/pid"));
}

TEST_F(ColdTest, MayMakeNamespacesOfItsOwnWhenAskedForAndStaysIsolated) {
  const std::string inner = "mount -t tmpfs none /tmp && mount -t proc none /proc && ps ax | wc -l";
  Spec spec;
  EXPECT_NE(Run(spec, Shell("unshare -Urpmf true")).exit_code, 0);
  spec.nesting = true;
  EXPECT_EQ(Output(spec, fmt::format("unshare -Urpmf sh -c '{}'", inner)), "4\n");
  // What was mounted for it is locked in its place, and stays as it was.
  for (const char* script : {"mount -o remount,bind,rw /", "umount /dev/brood", "umount /proc/sys",
                             "umount /proc", "mount -o remount,bind,rw /proc/sys"}) {
    EXPECT_NE(Run(spec, Shell(fmt::format("unshare -Urm {}", script))).exit_code, 0) << script;
  }
  EXPECT_EQ(Output(spec, "ls -A /dev/brood; touch /dev/brood/x 2>&1 | grep -c Read-only"), "1\n");
  // Only what it takes to map its own id.
  EXPECT_EQ(Output(spec, "grep CapEff /proc/self/status"), "CapEff:\t0000000080000000\n");
  spec.uid = spec.gid = 1000;
  EXPECT_EQ(Output(spec, "grep CapEff /proc/self/status; unshare -Ur id -u"),
            "CapEff:\t0000000000000000\n0\n");
}

TEST_F(ColdTest, ClocksAreShifted) {
  struct Case {
    milliseconds monotonic;
    milliseconds boottime;
    std::string_view text;
  };
  const Case cases[] = {
      {seconds(100'000), seconds(200'000), "monotonic 100000 0\nboottime 200000 0\n"},
      {milliseconds(-1500), milliseconds(250), "monotonic -2 500000000\nboottime 0 250000000\n"},
      {seconds(0), seconds(7), "monotonic 0 0\nboottime 7 0\n"},
  };
  for (const Case& test : cases) {
    for (const bool copies_memory : {false, true}) {
      Spec spec;
      spec.time_offsets = {test.monotonic, test.boottime};
      // Not enforced here, but such a worker does not share the launcher's memory.
      if (copies_memory) spec.limits.memory_bytes = 1ULL << 40;
      const std::vector<std::string> lines =
          Lines(Output(spec, "tr -s ' ' < /proc/self/timens_offsets; cat /proc/uptime"));
      ASSERT_EQ(lines.size(), 3U);
      EXPECT_EQ(lines[0] + "\n" + lines[1] + "\n", test.text);
      const double outside = std::stod(TextOf("/proc/uptime"));
      const double shift = std::chrono::duration<double>(test.boottime).count();
      EXPECT_NEAR(std::stod(lines[2]), outside + shift, 60);
    }
  }
}

TEST_F(ColdTest, SeesItsLeafAsTheWholeOfItsCgroup) {
  EXPECT_THAT(Lines(Output({}, "cat /proc/self/cgroup")),
              AllOf(Contains("0::/"), Each(::testing::EndsWith(":/"))));
  Spec spec;
  spec.ns(NamespaceKind::kCgroup).mode = NamespaceMode::kHost;
  EXPECT_THAT(Output(spec, "cat /proc/self/cgroup"), HasSubstr("/w2\n"))
      << "born in its leaf, whatever it sees";
}

TEST_F(ColdTest, HostsMountsNeverChange) {
  // In a mount namespace whose every mount passes events on, as on a systemd machine.
  const int status = InAFork([&] {
    if (unshare(CLONE_NEWNS) != 0) return 2;
    if (mount(nullptr, "/", nullptr, MS_REC | MS_SHARED, nullptr) != 0) return 3;
    int in[2];
    int out[2];
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) return 4;
    const Blueprint blueprint = Plan({});
    const std::string before = TextOf("/proc/self/mountinfo");
    Command command = Shell("echo ready; read line");
    command.stdio = {StdioMode::kFds, {in[0], out[1], 2}, 0};
    Birthplace place;
    place.id_first = id_first_;
    auto worker = Start(blueprint, command, place);
    if (!worker.ok()) return 5;
    close(out[1]);
    char byte = 0;
    if (read(out[0], &byte, 1) != 1) {
      std::fprintf(stderr, "%s\n",
                   blueprint.Describe(worker->mailbox().failure, blueprint.plan().worker).c_str());
      return 6;
    }
    if (TextOf("/proc/self/mountinfo") != before) return 7;  // while it runs
    close(in[1]);
    const auto exit = Reap(worker->pidfd());
    worker->Reaped();
    if (!exit.ok()) return 8;
    return TextOf("/proc/self/mountinfo") == before ? 0 : 9;
  });
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace brood
