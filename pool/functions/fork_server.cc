// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/fork_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "spawn/base/clock.h"
#include "spawn/base/fd_message.h"
#include "spawn/base/sealed_memory.h"
#include "spawn/base/status.h"
#include "spawn/host/machine.h"
#include "spawn/launch/forked.h"

namespace brood {
namespace {

using ready::Kind;

// What one wake-up may take from a process that talks without end.
constexpr int kMessagesAtOnce = 64;

}  // namespace

absl::StatusOr<std::shared_ptr<ForkServer>> ForkServer::Start(Pool& pool, Timers& timers,
                                                              const FunctionOptions& function,
                                                              Events events) {
  auto server = std::make_shared<ForkServer>(pool, timers, function, std::move(events));
  BROOD_RETURN_IF_ERROR(server->Prepare());
  if (absl::Status submitted = server->Submit(); !submitted.ok()) {
    server->gone_ = true;
    server->CloseDescriptors();
    server->RemoveCgroups(0);
    return submitted;
  }
  return server;
}

absl::Status ForkServer::Prepare() {
  BROOD_ASSIGN_OR_RETURN(ForkedSpecs specs, SplitForked(*function_.spec));
  BROOD_ASSIGN_OR_RETURN(blueprint_,
                         Blueprint::Make(specs.call, PlanKind::kForked, function_.fault));
  process_spec_ = std::move(specs.process);
  BROOD_ASSIGN_OR_RETURN(library_, ReadyLibrary());
  const std::string parent = pool_.CgroupPath();
  if (parent.empty()) return absl::OkStatus();
  const Limits& limits = function_.spec->limits;
  if (!ThisMachine().mount_admin && limits.any()) {
    return Error(absl::StatusCode::kPermissionDenied,
                 "limits for each clone need a daemon that runs as root: it mounts their cgroups "
                 "for the process that clones them");
  }
  BROOD_ASSIGN_OR_RETURN(cgroups_, ForkCgroups::Make(parent, limits));
  call_leaves_ = ThisMachine().mount_admin;
  return absl::OkStatus();
}

absl::Status ForkServer::Submit() {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) != 0) {
    return ErrnoError(errno, "making a socket to function {}", function_.name);
  }
  control_.reset(sockets[0]);
  theirs_[0].reset(sockets[1]);
  int pipes[2];
  if (pipe2(pipes, O_CLOEXEC) != 0 || fcntl(pipes[0], F_SETFL, O_NONBLOCK) != 0) {
    return ErrnoError(errno, "making a pipe to function {}", function_.name);
  }
  errors_fd_.reset(pipes[0]);
  theirs_[1].reset(pipes[1]);
  // Before it is started: one that is has somebody who hears of its end.
  BROOD_RETURN_IF_ERROR(
      control_watch_.Start(control_.get(), POLLIN, [this](short) { ReadMessages(); }));
  BROOD_RETURN_IF_ERROR(
      errors_watch_.Start(errors_fd_.get(), POLLIN, [this](short) { ReadErrors(); }));

  Request request;
  request.template_name = function_.template_name;
  request.spec = process_spec_;
  request.path = SpawnPath::kCold;
  request.command =
      ForkedCommand(function_.command, theirs_[0].get(), library_.get(), theirs_[1].get());
  if (cgroups_) request.leaf = cgroups_->process_leaf();
  request.on_started = [self = shared_from_this()](const Started& started) {
    self->OnStarted(started);
  };
  BROOD_RETURN_IF_ERROR(pool_.Submit(
      std::move(request),
      [self = shared_from_this()](const absl::StatusOr<Outcome>& outcome) {
        self->OnProcessEnded(outcome);
      },
      &request_));
  load_timer_ = timers_.Add(kLoadTime, [this] {
    load_timer_.reset();
    refusal_ = fmt::format("it was not ready after {} s", kLoadTime.count());
    KillProcess();
  });
  return absl::OkStatus();
}

void ForkServer::OnStarted(const Started& started) {
  if (!call_leaves_) return;
  const uid_t user = started.id_first == 0 ? geteuid() : started.id_first + process_spec_.uid;
  if (const absl::Status let = cgroups_->LetBirth(user); !let.ok()) {
    refusal_ = std::string(Message(let));
    KillProcess();
  }
}

void ForkServer::ReadErrors() {
  if (!errors_.Read(errors_fd_.get())) errors_watch_.Stop();
}

void ForkServer::ReadMessages() {
  const auto self = shared_from_this();
  for (int i = 0; i < kMessagesAtOnce && control_.valid(); ++i) {
    if (!ReadMessage()) return;
  }
}

bool ForkServer::ReadMessage() {
  ready::Message message;
  ReceivedFds<ready::kMaxFds> received;
  const ssize_t got =
      ReceiveWithFds(control_.get(), &message, sizeof(message), received, MSG_DONTWAIT);
  if (got <= 0) return false;
  // A process can say, and send, what it likes: of descriptors one is kept.
  UniqueFd fd;
  for (std::size_t i = 0; i < received.count; ++i) fd.reset(received.fds[i]);
  const auto bytes = static_cast<std::size_t>(got);
  if (bytes == sizeof(message) && message.version == ready::kVersion) {
    Take(message, std::move(fd));
  } else {
    // Its stderr is the socket until the library is there: the loader's complaints.
    errors_.Add({reinterpret_cast<const char*>(&message), bytes});
  }
  return true;
}

