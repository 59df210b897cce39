// SPDX-License-Identifier: Apache-2.0

#include "pool/daemon/service.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_join.h"
#include "pool/daemon/isolation.h"
#include "spawn/base/status.h"
#include "spawn/host/process_tree.h"
#include "spawn/launch/signals.h"

namespace brood {
namespace {

Ended EndedMessage(const Outcome& outcome) {
  const auto replace = nlohmann::ordered_json::error_handler_t::replace;
  // A command that failed is told which limits it met; one that did not has no use for that.
  std::string message = outcome.message;
  if (message.empty() && !outcome.ok()) message = absl::StrJoin(outcome.limits_met, "; ");
  return {ExitStatus(outcome), std::move(message), ToJson(outcome).dump(-1, ' ', false, replace)};
}

// The descriptors of a message as a command's stdio. `held` keeps them open until they are used.
absl::StatusOr<Stdio> StdioOf(const Peer& peer, ClientIo io, std::uint16_t rows,
                              std::uint16_t columns, const std::vector<UniqueFd>& held) {
  Stdio stdio;
  stdio.foreign = peer.uid() != geteuid();
  const std::size_t needed = io == ClientIo::kFds ? 3 : io == ClientIo::kTerminal ? 1 : 0;
  if (io > ClientIo::kNone || held.size() != needed) {
    return InvalidError("{} descriptors came where {} are needed", held.size(), needed);
  }
  if (io == ClientIo::kFds) {
    stdio.mode = StdioMode::kFds;
    for (std::size_t i = 0; i < 3; ++i) stdio.fds[i] = held[i].get();
  } else if (io == ClientIo::kTerminal) {
    stdio.mode = StdioMode::kTerminal;
    stdio.fds[0] = held[0].get();
    stdio.rows = rows;
    stdio.columns = columns;
  }
  return stdio;
}

std::optional<std::chrono::nanoseconds> Duration(std::uint64_t ns) {
  if (ns == 0) return std::nullopt;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(ns, kMost)));
}

// What the pool is asked for.
absl::StatusOr<Request> RequestOf(const Peer& peer, Submit& submit, const std::string& name,
                                  const Spec& spec, const std::vector<UniqueFd>& held) {
  Request request;
  request.template_name = name;
  request.when_empty = WhenEmpty::kSlower;
  request.fresh = submit.fresh != 0;
  request.command.argv = submit.argv;
  request.command.env = std::move(submit.env);
  request.command.cwd = std::move(submit.cwd);
  request.command.timeout = Duration(submit.timeout_ns);
  BROOD_ASSIGN_OR_RETURN(request.command.stdio,
                         StdioOf(peer, submit.io, submit.rows, submit.columns, held));
  const bool more_init = submit.init != 0 && !spec.init;
  if (submit.limits.any() || more_init) {
    request.spec = spec;
    request.spec->limits.Override(submit.limits);
    request.spec->init |= more_init;
  }
  return request;
}

// Those that end something are answered also when memory is short, and those that tell what there
// is to end.
bool NeedsMemory(MessageType type) {
  switch (type) {
    case MessageType::kSubmit:
    case MessageType::kExec:
    case MessageType::kLogs:
    case MessageType::kStats:
    case MessageType::kTree:
      return true;
    default:
      return false;
  }
}

// Between looks whether an isolate has come to its command.
constexpr std::chrono::milliseconds kUntilCommand{1};

// What a command takes in memory, nearly.
std::size_t BytesOf(const std::vector<std::string>& argv, const std::vector<std::string>& env) {
  std::size_t bytes = 0;
  for (const auto* words : {&argv, &env}) {
    for (const std::string& word : *words) bytes += sizeof(std::string) + word.size();
  }
  return bytes;
}

absl::Status NotRunning(const Isolate& isolate, std::string_view why) {
  return Error(absl::StatusCode::kFailedPrecondition, "{} is not running: it {}", isolate.id, why);
}

}  // namespace

void Service::Handle(const PeerPtr& peer, Incoming message) {
  const std::uint64_t tag = message.header.tag;
  const absl::Status status = [&] {
    if (NeedsMemory(message.type())) BROOD_RETURN_IF_ERROR(CheckMemory());
    switch (message.type()) {
      case MessageType::kSubmit:
        return OnSubmit(peer, message);
      case MessageType::kExec:
        return OnExec(peer, message);
      case MessageType::kSignal:
        return OnSignal(peer, message);
      case MessageType::kAskReads:
        return OnAskReads(peer, message);
      case MessageType::kStop:
        return OnStop(peer, message);
      case MessageType::kWait:
        return OnWait(peer, message);
      case MessageType::kList:
        return OnList(peer, message);
      case MessageType::kInspect:
        return OnInspect(peer, message);
      case MessageType::kLogs:
        return OnLogs(peer, message);
      case MessageType::kStats:
        return OnStats(peer, message);
      case MessageType::kTree:
        return OnTree(peer, message);
      default:
        return Error(absl::StatusCode::kUnimplemented, "there is no request of type {}",
                     message.header.type);
    }
  }();
  if (!status.ok()) peer->Refuse(tag, status);
}

