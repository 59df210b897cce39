// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/function_program.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_split.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/plan/root_view.h"

namespace brood {
namespace {

std::vector<std::string> Candidates(const Command& command) {
  const std::string& program = command.argv.front();
  if (program.starts_with('/')) return {program};
  if (program.find('/') != std::string::npos) return {fmt::format("{}/{}", command.cwd, program)};
  std::vector<std::string> out;
  for (const std::string_view entry : command.env) {
    if (!entry.starts_with("PATH=")) continue;
    const std::string_view path = entry.substr(entry.find('=') + 1);
    for (const auto& each : absl::StrSplit(absl::string_view(path.data(), path.size()), ':')) {
      out.push_back(fmt::format("{}/{}", std::string(each), program));
    }
  }
  return out;
}

}  // namespace

absl::Status CheckProgram(const Spec& spec, const Command& command) {
  if (!spec.is_new(NamespaceKind::kMount)) return absl::OkStatus();
  const char* const root = spec.root.directory.empty() ? "/" : spec.root.directory.c_str();
  UniqueFd directory(open(root, O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return absl::OkStatus();
  RootView view(std::move(directory));
  for (const Bind& bind : spec.binds) {
    const auto target = view.Resolve(bind.target);
    UniqueFd source(open(bind.source.c_str(), O_PATH | O_CLOEXEC));
    if (!target.ok() || !source.valid()) return absl::OkStatus();
    view.Lay(target->path, std::move(source));
  }
  for (const std::string& candidate : Candidates(command)) {
    const auto found = view.Resolve(candidate);
    const bool missing =
        found.ok() ? !found->exists || found->directory : absl::IsNotFound(found.status());
    if (!missing) return absl::OkStatus();
  }
  return Error(
      absl::StatusCode::kNotFound, "the program {} is not there{}", command.argv.front(),
      spec.root.directory.empty() ? std::string() : fmt::format(" below {}", spec.root.directory));
}

}  // namespace brood
