// SPDX-License-Identifier: Apache-2.0

#include "spawn/child/child.h"

#include <asm/ioctls.h>
#include <linux/close_range.h>
#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/if.h>
#include <linux/keyctl.h>
#include <linux/poll.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>
#include <linux/socket.h>
#include <linux/sockios.h>
#include <linux/stat.h>

namespace brood {
namespace {

constexpr std::uint64_t kSigchld = 17;

constexpr unsigned kFdCwd = static_cast<unsigned>(AT_FDCWD);
constexpr int kCwd = static_cast<int>(kFdCwd);

std::size_t Length(const char* text) {
  std::size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

sys::Result WriteFile(const char* path, const char* text) {
  const sys::Result fd = sys::OpenAt(kCwd, path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return fd;
  const sys::Result written = sys::Write(static_cast<int>(fd), text, Length(text));
  sys::Close(static_cast<int>(fd));
  return written < 0 ? written : 0;
}

sys::Result Loopback() {
  const sys::Result fd = sys::Socket(/*AF_INET*/ 2, /*SOCK_DGRAM*/ 2 | O_CLOEXEC, 0);
  if (fd < 0) return fd;
  ifreq request = {};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP;
  const sys::Result result = sys::Ioctl(static_cast<int>(fd), SIOCSIFFLAGS, &request);
  sys::Close(static_cast<int>(fd));
  return result;
}

// Whether its slot has its namespaces from an earlier worker, which has made them ready.
bool UsedAgain(const ChildContext& context) {
  return context.box != nullptr && context.box->slot_uses != 0;
}

// In the /proc that the operation names.
sys::Result WriteBelowProc(const Op& op, const ChildContext& context) {
  const char* const text = context.plan->text(op.text[1]);
  const int proc = op.number[0] != 0 ? context.trees[op.index] : context.proc_fd;
  sys::Result result = sys::OpenAt(proc, context.plan->text(op.text[0]), O_WRONLY | O_CLOEXEC);
  if (result >= 0) {
    const int fd = static_cast<int>(result);
    result = sys::Write(fd, text, Length(text));
    sys::Close(fd);
  }
  return result;
}

// As in Docker's network namespaces: there is nobody in them to be protected from a port or a ping.
// That the kernel or the machine refuses is noted, and no reason not to run.
void NetDefault(const Op& op, const ChildContext& context) {
  const sys::Result result = WriteBelowProc(op, context);
  if (result < 0 && context.box != nullptr) {
    context.box->net_error = static_cast<std::int32_t>(-result);
  }
}

void Seal(const Op& op, const ChildContext& context) {
  if (WriteBelowProc(op, context) >= 0 || op.number[1] == 0) return;
  context.box->slot_fault = static_cast<std::uint32_t>(SlotFault::kUnsealed);
}

sys::Result DropBounding(std::uint64_t keep, std::uint64_t last) {
  for (std::uint64_t capability = 0; capability <= last; ++capability) {
    if ((keep >> capability & 1) != 0) continue;
    const sys::Result result = sys::Prctl(PR_CAPBSET_DROP, capability);
    if (result < 0) return result;
  }
  return 0;
}

sys::Result SetIds(const Op& op) {
  if ((op.index & 2) != 0) {
    const sys::Result kept = sys::Prctl(PR_SET_KEEPCAPS, 1);
    if (kept < 0) return kept;
  }
  if ((op.index & 1) != 0) {
    const sys::Result cleared = sys::Setgroups(0, nullptr);
    const bool denied = cleared == -EPERM && (op.index & 4) != 0;
    if (cleared < 0 && !denied) return cleared;
  }
  const auto uid = static_cast<unsigned>(op.number[0]);
  const auto gid = static_cast<unsigned>(op.number[1]);
  const sys::Result group = sys::Setresgid(gid, gid, gid);
  if (group < 0) return group;
  return sys::Setresuid(uid, uid, uid);
}

// What exec does from Linux 6.2 on. The kernel wants the memory to be shared with nobody.
sys::Result EnterTime() {
  const sys::Result unshared =
      sys::OpenAt(kCwd, "/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
  if (unshared < 0) return unshared;
  const sys::Result entered = sys::Setns(static_cast<int>(unshared), kernel::kCloneNewTime);
  sys::Close(static_cast<int>(unshared));
  return entered;
}

sys::Result InstallSeccomp(const Plan& plan) {
  const kernel::SeccompFilter filter = plan.seccomp();
  return sys::Seccomp(SECCOMP_SET_MODE_FILTER, 0, &filter);
}

sys::Result RunOp(const Op& op, ChildContext& context) {
  const Plan& plan = *context.plan;
  const char* first = plan.text(op.text[0]);
  const char* second = plan.text(op.text[1]);
  const std::uint64_t number = op.number[0];
  switch (op.code) {
    case OpCode::kSetns:
      return sys::Setns(context.fds[op.index], number);
    case OpCode::kUnshare:
      return sys::Unshare(number);
    case OpCode::kTimeOffsets:
      return WriteFile("/proc/self/timens_offsets", first);
    case OpCode::kWriteFile:
      return WriteFile(first, second);
    case OpCode::kEnterTime: {
      const sys::Result entered = EnterTime();
      if (entered >= 0) context.clock_shift_ns = static_cast<std::int64_t>(number);
      return entered;
    }
    case OpCode::kHostname:
      return sys::Sethostname(first, number);
    case OpCode::kLoopback:
      return UsedAgain(context) ? 0 : Loopback();
    case OpCode::kNetDefaults:
      if (!UsedAgain(context)) NetDefault(op, context);
      return 0;
    case OpCode::kSeal:
      if (!UsedAgain(context)) Seal(op, context);
      return 0;
    case OpCode::kNewSession:
      return sys::Setsid();
    case OpCode::kNewKeyring:
      return sys::Keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0);
    case OpCode::kBounding:
      return DropBounding(number, op.number[1]);
    case OpCode::kSetIds:
      return SetIds(op);
    case OpCode::kUndumpable:
      return sys::Prctl(PR_SET_DUMPABLE, 0);
    case OpCode::kCapabilities:
      return KeepCapabilities(number);
    case OpCode::kParentDeath:
      return DieWithLauncher(context.launcher_pidfd);
    case OpCode::kNoNewPrivs:
      return sys::Prctl(PR_SET_NO_NEW_PRIVS, 1);
    case OpCode::kRlimit:
      return sys::Prlimit(op.index, op.number);
    case OpCode::kSeccomp:
      return InstallSeccomp(plan);
    default:
      return RunMountOp(op, context);
  }
}

[[noreturn]] void Fail(const ChildContext& context, Step step, std::uint16_t index,
                       sys::Result result) {
  context.box->failure = {step, index, static_cast<std::int32_t>(-result)};
  StoreState(*context.box, WorkerState::kFailed);
  Notify(context);
  sys::ExitGroup(125);
}

void AwaitChangeFrom(const Mailbox& box, WorkerState state) {
  while (LoadState(box) == state) {
    sys::FutexWait(&box.state, static_cast<std::uint32_t>(state));
  }
}

// The kernel's struct iovec and struct msghdr.
struct Vector {
  void* base;
  std::size_t length;
};
struct Message {
  void* name;
  int name_length;
  Vector* vectors;
  std::size_t vector_count;
  void* control;
  std::size_t control_length;
  unsigned flags;
};

// The three descriptors of a launch come in one message over a lane that nobody else reads until
// `lane_taken` says so.
sys::Result ReceiveFds(const ChildContext& context, LaunchRecord& launch) {
  struct Control {
    std::size_t length;
    int level;
    int type;
    int fds[4];
  };
  char byte = 0;
  Vector vector = {&byte, 1};
  Control control = {};
  Message message = {nullptr, 0, &vector, 1, &control, sizeof(control), 0};
  const sys::Result received =
      sys::Recvmsg(context.lanes[launch.lane], &message, /*MSG_CMSG_CLOEXEC*/ 0x40000000);
  __atomic_store_n(&context.box->lane_taken, 1U, __ATOMIC_RELEASE);
  if (received < 0) return received;
  constexpr std::size_t kHeader = sizeof(std::size_t) + 2 * sizeof(int);
  if (received == 0 || control.length != kHeader + 3 * sizeof(int)) return -EPROTO;
  for (int i = 0; i < 3; ++i) launch.fds[i] = control.fds[i];
  return 0;
}

// The kernel's struct cmsghdr with one descriptor.
sys::Result SendOne(int socket, int fd, const void* bytes, std::size_t size) {
  struct Control {
    std::size_t length = sizeof(std::size_t) + 3 * sizeof(int);
    int level = /*SOL_SOCKET*/ 1;
    int type = /*SCM_RIGHTS*/ 1;
    int fd = -1;
    int padding = 0;
  };
  Vector vector = {const_cast<void*>(bytes), size};
  Control control;
  control.fd = fd;
  const Message message = {nullptr, 0, &vector, 1, &control, sizeof(control), 0};
  // Nobody may hold up a launch by not reading: a socket of its own always has room for this.
  return sys::Sendmsg(socket, &message, /*MSG_NOSIGNAL | MSG_DONTWAIT*/ 0x4040);
}

// Sends one descriptor with one byte.
sys::Result SendFd(int socket, int fd) {
  const char byte = 0;
  return SendOne(socket, fd, &byte, 1);
}

// Opened by the worker, in its own devpts and with its own ids: whoever started it needs no way
// into its mounts, and the terminal belongs to it. TIOCGPTPEER (4.13) opens the other side without
// a path.
sys::Result OpenTerminal(LaunchRecord& launch) {
  const sys::Result master = sys::OpenAt(kCwd, "/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (master < 0) return master;
  const int master_fd = static_cast<int>(master);
  int lock = 0;
  const sys::Result unlocked = sys::Ioctl(master_fd, TIOCSPTLCK, &lock);
  if (unlocked < 0) return unlocked;
  const sys::Result terminal = sys::Call(__NR_ioctl, master_fd, static_cast<long>(TIOCGPTPEER),
                                         O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (terminal < 0) return terminal;
  const int fd = static_cast<int>(terminal);
  if (launch.rows != 0) {
    std::uint16_t size[4] = {launch.rows, launch.columns, 0, 0};  // struct winsize
    const sys::Result sized = sys::Ioctl(fd, TIOCSWINSZ, size);
    if (sized < 0) return sized;
  }
  const sys::Result owned = sys::Call(__NR_ioctl, fd, TIOCSCTTY, 0);
  if (owned < 0) return owned;
  const sys::Result sent = SendFd(launch.fds[0], master_fd);
  if (sent < 0) return sent;
  sys::Close(master_fd);
  for (int& place : launch.fds) place = fd;
  return 0;
}

// A TCP socket of the worker's own network namespace.
sys::Result MakeSocket() {
  return sys::Socket(/*AF_INET*/ 2, /*SOCK_STREAM*/ 1 | O_CLOEXEC | O_NONBLOCK, 0);
}

sys::Result Listen(int fd, std::uint16_t port) {
  struct Address {  // struct sockaddr_in
    std::uint16_t family = /*AF_INET*/ 2;
    std::uint8_t port[2];  // the network's order
    std::uint8_t address[4] = {127, 0, 0, 1};
    std::uint8_t padding[8] = {};
  };
  const Address address = {
      .port = {static_cast<std::uint8_t>(port >> 8), static_cast<std::uint8_t>(port)}};
  const sys::Result bound = sys::Bind(fd, &address, sizeof(address));
  return bound < 0 ? bound : sys::Listen(fd, /*backlog*/ 16);
}

// Made by the worker, as the terminal is in its devpts: the launcher accepts and connects there
// without a way in, and what listens is there before the command looks for it.
sys::Result OpenEndpoint(LaunchRecord& launch) {
  const int count = launch.port != 0 ? 1 : launch.sockets;
  for (int i = 0; i < count; ++i) {
    const sys::Result made = MakeSocket();
    if (made < 0) return made;
    const int fd = static_cast<int>(made);
    if (launch.port != 0) {
      const sys::Result listens = Listen(fd, launch.port);
      if (listens < 0) return listens;
    }
    const sys::Result sent = SendFd(launch.fds[0], fd);
    if (sent < 0) return sent;
    sys::Close(fd);
  }
  const sys::Result null = sys::OpenAt(kCwd, "/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return null;
  launch.fds[0] = static_cast<int>(null);
  return 0;
}

sys::Result PlaceStdio(const LaunchRecord& launch) {
  int from[3] = {launch.fds[0], launch.fds[1], launch.fds[2]};
  // A source below 3 that belongs elsewhere would be overwritten by an earlier dup3.
  for (int i = 0; i < 3; ++i) {
    if (from[i] < 0 || from[i] >= 3 || from[i] == i) continue;
    const sys::Result moved = sys::Fcntl(from[i], F_DUPFD_CLOEXEC, 3);
    if (moved < 0) return moved;
    from[i] = static_cast<int>(moved);
  }
  for (int i = 0; i < 3; ++i) {
    if (from[i] < 0) continue;
    const sys::Result placed = from[i] == i ? sys::Fcntl(i, F_SETFD, 0) : sys::Dup3(from[i], i, 0);
    if (placed < 0) return placed;
  }
  return 0;
}

// Tries each candidate as execvp(3) does: a name that is not there moves on, one that may not be
// executed is remembered, anything else is the answer.
sys::Result ExecCandidates(const LaunchRecord& launch) {
  const auto* const* candidates = reinterpret_cast<const char* const*>(launch.candidates);
  const auto* const* argv = reinterpret_cast<const char* const*>(launch.argv);
  const auto* const* envp = reinterpret_cast<const char* const*>(launch.envp);
  sys::Result answer = -ENOENT;
  for (; *candidates != nullptr; ++candidates) {
    const sys::Result result = sys::Execve(*candidates, argv, envp);
    if (result == -ENOENT || result == -ENOTDIR) continue;
    answer = result;
    if (result != -EACCES) break;
  }
  return answer;
}

// Through no link of /proc: those of /proc/self/fd and /proc/self/exe lead where no path does.
open_how WithoutMagicLinks(std::uint64_t flags) {
  open_how how = {};
  how.flags = flags | O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  return how;
}

sys::Result EnterDirectory(const char* path) {
  const sys::Result fd = sys::OpenAt2(kCwd, path, WithoutMagicLinks(O_DIRECTORY));
  if (fd < 0) return fd;
  const sys::Result entered = sys::Fchdir(static_cast<int>(fd));
  sys::Close(static_cast<int>(fd));
  return entered;
}

// Until the exec /proc/self/exe is the launcher's program, or the zygote. Executed by path and not
// by descriptor, since a script's interpreter has to open it by that path again.
sys::Result RefuseMagicLinks(const LaunchRecord& launch) {
  const auto* const* candidates = reinterpret_cast<const char* const*>(launch.candidates);
  for (; *candidates != nullptr; ++candidates) {
    const sys::Result fd = sys::OpenAt2(kCwd, *candidates, WithoutMagicLinks(0));
    if (fd >= 0) sys::Close(static_cast<int>(fd));
    if (fd == -ELOOP) return fd;
  }
  return 0;
}

// One order of steps for every path. Nothing but 0, 1 and 2 is open when a path of the command's is
// followed, for through /proc/self/fd it would lead wherever a descriptor does.
[[noreturn]] void Launch(ChildContext& context) {
  const Plan& plan = *context.plan;
  Mailbox& box = *context.box;
  LaunchRecord launch = box.launch;
  box.launched_ns = Now(context);

  const auto step = [&](Step name, auto&& action) {
    const sys::Result result = Injected(plan, name, 0) ? -plan.fail_error : action();
    if (result < 0) Fail(context, name, 0, result);
  };
  if (launch.lane >= 0) {
    step(Step::kReceiveFds, [&] { return ReceiveFds(context, launch); });
  }
  if (launch.terminal != 0) {
    step(Step::kTerminal, [&] { return OpenTerminal(launch); });
  }
  if (launch.port != 0 || launch.sockets != 0) {
    step(Step::kEndpoint, [&] { return OpenEndpoint(launch); });
  }
  step(Step::kStdio, [&] { return PlaceStdio(launch); });
  context.notify_fd = -1;
  step(Step::kCloseFds, [&] { return sys::CloseRange(3, ~0U, 0); });
  step(Step::kWorkingDirectory,
       [&] { return EnterDirectory(reinterpret_cast<const char*>(launch.cwd)); });
  sys::Umask(022);
  for (int signal = 1; signal <= 64; ++signal) {
    if ((context.ignored_signals >> (signal - 1) & 1) != 0) sys::ResetSignal(signal);
  }
  sys::SetSignalMask(0);
  box.exec_ns = Now(context);
  step(Step::kExec, [&] { return RefuseMagicLinks(launch); });
  if (plan.late_seccomp != 0) {
    step(Step::kSeccomp, [&] { return InstallSeccomp(plan); });
  }
  step(Step::kExec, [&] { return ExecCandidates(launch); });
  sys::ExitGroup(125);
}

// The first process of the command's own session, below an init (Spec::init).
void CommandMain(void* argument) {
  ChildContext& context = *static_cast<ChildContext*>(argument);
  // A terminal's keys are for the command, not for the init above it.
  if (const sys::Result session = sys::Setsid(); session < 0) {
    Fail(context, Step::kInit, 0, session);
  }
  Launch(context);
}

// On this stack, which has room for both (kWorkerStackBytes), lies the command's.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wframe-larger-than="
// Has the command born and becomes the init that waits for it. The command execs first, while this
// process stands still (CLONE_VFORK): so a command that cannot be executed is told as without an
// init.
[[noreturn]] void LaunchUnderInit(ChildContext& context) {
  const Plan& plan = *context.plan;
  const auto must = [&](sys::Result result) {
    if (Injected(plan, Step::kInit, 0)) result = -plan.fail_error;
    if (result < 0) Fail(context, Step::kInit, 0, result);
    return result;
  };
  // The command runs while this process has still all that its launcher has open: nobody with its
  // ids may look at it (/proc/1/fd) until its exec.
  must(sys::Prctl(PR_SET_DUMPABLE, 0));
  // What comes before the init is there waits for it.
  sys::SetSignalMask(~std::uint64_t{0});
  for (int signal = 1; signal <= 64; ++signal) {
    if ((context.ignored_signals >> (signal - 1) & 1) != 0) sys::ResetSignal(signal);
  }
  alignas(16) char stack[6144];
  const sys::Result command = must(sys::Clone(kernel::kCloneVm | kernel::kCloneVfork | kSigchld,
                                              stack + sizeof(stack), CommandMain, &context));
  if (LoadState(*context.box) == WorkerState::kFailed) sys::ExitGroup(125);
  if (plan.late_seccomp != 0) must(InstallSeccomp(plan));
  // It has no descriptors: whoever reads the command's output shall see its end.
  must(sys::CloseRange(0, ~0U, CLOSE_RANGE_CLOEXEC));
  char number[24];
  char* digit = number + sizeof(number);
  *--digit = '\0';
  for (sys::Result rest = command; rest > 0; rest /= 10) {
    *--digit = static_cast<char>('0' + rest % 10);
  }
  const char* const argv[] = {"brood-init", digit, nullptr};
  const char* const envp[] = {nullptr};
  must(sys::Execveat(context.fds[plan.init_fd], "", argv, envp, AT_EMPTY_PATH));
  sys::ExitGroup(125);
}
#pragma GCC diagnostic pop

// The kernel's struct robust_list_head, and the one entry in the list.
struct RobustList {
  void* first = nullptr;
  std::ptrdiff_t futex_offset = 0;  // from the entry
  void* pending = nullptr;
  void* next = nullptr;  // the entry
};

// CLONE_CHILD_CLEARTID does nothing at the exec of a process that shares its memory with nobody.
// What does then tell others is the kernel's care for robust futexes, which exec gives up
// (get_robust_list(2)): Mailbox::alive becomes one that this thread owns.
void HoldAlive(Mailbox& box, RobustList& held) {
  held.first = &held.next;
  held.next = &held;
  held.futex_offset = reinterpret_cast<char*>(&box.alive) - reinterpret_cast<char*>(&held.next);
  __atomic_store_n(&box.alive, static_cast<std::uint32_t>(sys::Call(__NR_gettid)),
                   __ATOMIC_RELEASE);
  constexpr long kHeadBytes = 3 * sizeof(void*);
  sys::Call(__NR_set_robust_list, sys::Arg(&held), kHeadBytes);
}

}  // namespace

void Notify(const ChildContext& context) {
  if (context.notify_fd < 0) return;
  const std::uint64_t one = 1;
  sys::Write(context.notify_fd, &one, sizeof(one));
}

void CopyContext(ChildContext& to, const ChildContext& from) {
  to = from;
  to.trees = reinterpret_cast<int*>(&to + 1);
  for (std::uint32_t i = 0; i < from.plan->tree_count; ++i) to.trees[i] = from.trees[i];
}

sys::Result SendWorker(int socket, const HandedWorker& worker, int pidfd) {
  return SendOne(socket, pidfd, &worker, sizeof(worker));
}

// The kernel drops the setting whenever credentials change, so this comes after them. A launcher
// that died before the call would never be noticed: its pidfd is readable then.
sys::Result DieWithLauncher(int launcher_pidfd) {
  const sys::Result set = sys::Prctl(PR_SET_PDEATHSIG, /*SIGKILL*/ 9);
  if (set < 0 || launcher_pidfd < 0) return set;
  pollfd waiting = {launcher_pidfd, POLLIN, 0};
  const std::int64_t no_time[2] = {0, 0};
  return sys::Ppoll(&waiting, 1, no_time) > 0 ? -ECANCELED : 0;
}

sys::Result KeepCapabilities(std::uint64_t keep) {
  const auto low = static_cast<std::uint32_t>(keep);
  const auto high = static_cast<std::uint32_t>(keep >> 32);
  const kernel::CapData data[2] = {{low, low, low}, {high, high, high}};
  const sys::Result set = sys::Capset(kernel::CapHeader{}, data);
  if (set < 0) return set;
  for (unsigned capability = 0; capability < 64; ++capability) {
    if ((keep >> capability & 1) == 0) continue;
    const sys::Result raised = sys::Prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability);
    if (raised < 0) return raised;
  }
  return 0;
}

bool RunOps(const OpList& list, std::uint32_t first, std::uint32_t end, ChildContext& context,
            Mailbox* box, Failure& failure) {
  const Plan& plan = *context.plan;
  const Op* ops = plan.ops(list);
  const bool in_template = list.offset != plan.worker.offset;
  const bool timed = box != nullptr && plan.record_ops != 0;
  for (std::uint32_t i = first; i < end; ++i) {
    const auto index = static_cast<std::uint16_t>(i);
    const sys::Result result =
        Injected(plan, ops[i].step, index, in_template) ? -plan.fail_error : RunOp(ops[i], context);
    if (result < 0) {
      failure = {ops[i].step, index, static_cast<std::int32_t>(-result)};
      return false;
    }
    if (timed && i < kMaxTimedOps) {
      box->op_us[i] = static_cast<std::uint32_t>((Now(context) - box->born_ns) / 1000);
      box->op_count = i + 1;
    }
  }
  return true;
}

void WorkerMain(void* argument) {
  ChildContext& context = *static_cast<ChildContext*>(argument);
  const Plan& plan = *context.plan;
  Mailbox& box = *context.box;
  RobustList held;
  if (plan.share_memory == 0) HoldAlive(box, held);
  box.born_ns = Now(context);
  if (context.attributes != 0) ResetAttributes(context.attributes, 0, -1, box.attributes);
  sys::Umask(0);  // modes of what the plan creates are meant as written

  // Until its ids are mapped a process in a new user namespace is nobody, but it has all its
  // capabilities: what makes no file is done while the maps are being written. A failure waits,
  // since whoever writes them has the mailbox until then.
  Failure failure;
  // Its cloner dies with the launcher, and nobody would wake it then.
  if (plan.slot_flags != 0 && LoadState(box) == WorkerState::kBorn &&
      DieWithLauncher(context.launcher_pidfd) < 0) {
    sys::ExitGroup(125);
  }
  bool fine = RunOps(plan.worker, plan.slot_ops, plan.early_ops, context, &box, failure);
  AwaitChangeFrom(box, WorkerState::kBorn);
  if (LoadState(box) != WorkerState::kMapped) sys::ExitGroup(125);
  box.mapped_ns = Now(context);
  fine = fine && RunOps(plan.worker, plan.early_ops, plan.worker.count, context, &box, failure);
  if (!fine) Fail(context, failure.step, failure.index, -failure.error);

  box.parked_ns = Now(context);
  const bool park = box.launch.argv == 0;
  StoreState(box, park ? WorkerState::kParked : WorkerState::kLaunch);
  Notify(context);
  if (park) AwaitChangeFrom(box, WorkerState::kParked);
  if (LoadState(box) != WorkerState::kLaunch) sys::ExitGroup(125);
  if (plan.init != 0) LaunchUnderInit(context);
  Launch(context);
}

}  // namespace brood