void Service::Vanished(Peer& peer) {
  for (const auto& [tag, request] : std::exchange(peer.foreground, {})) (void)pool_.Kill(request);
  isolates_.DropOnEnd(&peer);
  followers_.remove_if(
      [&](const Follower& follower) { return follower.peer.lock().get() == &peer; });
}

// A request that waited may have gone to the template's successor: what it was served with counts.
std::shared_ptr<const Spec> Service::SpecOf(const Started& started) {
  if (started.path == SpawnPath::kCold) return std::make_shared<const Spec>(*started.spec);
  if (served_spec_ != started.spec) {
    served_copy_ = std::make_shared<const Spec>(*started.spec);
    served_spec_ = started.spec;
  }
  return served_copy_;
}

absl::Status Service::CheckMemory() const {
  if (!options_.memory_is_short || !options_.memory_is_short()) return absl::OkStatus();
  return Error(absl::StatusCode::kResourceExhausted,
               "the daemon has no memory left: end something (brood ps, brood kill), or give it "
               "more (`ulimit -v`, the machine's memory), and try again");
}

// Commands that wait hold their descriptors and words, too: without a bound one client could take
// all there is.
absl::Status Service::Hold(const Held& more) {
  if (held_.fds + more.fds > options_.max_held_fds) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "too many commands wait or run: the daemon holds {} descriptors for them",
                 held_.fds);
  }
  if (held_.bytes + more.bytes > options_.max_held_bytes) {
    return Error(absl::StatusCode::kResourceExhausted,
                 "too many long commands wait or run: the daemon holds {} MiB of arguments and "
                 "environments for them",
                 held_.bytes >> 20);
  }
  held_.fds += more.fds;
  held_.bytes += more.bytes;
  return absl::OkStatus();
}

void Service::LetGo(const Held& held) {
  held_.fds -= held.fds;
  held_.bytes -= held.bytes;
}

void Service::OnStarted(Isolate& isolate, const Submitter& submitter, const Started& started) {
  const bool first = isolate.state == IsolateState::kWaiting;
  const std::string parent = pool_.CgroupPath();
  isolate.state = IsolateState::kRunning;
  isolate.host_pid = started.host_pid;
  isolate.leaf = started.leaf.empty() ? "" : parent + "/" + started.leaf;
  isolate.id_first = started.id_first;
  isolate.path = started.path;
  isolate.slot = started.slot;
  isolate.spec = SpecOf(started);
  if (!first || !isolate.detached) return;
  if (const auto to = submitter.peer.lock()) {
    to->Answer(submitter.tag, StartedAs{isolate.id, started.host_pid});
  }
}

// Detached or not, an end is told to whoever submitted it, if that is still there.
void Service::TellEnd(Isolate& isolate, const Submitter& submitter,
                      const absl::StatusOr<Outcome>& outcome) {
  const auto to = submitter.peer.lock();
  if (!to) return;
  to->foreground.erase(submitter.tag);
  if (!outcome.ok()) {
    isolate.told = true;
    to->Refuse(submitter.tag,
               isolate.refusal.empty()
                   ? outcome.status()
                   : absl::Status(absl::StatusCode::kResourceExhausted, isolate.refusal));
  } else if (!isolate.detached || isolate.state == IsolateState::kWaiting ||
             outcome->end == End::kSetupFailed) {
    isolate.told = true;
    to->Answer(submitter.tag, EndedMessage(*outcome));
  }
}

