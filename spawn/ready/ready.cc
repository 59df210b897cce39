// SPDX-License-Identifier: Apache-2.0

#include "spawn/ready/ready.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "spawn/base/fd_message.h"
#include "spawn/child/syscalls.h"
#include "spawn/ready/brood_ready.h"

namespace brood::ready {
namespace {

struct Received : ReceivedFds<kMaxFds> {
  Message message;
};

// Waits for the launcher's next word. False when it has gone.
bool Receive(Received& received) {
  ssize_t got = -1;
  do {
    got =
        ReceiveWithFds<kMaxFds>(control, &received.message, sizeof(received.message), received, 0);
  } while (got < 0 && errno == EINTR);
  return got == sizeof(received.message) && received.message.version == kVersion;
}

// Never to be written, here or by a clone: the descriptor is sealed, and the mapping private.
const Plan* MapPlan(int fd) {
  struct stat status = {};
  if (fstat(fd, &status) != 0 || status.st_size < static_cast<off_t>(sizeof(Plan))) return nullptr;
  void* memory =
      mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
  if (memory == MAP_FAILED) return nullptr;
  const auto* plan = static_cast<const Plan*>(memory);
  return plan->bytes == static_cast<std::uint64_t>(status.st_size) ? plan : nullptr;
}

const Plan& AwaitPlan() {
  Received received;
  if (!Receive(received)) _exit(0);
  if (received.message.kind != Kind::kPlan || received.count != 1) {
    Refuse("the launcher speaks another version of this protocol");
  }
  const Plan* plan = MapPlan(received.fds[0]);
  if (plan == nullptr) Refuse("mapping the plan of a call: %s", strerror(errno));
  close(received.fds[0]);
  return *plan;
}

// 0, 1 and 2 may be closed here, and then they are what the kernel hands out first.
bool AboveStdio(Received& received) {
  for (std::size_t i = 0; i < received.count; ++i) {
    if (received.fds[i] > 2) continue;
    const int moved = fcntl(received.fds[i], F_DUPFD_CLOEXEC, 3);
    if (moved < 0) return false;
    close(received.fds[i]);
    received.fds[i] = moved;
  }
  return true;
}

}  // namespace

void Send(const Message& message, int fd) {
  (void)SendWithFds<1>(control, &message, sizeof(message), &fd, fd >= 0 ? 1 : 0, MSG_NOSIGNAL);
}

void Refuse(const char* why, ...) {
  Message message;
  message.kind = Kind::kRefused;
  va_list arguments;
  va_start(arguments, why);
  vsnprintf(message.text, sizeof(message.text), why, arguments);
  va_end(arguments);
  Send(message);
  _exit(kRefusedStatus);
}

}  // namespace brood::ready

extern "C" int brood_ready(void) {
  using namespace brood::ready;
  if (control < 0) return 0;
  close(library);
  library = -1;
  ReopenedFiles files;
  FindShared(files);
  // Once for all clones: what is buffered now would else be written by each of them.
  fflush(nullptr);
  BeforeClones();
  Send(Message{});
  const brood::Plan& plan = AwaitPlan();
  for (;;) {
    Received received;
    if (!Receive(received)) _exit(0);
    if (received.message.kind != Kind::kFork || received.count < 3 || !AboveStdio(received)) {
      Refuse("an order that it does not understand");
    }
    Order order;
    order.call = received.message.call;
    for (int i = 0; i < 3; ++i) order.stdio[i] = received.fds[i];
    if (received.count > 3) order.cgroup = received.fds[3];
    if (CloneForCall(plan, order, files)) break;
    for (std::size_t i = 0; i < received.count; ++i) close(received.fds[i]);
  }
  AfterClone();
  return 0;
}
