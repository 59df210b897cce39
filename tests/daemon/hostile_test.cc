// SPDX-License-Identifier: Apache-2.0

// Clients that vanish, lie, or never listen: they alone are refused.
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <span>
#include <thread>

#include "tests/daemon/daemon_fixture.h"

namespace brood {
namespace {

using ::testing::HasSubstr;

class HostileTest : public DaemonTest {
 protected:
  UniqueFd Connect() const {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_.c_str(), socket_.size() + 1);
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  // All that comes until the daemon closes.
  static std::string ReadToEnd(const UniqueFd& fd) {
    std::string all;
    char buffer[4096];
    for (ssize_t n = 0; (n = read(fd.get(), buffer, sizeof(buffer))) > 0;) {
      all.append(buffer, static_cast<std::size_t>(n));
    }
    return all;
  }
};

// A wait as a message of its own type.
struct WaitFor : IsolateName {
  static constexpr MessageType kType = MessageType::kWait;
};

std::string Header(MessageHeader header, const std::string& body = {}) {
  return std::string(reinterpret_cast<const char*>(&header), sizeof(header)) + body;
}

TEST_F(HostileTest, BadMessagesEndTheirConnectionAlone) {
  StartDaemon();
  const std::size_t fds = DaemonFds();
  MessageHeader huge;
  huge.length = 0xffffffff;
  MessageHeader version;
  version.version = 99;
  MessageHeader many_fds;
  many_fds.fds = 1000;
  MessageHeader no_fds;
  no_fds.type = static_cast<std::uint16_t>(MessageType::kSubmit);
  no_fds.fds = 3;
  struct Case {
    std::string bytes;
    std::string answer;
  };
  const std::vector<Case> cases = {
      {std::string(100, 'x'), "not a brood message"},
      {Header(huge), "is too long"},
      {Header(version), "version 99"},
      {Header(many_fds), "1000 descriptors"},
      {Header(no_fds), "0 descriptors, but says 3"},
  };
  for (const Case& each : cases) {
    const UniqueFd fd = Connect();
    ASSERT_GT(write(fd.get(), each.bytes.data(), each.bytes.size()), 0);
    EXPECT_THAT(ReadToEnd(fd), HasSubstr(each.answer));
  }
  ExpectServes();
  EXPECT_TRUE(ComesTrue([&] { return DaemonFds() <= fds; })) << DaemonFds() << " was " << fds;
}

TEST_F(HostileTest, BadFieldsAreRefusedAndTheConnectionGoesOn) {
  StartDaemon();
  Client client = Connected();
  // Every kind of request with a body of noise, and one there is none of.
  for (std::uint16_t type = 0; type < 16; ++type) {
    MessageHeader header;
    header.type = type;
    header.tag = type;
    header.length = 7;
    const std::string bytes = Header(header, std::string(7, '\xff'));
    ASSERT_EQ(write(client.fd(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    if (type == static_cast<std::uint16_t>(MessageType::kStats)) {
      EXPECT_TRUE(client.Next().ok()) << "it has no fields";
    } else {
      EXPECT_FALSE(client.Next().ok()) << type;
    }
  }
  const std::vector<Submit> submits = [] {
    std::vector<Submit> all(5, SubmitOf({"true"}));
    all[0].argv.clear();
    all[1].env = {"no equals sign"};
    all[2].cwd = "relative";
    all[3].io = ClientIo::kFds;  // and no descriptors
    all[4].argv = {std::string("a\0b", 3)};
    return all;
  }();
  for (const Submit& submit : submits) {
    ASSERT_TRUE(client.Start(submit, {}).ok());
    const auto answer = client.Next();
    EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument) << answer.status();
  }
  ASSERT_TRUE(client.Start(SubmitOf({"true"}), {}).ok());
  EXPECT_TRUE(client.Next().ok());
  EXPECT_TRUE(nlohmann::json::parse(*Connected().List(true)).size() == 1U);
}

TEST_F(HostileTest, TooManyDescriptorsAreClosed) {
  StartDaemon();
  const std::size_t fds = DaemonFds();
  for (int round = 0; round < 20; ++round) {
    const UniqueFd fd = Connect();
    std::array<int, 100> many;
    many.fill(fd.get());
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(many))> control{};
    char byte = 'x';
    iovec vector{&byte, 1};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof(many));
    std::memcpy(CMSG_DATA(part), many.data(), sizeof(many));
    ASSERT_EQ(sendmsg(fd.get(), &message, 0), 1);
    EXPECT_THAT(ReadToEnd(fd), HasSubstr("could not be taken"));
  }
  ExpectServes();
  EXPECT_TRUE(ComesTrue([&] { return DaemonFds() <= fds; })) << DaemonFds() << " was " << fds;
}

TEST_F(HostileTest, HalfMessagesCostNobodyElse) {
  StartDaemon();
  MessageHeader header;
  header.type = static_cast<std::uint16_t>(MessageType::kSubmit);
  header.length = kMaxBody;
  std::vector<UniqueFd> half;
  for (int i = 0; i < 40; ++i) {
    half.push_back(Connect());
    const std::string start = Header(header, std::string(std::size_t{2} << 20, 'a'));
    const UniqueFd& fd = half.back();
    fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    std::size_t sent = 0;
    for (int tries = 0; sent < start.size() && tries < 200; ++tries) {
      const ssize_t count = send(fd.get(), start.data() + sent, start.size() - sent, MSG_NOSIGNAL);
      if (count > 0) sent += static_cast<std::size_t>(count);
      if (count < 0 && errno != EAGAIN) break;  // refused
      if (count < 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  ExpectServes();
  EXPECT_LT(DaemonStatus("VmRSS"), 200 << 10) << "no more is held than is allowed";
}

TEST_F(HostileTest, NeverReadingIsBounded) {
  StartDaemon();
  const std::string id = Detached({}, "yes | head -c 200000; sleep 1000");
  ASSERT_TRUE(ComesTrue([&] { return Inspect(id)["log"]["bytes"] == 200000; }));
  const UniqueFd fd = Connect();
  const std::string ask = [&] {
    MessageHeader header;
    header.type = static_cast<std::uint16_t>(MessageType::kLogs);
    const std::string body = EncodeBody(ReadLogs{id, 0});
    header.length = static_cast<std::uint32_t>(body.size());
    return Header(header, body);
  }();
  fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  // 2,000 times 200 KB would be 400 MB.
  for (int i = 0; i < 2000; ++i) (void)!send(fd.get(), ask.data(), ask.size(), MSG_NOSIGNAL);
  ExpectServes();
  EXPECT_LT(DaemonStatus("VmRSS"), 150 << 10);
  EXPECT_EQ(Run({"kill", id}).status, 0);
}

TEST_F(HostileTest, VanishedClientEndsItsForegroundAlone) {
  StartDaemon();
  const std::string kept = Detached({}, "sleep 1000");
  Brood front(With(Words{"submit", "--name", "front"} + Shell("sleep 999 & echo up; sleep 1000")));
  front.AwaitOutput("up");
  const nlohmann::json before = Inspect("front");
  const std::string procs = before["cgroup"].get<std::string>() + "/cgroup.procs";
  front.Kill(SIGKILL);
  front.Wait();
  EXPECT_TRUE(ComesTrue([&] { return Inspect("front")["state"] == "ended"; }));
  EXPECT_EQ(Inspect("front")["end"], "killed");
  EXPECT_EQ(ReadText(procs), "");
  EXPECT_EQ(Inspect(kept)["state"], "running") << "a detached one goes on";
  EXPECT_EQ(Run({"kill", kept}).status, 0);
}

TEST_F(HostileTest, VanishedAtOnceLeavesNobodyRunning) {
  StartDaemon({"--pool", "8"});
  for (int i = 0; i < 60; ++i) {
    Client client = Connected();
    ASSERT_TRUE(client.Start(SubmitOf({"sleep", "1000"}), {}).ok());
  }
  EXPECT_TRUE(ComesTrue([&] {
    return nlohmann::json::parse(Out({"ps", "--json"})).empty() && Stats()["running"] == 0;
  }));
}

TEST_F(HostileTest, SignalWhileItWaitsEndsTheWait) {
  StartDaemon({"--pool", "1", "--max-running", "1"});
  const std::string id = Detached({}, "sleep 1000");
  Brood waiting(With({"submit", "--name", "queued", "--", "true"}));
  ASSERT_TRUE(ComesTrue([&] { return Run({"inspect", "queued"}).status == 0; }));
  waiting.Kill(SIGINT);
  EXPECT_EQ(waiting.Wait(), 125);
  EXPECT_THAT(waiting.err(), HasSubstr("ended before its turn came"));
  EXPECT_EQ(Run({"kill", id}).status, 0);
}

TEST_F(HostileTest, OutOfDescriptorsIsSaidAndPasses) {
  StartDaemon({"--pool", "2"}, [] {
    const rlimit few{700, 700};
    setrlimit(RLIMIT_NOFILE, &few);
  });
  std::vector<UniqueFd> many;
  std::string refusals;
  while (many.size() < 720) many.push_back(Connect());
  EXPECT_TRUE(ComesTrue([&] {
    for (const UniqueFd& fd : many) {
      char buffer[512];
      const ssize_t got = recv(fd.get(), buffer, sizeof(buffer), MSG_DONTWAIT);
      if (got > 0) refusals.append(buffer, static_cast<std::size_t>(got));
    }
    return refusals.find("no room for another connection") != std::string::npos;
  }));
  many.clear();
  EXPECT_TRUE(ComesTrue([&] { return Run({"ps"}).status == 0; }));
  ExpectServes();
}

TEST_F(HostileTest, FullPoolIsSaidWithTheWait) {
  StartDaemon({"--pool", "2", "--max-running", "2"});
  const std::string one = Detached({}, "sleep 1000");
  const std::string two = Detached({}, "sleep 1000");
  const Result full = Run(Words{"submit", "--wait", "300ms", "--", "true"});
  EXPECT_EQ(full.status, 125);
  EXPECT_THAT(full.err, HasSubstr("the pool is full: no worker was free within 0.3 s (2 may run"));
  Brood patient(With({"submit", "--", "true"}));
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_FALSE(patient.Ended());
  EXPECT_EQ(Run({"kill", one}).status, 0);
  EXPECT_EQ(patient.Wait(), 0) << "it has the place that became free";
  EXPECT_EQ(Run({"kill", two}).status, 0);
}

TEST_F(HostileTest, BlockedTerminalSocketHoldsUpNobody) {
  StartDaemon({"--pool", "24"});
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const UniqueFd ours(ends[0]);
  const UniqueFd workers(ends[1]);
  const std::string filling(4096, 'x');
  while (send(workers.get(), filling.data(), filling.size(), MSG_DONTWAIT) > 0) {
  }
  // More of them than launches may be under way at once.
  constexpr int kBlocked = 20;
  Client client = Connected();
  for (int i = 0; i < kBlocked; ++i) {
    Submit submit = SubmitOf({"true"});
    submit.io = ClientIo::kTerminal;
    const int fd = workers.get();
    ASSERT_TRUE(client.Start(submit, std::span<const int>(&fd, 1)).ok());
  }
  ExpectServes();
  for (int i = 0; i < kBlocked; ++i) {
    const absl::StatusOr<Incoming> answer = client.Next();
    ASSERT_TRUE(answer.ok()) << answer.status();
    const auto ended = DecodeBody<Ended>(answer->body);
    ASSERT_TRUE(ended.ok());
    EXPECT_EQ(ended->exit_status, 125);
    EXPECT_THAT(ended->message, HasSubstr("opening the worker's terminal: EAGAIN"));
  }
}

TEST_F(HostileTest, AnswersComeBeforeTheEndOfTheirConnection) {
  StartDaemon();
  const std::string id =
      Out(Words{"submit", "-d"} + Shell("sleep 1000") + Words{std::string(60'000, 'x')})
          .substr(0, 12);
  // More than the socket takes, less than a peer may leave unread; then something that ends it.
  constexpr int kAsked = 60;
  const UniqueFd fd = Connect();
  std::string asked;
  for (std::uint64_t tag = 1; tag <= kAsked; ++tag) {
    const std::string body = EncodeBody(IsolateName{id});
    MessageHeader header;
    header.type = static_cast<std::uint16_t>(MessageType::kInspect);
    header.length = static_cast<std::uint32_t>(body.size());
    header.tag = tag;
    asked += Header(header, body);
  }
  asked += std::string(100, 'x');
  ASSERT_EQ(write(fd.get(), asked.data(), asked.size()), static_cast<ssize_t>(asked.size()));
  ExpectServes();
  const std::string all = ReadToEnd(fd);
  int texts = 0;
  std::string last;
  for (std::size_t at = 0; at + sizeof(MessageHeader) <= all.size();) {
    MessageHeader header;
    std::memcpy(&header, all.data() + at, sizeof(header));
    last = all.substr(at + sizeof(header), header.length);
    texts += header.type == static_cast<std::uint16_t>(MessageType::kText) ? 1 : 0;
    at += sizeof(header) + header.length;
  }
  EXPECT_GT(all.size(), std::size_t{3} << 20);
  EXPECT_EQ(texts, kAsked);
  EXPECT_THAT(last, HasSubstr("not a brood message"));
  EXPECT_EQ(Run({"kill", id}).status, 0);
}

TEST_F(HostileTest, OutputPassedOnToSomebodyElseEndsWithItsIsolate) {
  StartDaemon();
  const std::string id = Detached({}, "exec sleep 1000");
  // We are the somebody, who writes on and on.
  const UniqueFd pidfd(
      static_cast<int>(syscall(SYS_pidfd_open, Inspect(id)["host_pid"].get<int>(), 0)));
  const UniqueFd output(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), 1, 0)));
  ASSERT_TRUE(output.valid()) << strerror(errno);
  (void)signal(SIGPIPE, SIG_IGN);
  std::thread writer([&] {
    const std::string line(65536, 'x');
    while (write(output.get(), line.data(), line.size()) > 0) {
    }
  });
  ASSERT_TRUE(ComesTrue([&] { return Inspect(id)["log"]["bytes"].get<long>() > 1 << 20; }));
  EXPECT_EQ(Run({"kill", id}).status, 0);
  EXPECT_EQ(Run({"wait", id}).status, 137);
  ExpectServes();
  writer.join();  // nobody reads any more
}

TEST_F(HostileTest, DescriptorsOfWaitingCommandsAreBounded) {
  StartDaemon({"--pool", "1", "--max-running", "1"});
  const std::string id = Detached({}, "sleep 1000");
  const std::size_t before = DaemonFds();
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const std::array<int, 3> fds{null.get(), null.get(), null.get()};
  {
    Client client = Connected();
    std::string refusal;
    for (int i = 0; i < 3000 && refusal.empty(); ++i) {
      Submit submit = SubmitOf({"true"});
      submit.io = ClientIo::kFds;
      ASSERT_TRUE(client.Start(submit, fds).ok());
      pollfd answer{client.fd(), POLLIN, 0};
      if (poll(&answer, 1, 0) > 0) refusal = std::string(client.Next().status().message());
    }
    EXPECT_THAT(refusal, HasSubstr("too many commands wait or run: the daemon holds 40"));
    EXPECT_LT(DaemonFds(), before + 4200);
  }
  EXPECT_TRUE(ComesTrue([&] { return DaemonFds() <= before; })) << "all go with the client";
  EXPECT_EQ(Run({"kill", id}).status, 0);
  ExpectServes();
}

TEST_F(HostileTest, WaitsOfOneConnectionAreBounded) {
  StartDaemon();
  const std::string id = Detached({}, "sleep 1000");
  const auto ask = [&](Client& client, int i) {
    // Any mixture of those whose answer comes late.
    return i % 2 == 0 ? client.Start(WaitFor{{id}}, {}) : client.Start(ReadLogs{id, 1}, {});
  };
  Client patient = Connected();
  ASSERT_TRUE(patient.Start(WaitFor{{id}}, {}).ok());
  for (int round = 0; round < 3; ++round) {
    Client client = Connected();
    for (int i = 0; i < 1030; ++i) ASSERT_TRUE(ask(client, i).ok());
    for (int i = 1024; i < 1030; ++i) {
      const absl::StatusOr<Incoming> refused = client.Next();
      EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
      EXPECT_THAT(std::string(refused.status().message()), HasSubstr("waits for 1024 answers"));
    }
    EXPECT_EQ(nlohmann::json::parse(*Connected().List(false)).size(), 1U) << "another may ask";
    // What it waited for goes with it.
  }
  EXPECT_EQ(Run({"kill", id}).status, 0);
  EXPECT_TRUE(patient.Next().ok());
  // Once answered they count no more.
  for (int i = 0; i < 1100; ++i) {
    ASSERT_TRUE(patient.Start(WaitFor{{id}}, {}).ok());
    ASSERT_TRUE(patient.Next().ok());
  }
}

}  // namespace
}  // namespace brood
