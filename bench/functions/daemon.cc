// SPDX-License-Identifier: Apache-2.0

#include "bench/functions/daemon.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/functions/http_caller.h"
#include "pool/daemon/client.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

// One that nobody listens on now.
absl::StatusOr<std::uint16_t> FreePort() {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return ErrnoError(errno, "making a socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* const where = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd.get(), where, length) != 0 || getsockname(fd.get(), where, &length) != 0) {
    return ErrnoError(errno, "looking for a free port");
  }
  return ntohs(address.sin_port);
}

absl::Status WriteConfig(const std::string& file, const FunctionWanted& function) {
  // A JSON string or list of them is one of TOML's, too.
  std::ofstream out(file);
  const bool kept = function.mode != "cold" && function.mode != "parked";
  out << fmt::format("[template.default]\nparked = {}\n[function.{}]\ncommand = {}\nmode = {}\n",
                     function.mode == "parked" ? function.ready : 4, kFunction,
                     nlohmann::json(function.command).dump(), nlohmann::json(function.mode).dump());
  if (function.mode != kForked) out << "template = \"default\"\n";
  if (kept) out << fmt::format("min = {}\n", function.ready);
  out.close();
  if (out.fail()) return ErrnoError(errno, "writing {}", file);
  return absl::OkStatus();
}

// Nanoseconds that this machine's processors have spent idle, together.
absl::StatusOr<std::int64_t> IdleNs() {
  std::ifstream stat("/proc/stat");
  std::string word;
  std::int64_t user = 0, nice = 0, system = 0, idle = 0, io = 0;
  if (!(stat >> word >> user >> nice >> system >> idle >> io)) {
    return Error(absl::StatusCode::kUnavailable, "/proc/stat does not tell of idle processors");
  }
  return (idle + io) * (1'000'000'000 / sysconf(_SC_CLK_TCK));
}

// What was started ahead of its call may be on the way to its stdin still, which nothing but the
// quiet thereafter shows: an interpreter takes 40 ms to get there.
absl::Status AwaitQuiet(steady_clock::time_point deadline) {
  const auto processors = static_cast<double>(std::thread::hardware_concurrency());
  for (;;) {
    BROOD_ASSIGN_OR_RETURN(const std::int64_t before, IdleNs());
    const auto since = steady_clock::now();
    std::this_thread::sleep_for(milliseconds(100));
    BROOD_ASSIGN_OR_RETURN(const std::int64_t after, IdleNs());
    const std::chrono::duration<double, std::nano> passed = steady_clock::now() - since;
    if (static_cast<double>(after - before) > 0.8 * processors * passed.count()) {
      return absl::OkStatus();
    }
    if (steady_clock::now() > deadline) {
      return Error(absl::StatusCode::kDeadlineExceeded,
                   "the machine did not become quiet within 60 seconds");
    }
  }
}

// Workers parked, as the daemon tells.
absl::StatusOr<std::size_t> Parked(Client& client) {
  BROOD_ASSIGN_OR_RETURN(const std::string text, client.Stats());
  return nlohmann::json::parse(text).at("parked").get<std::size_t>();
}

// Of the function's own, which wait for calls; none before the process of a forked one is ready.
absl::StatusOr<std::size_t> Primed(HttpCaller& caller, bool& process) {
  BROOD_ASSIGN_OR_RETURN(const HttpCaller::Answer answer, caller.Call(GetRequest("/functions")));
  const auto function = nlohmann::json::parse(answer.body).at(0);
  process = !function.contains("process") || function.at("process").at("ready").get<bool>();
  return function.at("primed").get<std::size_t>();
}

}  // namespace

absl::StatusOr<FunctionDaemon> FunctionDaemon::Start(const std::string& brood,
                                                     const std::filesystem::path& place,
                                                     const FunctionWanted& function) {
  std::filesystem::create_directories(place);
  const std::string config = place / "brood.toml";
  const std::string socket = place / "brood.sock";
  BROOD_RETURN_IF_ERROR(WriteConfig(config, function));
  BROOD_ASSIGN_OR_RETURN(const std::uint16_t port, FreePort());
  // Ends with this program, however that ends.
  BROOD_ASSIGN_OR_RETURN(
      Service service,
      Service::Start("/usr/bin/setpriv",
                     {"setpriv", "--pdeathsig", "TERM", "--", brood, "serve", "--config", config,
                      "--socket", socket, "--http", fmt::format("127.0.0.1:{}", port)},
                     socket));
  FunctionDaemon daemon(std::move(service), port);
  BROOD_ASSIGN_OR_RETURN(Client client, Client::Connect(socket));
  BROOD_ASSIGN_OR_RETURN(HttpCaller caller, HttpCaller::Connect(port));
  const auto deadline = steady_clock::now() + seconds(60);
  for (;;) {
    BROOD_ASSIGN_OR_RETURN(const std::size_t parked, Parked(client));
    bool process = false;
    BROOD_ASSIGN_OR_RETURN(const std::size_t primed, Primed(caller, process));
    const bool ready = function.mode == "cold"     ? true
                       : function.mode == "parked" ? parked >= function.ready
                                                   : process && primed >= function.ready;
    if (ready) break;
    if (steady_clock::now() > deadline) {
      return Error(absl::StatusCode::kDeadlineExceeded,
                   "{} workers of {} were ready within 60 seconds ({} parked, {} primed)",
                   function.ready, function.mode, parked, primed);
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  BROOD_RETURN_IF_ERROR(AwaitQuiet(deadline));
  return daemon;
}

}  // namespace brood::bench
