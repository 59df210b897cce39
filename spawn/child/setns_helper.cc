// SPDX-License-Identifier: Apache-2.0

#include "spawn/child/setns_helper.h"

#include <linux/errno.h>
#include <linux/sched.h>

namespace brood {
namespace {

void SetnsHelperMain(void* argument) {
  auto& request = *static_cast<SetnsHelperRequest*>(argument);
  BirthRequest& birth = request.birth;
  for (std::uint16_t i = 0; i < kHelperJoins && request.joins[i].fd >= 0; ++i) {
    const auto& join = request.joins[i];
    const sys::Result joined = Injected(*birth.context.plan, Step::kJoinNamespace, i)
                                   ? -birth.context.plan->fail_error
                                   : sys::Setns(join.fd, join.flag);
    if (joined < 0) {
      request.result = RefuseBirth(birth, Step::kJoinNamespace, joined);
      birth.context.box->failure.index = static_cast<std::uint16_t>(kHelperJoinsAt + i);
      sys::ExitGroup(125);
    }
  }
  request.result = BirthWorker(birth);
  sys::ExitGroup(0);
}

}  // namespace

sys::Result BirthBySetnsHelper(SetnsHelperRequest& request, char* stack) {
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
  const sys::Result setns_helper = sys::Clone3(args, SetnsHelperMain, &request);
  if (setns_helper < 0) return RefuseBirth(request.birth, Step::kCloneWorker, setns_helper);
  sys::AwaitEnd(setns_helper);
  if (request.result == -ECHILD) {
    return RefuseBirth(request.birth, Step::kCloneWorker, request.result);
  }
  return request.result;
}

}  // namespace brood
