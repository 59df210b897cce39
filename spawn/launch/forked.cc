// SPDX-License-Identifier: Apache-2.0

#include "spawn/launch/forked.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/sealed_memory.h"
#include "spawn/base/status.h"
#include "spawn/ready/wire.h"

extern "C" const char brood_ready_image[];
extern "C" const char brood_ready_image_end[];

namespace brood {
namespace {}  // namespace

absl::StatusOr<ForkedSpecs> SplitForked(const Spec& spec) {
  for (const NamespaceKind kind :
       {NamespaceKind::kUser, NamespaceKind::kPid, NamespaceKind::kMount, NamespaceKind::kIpc}) {
    if (!spec.is_new(kind)) {
      return InvalidError("a forked function needs a {} namespace of its own", NamespaceName(kind));
    }
  }
  if (spec.root.mode == RootMode::kOverlay || spec.root.mode == RootMode::kReadWrite) {
    return InvalidError(
        "a forked function's root must be read-only, since its calls have it in common: "
        "they write to /tmp or a tmpfs");
  }
  if (spec.init) {
    return InvalidError(
        "a forked function's calls are clones of it, which no init can start: "
        "leave init out");
  }
  ForkedSpecs out{spec, spec};
  out.process.nesting = true;
  // What a filter of the user's own lets through is for the calls to be held to; it may well not
  // let the process make them.
  if (spec.seccomp.mode == SeccompMode::kFile) out.process.seccomp = {SeccompMode::kOff, ""};
  out.process.capabilities.clear();
  // Nobody is born into a cgroup that the cloning process does not see in its cgroup namespace
  // where cgroup2 is mounted with nsdelegate. Each call makes one, in its own cgroup.
  if (spec.is_new(NamespaceKind::kCgroup)) {
    out.process.ns(NamespaceKind::kCgroup) = {NamespaceMode::kHost, ""};
  }
  // Its clones inherit the time namespace, and what has been joined.
  out.call.ns(NamespaceKind::kTime) = {NamespaceMode::kHost, ""};
  out.call.time_offsets = {};
  return out;
}

absl::StatusOr<UniqueFd> ReadyLibrary() {
  return SealedMemory("libbrood_ready.so", {brood_ready_image, brood_ready_image_end}, true);
}

Command ForkedCommand(Command command, int socket, int library, int output) {
  command.stdio.mode = StdioMode::kFds;
  command.stdio.fds[ready::kOutputFd] = output;
  command.stdio.fds[ready::kLibraryFd] = library;
  command.stdio.fds[ready::kSocketFd] = socket;
  std::string preload = fmt::format("LD_PRELOAD=/proc/self/fd/{}", ready::kLibraryFd);
  constexpr std::string_view kPreload = "LD_PRELOAD=";
  std::erase_if(command.env, [&](const std::string& entry) {
    if (!entry.starts_with(kPreload)) return false;
    preload += ":" + entry.substr(kPreload.size());
    return true;
  });
  command.env.push_back(std::move(preload));
  command.env.push_back(fmt::format("{}=1", ready::kMark));
  return command;
}

}  // namespace brood
