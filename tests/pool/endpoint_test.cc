// SPDX-License-Identifier: Apache-2.0

// A socket that a worker opens in its own network for its launcher (StdioMode::kEndpoint).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "pool/pool.h"
#include "spawn/base/fd_message.h"
#include "spawn/base/unique_fd.h"
#include "tests/kernel/machine_state.h"
#include "tests/pool/requests.h"
#include "tests/slowness.h"

namespace brood {
namespace {

constexpr std::uint16_t kPort = 9001;

// What came over a channel, or nothing by its end.
UniqueFd Receive(int channel) {
  char byte = 0;
  ReceivedFds<1> received;
  const bool came = ReceiveWithFds(channel, &byte, 1, received, 0) > 0 && received.count == 1;
  return UniqueFd(came ? received.fds[0] : -1);
}

bool Readable(int fd) {
  pollfd poller{fd, POLLIN, 0};
  return poll(&poller, 1, static_cast<int>(Patience(std::chrono::seconds(20)).count() * 1000)) == 1;
}

class EndpointTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours_.reset(ends[0]);
    theirs_.reset(ends[1]);
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    from_.reset(ends[0]);
    to_.reset(ends[1]);
  }
  void TearDown() override {
    if (pool_) {
      EXPECT_TRUE(pool_->Shutdown().ok());
    }
    pool_.reset();
    for (UniqueFd* const fd : {&ours_, &theirs_, &from_, &to_}) fd->reset();
    LeavesNothing::TearDown();
  }

  void Start(Spec spec = {}) {
    TemplateOptions tmpl;
    tmpl.spec = std::move(spec);
    tmpl.parked = 1;
    PoolOptions options;
    options.templates.push_back(std::move(tmpl));
    auto pool = Pool::Create(std::move(options));
    ASSERT_TRUE(pool.ok()) << pool.status();
    pool_ = *std::move(pool);
  }

  std::future<absl::StatusOr<Outcome>> Submit(SpawnPath path, std::string script) {
    Request request;
    request.command.argv = {"/bin/bash", "-c", std::move(script)};
    request.command.env = DefaultEnvironment();
    request.command.stdio.mode = StdioMode::kEndpoint;
    request.command.stdio.fds = {theirs_.get(), to_.get(), to_.get()};
    request.command.stdio.port = kPort;
    request.path = path;
    auto submitted = brood::Submit(*pool_, std::move(request));
    EXPECT_TRUE(submitted.ok()) << submitted.status();
    return submitted.ok() ? std::move(submitted->outcome) : std::future<absl::StatusOr<Outcome>>();
  }

  UniqueFd ours_, theirs_, from_, to_;
  std::unique_ptr<Pool> pool_;
};

TEST_F(EndpointTest, IsThereBeforeTheCommandAndTheWorkersAlone) {
  Start();
  for (const SpawnPath path : {SpawnPath::kParked, SpawnPath::kCold, SpawnPath::kZygote}) {
    // Connects at once, and says whom it has found; its stdin is at its end.
    auto outcome = Submit(path,
                          "exec 3<>/dev/tcp/127.0.0.1/9001; cat >&3; readlink /proc/self/fd/0 "
                          ">&3; read answer <&3; echo $answer; ls /proc/self/fd | wc -l");
    const UniqueFd listener = Receive(ours_.get());
    ASSERT_TRUE(listener.valid());
    sockaddr_in address{};
    socklen_t length = sizeof(address);
    ASSERT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    EXPECT_EQ(ntohl(address.sin_addr.s_addr), INADDR_LOOPBACK);
    EXPECT_EQ(ntohs(address.sin_port), kPort);
    ASSERT_TRUE(Readable(listener.get()));
    const UniqueFd client(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_TRUE(client.valid());
    EXPECT_LT(accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), 0);  // it is not blocking
    std::array<char, 64> said{};
    ASSERT_GT(read(client.get(), said.data(), said.size() - 1), 0);
    EXPECT_STREQ(said.data(), "/dev/null\n");
    ASSERT_EQ(write(client.get(), "heard\n", 6), 6);
    const auto ended = outcome.get();
    ASSERT_TRUE(ended.ok()) << ended.status();
    EXPECT_TRUE(ended->ok()) << ended->message;
    said = {};
    ASSERT_GT(read(from_.get(), said.data(), said.size() - 1), 0);
    // Beside stdio and the connection: the directory that ls reads.
    EXPECT_STREQ(said.data(), "heard\n5\n");
  }
}

