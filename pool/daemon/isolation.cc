// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/isolation.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "spawn/base/numbers.h"
#include "spawn/base/text_file.h"
#include "spawn/host/process_stat.h"
#include "spawn/spec.h"

namespace brood {
namespace {

using Json = nlohmann::ordered_json;

// "mnt:[4026531841]" -> 4026531841; 0 when it cannot be read.
std::uint64_t NamespaceInode(std::int32_t pid, NamespaceKind kind) {
  std::array<char, 64> target{};
  const std::string path = NamespacePath(pid, kind);
  const ssize_t length = readlink(path.c_str(), target.data(), target.size() - 1);
  if (length <= 0) return 0;
  const std::string_view text(target.data(), static_cast<std::size_t>(length));
  std::uint64_t inode = 0;
  if (const std::size_t open = text.find('['); open != std::string_view::npos) {
    std::from_chars(text.data() + open + 1, text.data() + text.size(), inode);
  }
  return inode;
}

// The id inside that a host id has by a process's uid_map; none where it is not mapped.
std::optional<std::uint32_t> IdInside(std::int32_t pid, std::uint32_t host_id) {
  std::ifstream map(fmt::format("/proc/{}/uid_map", pid));
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  while (map >> inside >> outside >> count) {
    if (host_id >= outside && host_id - outside < count) {
      return static_cast<std::uint32_t>(inside + (host_id - outside));
    }
  }
  return std::nullopt;
}

std::string CommandLine(std::int32_t pid, const std::string& name) {
  // No more than a line's worth: the process decides how long it is.
  std::string words(1024, '\0');
  std::ifstream file(fmt::format("/proc/{}/cmdline", pid));
  file.read(words.data(), static_cast<std::streamsize>(words.size()));
  words.resize(static_cast<std::size_t>(file.gcount()));
  while (!words.empty() && words.back() == '\0') words.pop_back();
  std::replace(words.begin(), words.end(), '\0', ' ');
  return words.empty() ? "[" + name + "]" : words;
}

// Numbers of all processes by their parent's.
std::map<std::int32_t, std::vector<std::int32_t>> Children() {
  std::map<std::int32_t, std::vector<std::int32_t>> children;
  for (const int pid : NumbersIn("/proc")) {
    if (const std::optional<ProcessStat> stat = StatOf(pid)) children[stat->parent].push_back(pid);
  }
  for (auto& [parent, pids] : children) std::sort(pids.begin(), pids.end());
  return children;
}

class TreeMaker {
 public:
  TreeMaker(const std::vector<RunningIsolate>& running, const std::vector<RunningIsolate>& execs,
            const std::vector<int>& zygotes, const std::vector<int>& slots, bool all)
      : all_(all), children_(Children()) {
    for (const int pid : zygotes) known_[pid] = {"zygote", nullptr};
    for (const int pid : slots) known_[pid] = {"slot", nullptr};
    for (const RunningIsolate& isolate : running) known_[isolate.host_pid] = {"isolate", &isolate};
    for (const RunningIsolate& exec : execs) known_[exec.host_pid] = {"exec", &exec};
  }

  Json Daemon() {
    const std::int32_t self = getpid();
    Json json = IsolationOf(self);
    json["role"] = "daemon";
    std::uint32_t parked = 0;
    std::uint32_t slots = 0;
    auto below = Json::array();
    for (const std::int32_t pid : children_[self]) {
      const auto known = known_.find(pid);
      const std::string role = known == known_.end() ? "parked" : known->second.role;
      if (role == "parked") ++parked;
      if (role == "slot") ++slots;
      if (!all_ && (role == "parked" || role == "slot")) continue;
      Json child = Process(pid);
      if (child.is_null()) continue;
      child["role"] = role;
      if (known != known_.end() && known->second.isolate != nullptr) {
        child["id"] = known->second.isolate->id;
        child["name"] = known->second.isolate->name;
      }
      below.push_back(std::move(child));
    }
    json["parked"] = parked;
    json["slots"] = slots;
    json["children"] = std::move(below);
    return json;
  }

 private:
  Json Process(std::int32_t pid) {
    Json json = IsolationOf(pid);
    if (json.is_null()) return json;
    json["role"] = "process";
    auto below = Json::array();
    for (const std::int32_t child : children_[pid]) {
      if (Json one = Process(child); !one.is_null()) below.push_back(std::move(one));
    }
    json["children"] = std::move(below);
    return json;
  }