absl::Status Service::OnSubmit(const PeerPtr& peer, Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(Submit submit, DecodeBody<Submit>(message.body));
  if (idle_) return Error(absl::StatusCode::kUnavailable, "the daemon is shutting down");
  const std::uint64_t tag = message.header.tag;
  if (peer->foreground.contains(tag)) {
    return InvalidError("tag {} runs something already", tag);
  }
  const auto tmpl = std::find_if(templates_.begin(), templates_.end(), [&](const auto& each) {
    return submit.template_name.empty() || each.first == submit.template_name;
  });
  if (tmpl == templates_.end()) {
    return Error(absl::StatusCode::kNotFound, "there is no template \"{}\"", submit.template_name);
  }
  auto held = std::make_shared<std::vector<UniqueFd>>(std::move(message.fds));
  BROOD_ASSIGN_OR_RETURN(Request request,
                         RequestOf(*peer, submit, tmpl->first, *tmpl->second, *held));
  const Held cost = {submit.io == ClientIo::kLogs ? 5 : held->size(),
                     BytesOf(request.command.argv, request.command.env)};
  BROOD_RETURN_IF_ERROR(Hold(cost));
  absl::StatusOr<Isolate*> added = isolates_.Add(submit.name);
  if (!added.ok()) {
    LetGo(cost);
    return added.status();
  }
  Isolate* const isolate = *added;
  isolate->template_name = tmpl->first;
  isolate->argv = std::move(submit.argv);
  isolate->spec = tmpl->second;
  isolate->owner = peer->uid();
  isolate->detached = submit.io == ClientIo::kLogs;
  std::shared_ptr<OutputPipes> pipes;
  if (isolate->detached) {
    absl::StatusOr<std::shared_ptr<OutputPipes>> opened = OpenLogs(*isolate);
    if (!opened.ok()) {
      LetGo(cost);
      isolates_.Remove(*isolate);
      return opened.status();
    }
    pipes = *std::move(opened);
    request.command.stdio.mode = StdioMode::kFds;
    request.command.stdio.fds = {pipes->null.get(), pipes->writers[0].get(),
                                 pipes->writers[1].get()};
  }

  const std::string id = isolate->id;
  const bool detached = isolate->detached;
  const Submitter submitter = {peer, tag};
  request.on_started = [this, isolate, submitter](const Started& started) {
    OnStarted(*isolate, submitter, started);
  };
  const auto done = [this, isolate, held, pipes, submitter, cost](absl::StatusOr<Outcome> outcome) {
    LetGo(cost);
    TellEnd(*isolate, submitter, outcome);
    if (pipes) DrainLogs(*isolate, *pipes);
    OnEnded(*isolate, std::move(outcome));
  };
  std::uint64_t number = 0;
  absl::Status submitted = pool_.Submit(std::move(request), done, &number);
  if (!submitted.ok()) {
    if (pipes) {
      for (const Pool::WatchId watch : pipes->watches) pool_.Unwatch(watch);
    }
    LetGo(cost);
    isolates_.Remove(*isolate);
    return submitted;
  }
  isolate->request = number;
  if (!detached) peer->foreground[tag] = number;
  if (const auto patience = Duration(submit.patience_ns)) {
    patience_timers_[id] =
        timers_.Add(*patience, [this, id, patience = *patience] { EndPatience(id, patience); });
  }
  return absl::OkStatus();
}

// Only what still waits is refused.
void Service::EndPatience(const std::string& id, std::chrono::nanoseconds waited) {
  Isolate* const isolate = isolates_.ById(id);
  if (isolate == nullptr || isolate->state != IsolateState::kWaiting) return;
  isolate->refusal = fmt::format(
      "the pool is full: no worker was free within {:.1f} s ({} may run at once); wait longer with "
      "--wait, end something, or start the daemon with a larger --max-running",
      std::chrono::duration<double>(waited).count(), options_.max_running);
  (void)pool_.Kill(isolate->request);
}

void Service::OnEnded(Isolate& isolate, absl::StatusOr<Outcome> outcome) {
  if (outcome.ok()) {
    isolate.outcome = *std::move(outcome);
  } else if (isolate.refusal.empty()) {
    isolate.refusal = std::string(Message(outcome.status()));
  }
  if (options_.log_end) options_.log_end(isolate);
  const std::string id = isolate.id;
  for (auto* timers : {&stop_timers_, &patience_timers_}) {
    if (const auto timer = timers->extract(id)) timers_.Cancel(timer.mapped());
  }
  isolates_.End(isolate);
  Pump(id);
  CheckIdle();
}

absl::StatusOr<Isolate*> Service::FindRunning(const std::string& word) {
  BROOD_ASSIGN_OR_RETURN(Isolate* const isolate, isolates_.Find(word));
  if (isolate->state == IsolateState::kRunning) return isolate;
  return NotRunning(*isolate,
                    isolate->state == IsolateState::kEnded ? "has ended" : "waits for a worker");
}

absl::Status Service::MayTouch(const Peer& peer, const Isolate& isolate,
                               std::string_view what) const {
  if (peer.uid() == 0 || peer.uid() == geteuid() || peer.uid() == isolate.owner) {
    return absl::OkStatus();
  }
  return Error(absl::StatusCode::kPermissionDenied,
               "{} belongs to user {}: only they or root may {}", isolate.id, isolate.owner, what);
}

