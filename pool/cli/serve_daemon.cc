// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/serve_daemon.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "pool/cli/deployed.h"
#include "pool/cli/orders.h"
#include "pool/cli/serve_log.h"
#include "pool/cli/served_config.h"
#include "pool/core/job_thread.h"
#include "pool/core/run_in_pool.h"
#include "pool/daemon/client.h"
#include "pool/daemon/memory_reserve.h"
#include "pool/daemon/server.h"
#include "pool/daemon/service.h"
#include "pool/functions/agent_check.h"
#include "pool/functions/async_calls.h"
#include "pool/functions/router.h"
#include "pool/http/server.h"
#include "pool/pool.h"
#include "spawn/base/clock.h"
#include "spawn/base/status.h"
#include "spawn/cgroup/cgroup.h"
#include "spawn/cgroup/cgroup_controllers.h"
#include "spawn/host/cgroup_host.h"

namespace brood {
namespace {

class Daemon {
 public:
  Daemon(const ServeWords& words, UniqueFd signals) : words_(words), signals_(std::move(signals)) {}

  absl::Status Run() {
    idle_.reset(eventfd(0, EFD_CLOEXEC));
    if (!idle_.valid()) return ErrnoError(errno, "making an eventfd");
    BROOD_RETURN_IF_ERROR(orders_.Open());
    BROOD_ASSIGN_OR_RETURN(config_, ReadServeConfig(words_));
    LogProblems(config_);
    // What our memory and descriptors hold is nobody's business, least of all a worker's that is
    // entering an isolate. Without privilege it would keep us from writing id maps.
    if (geteuid() == 0) prctl(PR_SET_DUMPABLE, 0);
    std::string path = config_.socket.value_or("");
    if (path.empty()) {
      BROOD_ASSIGN_OR_RETURN(path, DefaultListenPath());
    }
    if (const std::size_t slash = path.rfind('/'); slash != std::string::npos && slash > 0) {
      // /run is empty after a boot
      mkdir(path.substr(0, slash).c_str(), geteuid() == 0 ? 0755 : 0700);
    }
    BROOD_ASSIGN_OR_RETURN(ListeningSocket socket, ListeningSocket::Bind(path, config_.group));
    UniqueFd http_socket;
    if (!words_.http.empty()) {
      BROOD_ASSIGN_OR_RETURN(http_socket, OpenDoor());
    }
    std::unique_ptr<CallStore> store;
    if (!config_.http.calls.empty()) {
      BROOD_ASSIGN_OR_RETURN(store, CallStore::Open(config_.http.calls));
    }
    BROOD_RETURN_IF_ERROR(jobs_.Start());
    BROOD_RETURN_IF_ERROR(StartPool());

    Service::Options options;
    options.log_bytes = config_.log_bytes.value_or(options.log_bytes);
    options.max_running = config_.max_running.value_or(kMaxRunning);
    options.max_unclaimed = config_.max_unclaimed.value_or(options.max_unclaimed);
    options.elsewhere = [this](std::function<void()> job) { jobs_.Add(std::move(job)); };
    options.memory_is_short = [] { return MemoryReserve::Short(); };
    options.log_end = [this](const Isolate& isolate) {
      if (words_.verbose || !isolate.outcome) LogEvent("isolate", ToJson(isolate, /*whole=*/false));
    };
    Service service(*pool_, std::move(options));
    Timers http_timers(*pool_);
    RunningCalls running;
    CallLog call_log(running);
    const CallSink log = [&](CallReport report) { LogCall(call_log.Add(std::move(report))); };
    std::unique_ptr<AsyncCalls> calls;
    if (store) {
      calls = std::make_unique<AsyncCalls>(
          *pool_, http_timers,
          AsyncCalls::Options{.keep = config_.http.keep,
                              .max_calls = config_.http.max_calls,
                              .log = log,
                              .complain =
                                  [](std::string_view why) {
                                    LogEvent("calls", {{"why", std::string(why)}});
                                  },
                              .running = &running});
      BROOD_RETURN_IF_ERROR(calls->Open(std::move(store)));
    }
    calls_ = calls.get();
    Router router(*pool_, http_timers,
                  {.memory_is_short = [] { return MemoryReserve::Short(); },
                   .log = log,
                   .version = BROOD_VERSION,
                   .calls = calls_,
                   .running = &running,
                   .calls_log = &call_log,
                   .change =
                       [this](ServedChange change, auto done) {
                         orders_.Add([this, change = std::move(change), done = std::move(done)] {
                           Tell(Change(change), done);
                         });
                       },
                   .max_running = config_.max_running.value_or(kMaxRunning)});
    AgentCheck agent(*pool_, http_timers,
                     [&router](const std::string& name) { return router.TellBalancer(name); });
    UniqueFd agent_socket;
    if (!config_.http.agent.empty()) {
      HttpOptions at;
      BROOD_RETURN_IF_ERROR(ParseHttpAddress(config_.http.agent, at));
      BROOD_ASSIGN_OR_RETURN(agent_socket, ListenHttp(at, at.port));
      LogEvent("agent", {{"address", at.address}, {"port", at.port}});
    }
    HttpServer http(*pool_, http_timers, config_.http, std::move(http_socket),
                    [&](HttpConnection& connection, const RequestHead& head) {
                      return router.Handle(connection, head);
                    });
    Server server(*pool_, service, socket, [&http](UniqueFd user_socket, uid_t user) {
      http.Adopt(std::move(user_socket), user);
    });
    http_ = &http;
    router_ = &router;
    served_.emplace(config_, *pool_, service, router, jobs_);
    served_->PublishTemplates();
    const absl::Status opened = InPool([&]() -> absl::Status {
      BROOD_RETURN_IF_ERROR(service.Open());
      BROOD_RETURN_IF_ERROR(http_timers.Open());
      BROOD_RETURN_IF_ERROR(http.Open());
      if (agent_socket.valid()) {
        BROOD_RETURN_IF_ERROR(agent.Open(std::move(agent_socket)));
      }
      router.SetTokens(config_.tokens);
      for (const ServeFunction& each : config_.functions) router.Put(each.options);
      if (calls_ != nullptr) {
        calls_->Start([&router](const std::string& name) { return router.Find(name); });
      }
      return server.Open();
    });
    if (opened.ok()) {
      LogEvent("listening", {{"socket", path}, {"pid", getpid()}, {"cgroup", pool_->CgroupPath()}});
      for (const Fallback& each : pool_->Stats().fallbacks) {
        LogEvent("not had", {{"wanted", each.wanted}, {"used", each.used}, {"errno", each.error}});
      }
      if (!words_.http.empty() || !config_.functions.empty()) LogHttp(http);
      NotifyManager("READY=1");
      WaitForEnd(service, server);
    }
    (void)InPool([&] {
      call_log.Close();
      agent.Close();
      http.Close();
      router.Close();
      if (calls_ != nullptr) calls_->Close();
      http_timers.Close();
      server.Close();
      service.Close();
      return absl::OkStatus();
    });
    const absl::Status ended = pool_->Shutdown(std::chrono::nanoseconds(0));
    LogEvent("ended", {});
    return opened.ok() ? ended : opened;
  }

