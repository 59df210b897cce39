// SPDX-License-Identifier: Apache-2.0

// Messages over a Unix socket that bring descriptors along (SCM_RIGHTS, unix(7)).
//
// Header only, and in need of nothing but libc, since what is preloaded into a forked function
// (spawn/ready) speaks with its launcher in this manner, too. No state; any thread.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace brood {

// As sendmsg(2) with `flags`: sends `size` bytes, and with the first of them `count` descriptors,
// kMost at most, which stay the sender's. The bytes that were sent, or -1 and errno; starts again
// when a signal comes.
template <std::size_t kMost>
ssize_t SendWithFds(int socket, const void* bytes, std::size_t size, const int* fds,
                    std::size_t count, int flags) {
  iovec vector = {const_cast<void*>(bytes), size};
  alignas(cmsghdr) char control[CMSG_SPACE(kMost * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
  }
  for (;;) {
    const ssize_t sent = sendmsg(socket, &message, flags);
    if (sent >= 0 || errno != EINTR) return sent;
  }
}

// Descriptors that came with a message: its receiver's, who has to close them.
template <std::size_t kMost>
struct ReceivedFds {
  int fds[kMost];
  std::size_t count = 0;
  bool cut = false;  // there were more, or no number was free for one; the kernel has dropped those
};

// As recvmsg(2) with `flags`: the bytes that came, or -1 and errno, EINTR when a signal came first.
// The descriptors are close-on-exec.
template <std::size_t kMost>
ssize_t ReceiveWithFds(int socket, void* bytes, std::size_t size, ReceivedFds<kMost>& received,
                       int flags) {
  iovec vector = {bytes, size};
  alignas(cmsghdr) char control[CMSG_SPACE(kMost * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  received.count = 0;
  received.cut = got >= 0 && (message.msg_flags & MSG_CTRUNC) != 0;
  if (got < 0) return got;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    // All of them together fit: `control` has room for kMost.
    const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(received.fds + received.count, CMSG_DATA(part), count * sizeof(int));
    received.count += count;
  }
  return got;
}

}  // namespace brood
