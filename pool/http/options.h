// SPDX-License-Identifier: Apache-2.0

// The settings of the HTTP door before functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace brood {

// Plain values; see [http] in brood.toml(5).
struct HttpOptions {
  // Where it listens: a numeric address, IPv6 without brackets, empty for all of both families; or
  // else the path of a Unix socket, or what the manager that started us listens on already.
  std::string address = "127.0.0.1";
  std::uint16_t port = 8080;  // 0: the kernel's choice
  std::string path;
  bool inherited = false;
  bool share = false;  // another daemon may listen on the same port, to take over (SO_REUSEPORT)
  std::string agent;   // where a load balancer asks how much is taken, ADDRESS:PORT; empty: nowhere
  std::string tokens;  // the file of who may call; empty: everyone who reaches it
  bool open = false;   // also where others than this machine's reach it
  std::uint32_t max_connections = 4096;
  std::chrono::nanoseconds header_timeout = std::chrono::seconds(10);  // for the whole head
  std::chrono::nanoseconds body_timeout = std::chrono::seconds(20);    // without a byte either way
  std::chrono::nanoseconds idle_timeout = std::chrono::seconds(60);    // between two requests
  std::string calls;  // the file of calls that are not waited for; empty: there are none
  std::chrono::nanoseconds keep = std::chrono::hours(1);  // such calls, once they have ended
  std::uint32_t max_calls = 10'000;                       // that wait or run

  bool operator==(const HttpOptions&) const = default;
};

}  // namespace brood