// Enters the namespaces of a worker that runs and is born in its cgroup. They are opened here and
// not when the command's turn comes: now the worker cannot have been reaped, so its number is its
// own; by then somebody else could have it.
absl::Status Service::OnExec(const PeerPtr& peer, Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(ExecIn exec, DecodeBody<ExecIn>(message.body));
  if (exec.io == ClientIo::kLogs) return InvalidError("exec runs in the foreground only");
  BROOD_ASSIGN_OR_RETURN(const Isolate* const isolate, FindRunning(exec.isolate));
  BROOD_RETURN_IF_ERROR(MayTouch(*peer, *isolate, "enter it"));
  const std::uint64_t tag = message.header.tag;
  if (peer->foreground.contains(tag)) {
    return InvalidError("tag {} runs something already", tag);
  }
  if (!pool_.RunsCommand(isolate->request)) {
    // A moment later, then: what is entered now might not be isolated as it will be yet.
    timers_.Add(kUntilCommand, [this, caller = std::weak_ptr<Peer>(peer),
                                again = std::make_shared<Incoming>(std::move(message))] {
      if (const auto to = caller.lock()) Handle(to, std::move(*again));
    });
    return absl::OkStatus();
  }
  auto held = std::make_shared<std::vector<UniqueFd>>(std::move(message.fds));
  Request request;
  request.template_name = isolate->template_name;
  Command& command = request.command;
  command.argv = std::move(exec.argv);
  command.env = std::move(exec.env);
  command.cwd = std::move(exec.cwd);
  command.timeout = Duration(exec.timeout_ns);
  BROOD_ASSIGN_OR_RETURN(command.stdio, StdioOf(*peer, exec.io, exec.rows, exec.columns, *held));
  const Held cost = {held->size() + kNamespaceCount, BytesOf(command.argv, command.env)};
  const auto namespaces = std::make_shared<std::vector<UniqueFd>>();
  Spec& spec = request.spec.emplace(*isolate->spec);
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    if (spec.namespaces[i].mode == NamespaceMode::kHost) continue;
    const std::string path = NamespacePath(isolate->host_pid, static_cast<NamespaceKind>(i));
    const UniqueFd& fd = namespaces->emplace_back(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    // One that is dying has none any more, before anybody hears that it has ended.
    if (!fd.valid() && (errno == ENOENT || errno == ESRCH))
      return NotRunning(*isolate, "has ended");
    if (!fd.valid()) return ErrnoError(errno, "opening {}", path);
    spec.namespaces[i] = {NamespaceMode::kJoin, fmt::format("/proc/self/fd/{}", fd.get())};
  }
  spec.time_offsets = {};
  spec.init = false;
  spec.root = {};
  spec.binds.clear();
  spec.tmpfs.clear();
  spec.limits = {};
  if (!isolate->leaf.empty()) {
    request.leaf = isolate->leaf.substr(isolate->leaf.rfind('/') + 1);
  }
  // The number is known when Submit returns; what needs it comes later, in this thread.
  const auto number = std::make_shared<std::uint64_t>(0);
  request.on_started = [this, number](const Started& started) {
    execs_[*number].host_pid = started.host_pid;
  };
  BROOD_RETURN_IF_ERROR(Hold(cost));
  absl::Status submitted = pool_.Submit(
      std::move(request),
      [this, held, caller = std::weak_ptr<Peer>(peer), tag, number, namespaces,
       cost](const absl::StatusOr<Outcome>& outcome) {
        LetGo(cost);
        execs_.erase(*number);
        if (const auto to = caller.lock()) {
          to->foreground.erase(tag);
          if (outcome.ok()) {
            to->Answer(tag, EndedMessage(*outcome));
          } else {
            to->Refuse(tag, outcome.status());
          }
        }
        CheckIdle();
      },
      number.get());
  if (!submitted.ok()) {
    LetGo(cost);
    return submitted;
  }
  execs_[*number] = {isolate->id, isolate->name, 0, {}};
  peer->foreground[tag] = *number;
  return absl::OkStatus();
}