 private:
  static constexpr std::uint32_t kMaxRunning = 1024;

  // A daemon that was killed leaves its cgroups; its processes died with it.
  static void ClearLeftovers(const CgroupHost& host) {
    const absl::StatusOr<int> cleared = ParentCgroup::ClearLeftovers(host);
    if (!cleared.ok()) {
      LogEvent("not cleaned", {{"why", std::string(Message(cleared.status()))}});
    } else if (*cleared > 0) {
      LogEvent("cleaned", {{"cgroups_of_dead_launchers", *cleared}});
    }
  }

  // What went well, or was turned away, is told to those who ask (CallLog).
  void LogCall(const CallReport& report) const {
    const bool told = !report.end.empty() && report.end != "refused";
    if (!told && !words_.verbose) return;
    nlohmann::ordered_json details = {{"function", report.function}, {"end", report.end}};
    if (!report.id.empty()) details["id"] = report.id;
    if (words_.verbose && !report.method.empty()) {
      details["request"] = report.method + " " + report.target;
      details["total_us"] = report.total_us;
    }
    if (report.status != 0) details["status"] = report.status;
    if (!report.message.empty()) details["message"] = report.message;
    if (!report.err.empty()) details["stderr"] = report.err;
    LogEvent("call", details);
  }

  // Where requests come in.
  absl::StatusOr<UniqueFd> OpenDoor() {
    HttpOptions& http = config_.http;
    UniqueFd socket;
    if (http.inherited) {
      BROOD_ASSIGN_OR_RETURN(socket, InheritHttp());
    } else if (!http.path.empty()) {
      BROOD_ASSIGN_OR_RETURN(http_path_, ListeningSocket::Bind(http.path, config_.group));
      socket.reset(fcntl(http_path_->fd(), F_DUPFD_CLOEXEC, 3));
      if (!socket.valid()) return ErrnoError(errno, "listening for HTTP on {}", http.path);
    } else {
      BROOD_ASSIGN_OR_RETURN(socket, ListenHttp(http, http.port));
    }
    if (IsReachedFromOutside(socket.get()) && !config_.tokens && !http.open) {
      return InvalidError(
          "without tokens, everyone who reaches {} could call every function: name a file of "
          "tokens ([http] tokens = FILE), listen on 127.0.0.1, or say open = true there",
          words_.http);
    }
    return socket;
  }

