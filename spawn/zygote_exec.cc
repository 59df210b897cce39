// From the launcher's memory to a zygote of its own: places descriptors and execs. Child code.
#include <linux/close_range.h>
#include <linux/fcntl.h>

#include "spawn/zygote_wire.h"

namespace brood {

void ZygoteExecMain(void* argument) {
  ZygoteExec& exec = *static_cast<ZygoteExec*>(argument);
  const auto must = [&](sys::Result result, Step step) {
    if (result >= 0) return static_cast<int>(result);
    exec.failure = {step, 0, static_cast<std::int32_t>(-result)};
    sys::ExitGroup(125);
  };
  must(sys::Setsid(), Step::kNewSession);
  // Out of the way first: a source may have the number another one shall get.
  int moved[kMaxTrees + kMaxPlanFds + 64];
  constexpr int kClear = 512;
  for (int i = 0; i < exec.count; ++i) {
    moved[i] = must(sys::Fcntl(exec.sources[i], F_DUPFD_CLOEXEC, kClear), Step::kStdio);
  }
  const int image = must(sys::Fcntl(exec.image, F_DUPFD_CLOEXEC, kClear), Step::kStdio);
  for (int i = 0; i < exec.count; ++i) must(sys::Dup3(moved[i], i, 0), Step::kStdio);
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
