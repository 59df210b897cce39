// SPDX-License-Identifier: Apache-2.0

#include "spawn/limits/limits.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "spawn/base/status.h"
#include "spawn/limits/readings.h"

namespace brood {
namespace internal {
namespace {

void Add(const LimitQuestion& question, std::vector<LimitReading>& limits) {
  const int error = question.error;
  if (error == EMFILE && question.call == LimitedCall::kInotifyInit) {
    LimitReading instances =
        Sysctl(question, "user.max_inotify_instances", "inotify instances of a user");
    instances.used = question.made;
    LimitReading files = Nofile(question);
    // As with namespaces: the caller knows the count, and nothing in here is full.
    if (question.made && !instances.Full() && files.used && !files.Full()) {
      instances.refused = true;
      instances.where = "a user namespace outside this one";
    }
    limits.push_back(std::move(instances));
    limits.push_back(std::move(files));
    return;
  }
  if (error == EMFILE || error == ENFILE) return AddFiles(question, limits);
  if (error == ENOMEM) {
    if (question.call == LimitedCall::kMap) {
      AddRlimit(question, RLIMIT_AS, "RLIMIT_AS", "bytes of address space of a process",
                {"VmSize:"}, limits);
      AddMappings(question, limits);
    }
    if (question.call == LimitedCall::kRing) {
      AddRlimit(question, RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK", "bytes of pinned memory of a user",
                {"VmPin:", "VmLck:"}, limits);
    }
    return AddMemory(question, limits);
  }
  switch (question.call) {
    case LimitedCall::kClone:
      if (error == EAGAIN) return AddProcesses(question, limits);
      [[fallthrough]];
    case LimitedCall::kUnshare:
      // EUSERS is what kernels before 4.9 said, and what newer ones say of nesting in places.
      if (error == ENOSPC || error == EUSERS) AddNamespaces(question, limits);
      return;
    case LimitedCall::kMount:
      if (error == ENOSPC) AddMounts(question, limits);
      return;
    case LimitedCall::kMakeCgroup:
      if (error == EAGAIN) AddCgroups(question, limits);
      return;
    case LimitedCall::kInotifyWatch:
      if (error == ENOSPC) {
        LimitReading watches =
            Sysctl(question, "user.max_inotify_watches", "inotify watches of a user");
        watches.used = question.made;
        limits.push_back(std::move(watches));
      }
      return;
    case LimitedCall::kAddKey:
      if (error == EDQUOT) AddKeys(question, limits);
      return;
    case LimitedCall::kRing:
      if (error == EPERM) AddRing(question, limits);
      return;
    case LimitedCall::kSeccomp:
      if (error == kEnotsupp) AddJit(question, limits);
      return;
    case LimitedCall::kOpen:
    case LimitedCall::kInotifyInit:
    case LimitedCall::kMap:
      return;
  }
}

int Likelihood(const LimitReading& limit) {
  if (limit.Full()) return 0;
  return limit.maximum && !limit.used ? 1 : 2;
}

}  // namespace
}  // namespace internal

std::vector<LimitReading> LimitsBehind(const LimitQuestion& question) {
  std::vector<LimitReading> limits;
  internal::Add(question, limits);
  std::stable_sort(limits.begin(), limits.end(), [](const auto& left, const auto& right) {
    return internal::Likelihood(left) < internal::Likelihood(right);
  });
  return limits;
}

std::string LimitSentence(const std::vector<LimitReading>& limits) {
  if (limits.empty()) return {};
  const LimitReading& first = limits.front();
  const bool sure = first.Full() || limits.size() == 1;
  if (!sure) {
    std::string text = "one of these is used up: ";
    for (const LimitReading& limit : limits) {
      if (&limit != &first) text += "; ";
      text += limit.name;
      if (limit.maximum) text += fmt::format(" ({})", *limit.maximum);
    }
    return text;
  }
  std::string text = first.name + " is used up";
  if (first.maximum && first.used) {
    text += fmt::format(" ({} of {}, {})", *first.used, *first.maximum, first.where);
  } else if (first.maximum && first.refused && first.name.starts_with("user.max_")) {
    text += fmt::format(" (maximum {} here, and perhaps less in a user namespace outside)",
                        *first.maximum);
  } else if (first.maximum) {
    text += fmt::format(" (maximum {})", *first.maximum);
  }
  if (!first.raise.empty()) text += ": " + first.raise;
  return text;
}

std::string FullLimit(const LimitQuestion& question) {
  const std::vector<LimitReading> limits = LimitsBehind(question);
  return !limits.empty() && limits.front().Full() ? LimitSentence(limits) : std::string();
}

}  // namespace brood
