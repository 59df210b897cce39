// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/launch.h"

#include <cstring>
#include <string_view>

namespace brood {

std::vector<std::string> ExecCandidates(const Command& command) {
  const std::string& name = command.argv.front();
  if (name.find('/') != std::string::npos) return {name};
  std::string_view path = "/usr/local/bin:/usr/bin:/bin";
  for (const std::string& entry : command.env) {
    if (entry.starts_with("PATH=")) path = std::string_view(entry).substr(5);
  }
  std::vector<std::string> candidates;
  std::size_t start = 0;
  while (start <= path.size()) {
    std::size_t end = path.find(':', start);
    if (end == std::string_view::npos) end = path.size();
    // An empty entry would mean the working directory; a worker's is not trusted to hold programs.
    if (end > start) {
      candidates.push_back(std::string(path.substr(start, end - start)) + "/" + name);
    }
    start = end + 1;
  }
  return candidates;
}

namespace {

std::size_t ArrayBytes(const std::vector<std::string>& strings) {
  std::size_t bytes = (strings.size() + 1) * sizeof(std::uint64_t);
  for (const std::string& string : strings) bytes += string.size() + 1;
  return bytes;
}

}  // namespace

LaunchLayout::LaunchLayout(const Command& command)
    : command_(command), candidates_(ExecCandidates(command)) {
  bytes_ = ArrayBytes(command.argv) + ArrayBytes(command.env) + ArrayBytes(candidates_) +
           command.cwd.size() + 1;
}

void LaunchLayout::Write(char* to, std::uint64_t base, LaunchRecord& record) const {
  // All pointer arrays first, so that they stay aligned; then the strings they point to.
  auto* pointer = reinterpret_cast<std::uint64_t*>(to);
  const std::size_t pointers = command_.argv.size() + command_.env.size() + candidates_.size() + 3;
  std::size_t text = pointers * sizeof(std::uint64_t);
  const auto address = [&](const void* place) {
    return base + static_cast<std::uint64_t>(static_cast<const char*>(place) - to);
  };
  const auto put = [&](const std::string& string) {
    std::memcpy(to + text, string.c_str(), string.size() + 1);
    const std::uint64_t at = base + text;
    text += string.size() + 1;
    return at;
  };
  const auto array = [&](const std::vector<std::string>& strings) {
    const std::uint64_t at = address(pointer);
    for (const std::string& string : strings) *pointer++ = put(string);
    *pointer++ = 0;
    return at;
  };
  record.envp = array(command_.env);
  record.candidates = array(candidates_);
  record.argv = array(command_.argv);
  record.cwd = put(command_.cwd);
  record.terminal = command_.stdio.mode == StdioMode::kTerminal ? 1 : 0;
  const bool endpoint = command_.stdio.mode == StdioMode::kEndpoint;
  record.port = endpoint ? command_.stdio.port : 0;
  record.sockets = endpoint ? static_cast<std::uint8_t>(command_.stdio.sockets) : std::uint8_t{0};
  record.rows = command_.stdio.rows;
  record.columns = command_.stdio.columns;
}

}  // namespace brood
