#include "spawn/usher.h"

#include <linux/errno.h>
#include <linux/sched.h>

namespace brood {
namespace {

void UsherMain(void* argument) {
  auto& request = *static_cast<UsherRequest*>(argument);
  BirthRequest& birth = request.birth;
  for (std::uint16_t i = 0; i < kUsherJoins && request.joins[i].fd >= 0; ++i) {
    const auto& join = request.joins[i];
    const sys::Result joined = Injected(*birth.context.plan, Step::kJoinNamespace, i)
                                   ? -birth.context.plan->fail_error
                                   : sys::Setns(join.fd, join.flag);
    if (joined < 0) {
      request.result = RefuseBirth(birth, Step::kJoinNamespace, joined);
      birth.context.box->failure.index = static_cast<std::uint16_t>(kUsherJoinsAt + i);
      sys::ExitGroup(125);
    }
  }
  request.result = BirthWorker(birth);
  sys::ExitGroup(0);
}

}  // namespace

sys::Result BirthByUsher(UsherRequest& request, char* stack) {
  request.birth.pidfd = &request.pidfd;
  request.birth.extra_flags |= kernel::kCloneParent;
  request.result = -ECHILD;  // unless it gets to say otherwise
  kernel::CloneArgs args;
  // Its descriptors are the launcher's, so that the pidfd comes there; its memory is as the
  // worker's will be.
  args.flags = CLONE_FILES | kernel::kCloneVfork | kernel::kCloneClearSighand;
  if (request.birth.context.plan->share_memory != 0) args.flags |= kernel::kCloneVm;
  args.stack = reinterpret_cast<std::uint64_t>(stack);
  args.stack_size = kWorkerStackBytes;
  const sys::Result usher = sys::Clone3(args, UsherMain, &request);
  if (usher < 0) return RefuseBirth(request.birth, Step::kCloneWorker, usher);
  sys::AwaitEnd(usher);
  if (request.result == -ECHILD) {
    return RefuseBirth(request.birth, Step::kCloneWorker, request.result);
  }
  return request.result;
}

}  // namespace brood