  struct Known {
    const char* role;
    const RunningIsolate* isolate;
  };
  std::map<std::int32_t, Known> known_;  // by pid
  bool all_;
  std::map<std::int32_t, std::vector<std::int32_t>> children_;
};

}  // namespace

Json IsolationOf(std::int32_t pid) {
  std::istringstream status(TextOf(fmt::format("/proc/{}/status", pid)));
  std::string line;
  Json json = {{"pid", pid}};
  std::string name;
  std::uint32_t uid = 0;
  while (std::getline(status, line)) {
    std::istringstream fields(line);
    std::string key;
    fields >> key;
    if (key == "Name:") {
      fields >> name;
    } else if (key == "PPid:") {
      std::int32_t parent = 0;
      fields >> parent;
      json["ppid"] = parent;
    } else if (key == "Uid:") {
      fields >> uid;
    } else if (key == "NSpid:") {
      // One number for each pid namespace, the innermost last.
      std::int32_t inside = 0;
      while (fields >> inside) json["inside_pid"] = inside;
    }
  }
  if (name.empty()) return nullptr;
  json["uid"] = uid;
  if (const auto inside = IdInside(pid, uid)) json["inside_uid"] = *inside;
  json["command"] = CommandLine(pid, name);
  const std::string cgroup = TextOf(fmt::format("/proc/{}/cgroup", pid));
  if (const std::size_t v2 = cgroup.rfind("0::"); v2 != std::string::npos) {
    json["cgroup"] = cgroup.substr(v2 + 3, cgroup.find('\n', v2) - v2 - 3);
  }
  auto inodes = Json::object();
  auto own = Json::array();
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    const std::uint64_t inode = NamespaceInode(pid, kind);
    if (inode == 0) continue;
    inodes[std::string(NamespaceName(kind))] = inode;
    if (inode != NamespaceInode(getpid(), kind)) own.push_back(NamespaceName(kind));
  }
  json["namespaces"] = std::move(inodes);
  json["own"] = std::move(own);
  return json;
}

Json IsolateTree(const std::vector<RunningIsolate>& running,
                 const std::vector<RunningIsolate>& execs, const std::vector<int>& zygotes,
                 const std::vector<int>& slots, bool all) {
  return TreeMaker(running, execs, zygotes, slots, all).Daemon();
}

Json StatsJson(const PoolStats& stats, const std::vector<RunningIsolate>& running) {
  const auto served = [&](SpawnPath path) { return stats.served[static_cast<std::size_t>(path)]; };
  std::vector<double> park = stats.park_us;
  std::sort(park.begin(), park.end());
  Json json = {
      {"parked", stats.parked},
      {"being_made", stats.being_made},
      {"running", stats.running},
      {"queued", stats.queued},
      {"served",
       served(SpawnPath::kParked) + served(SpawnPath::kZygote) + served(SpawnPath::kCold)},
      {"hits", served(SpawnPath::kParked)},
      {"misses",
       {{"none_parked", served(SpawnPath::kZygote)},
        {"own_limits_or_exec", served(SpawnPath::kCold)}}},
      {"parked_total", stats.parked_total},
      {"lost_workers", stats.lost_workers},
      {"zygotes_replaced", stats.zygotes_replaced},
  };
  json["slots"] = ToJson(stats.slots);
  json["fallbacks"] = ToJson(stats.fallbacks);
  json["park_us"] = park.empty() ? Json(nullptr) : Json(park[park.size() / 2]);
  auto isolates = Json::array();
  for (const RunningIsolate& isolate : running) {
    Json one = {{"id", isolate.id}, {"name", isolate.name}, {"host_pid", isolate.host_pid}};
    const auto add = [&](const char* key, std::optional<std::uint64_t> number) {
      if (number) one[key] = *number;  // absent, not zero, where the kernel does not say
    };
    if (!isolate.cgroup.empty()) {
      add("cpu_us", NumberBehind(TextOf(isolate.cgroup + "/cpu.stat"), "usage_usec"));
      add("memory_bytes", FirstNumberOf(isolate.cgroup + "/memory.current"));
      add("pids", FirstNumberOf(isolate.cgroup + "/pids.current"));
    }
    isolates.push_back(std::move(one));
  }
  json["isolates"] = std::move(isolates);
  return json;
}

}  // namespace brood