void ForkServer::Take(const ready::Message& message, UniqueFd fd) {
  const auto call = calls_.find(message.call);
  switch (message.kind) {
    case Kind::kReady:
      if (!ready_ && !gone_) SendPlan();
      break;
    case Kind::kRefused:
      refusal_.assign(message.text, strnlen(message.text, sizeof(message.text)));
      break;
    case Kind::kForked:
      if (call != calls_.end() && call->second.pid == 0)
        OnForked(call->second, message, std::move(fd));
      break;
    case Kind::kRunning:
      if (call != calls_.end() && call->second.worker->started_ns == 0) {
        FunctionWorker& worker = *call->second.worker;
        worker.started_ns = std::clamp(message.at_ns, worker.asked_ns, NowNs());
        if (worker.on_started) worker.on_started();
      }
      break;
    case Kind::kFailed:
      if (call == calls_.end() || !message.failure.failed()) break;
      call->second.failure = message.failure;
      // Otherwise its process ends now, and is heard of.
      if (message.failure.step == Step::kCloneWorker) FinishCall(call, message);
      break;
    case Kind::kEnded:
      OnEnded(message);
      break;
    default:
      break;
  }
}

void ForkServer::SendPlan() {
  absl::StatusOr<UniqueFd> plan = SealedMemory("brood-plan", blueprint_->block(), false);
  absl::Status sent = plan.status();
  if (plan.ok()) {
    ready::Message message;
    message.kind = Kind::kPlan;
    const int fd = plan->get();
    if (const int error = Send(message, &fd, 1); error != 0) {
      sent = ErrnoError(error, "telling the process of function {} its plan", function_.name);
    }
  }
  if (!sent.ok()) {
    refusal_ = std::string(Message(sent));
    return KillProcess();
  }
  if (load_timer_) timers_.Cancel(*load_timer_);
  load_timer_.reset();
  ready_ = true;
  if (!retired_ && events_.ready) events_.ready();
}

int ForkServer::Send(const ready::Message& message, const int* fds, std::size_t count) {
  return SendWithFds<ready::kMaxFds>(control_.get(), &message, sizeof(message), fds, count,
                                     MSG_DONTWAIT | MSG_NOSIGNAL) >= 0
             ? 0
             : errno;
}

absl::StatusOr<std::shared_ptr<FunctionWorker>> ForkServer::Fork() {
  if (!ready() || gone_) {
    return Error(absl::StatusCode::kUnavailable, "the process of function {} is not ready",
                 function_.name);
  }
  CallProcess call;
  BROOD_ASSIGN_OR_RETURN(call.worker, NewFunctionWorker(function_));
  if (call_leaves_) {
    BROOD_ASSIGN_OR_RETURN(call.leaf, cgroups_->Take());
  }
  const std::uint64_t id = next_call_++;
  call.worker->asked_ns = NowNs();
  call.worker->path = SpawnPath::kForked;
  call.worker->kill = [self = shared_from_this(), id] {
    self->Kill(id);
    return absl::OkStatus();
  };
  auto made = call.worker;
  calls_.emplace(id, std::move(call));
  unsent_.push_back(id);
  SendOrders();
  return made;
}

// The socket has room for some two hundred; the others wait for it.
void ForkServer::SendOrders() {
  while (!unsent_.empty()) {
    const auto call = calls_.find(unsent_.front());
    if (call != calls_.end()) {
      ready::Message message;
      message.kind = Kind::kFork;
      message.call = call->first;
      std::array<int, ready::kMaxFds> fds;
      for (std::size_t i = 0; i < 3; ++i) fds[i] = call->second.worker->theirs[i].get();
      fds[3] = call->second.leaf.root.get();
      const int error = Send(message, fds.data(), call_leaves_ ? 4 : 3);
      if (error == EAGAIN || error == ETOOMANYREFS) break;
      // A process that is gone is heard of.
      if (error != 0) return;
    }
    unsent_.pop_front();
  }
  if (unsent_.empty()) return room_watch_.Stop();
  (void)room_watch_.Start(control_.get(), POLLOUT, [this](short) { SendOrders(); });
}

void ForkServer::OnForked(CallProcess& call, const ready::Message& message, UniqueFd pidfd) {
  call.pid = message.pid;
  call.pidfd = std::move(pidfd);
  if (call.kill) Kill(message.call);
  // Its init may be faster in telling of its end than the process of its birth. A number that was
  // another's before is told apart by the time.
  const auto early = early_ends_.find(message.pid);
  const bool ended = early != early_ends_.end() && early->second.at_ns >= message.at_ns;
  const ready::Message end = ended ? early->second : ready::Message{};
  if (early != early_ends_.end()) early_ends_.erase(early);
  if (ended) OnEnded(end);
}

