// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/subordinate_ids.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "spawn/base/numbers.h"
#include "spawn/base/split.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/base/unique_fd.h"
#include "spawn/host/id_ranges.h"

namespace brood {
namespace {

constexpr std::string_view kNoRange =
    "{} has no range of {} ids for {} (usermod --add-subuids 100000-165535 --add-subgids "
    "100000-165535 {})";

// A program that is there, and gains the rights it needs when this process runs it.
std::string FindHelper(const std::string& name, std::string& why_not) {
  for (const char* directory : {"/usr/bin/", "/bin/", "/usr/local/bin/", "/run/wrappers/bin/"}) {
    std::string path = directory + name;
    struct stat status = {};
    if (stat(path.c_str(), &status) != 0) continue;
    char capability = 0;
    const bool has_rights = (status.st_mode & S_ISUID) != 0 ||
                            getxattr(path.c_str(), "security.capability", &capability, 0) > 0;
    struct statvfs filesystem = {};
    const bool nosuid =
        statvfs(path.c_str(), &filesystem) == 0 && (filesystem.f_flag & ST_NOSUID) != 0;
    if (!has_rights || nosuid) {
      why_not = fmt::format("{} has no rights of its own: {}", path,
                            nosuid ? "it lies on a mount with nosuid" : "chmod u+s " + path);
      return {};
    }
    return path;
  }
  why_not = name + " is not there (apt install uidmap)";
  return {};
}

SubordinateIds Look() {
  SubordinateIds ids;
  const uid_t uid = geteuid();
  const gid_t gid = getegid();
  ids.user = std::to_string(uid);
  std::optional<std::uint64_t> primary_group;
  const std::string users = TextOf("/etc/passwd");
  for (const std::string_view line : Split(users, '\n')) {
    const std::vector<std::string_view> fields = SplitAll(line, ':');
    if (fields.size() < 4 || ParseNumber(fields[2]) != uid) continue;
    ids.user = fields[0];
    primary_group = ParseNumber(fields[3]);
    break;
  }
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) {
    ids.why_not = "no_new_privs is set for this process, so newuidmap cannot gain its rights";
    return ids;
  }
  ids.newuidmap = FindHelper("newuidmap", ids.why_not);
  if (!ids.newuidmap.empty()) ids.newgidmap = FindHelper("newgidmap", ids.why_not);
  if (ids.newuidmap.empty() || ids.newgidmap.empty()) return ids;
  // The programs map nothing for who has another group for its own, or two sets of ids.
  if ((primary_group && *primary_group != gid) || uid != getuid() || gid != getgid()) {
    ids.why_not =
        fmt::format("newuidmap serves {} only in its own group, not in {}", ids.user, gid);
    return ids;
  }
  for (const char* file : {"/etc/subuid", "/etc/subgid"}) {
    const std::optional<std::uint32_t> first = FindSubordinateRange(TextOf(file), ids.user, uid);
    if (!first) {
      ids.why_not = fmt::format(fmt::runtime(kNoRange), file, kIdsPerRange, ids.user, ids.user);
      return ids;
    }
    (file[8] == 'u' ? ids.first_uid : ids.first_gid) = *first;
  }
  ids.usable = true;
  return ids;
}

// What `program` says when it refuses.
absl::Status Run(const std::string& program, pid_t pid, const std::vector<IdExtent>& map) {
  const UniqueFd said(memfd_create("newidmap", MFD_CLOEXEC));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
  posix_spawn_file_actions_adddup2(&actions, 0, 1);
  posix_spawn_file_actions_adddup2(&actions, said.valid() ? said.get() : 0, 2);
  std::vector<std::string> words = {program, std::to_string(pid)};
  for (const IdExtent& extent : map) {
    for (const std::uint32_t number : {extent.inside, extent.outside, extent.count}) {
      words.push_back(std::to_string(number));
    }
  }
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  char* const no_environment[] = {nullptr};
  pid_t helper = -1;
  const int error =
      posix_spawn(&helper, program.c_str(), &actions, nullptr, argv.data(), no_environment);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return ErrnoError(error, "running {}", program);
  int status = 0;
  // The program around us may wait for all its children, or for none: then the map itself tells.
  if (TEMP_FAILURE_RETRY(waitpid(helper, &status, 0)) < 0) status = 0;
  if (status == 0) return absl::OkStatus();
  char text[512];
  const ssize_t length = said.valid() ? pread(said.get(), text, sizeof(text), 0) : 0;
  std::string_view sentence(text, static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
  sentence = sentence.substr(0, sentence.find('\n'));
  return Error(absl::StatusCode::kPermissionDenied, "mapping ids into a user namespace: {}",
               sentence.empty() ? fmt::format("{} failed (status {})", program, status)
                                : std::string(sentence));
}

}  // namespace

std::optional<std::uint32_t> FindSubordinateRange(std::string_view text, std::string_view name,
                                                  std::uint32_t number) {
  for (const std::string_view line : Split(text, '\n')) {
    const std::vector<std::string_view> fields = SplitAll(line, ':');
    if (fields.size() < 3 || (fields[0] != name && ParseNumber(fields[0]) != number)) continue;
    const std::optional<std::uint64_t> first = ParseNumber(fields[1]);
    const std::optional<std::uint64_t> count = ParseNumber(fields[2]);
    constexpr std::uint64_t kEnd = 0xffffffff;
    if (!first || !count || *count < kIdsPerRange || *first > kEnd - kIdsPerRange) continue;
    return static_cast<std::uint32_t>(*first);
  }
  return std::nullopt;
}

std::vector<IdExtent> SubordinateMap(std::uint32_t first, std::uint32_t own) {
  const std::uint32_t below = std::min(own, kIdsPerRange);
  std::vector<IdExtent> map = {{0, first, below}, {own, own, 1}};
  if (below < kIdsPerRange) map.push_back({own + 1, first + own + 1, kIdsPerRange - own - 1});
  std::erase_if(map, [](const IdExtent& extent) { return extent.count == 0; });
  return map;
}

std::string NestedMap(const std::vector<IdExtent>& outer) {
  std::string text;
  for (const IdExtent& extent : outer) {
    text += fmt::format("{0} {0} {1}\n", extent.inside, extent.count);
  }
  return text;
}

const SubordinateIds& OurSubordinateIds() {
  static const SubordinateIds ids = Look();
  return ids;
}

absl::Status MapSubordinateIds(pid_t pid) {
  const SubordinateIds& ids = OurSubordinateIds();
  BROOD_RETURN_IF_ERROR(Run(ids.newgidmap, pid, SubordinateMap(ids.first_gid, getegid())));
  BROOD_RETURN_IF_ERROR(Run(ids.newuidmap, pid, SubordinateMap(ids.first_uid, geteuid())));
  if (!TextOf(fmt::format("/proc/{}/uid_map", pid)).empty()) return absl::OkStatus();
  return Error(absl::StatusCode::kPermissionDenied,
               "mapping ids into a user namespace: {} did not say why it wrote no map",
               ids.newuidmap);
}

}  // namespace brood
