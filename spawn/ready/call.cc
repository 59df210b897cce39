// SPDX-License-Identifier: Apache-2.0

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

#include "spawn/child/child.h"
#include "spawn/child/syscalls.h"
#include "spawn/ready/ready.h"

namespace brood::ready {
namespace {

[[noreturn]] void Fail(std::uint64_t call, const Failure& failure) {
  Message message;
  message.kind = Kind::kFailed;
  message.call = call;
  message.failure = failure;
  Send(message);
  sys::ExitGroup(kRefusedStatus);
}

// Where the C library keeps the thread's number: it registers the place for the kernel to clear.
// fork has the kernel write a child's number there, and so does this (PR_GET_TID_ADDRESS, 3.5).
std::uint64_t ThreadNumberPlace() {
  int* place = nullptr;
  if (prctl(PR_GET_TID_ADDRESS, &place) != 0 || place == nullptr || *place != gettid()) return 0;
  return reinterpret_cast<std::uint64_t>(place);
}

// An open file's offset is one for all who have inherited it.
void Reopen(std::uint64_t call, const ReopenedFiles::File& file) {
  char path[32] = "/proc/self/fd/";
  char* end = path + 14;
  char digits[12];
  int count = 0;
  for (int rest = file.fd; count == 0 || rest > 0; rest /= 10) {
    digits[count++] = static_cast<char>('0' + rest % 10);
  }
  while (count > 0) *end++ = digits[--count];
  *end = '\0';
  const auto must = [&](sys::Result result) {
    if (result < 0) Fail(call, {Step::kReopen, 0, static_cast<std::int32_t>(-result)});
    return static_cast<int>(result);
  };
  const off_t at = lseek(file.fd, 0, SEEK_CUR);
  const int fresh = must(sys::OpenAt(AT_FDCWD, path, file.flags | O_CLOEXEC));
  if (at > 0 && lseek(fresh, at, SEEK_SET) != at) must(-errno);
  must(sys::Dup3(fresh, file.fd, file.close_on_exec ? O_CLOEXEC : 0));
  sys::Close(fresh);
}

void BecomeCall(const Plan& plan, const Order& order, const ReopenedFiles& files) {
  ChildContext context;
  context.plan = &plan;
  // The working directory may have another mount over it then, and be another by the same name; one
  // that has no name any more stays what it is.
  char cwd[PATH_MAX];
  const bool named = sys::Call(__NR_getcwd, sys::Arg(cwd), sizeof(cwd)) > 0 && cwd[0] == '/';
  const int unnamed = static_cast<int>(sys::OpenAt(AT_FDCWD, ".", O_PATH | O_CLOEXEC));
  context.root_fd = static_cast<int>(sys::OpenAt(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  int trees[kMaxTrees];
  context.trees = trees;
  Failure failure;
  const auto run = [&](std::uint32_t first, std::uint32_t end) {
    if (!RunOps(plan.worker, first, end, context, nullptr, failure)) Fail(order.call, failure);
  };
  // The filter comes last, for it may not let through what is still to be done.
  const std::uint32_t count = plan.worker.count;
  const bool filter = count > 0 && plan.ops(plan.worker)[count - 1].code == OpCode::kSeccomp;
  run(0, filter ? count - 1 : count);
  sys::Close(context.root_fd);
  const sys::Result back = named ? sys::Chdir(cwd) : sys::Fchdir(unnamed);
  sys::Close(unnamed);
  if (back < 0) Fail(order.call, {Step::kWorkingDirectory, 0, static_cast<std::int32_t>(-back)});
  for (std::size_t i = 0; i < files.count; ++i) Reopen(order.call, files.files[i]);
  for (int i = 0; i < 3; ++i) {
    const sys::Result placed = sys::Dup3(order.stdio[i], i, 0);
    if (placed < 0) Fail(order.call, {Step::kStdio, 0, static_cast<std::int32_t>(-placed)});
    sys::Close(order.stdio[i]);
  }
  if (order.cgroup >= 0) sys::Close(order.cgroup);
  if (filter) run(count - 1, count);
  Message message;
  message.kind = Kind::kRunning;
  message.call = order.call;
  message.at_ns = sys::MonotonicNs();
  Send(message);
  sys::Close(control);
  control = -1;
  munmap(const_cast<Plan*>(&plan), plan.bytes);
}

}  // namespace

bool CloneForCall(const Plan& plan, const Order& order, const ReopenedFiles& files) {
  kernel::CloneArgs args;
  int pidfd = -1;
  args.flags = plan.clone_flags | kernel::kCloneParent | kernel::kClonePidfd;
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.child_tid = ThreadNumberPlace();
  if (args.child_tid != 0) args.flags |= kernel::kCloneChildSettid | kernel::kCloneChildCleartid;
  if (order.cgroup >= 0) {
    args.flags |= kernel::kCloneIntoCgroup;
    args.cgroup = static_cast<std::uint64_t>(order.cgroup);
  }
  // The list of robust futexes is a thread's own, and a clone has none.
  void* robust = nullptr;
  std::size_t robust_bytes = 0;
  syscall(SYS_get_robust_list, 0, &robust, &robust_bytes);

  Message message;
  message.kind = Kind::kForked;
  message.call = order.call;
  message.at_ns = sys::MonotonicNs();
  // Without a stack of its own the clone goes on here, on its copy of this one.
  const sys::Result pid =
      Injected(plan, Step::kCloneWorker, 0)
          ? -plan.fail_error
          : sys::Call(__NR_clone3, sys::Arg(&args), static_cast<long>(sizeof(args)));
  if (pid == 0) {
    syscall(SYS_set_robust_list, robust, robust_bytes);
    BecomeCall(plan, order, files);
    return true;
  }
  if (pid < 0) {
    message.kind = Kind::kFailed;
    message.failure = {Step::kCloneWorker, 0, static_cast<std::int32_t>(-pid)};
    Send(message);
    return false;
  }
  message.pid = static_cast<std::int32_t>(pid);
  Send(message, pidfd);
  close(pidfd);
  return false;
}

}  // namespace brood::ready
