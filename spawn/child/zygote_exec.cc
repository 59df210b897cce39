// SPDX-License-Identifier: Apache-2.0

// From the launcher's memory to a zygote of its own: places descriptors and execs. Child code.
#include <linux/close_range.h>
#include <linux/fcntl.h>
#include <linux/prctl.h>

#include "spawn/child/zygote_wire.h"

namespace brood {

void ZygoteExecMain(void* argument) {
  ZygoteExec& exec = *static_cast<ZygoteExec*>(argument);
  const auto must = [&](sys::Result result, Step step) {
    if (result >= 0) return static_cast<int>(result);
    exec.failure = {step, 0, static_cast<std::int32_t>(-result)};
    sys::ExitGroup(125);
  };
  // A launcher that dies before it has written the maps wakes nobody.
  must(DieWithLauncher(exec.sources[ZygoteFd::kLauncher]), Step::kParentDeath);
  constexpr auto kAwaited = static_cast<std::uint32_t>(ZygoteMaps::kAwaited);
  std::uint32_t maps = 0;
  while ((maps = __atomic_load_n(&exec.maps, __ATOMIC_ACQUIRE)) == kAwaited) {
    sys::FutexWait(&exec.maps, kAwaited);
  }
  if (maps != static_cast<std::uint32_t>(ZygoteMaps::kWritten)) sys::ExitGroup(125);
  must(sys::Prctl(PR_SET_PDEATHSIG, 0), Step::kParentDeath);
  // It stays its user, since ids that it took on would make the launcher's memory, which it shares,
  // undumpable.
  if (exec.capabilities != 0) must(KeepCapabilities(exec.capabilities), Step::kCapabilities);
  must(sys::Setsid(), Step::kNewSession);
  // Out of the way first: a source may have the number another one shall get.
  for (int i = 0; i < exec.count; ++i) {
    exec.sources[i] = must(sys::Fcntl(exec.sources[i], F_DUPFD_CLOEXEC, exec.count), Step::kStdio);
  }
  const int image = must(sys::Fcntl(exec.image, F_DUPFD_CLOEXEC, exec.count), Step::kStdio);
  for (int i = 0; i < exec.count; ++i) must(sys::Dup3(exec.sources[i], i, 0), Step::kStdio);
  // Everything above closes at exec; the image only then, since it is what gets executed.
  must(sys::CloseRange(static_cast<unsigned>(exec.count), ~0U, CLOSE_RANGE_CLOEXEC),
       Step::kCloseFds);
  // Once for all workers to come.
  for (int signal = 1; signal <= 64; ++signal) sys::ResetSignal(signal);
  sys::SetSignalMask(0);
  const char* const argv[] = {"brood-zygote", nullptr};
  const char* const envp[] = {nullptr};
  must(sys::Execveat(image, "", argv, envp, AT_EMPTY_PATH), Step::kExec);
  sys::ExitGroup(125);
}

}  // namespace brood