absl::Status Service::OnSignal(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const SignalTo to, DecodeBody<SignalTo>(message.body));
  const int number = to.order.number;
  if (number < 0 || number >= SIGRTMAX + 1) {
    return InvalidError("there is no signal {}", number);
  }
  const auto send = [&](std::uint64_t request) {
    return number == 0 ? pool_.Kill(request) : pool_.Signal(request, to.order);
  };
  if (to.isolate.empty()) {
    const auto own = peer->foreground.find(message.header.tag);
    // It may have ended while the signal was on its way; or it waits still, with nobody there to
    // handle what asks for its end.
    if (own != peer->foreground.end() && !send(own->second).ok() && AsksToEnd(number) &&
        to.order.handlers_only == 0) {
      (void)pool_.Kill(own->second);
    }
    peer->AnswerDone(message.header.tag);
    return absl::OkStatus();
  }
  BROOD_ASSIGN_OR_RETURN(const Isolate* const isolate, FindRunning(to.isolate));
  BROOD_RETURN_IF_ERROR(MayTouch(*peer, *isolate, "signal it"));
  BROOD_RETURN_IF_ERROR(send(isolate->request));
  peer->AnswerDone(message.header.tag);
  return absl::OkStatus();
}

absl::Status Service::OnAskReads(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const AskReads ask, DecodeBody<AskReads>(message.body));
  std::int32_t pid = 0;  // of what has not ended, so the number is its own
  if (const auto own = peer->foreground.find(ask.tag); own != peer->foreground.end()) {
    if (const auto exec = execs_.find(own->second); exec != execs_.end()) {
      pid = exec->second.host_pid;
    }
    for (const Isolate& isolate : isolates_.all()) {
      if (isolate.request == own->second && isolate.state == IsolateState::kRunning) {
        pid = isolate.host_pid;
      }
    }
  }
  const bool waits = pid > 0 && WaitsToRead(pid, {ask.device, ask.inode});
  peer->Answer(message.header.tag, Reads{static_cast<std::uint8_t>(waits)});
  return absl::OkStatus();
}

absl::Status Service::OnStop(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const StopIsolate stop, DecodeBody<StopIsolate>(message.body));
  BROOD_ASSIGN_OR_RETURN(Isolate* const isolate, FindRunning(stop.isolate));
  BROOD_RETURN_IF_ERROR(MayTouch(*peer, *isolate, "stop it"));
  BROOD_RETURN_IF_ERROR(peer->BeginWait());
  if (absl::Status sent = pool_.Signal(isolate->request, {SIGTERM}); !sent.ok()) {
    peer->EndWait();
    return sent;
  }
  // The earliest end that anybody has asked for counts.
  const std::uint64_t request = isolate->request;
  const Timers::Id timer = timers_.Add(std::chrono::nanoseconds(static_cast<std::int64_t>(
                                           std::min(stop.grace_ns, std::uint64_t{1} << 62))),
                                       [this, request] { (void)pool_.Kill(request); });
  if (const auto [other, first] = stop_timers_.try_emplace(isolate->id, timer); !first) {
    timers_.Cancel(std::max(other->second, timer));
    other->second = std::min(other->second, timer);
  }
  isolate->on_end.push_back(
      {peer.get(), [caller = std::weak_ptr<Peer>(peer), tag = message.header.tag](const Isolate&) {
         // That it ended is not how it ended.
         if (const auto to = caller.lock()) {
           to->EndWait();
           to->AnswerDone(tag);
         }
         return false;
       }});
  return absl::OkStatus();
}

absl::Status Service::OnWait(const PeerPtr& peer, const Incoming& message) {
  BROOD_ASSIGN_OR_RETURN(const IsolateName name, DecodeBody<IsolateName>(message.body));
  BROOD_ASSIGN_OR_RETURN(Isolate* const isolate, isolates_.Find(name.isolate));
  BROOD_RETURN_IF_ERROR(peer->BeginWait());
  const auto tell = [caller = std::weak_ptr<Peer>(peer),
                     tag = message.header.tag](const Isolate& ended) {
    const auto to = caller.lock();
    if (!to) return false;
    to->EndWait();
    to->Answer(tag, ended.outcome ? EndedMessage(*ended.outcome) : Ended{125, ended.refusal, {}});
    return true;
  };
  if (isolate->state == IsolateState::kEnded) {
    if (tell(*isolate)) isolates_.Told(*isolate);
  } else {
    isolate->on_end.push_back({peer.get(), tell});
  }
  return absl::OkStatus();
}

void Service::Drain(std::function<void()> idle) {
  idle_ = std::move(idle);
  CheckIdle();
}

void Service::CheckIdle() {
  if (idle_ && isolates_.living() == 0 && execs_.empty()) idle_();
}

void Service::KillAll() {
  // What waits is answered at once, which changes the list.
  std::vector<std::uint64_t> requests;
  for (const Isolate& isolate : isolates_.all()) {
    if (isolate.state != IsolateState::kEnded) requests.push_back(isolate.request);
  }
  for (const auto& [number, exec] : execs_) requests.push_back(number);
  for (const std::uint64_t request : requests) (void)pool_.Kill(request);
}

}  // namespace brood