void ForkServer::OnEnded(const ready::Message& message) {
  const auto call = std::find_if(calls_.begin(), calls_.end(), [&](const auto& each) {
    return each.second.pid == message.pid && message.pid != 0;
  });
  if (call != calls_.end()) return FinishCall(call, message);
  const bool awaited = std::any_of(calls_.begin(), calls_.end(),
                                   [](const auto& each) { return each.second.pid == 0; });
  if (awaited) {
    early_ends_[message.pid] = message;
  } else {
    early_ends_.clear();
  }
}

void ForkServer::FinishCall(Calls::iterator at, const ready::Message& message) {
  CallProcess call = std::move(at->second);
  calls_.erase(at);
  Outcome outcome;
  outcome.template_name = function_.template_name;
  outcome.spawn_path = SpawnPath::kForked;
  outcome.inside_pid = 1;
  outcome.wall_us = static_cast<double>(NowNs() - call.worker->asked_ns) / 1000;
  if (call_leaves_) outcome.usage = cgroups_->Usage(call.leaf);
  if (call.failure.failed()) {
    outcome.end = End::kSetupFailed;
    outcome.failure = call.failure;
    outcome.message = blueprint_->Describe(call.failure, blueprint_->plan().worker);
  } else if (message.code == CLD_EXITED) {
    outcome.end = End::kExited;
    outcome.exit_code = message.status;
  } else {
    const bool oom = message.status == SIGKILL && outcome.usage.oom_kills.value_or(0) > 0;
    outcome.end = oom ? End::kOom : call.kill ? End::kKilled : End::kSignalled;
    outcome.signal = message.status;
  }
  if (message.kind == Kind::kEnded) outcome.cpu_us = static_cast<double>(message.cpu_us);
  if (call_leaves_) {
    const bool clean = !call.kill && message.kind == Kind::kEnded && message.code == CLD_EXITED;
    cgroups_->Return(std::move(call.leaf), clean);
  }
  call.worker->End(std::move(outcome));
  if (retired_ && calls_.empty()) KillProcess();
}

void ForkServer::Kill(std::uint64_t id) {
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  CallProcess& call = found->second;
  call.kill = true;
  if (call.pid == 0) return;  // once it is there
  if (call_leaves_ && cgroups_->Kill(call.leaf).ok()) return;
  if (call.pidfd.valid()) syscall(SYS_pidfd_send_signal, call.pidfd.get(), SIGKILL, nullptr, 0);
}

// The pool may not have taken it up yet: then again, soon.
void ForkServer::KillProcess() {
  if (gone_ || pool_.Kill(request_).ok()) return;
  timers_.Add(std::chrono::milliseconds(5), [self = shared_from_this()] { self->KillProcess(); });
}

void ForkServer::Retire() {
  retired_ = true;
  events_ = {};
  if (calls_.empty()) KillProcess();
}

void ForkServer::CloseDescriptors() {
  for (Watched* const watch : {&control_watch_, &errors_watch_, &room_watch_}) watch->Stop();
  for (UniqueFd* const fd : {&control_, &errors_fd_, &theirs_[0], &theirs_[1], &library_}) {
    fd->reset();
  }
}

void ForkServer::OnProcessEnded(const absl::StatusOr<Outcome>& outcome) {
  const auto self = shared_from_this();
  // What was said before counts, the end of calls above all.
  gone_ = true;
  while (ReadMessage()) {
  }
  ReadErrors();
  if (load_timer_) timers_.Cancel(*load_timer_);
  load_timer_.reset();
  CloseDescriptors();

  std::string why = refusal_;
  if (why.empty() && !outcome.ok()) {
    why = std::string(Message(outcome.status()));
  } else if (why.empty() && outcome->end == End::kSetupFailed) {
    why = outcome->message;
  } else if (why.empty() && !ready_) {
    why = fmt::format(
        "it ended (status {}) before it was ready: it neither called brood_ready() nor read its "
        "stdin, or it is linked statically",
        ExitStatus(*outcome));
  } else if (why.empty()) {
    why = fmt::format("it ended (status {})", ExitStatus(*outcome));
  }
  // All its clones have died with the pid namespace.
  for (auto& [id, call] : std::exchange(calls_, {})) {
    call.worker->End(Error(absl::StatusCode::kUnavailable, "the process of function {} is gone: {}",
                           function_.name, why));
  }
  RemoveCgroups(0);
  if (const auto ended = std::exchange(events_.ended, nullptr)) ended(why, errors_.text());
  events_ = {};
}

void ForkServer::RemoveCgroups(int tries) {
  // A second is plenty for what dies; what is left then goes with the pool.
  if (!cgroups_ || cgroups_->Remove().ok() || tries == 20) return;
  timers_.Add(std::chrono::milliseconds(50),
              [self = shared_from_this(), tries] { self->RemoveCgroups(tries + 1); });
}

}  // namespace brood
