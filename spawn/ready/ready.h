// SPDX-License-Identifier: Apache-2.0

// What the parts of libbrood_ready.so know of each other.
//
//   start.cc       the constructor: takes the socket, and leaves an init behind
//   exec_hook.cc   goes along when the process becomes another program
//   stdin_hooks.cc the first read of stdin counts as a call of brood_ready()
//   ready.cc       brood_ready(): checks, announces, and clones a process for each call
//   shared.cc      what calls would share: refused, or opened again for each
//   call.cc        the clone, and what it does before the call has it
//   runtimes.cc    what has to be told of a clone: pthread_atfork's handlers, Python
//
// It is loaded into programs of others: nothing but libc is needed, and no symbol of ours is
// visible except brood_ready and the functions that it replaces. A process that is no forked
// function runs none of it but the constructor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "spawn/child/plan.h"
#include "spawn/ready/wire.h"

namespace brood::ready {

// The socket to the launcher; -1: this is no forked function, or the process of a call.
extern int control;
// This library's own file, until the process is ready.
extern int library;

// The process' number in its pid namespace, behind its init.
inline constexpr int kProcessPid = 2;

// Sends `message`, with `fd` unless it is -1. A launcher that has gone is noticed elsewhere.
void Send(const Message& message, int fd = -1);

// Tells the launcher that this process cannot be forked, and why, and ends it. `why` is a printf
// format.
[[noreturn]] void Refuse(const char* why, ...) __attribute__((format(printf, 1, 2)));

// Files that a clone reopens at the position up to which they were read.
struct ReopenedFiles {
  static constexpr std::size_t kMost = 64;
  struct File {
    int fd;
    int flags;  // of open
    bool close_on_exec;
  };
  File files[kMost];
  std::size_t count = 0;
};

// Looks at threads, descriptors and mappings; refuses what calls would share. Fills in what each
// has to reopen.
void FindShared(ReopenedFiles& files);

// A call as it was ordered.
struct Order {
  std::uint64_t call = 0;
  int stdio[3] = {-1, -1, -1};
  int cgroup = -1;  // -1: the process' own
};

// Clones this process for a call. False in this process, which has told the launcher how it went;
// true in the clone, isolated, with nothing of ours left open.
bool CloneForCall(const Plan& plan, const Order& order, const ReopenedFiles& files);

// Around all clones: what fork would run before and, in the clone, after.
void BeforeClones();
void AfterClone();

// From the constructor on: reading from `stdin` (the C library's) calls brood_ready() first.
void WatchStdin();

}  // namespace brood::ready
