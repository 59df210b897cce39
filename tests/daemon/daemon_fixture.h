// SPDX-License-Identifier: Apache-2.0

// A daemon of its own for each test, on a socket in a directory of its own.
#pragma once

#include <gmock/gmock.h>

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "pool/daemon/client.h"
#include "spawn/spec.h"
#include "tests/kernel/machine_state.h"
#include "tests/program.h"

namespace brood {

// Whether `condition` comes true within a patience of ten seconds, looked at again and again.
template <typename Condition>
bool ComesTrue(const Condition& condition) {
  for (int i = 0; i < 1000 * Slowness(); ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return condition();
}

class DaemonTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    std::filesystem::create_directories(directory_);
    socket_ = (directory_ / "s").string();
  }
  void TearDown() override {
    StopDaemon();
    std::filesystem::remove_all(directory_);
    LeavesNothing::TearDown();
  }

  void StartDaemon(
      const Words& options = {"--pool", "4"}, const std::function<void()>& before_exec = [] {}) {
    daemon_ = std::make_unique<Brood>(Words{"serve", "--socket", socket_} + options, [&] {
      alarm(0);
      before_exec();
    });
    ASSERT_TRUE(ComesTrue([&] { return Log().find("\"listening\"") != std::string::npos; }))
        << Log();
  }
  // As systemd would: SIGTERM, twice if need be. Its exit status.
  int StopDaemon() {
    if (!daemon_) return 0;
    daemon_->Kill(SIGTERM);
    if (!ComesTrue([&] { return daemon_->Ended(); })) daemon_->Kill(SIGTERM);
    const int status = daemon_->Wait();
    daemon_.reset();
    return status;
  }
  std::string Log() const { return daemon_->err(); }

  // A command of a client; its words without --socket.
  Words With(const Words& arguments) const {
    return Words{arguments[0], "--socket", socket_} + Words(arguments.begin() + 1, arguments.end());
  }
  struct Result {
    int status;
    std::string out;
    std::string err;
  };
  Result Run(const Words& arguments) const {
    Brood brood(With(arguments));
    const int status = brood.Wait();
    return {status, brood.out(), brood.err()};
  }
  std::string Out(const Words& arguments) const {
    const Result result = Run(arguments);
    EXPECT_EQ(result.status, 0) << result.err;
    return result.out;
  }
  void ExpectServes() const {
    const Result result = Run({"submit", "--", "true"});
    EXPECT_EQ(result.status, 0) << result.err;
  }
  // The id that submit -d prints.
  std::string Detached(const Words& options, const std::string& script) const {
    std::string id = Out(Words{"submit", "-d"} + options + Shell(script));
    while (!id.empty() && id.back() == '\n') id.pop_back();
    return id;
  }
  nlohmann::json Inspect(const std::string& isolate) const {
    return nlohmann::json::parse(Out({"inspect", isolate}), nullptr, false);
  }
  nlohmann::json Stats() const { return nlohmann::json::parse(Out({"stats", "--json"})); }
  // A number of the daemon's /proc/PID/status; memory is in KiB.
  long DaemonStatus(const std::string& key) const {
    std::ifstream status("/proc/" + std::to_string(daemon_->pid()) + "/status");
    std::string word;
    long number = 0;
    while (status >> word) {
      if (word == key + ":") status >> number;
    }
    return number;
  }
  std::size_t DaemonFds() const {
    const auto fds =
        std::filesystem::directory_iterator("/proc/" + std::to_string(daemon_->pid()) + "/fd");
    return static_cast<std::size_t>(std::distance(begin(fds), end(fds)));
  }
  Client Connected() const {
    absl::StatusOr<Client> client = Client::Connect(socket_);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  static Submit SubmitOf(const Words& argv) {
    Submit submit;
    submit.argv = argv;
    submit.env = DefaultEnvironment();
    submit.cwd = "/";
    submit.io = ClientIo::kNone;
    return submit;
  }

  // Submissions by many clients at once, each told once how it went.
  void ManyClients(int clients, int each) {
    StartDaemon({"--pool", "64"});
    // Each run leaves one byte: none lost, none run twice.
    const std::filesystem::path tally = directory_ / "tally";
    std::ofstream(tally).flush();
    const UniqueFd file(open(tally.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
    const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
    std::atomic<int> answered{0};
    std::vector<std::thread> threads;
    threads.reserve(static_cast<std::size_t>(clients));
    for (int c = 0; c < clients; ++c) {
      threads.emplace_back([&] {
        Client client = Connected();
        for (int i = 0; i < each; ++i) {
          const absl::StatusOr<Ended> ended = client.Run(SubmitOf({"/bin/sh", "-c", "printf x"}),
                                                         {null.get(), file.get(), null.get()});
          if (ended.ok() && ended->exit_status == 0) {
            ++answered;
          } else {
            ADD_FAILURE() << (ended.ok() ? ended->message : ended.status().ToString());
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(answered, clients * each);
    EXPECT_EQ(std::filesystem::file_size(tally), static_cast<std::uintmax_t>(clients * each));
    EXPECT_EQ(Stats()["served"], clients * each);
  }

  const std::filesystem::path directory_ =
      std::filesystem::path(::testing::TempDir()) / ("brood_daemon_" + std::to_string(getpid()));
  std::string socket_;
  std::unique_ptr<Brood> daemon_;
};

}  // namespace brood