  void LogHttp(const HttpServer& http) {
    nlohmann::ordered_json details;
    if (words_.http.empty()) {
      details["socket"] = "the daemon's own";
    } else if (config_.http.inherited) {
      details["inherited"] = true;
    } else if (!config_.http.path.empty()) {
      details["path"] = config_.http.path;
    } else {
      details["address"] = config_.http.address;
      details["port"] = config_.http.port;
    }
    details["max_connections"] = http.max_connections();
    details["functions"] = config_.functions.size();
    if (config_.tokens) details["tokens"] = config_.tokens->size();
    LogEvent("http", details);
  }

  absl::Status StartPool() {
    PoolOptions options;
    if (const auto host = CgroupHost::Discover(); host.ok()) {
      ClearLeftovers(*host);
      // A submission that asks for a limit which cannot be had here is told which controller lacks.
      options.limits_wanted = LimitsToBeHad(*host);
    }
    for (const ServeTemplate& each : config_.templates) options.templates.push_back(each.options);
    for (const ServeFunction& each : config_.functions) {
      if (each.own_template) options.templates.push_back(*each.own_template);
    }
    options.max_running = config_.max_running.value_or(kMaxRunning);
    if (!words_.http.empty()) options.watched_fds = config_.http.max_connections;
    BROOD_ASSIGN_OR_RETURN(pool_, Pool::Create(std::move(options)));
    return absl::OkStatus();
  }

  absl::Status InPool(const std::function<absl::Status()>& task) { return RunInPool(*pool_, task); }

  absl::StatusOr<ServedChanges> Reload() {
    BROOD_ASSIGN_OR_RETURN(ServeConfig next, ReadServeConfig(words_));
    return served_->Change(std::move(next));
  }

