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

#include "spawn/ready/brood_ready.h"
#include "spawn/syscalls.h"

namespace brood::ready {
namespace {

struct Received {
  Message message;
  int fds[kMaxFds];
  std::size_t count = 0;
};

union Control {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int) * kMaxFds)];
};

// Waits for the launcher's next word. False when it has gone.
bool Receive(Received& received) {
  iovec vector = {&received.message, sizeof(received.message)};
  Control ancillary;
  for (;;) {
    msghdr header = {};
    header.msg_iov = &vector;
    header.msg_iovlen = 1;
    header.msg_control = &ancillary;
    header.msg_controllen = sizeof(ancillary);
    const ssize_t got = recvmsg(control, &header, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) continue;
    if (got != sizeof(received.message)) return false;
    received.count = 0;
    for (cmsghdr* each = CMSG_FIRSTHDR(&header); each != nullptr;
         each = CMSG_NXTHDR(&header, each)) {
      if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
      received.count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      memcpy(received.fds, CMSG_DATA(each), received.count * sizeof(int));
    }
    return received.message.version == kVersion;
  }
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
  iovec vector = {const_cast<Message*>(&message), sizeof(message)};
  Control ancillary = {};
  msghdr header = {};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  if (fd >= 0) {
    header.msg_control = &ancillary;
    header.msg_controllen = CMSG_SPACE(sizeof(int));
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &fd, sizeof(fd));
  }
  while (sys::Sendmsg(control, &header, MSG_NOSIGNAL) == -EINTR) {
  }
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