TEST_F(EndpointTest, APortThatIsTakenIsToldAsTheStepThatFailed) {
  const UniqueFd other(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(kPort);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    GTEST_SKIP() << "somebody else has port " << kPort;
  }
  ASSERT_EQ(listen(other.get(), 1), 0);
  Spec spec;
  spec.ns(NamespaceKind::kNet).mode = NamespaceMode::kHost;
  Start(std::move(spec));
  const auto ended = Submit(SpawnPath::kParked, "echo ran").get();
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->end, End::kSetupFailed);
  EXPECT_EQ(ended->failure.step, Step::kEndpoint);
  EXPECT_EQ(ended->failure.error, EADDRINUSE);
  EXPECT_NE(ended->message.find("network namespace of its own"), std::string::npos)
      << ended->message;
}

TEST_F(EndpointTest, SocketsReachWhatTheCommandListensOn) {
  Start();
  for (const SpawnPath path : {SpawnPath::kParked, SpawnPath::kCold, SpawnPath::kZygote}) {
    Request request;
    request.command.argv = {"/usr/bin/perl", "-MSocket", "-e",
                            "socket(L, AF_INET, SOCK_STREAM, 0) or die; bind(L, sockaddr_in(77, "
                            "INADDR_LOOPBACK)) or die; listen(L, 9) or die; $| = 1; print 'x'; "
                            "for (1..3) { accept(A, L) or die; syswrite(A, \"call $_\"); "
                            "shutdown(A, 1); sysread(A, $b, 1) }"};
    request.command.env = DefaultEnvironment();
    request.command.stdio.mode = StdioMode::kEndpoint;
    request.command.stdio.fds = {theirs_.get(), to_.get(), to_.get()};
    request.command.stdio.sockets = 2;
    request.path = path;
    auto submitted = brood::Submit(*pool_, std::move(request));
    ASSERT_TRUE(submitted.ok()) << submitted.status();
    const UniqueFd first = Receive(ours_.get());
    const UniqueFd second = Receive(ours_.get());
    ASSERT_TRUE(first.valid());
    ASSERT_TRUE(second.valid());
    char byte = 0;
    ASSERT_EQ(read(from_.get(), &byte, 1), 1);  // it listens
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(77);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    // One of them is used twice.
    const std::pair<int, const char*> calls[] = {
        {first.get(), "call 1"}, {second.get(), "call 2"}, {first.get(), "call 3"}};
    for (const auto& [socket, said] : calls) {
      const int connected =
          connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
      ASSERT_TRUE(connected == 0 || errno == EINPROGRESS) << errno;  // they are not blocking
      ASSERT_TRUE(Readable(socket));
      char text[16] = {};
      ASSERT_EQ(read(socket, text, sizeof(text)), 6);
      EXPECT_STREQ(text, said);
      const sockaddr none{.sa_family = AF_UNSPEC, .sa_data = {}};
      ASSERT_EQ(connect(socket, &none, sizeof(none)), 0);
      int error = 0;
      socklen_t length = sizeof(error);
      ASSERT_EQ(getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    }
    const auto ended = submitted->outcome.get();
    ASSERT_TRUE(ended.ok()) << ended.status();
    EXPECT_TRUE(ended->ok()) << ended->message;
  }
}

TEST_F(EndpointTest, WithoutAPortThereIsNone) {
  Start();
  Request request;
  request.command.argv = {"/bin/true"};
  request.command.stdio.mode = StdioMode::kEndpoint;
  request.command.stdio.fds = {theirs_.get(), to_.get(), to_.get()};
  EXPECT_EQ(pool_->Submit(std::move(request), [](auto) {}).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace brood
