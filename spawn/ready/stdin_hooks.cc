// SPDX-License-Identifier: Apache-2.0

// Stands in for the functions with which a program first reads its stdin.
//
// Calls within the C library cannot be seen: its own `stdin` is replaced by a stream that reads
// through here, so that every function of stdio works. Those who have taken the former one before
// (libstdc++'s cin) read it with getc and fread.
#include <dlfcn.h>
#include <poll.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdio>

#include "spawn/ready/brood_ready.h"
#include "spawn/ready/ready.h"

namespace brood::ready {
namespace {

FILE* ours = nullptr;
FILE* former = nullptr;
struct stat placeholder;

// What is there as 0 may be another file for a while, as in a shell's "read x < file".
void Reads(int fd) {
  struct stat now = {};
  if (fd != 0 || control < 0 || fstat(0, &now) != 0) return;
  if (now.st_ino == placeholder.st_ino && now.st_dev == placeholder.st_dev) brood_ready();
}

void Polls(const pollfd* fds, nfds_t count) {
  for (nfds_t i = 0; i < count; ++i) Reads(fds[i].fd);
}

void Reads(const FILE* file) {
  if (file == former || file == ours) Reads(0);
}

ssize_t ReadStdin(void*, char* to, size_t size) {
  Reads(0);
  return read(0, to, size);
}

}  // namespace

void WatchStdin() {
  cookie_io_functions_t functions = {};
  functions.read = ReadStdin;
  ours = fopencookie(nullptr, "r", functions);
  if (ours == nullptr || fstat(0, &placeholder) != 0) Refuse("replacing its stdin");
  former = stdin;
  stdin = ours;
}

}  // namespace brood::ready

using namespace brood::ready;

// They are the C library's, whose headers give parameters reserved names.
// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name,bugprone-reserved-identifier)

#define BROOD_NEXT(name)                 \
  static decltype(&name) next = nullptr; \
  if (next == nullptr) next = reinterpret_cast<decltype(&name)>(dlsym(RTLD_NEXT, #name))

extern "C" ssize_t read(int fd, void* to, size_t size) {
  BROOD_NEXT(read);
  Reads(fd);
  return next(fd, to, size);
}

extern "C" ssize_t readv(int fd, const iovec* vectors, int count) {
  BROOD_NEXT(readv);
  Reads(fd);
  return next(fd, vectors, count);
}

extern "C" ssize_t __read_chk(int fd, void* to, size_t size, size_t room);
extern "C" ssize_t __read_chk(int fd, void* to, size_t size, size_t room) {
  BROOD_NEXT(__read_chk);
  Reads(fd);
  return next(fd, to, size, room);
}

extern "C" int poll(pollfd* fds, nfds_t count, int timeout) {
  BROOD_NEXT(poll);
  Polls(fds, count);
  return next(fds, count, timeout);
}

extern "C" int __poll_chk(pollfd* fds, nfds_t count, int timeout, size_t room);
extern "C" int __poll_chk(pollfd* fds, nfds_t count, int timeout, size_t room) {
  BROOD_NEXT(__poll_chk);
  Polls(fds, count);
  return next(fds, count, timeout, room);
}

extern "C" int ppoll(pollfd* fds, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  BROOD_NEXT(ppoll);
  Polls(fds, count);
  return next(fds, count, timeout, mask);
}

extern "C" int select(int count, fd_set* read_fds, fd_set* write_fds, fd_set* other_fds,
                      timeval* timeout) {
  BROOD_NEXT(select);
  if (count > 0 && read_fds != nullptr && FD_ISSET(0, read_fds)) Reads(0);
  return next(count, read_fds, write_fds, other_fds, timeout);
}

extern "C" int pselect(int count, fd_set* read_fds, fd_set* write_fds, fd_set* other_fds,
                       const timespec* timeout, const sigset_t* mask) {
  BROOD_NEXT(pselect);
  if (count > 0 && read_fds != nullptr && FD_ISSET(0, read_fds)) Reads(0);
  return next(count, read_fds, write_fds, other_fds, timeout, mask);
}

extern "C" int getc(FILE* file) {
  BROOD_NEXT(getc);
  Reads(file);
  return next(file);
}

extern "C" size_t fread(void* to, size_t size, size_t count, FILE* file) {
  BROOD_NEXT(fread);
  Reads(file);
  return next(to, size, count, file);
}

// A stream of this kind has none, and programs ask for stdin's.
extern "C" int fileno(FILE* file) {
  BROOD_NEXT(fileno);
  return file != nullptr && file == ours ? 0 : next(file);
}

// NOLINTEND(readability-inconsistent-declaration-parameter-name,bugprone-reserved-identifier)
