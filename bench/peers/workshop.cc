// SPDX-License-Identifier: Apache-2.0

#include "bench/peers/workshop.h"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "bench/peers/run_command.h"
#include "spawn/base/status.h"

namespace brood::bench {
namespace {

namespace fs = std::filesystem;

// Ids that nobody has on most machines, as brood gives its workers.
constexpr int kFirstId = 1879048192;
constexpr int kIds = 65536;

// {"ROOTFS", ...} and what each stands for below the scratch directory.
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kPlaces = {
    {{"ROOTFS", "/rootfs"}, {"BUNDLE", "/bundle"}, {"SCRATCH", ""}}};

void ReplaceAll(std::string& text, std::string_view from, std::string_view to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

nlohmann::ordered_json BundleConfig(const std::string& rootfs) {
  using Json = nlohmann::ordered_json;
  const Json none = Json::array();
  const Json ids = {{{"containerID", 0}, {"hostID", kFirstId}, {"size", kIds}}};
  Json namespaces = Json::array();
  for (const char* type : {"pid", "network", "ipc", "uts", "mount", "cgroup", "user"}) {
    namespaces.push_back({{"type", type}});
  }
  // A /dev of its own: without one, runc makes device nodes in the rootfs and leaves them there.
  const auto tmpfs = [](const char* where, const Json& options) {
    return Json{
        {"destination", where}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", options}};
  };
  return {{"ociVersion", "1.0.2"},
          {"process",
           {{"user", {{"uid", 0}, {"gid", 0}}},
            {"args", {kInside}},
            {"env", {"PATH=/bin"}},
            {"cwd", "/"},
            {"noNewPrivileges", true},
            {"capabilities",
             {{"bounding", none},
              {"effective", none},
              {"inheritable", none},
              {"permitted", none},
              {"ambient", none}}}}},
          {"root", {{"path", rootfs}, {"readonly", true}}},
          {"hostname", kPeerMark},
          {"mounts",
           {{{"destination", "/proc"}, {"type", "proc"}, {"source", "proc"}},
            tmpfs("/dev", {"nosuid", "mode=755", "size=64k"}),
            tmpfs("/tmp", {"nosuid", "nodev"})}},
          {"linux",
           {{"cgroupsPath", std::string("/") + kPeerMark},
            {"namespaces", namespaces},
            {"uidMappings", ids},
            {"gidMappings", ids},
            {"maskedPaths", {"/proc/kcore", "/proc/keys"}},
            {"readonlyPaths", {"/proc/sys"}}}}};
}

}  // namespace

std::string FindProgram(const std::string& name) {
  std::string path = "/usr/bin:/usr/sbin:/bin:/sbin";
  if (const char* const own = std::getenv("PATH"); own != nullptr) path += std::string(":") + own;
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find(':', start), path.size());
    std::string file = path.substr(start, end - start) + "/" + name;
    if (file[0] == '/' && access(file.c_str(), X_OK) == 0) return file;
    start = end + 1;
  }
  return {};
}

absl::StatusOr<Workshop> Workshop::Create(const std::string& payload, const std::string& brood,
                                          const fs::path& scratch) {
  Workshop workshop(payload, brood, scratch);
  BROOD_RETURN_IF_ERROR(workshop.MakeRootfs());
  BROOD_RETURN_IF_ERROR(workshop.MakeBundle());
  return workshop;
}

Workshop::~Workshop() {
  if (scratch_.empty()) return;
  for (const char* name : {"rootfs", "rootfs.tar", "bundle", "podman", "docker", "crun", "runc"}) {
    std::error_code ignored;
    fs::remove_all(scratch_ / name, ignored);
  }
}

absl::Status Workshop::MakeRootfs() const {
  const std::string busybox = FindProgram("busybox");
  if (busybox.empty()) {
    return Error(absl::StatusCode::kNotFound,
                 "there is no busybox for the peers' root; apt-get install busybox-static");
  }
  const fs::path rootfs = scratch_ / "rootfs";
  std::error_code error;
  // usr: systemd-nspawn takes no root for one without it.
  for (const char* name :
       {"bin", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr", "var"}) {
    fs::create_directories(rootfs / name, error);
    if (error) return ErrnoError(error.value(), "making {}", (rootfs / name).string());
    // Everybody's to read, whatever the umask: most peers map other ids.
    chmod((rootfs / name).c_str(), 0755);
  }
  chmod(rootfs.c_str(), 0755);
  chmod(scratch_.c_str(), 0755);
  for (const auto& [from, to] : {std::pair<std::string, fs::path>{busybox, "bin/busybox"},
                                 std::pair<std::string, fs::path>{payload_, kInside + 1}}) {
    fs::copy_file(from, rootfs / to, error);
    if (error) return ErrnoError(error.value(), "copying {} into {}", from, rootfs.string());
    chmod((rootfs / to).c_str(), 0755);
  }
  for (const char* name : {"cat", "id", "ls", "mount", "ps", "sh", "sleep"}) {
    fs::create_symlink("busybox", rootfs / "bin" / name, error);
  }
  // What docker and podman import.
  BROOD_ASSIGN_OR_RETURN(CommandRunner runner, CommandRunner::Create());
  return runner.Run(FindProgram("tar"), {"tar", "-C", rootfs, "-cf", scratch_ / "rootfs.tar", "."});
}

absl::Status Workshop::MakeBundle() const {
  std::error_code error;
  fs::create_directories(scratch_ / "bundle", error);
  std::ofstream file(scratch_ / "bundle/config.json");
  file << BundleConfig(scratch_ / "rootfs").dump(2) << '\n';
  file.close();
  if (!file) return ErrnoError(errno, "writing {}/bundle/config.json", scratch_.string());
  return absl::OkStatus();
}

absl::StatusOr<std::string> Workshop::Find(const Peer& peer, const std::string& word) const {
  if (word == "PAYLOAD") return payload_;
  if (word == "brood") return brood_;
  if (std::string path = FindProgram(word); !path.empty()) return path;
  return Error(absl::StatusCode::kNotFound, "{} is not installed{}", word,
               peer.package.empty() ? ", and Debian 12 has no package of it"
                                    : "; apt-get install " + peer.package);
}

std::string Workshop::Resolve(const std::string& word) const {
  std::string text = word;
  for (const auto& [name, place] : kPlaces) {
    ReplaceAll(text, name, scratch_.string() + std::string(place));
  }
  ReplaceAll(text, "PAYLOAD", payload_);
  return text;
}

Words Workshop::Resolve(const Words& words) const {
  Words resolved;
  resolved.reserve(words.size());
  for (const std::string& word : words) resolved.push_back(Resolve(word));
  return resolved;
}

std::string Workshop::Shorten(std::string text) const {
  for (const auto& [name, place] : kPlaces) {
    ReplaceAll(text, scratch_.string() + std::string(place), name);
  }
  ReplaceAll(text, payload_, "PAYLOAD");
  return text;
}

Territory Workshop::TerritoryOf(const Peer& peer) const {
  Territory territory;
  territory.directories = Resolve(peer.state);
  territory.directories.push_back(Resolve("ROOTFS"));
  territory.cgroups = peer.cgroups;
  return territory;
}

}  // namespace brood::bench