  // As a user asks for it. Nothing is kept of one that fails.
  absl::StatusOr<ServedChanges> Change(const ServedChange& change) {
    if (draining_) return Error(absl::StatusCode::kUnavailable, "the daemon is shutting down");
    switch (change.kind) {
      case ServedChange::Kind::kReload:
        return Reload();
      case ServedChange::Kind::kRenew: {
        BROOD_ASSIGN_OR_RETURN(ServeConfig next, ReadServeConfig(words_));
        return ChangeOnceReady(std::move(next), {change.subject});
      }
      case ServedChange::Kind::kDeploy:
        return Deploy(change.subject);
      case ServedChange::Kind::kUndeploy:
        return Undeploy(change.subject);
    }
    return InvalidError("there is no such change");
  }

  absl::StatusOr<ServedChanges> ChangeOnceReady(ServeConfig next, std::set<std::string> renewed) {
    // A signal is more urgent: it may be the end.
    const auto give_up = [this] {
      pollfd fd{signals_.get(), POLLIN, 0};
      return poll(&fd, 1, 0) == 1;
    };
    return served_->ChangeOnceReady(std::move(next), std::move(renewed), give_up);
  }

  absl::StatusOr<ServedChanges> Deploy(const std::string& path) {
    if (config_.deployed.empty()) {
      return InvalidError(
          "this daemon's configuration names no directory to note it in: set deployed = DIR there");
    }
    if (!path.starts_with('/')) return InvalidError("the path to deploy has to be absolute");
    BROOD_ASSIGN_OR_RETURN(const std::string file, DeployableFile(path));
    BROOD_ASSIGN_OR_RETURN(const ServeConfig wanted, ReadDeployable(file));
    BROOD_ASSIGN_OR_RETURN(
        const DeployedLink link,
        DeployedLink::Put(config_.deployed, wanted.functions.front().options.name, file));
    absl::StatusOr<ServedChanges> changed = ChangeTo(link, wanted);
    if (!changed.ok()) BROOD_RETURN_IF_ERROR(link.PutBack());
    return changed;
  }

  // To all that is configured and deployed, with `link`, which leads to `wanted`.
  absl::StatusOr<ServedChanges> ChangeTo(const DeployedLink& link, const ServeConfig& wanted) {
    BROOD_ASSIGN_OR_RETURN(ServeConfig next, ReadServeConfig(words_));
    for (const DeployProblem& each : next.problems) {
      if (each.link == link.path()) return InvalidError("{}", each.why);
    }
    // Its program may be new where its words are not.
    std::set<std::string> renewed;
    for (const ServeFunction& each : wanted.functions) renewed.insert(each.options.name);
    return ChangeOnceReady(std::move(next), std::move(renewed));
  }

  absl::StatusOr<ServedChanges> Undeploy(const std::string& function) {
    if (config_.deployed.empty()) {
      return Error(absl::StatusCode::kNotFound, "nothing was deployed as {}", function);
    }
    BROOD_ASSIGN_OR_RETURN(const DeployedLink link,
                           DeployedLink::Remove(config_.deployed, function));
    absl::StatusOr<ServedChanges> changed = Reload();
    if (!changed.ok()) BROOD_RETURN_IF_ERROR(link.PutBack());
    return changed;
  }

  // To the log, and to who has asked for it, if anybody has.
  void Tell(const absl::StatusOr<ServedChanges>& changed,
            const std::function<void(const absl::StatusOr<std::string>&)>& done) {
    if (changed.ok()) {
      nlohmann::ordered_json details = nlohmann::ordered_json::parse(changed->ToJson());
      LogEvent("reloaded", details);
    } else {
      LogEvent("not reloaded", {{"why", std::string(Message(changed.status()))}});
    }
    if (!done) return;
    (void)InPool([&] {
      if (changed.ok()) {
        done(changed->ToJson());
      } else {
        done(changed.status());
      }
      return absl::OkStatus();
    });
  }

  // Whether a caller of a function still waits for an answer, or reads it, or a function runs whose
  // caller does not.
  bool HttpBusy() {
    bool busy = false;
    (void)InPool([&] {
      busy = !http_->idle() || (calls_ != nullptr && !calls_->idle());
      return absl::OkStatus();
    });
    return busy;
  }

  void WaitForEnd(Service& service, Server& server) {
    service_ = &service;
    bool service_idle = false;
    for (;;) {
      std::array<pollfd, 3> fds{
          {{signals_.get(), POLLIN, 0}, {idle_.get(), POLLIN, 0}, {orders_.fd(), POLLIN, 0}}};
      if (service_idle) fds[1].fd = -1;
      if (poll(fds.data(), fds.size(), PollTime(service_idle)) < 0) continue;
      if (fds[1].revents != 0) service_idle = true;
      if (service_idle && !HttpBusy()) return;
      if (drain_until_ns_ != 0 && NowNs() >= drain_until_ns_) {
        drain_until_ns_ = 0;
        EndAll("drain");
      }
      if (fds[2].revents != 0) orders_.Run();
      if (fds[0].revents == 0) continue;
      signalfd_siginfo info{};
      if (read(signals_.get(), &info, sizeof(info)) != sizeof(info)) continue;
      if (info.ssi_signo == SIGHUP && draining_) {
        LogEvent("not reloaded", {{"why", "the daemon is ending"}});
      } else if (info.ssi_signo == SIGHUP) {
        Tell(Reload(), nullptr);
      } else if (draining_) {
        EndAll("signal");
      } else {
        LogEvent("draining", {{"signal", info.ssi_signo}});
        Drain(server);
      }
    }
  }

  // Milliseconds until there is something to look at; -1: only when it is told.
  int PollTime(bool service_idle) const {
    if (service_idle) return 20;
    if (drain_until_ns_ == 0) return -1;
    return static_cast<int>(std::clamp<std::int64_t>((drain_until_ns_ - NowNs()) / 1'000'000 + 1, 0,
                                                     std::numeric_limits<int>::max()));
  }

  void Drain(Server& server) {
    draining_ = true;
    NotifyManager("STOPPING=1");
    if (config_.drain.count() > 0) drain_until_ns_ = NowNs() + config_.drain.count();
    (void)InPool([&] {
      router_->Drain();
      if (calls_ != nullptr) calls_->Drain();
      http_->StopListening();
      server.StopListening();
      service_->Drain([this] {
        const std::uint64_t one = 1;
        (void)!write(idle_.get(), &one, sizeof(one));
      });
      return absl::OkStatus();
    });
    http_path_.reset();
  }

  // What has not ended by itself.
  void EndAll(std::string_view why) {
    (void)InPool([&] {
      nlohmann::ordered_json details = {{"why", why}, {"running", pool_->Stats().running}};
      details["calls"] = router_->running();
      LogEvent("ending at once", details);
      service_->KillAll();
      http_->Close();
      if (calls_ != nullptr) calls_->Close();
      return absl::OkStatus();
    });
  }

  const ServeWords& words_;
  MemoryReserve reserve_;
  UniqueFd signals_;
  ServeConfig config_;  // as it was at the start
  UniqueFd idle_;       // eventfd: nothing runs any more
  std::unique_ptr<Pool> pool_;
  std::optional<ListeningSocket> http_path_;  // of --http PATH
  HttpServer* http_ = nullptr;
  Router* router_ = nullptr;
  AsyncCalls* calls_ = nullptr;  // where they are kept
  Service* service_ = nullptr;
  bool draining_ = false;
  std::int64_t drain_until_ns_ = 0;  // 0: without end
  std::optional<ServedConfig> served_;
  Orders orders_;
  JobThread jobs_;  // its jobs use the others
};

}  // namespace

absl::StatusOr<UniqueFd> TakeSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, number);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return ErrnoError(errno, "blocking signals");
  (void)std::signal(SIGPIPE, SIG_IGN);
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd.valid()) return ErrnoError(errno, "taking signals");
  return fd;
}

absl::Status Serve(const ServeWords& words, UniqueFd signals) {
  return Daemon(words, std::move(signals)).Run();
}

}  // namespace brood
