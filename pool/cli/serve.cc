// brood serve: the daemon.
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <future>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "pool/cli/commands.h"
#include "pool/cli/function_changes.h"
#include "pool/cli/serve_config.h"
#include "pool/daemon/client.h"
#include "pool/daemon/memory_reserve.h"
#include "pool/daemon/server.h"
#include "pool/daemon/service.h"
#include "pool/functions/async_calls.h"
#include "pool/functions/http_server.h"
#include "pool/functions/router.h"
#include "pool/pool.h"
#include "pool/start_thread.h"
#include "spawn/cgroup.h"
#include "spawn/cgroup_controllers.h"
#include "spawn/cgroup_host.h"
#include "spawn/source_state.h"
#include "spawn/status.h"

namespace brood {
namespace {

struct ServeWords {
  std::string config_file;
  std::string socket;
  std::string group;
  std::string http;
  std::vector<std::string> templates;
  std::optional<std::uint32_t> pool;
  std::uint32_t max_running = 0;
  std::uint32_t max_unclaimed = 0;
  bool verbose = false;
};

// One JSON object a line on stderr, where systemd and people read it.
void Log(std::string_view event, const nlohmann::ordered_json& details) {
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::system_clock::now().time_since_epoch());
  nlohmann::ordered_json line = {{"time", static_cast<double>(now.count()) / 1000},
                                 {"event", event}};
  if (details.is_object()) line.update(details);
  const std::string text =
      line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  (void)!write(STDERR_FILENO, text.data(), text.size());
}

// sd_notify(3): a datagram to the socket that systemd names. Nobody listens: nothing is sent.
void NotifyManager(std::string_view state) {
  const char* const path = std::getenv("NOTIFY_SOCKET");
  sockaddr_un address{};
  if (path == nullptr || std::strlen(path) >= sizeof(address.sun_path)) return;
  const UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path, std::strlen(path));
  if (address.sun_path[0] == '@') address.sun_path[0] = '\0';
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + std::strlen(path));
  (void)sendto(fd.get(), state.data(), state.size(), MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&address), length);
}

// Runs jobs that take their time, one after the other.
class JobThread {
 public:
  absl::Status Start() {
    return StartThread(thread_, [this] { Loop(); });
  }
  ~JobThread() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
  void Add(std::function<void()> job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
  }

 private:
  void Loop() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
      if (stop_) return;
      const std::function<void()> job = std::move(jobs_.front());
      jobs_.pop_front();
      lock.unlock();
      job();
      lock.lock();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

absl::StatusOr<ServeConfig> ReadConfig(const ServeWords& words) {
  ServeConfig config;
  if (!words.config_file.empty()) {
    std::ifstream file(words.config_file);
    if (!file) return ErrnoError(errno, "reading the configuration {}", words.config_file);
    std::stringstream text;
    text << file.rdbuf();
    BROOD_ASSIGN_OR_RETURN(config, ParseServeConfig(text.str(), words.config_file));
  }
  for (const std::string& word : words.templates) {
    const std::size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const std::string rest = equals == std::string::npos ? "" : word.substr(equals + 1);
    BROOD_ASSIGN_OR_RETURN(ServeTemplate parsed, ParseServeTemplate(name, SplitWords(rest)));
    const auto same = std::find_if(config.templates.begin(), config.templates.end(),
                                   [&](const auto& each) { return each.options.name == name; });
    if (same == config.templates.end()) {
      config.templates.push_back(std::move(parsed));
    } else {
      *same = std::move(parsed);
    }
  }
  if (config.templates.empty()) {
    BROOD_ASSIGN_OR_RETURN(ServeTemplate host, ParseServeTemplate("default", {}));
    if (words.pool) host.options.parked = *words.pool;
    config.templates.push_back(std::move(host));
  } else if (words.pool) {
    return InvalidError(
        "--pool is for a daemon without templates: template {} says with `parked` how many "
        "it keeps",
        config.templates.front().options.name);
  }
  if (words.http.empty() && !config.functions.empty()) {
    return InvalidError("{} has functions, which nobody can call without --http ADDRESS:PORT",
                        words.config_file);
  }
  for (ServeTemplate& each : config.templates) each.sources = SourceState(each.options.spec);
  for (ServeFunction& each : config.functions) {
    if (each.own_template) {
      each.sources = SourceState(each.own_template->spec);
      continue;
    }
    const std::string& wanted = each.options.template_name;
    const auto tmpl = std::find_if(config.templates.begin(), config.templates.end(),
                                   [&](const auto& one) { return one.options.name == wanted; });
    const absl::Status fit = tmpl == config.templates.end()
                                 ? InvalidError("there is no template \"{}\"", wanted)
                                 : FitFunction(tmpl->options.spec, each.options);
    if (!fit.ok()) {
      return Error(fit.code(), "function {}: {}", each.options.name, Message(fit));
    }
  }
  if (!words.http.empty()) BROOD_RETURN_IF_ERROR(ParseHttpAddress(words.http, config.http));
  if (!words.socket.empty()) config.socket = words.socket;
  if (!words.group.empty()) config.group = words.group;
  if (words.max_running != 0) config.max_running = words.max_running;
  if (words.max_unclaimed != 0) config.max_unclaimed = words.max_unclaimed;
  return config;
}

// Before there are threads, which inherit what is blocked; workers start with nothing blocked.
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

class Daemon {
 public:
  Daemon(const ServeWords& words, UniqueFd signals) : words_(words), signals_(std::move(signals)) {}

  absl::Status Run() {
    idle_.reset(eventfd(0, EFD_CLOEXEC));
    if (!idle_.valid()) return ErrnoError(errno, "making an eventfd");
    BROOD_ASSIGN_OR_RETURN(config_, ReadConfig(words_));
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
      BROOD_ASSIGN_OR_RETURN(http_socket, ListenHttp(config_.http, config_.http.port));
    }
    std::unique_ptr<CallStore> store;
    if (!words_.http.empty() && !config_.http.calls.empty()) {
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
      if (words_.verbose || !isolate.outcome) Log("isolate", ToJson(isolate, /*whole=*/false));
    };
    Service service(*pool_, std::move(options));
    Server server(*pool_, service, socket);
    service_ = &service;
    Timers http_timers(*pool_);
    std::unique_ptr<AsyncCalls> calls;
    if (store) {
      calls = std::make_unique<AsyncCalls>(
          *pool_, http_timers,
          AsyncCalls::Options{.keep = config_.http.keep,
                              .max_calls = config_.http.max_calls,
                              .log = LogCall,
                              .complain = [](std::string_view why) {
                                Log("calls", {{"why", std::string(why)}});
                              }});
      BROOD_RETURN_IF_ERROR(calls->Open(std::move(store)));
    }
    calls_ = calls.get();
    Router router(*pool_, http_timers,
                  {.memory_is_short = [] { return MemoryReserve::Short(); },
                   .log = LogCall,
                   .version = BROOD_VERSION,
                   .calls = calls_});
    HttpServer http(*pool_, http_timers, config_.http, std::move(http_socket),
                    [&](HttpConnection& connection, const RequestHead& head) {
                      return router.Handle(connection, head);
                    });
    if (!words_.http.empty()) {
      http_ = &http;
      router_ = &router;
    }
    PublishTemplates();
    const absl::Status opened = InPool([&] {
      if (const absl::Status timers = service.Open(); !timers.ok()) return timers;
      if (http_ != nullptr) {
        BROOD_RETURN_IF_ERROR(http_timers.Open());
        BROOD_RETURN_IF_ERROR(http.Open());
        for (const ServeFunction& each : config_.functions) router.Put(each.options);
        if (calls_ != nullptr) {
          calls_->Start([&router](const std::string& name) { return router.Find(name); });
        }
      }
      return server.Open();
    });
    if (opened.ok()) {
      Log("listening", {{"socket", path}, {"pid", getpid()}, {"cgroup", pool_->CgroupPath()}});
      for (const Fallback& each : pool_->Stats().fallbacks) {
        Log("not had", {{"wanted", each.wanted}, {"used", each.used}, {"errno", each.error}});
      }
      if (http_ != nullptr) {
        Log("http", {{"address", config_.http.address},
                     {"port", config_.http.port},
                     {"max_connections", http.max_connections()},
                     {"functions", config_.functions.size()}});
      }
      NotifyManager("READY=1");
      WaitForEnd(service, server);
    }
    (void)InPool([&] {
      if (http_ != nullptr) {
        http.Close();
        router.Close();
        if (calls_ != nullptr) calls_->Close();
        http_timers.Close();
      }
      server.Close();
      service.Close();
      return absl::OkStatus();
    });
    const absl::Status ended = pool_->Shutdown(std::chrono::nanoseconds(0));
    Log("ended", {});
    return opened.ok() ? ended : opened;
  }

 private:
  static constexpr std::uint32_t kMaxRunning = 1024;

  // A daemon that was killed leaves its cgroups; its processes died with it.
  static void ClearLeftovers() {
    const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
    if (!host.ok()) return;
    const absl::StatusOr<int> cleared = CgroupNest::ClearLeftovers(*host);
    if (!cleared.ok()) {
      Log("not cleaned", {{"why", std::string(Message(cleared.status()))}});
    } else if (*cleared > 0) {
      Log("cleaned", {{"cgroups_of_dead_launchers", *cleared}});
    }
  }

  static void LogCall(const Call::Report& report) {
    nlohmann::ordered_json details = {{"function", report.function}, {"end", report.end}};
    if (report.status != 0) details["status"] = report.status;
    if (!report.message.empty()) details["message"] = report.message;
    if (!report.err.empty()) details["stderr"] = report.err;
    Log("call", details);
  }

  absl::Status StartPool() {
    ClearLeftovers();
    PoolOptions options;
    for (const ServeTemplate& each : config_.templates) options.templates.push_back(each.options);
    for (const ServeFunction& each : config_.functions) {
      if (each.own_template) options.templates.push_back(*each.own_template);
    }
    // A submission that asks for a limit which cannot be had here is told which controller lacks.
    if (const auto host = CgroupHost::Discover(); host.ok()) {
      options.limits_wanted = LimitsToBeHad(*host);
    }
    options.max_running = config_.max_running.value_or(kMaxRunning);
    if (!words_.http.empty()) options.watched_fds = config_.http.max_connections;
    BROOD_ASSIGN_OR_RETURN(pool_, Pool::Create(std::move(options)));
    return absl::OkStatus();
  }

  // Runs `task` in the pool's thread and waits for it.
  absl::Status InPool(const std::function<absl::Status()>& task) {
    std::promise<absl::Status> done;
    if (!pool_->Post([&] { done.set_value(task()); })) {
      return Error(absl::StatusCode::kUnavailable, "the pool is shut down");
    }
    return done.get_future().get();
  }

  void PublishTemplates() {
    Service::Templates templates;
    for (const ServeTemplate& each : config_.templates) {
      templates.emplace_back(each.options.name, std::make_shared<const Spec>(each.options.spec));
    }
    (void)InPool([&] {
      service_->SetTemplates(std::move(templates));
      return absl::OkStatus();
    });
  }

  // Templates and functions whose words, or what these lead to, have changed are replaced, and
  // those that are gone taken away. A file that cannot be understood changes nothing, nor does a
  // function whose fences cannot be made; a template that cannot be made ends the change there.
  absl::Status Reload() {
    BROOD_ASSIGN_OR_RETURN(ServeConfig next, ReadConfig(words_));
    next.http.address = config_.http.address;
    next.http.port = config_.http.port;
    if (next.socket != config_.socket || next.group != config_.group ||
        next.max_running != config_.max_running || next.log_bytes != config_.log_bytes ||
        next.max_unclaimed != config_.max_unclaimed || next.http != config_.http) {
      Log("needs a restart",
          {{"settings", "socket, group, max-running, max-unclaimed, log-size, [http]"}});
    }
    FunctionChanges changes = ChangedFunctions(config_, next);
    BROOD_RETURN_IF_ERROR(PutOwnTemplates(changes.put));
    const absl::Status put = PutTemplates(next.templates);
    if (put.ok()) {
      SwitchFunctions(changes);
    } else {
      for (const ServeFunction& each : changes.put) RemoveOwnTemplate(each);
    }
    const absl::Status changed = put.ok() ? RemoveTemplates(next.templates) : put;
    PublishTemplates();  // what has been changed, also when something was wrong
    return changed;
  }

  // Each under a new name: calls of the function as it was may still wait for the old one.
  absl::Status PutOwnTemplates(std::vector<ServeFunction>& functions) {
    ++reloads_;
    for (std::size_t i = 0; i < functions.size(); ++i) {
      if (!functions[i].own_template) continue;
      std::string& name = functions[i].own_template->name;
      name = functions[i].options.template_name = fmt::format("{}:{}", name, reloads_);
      const absl::Status put = pool_->PutTemplate(*functions[i].own_template);
      if (put.ok()) continue;
      for (std::size_t done = 0; done < i; ++done) RemoveOwnTemplate(functions[done]);
      return Error(put.code(), "function {}: {}", functions[i].options.name, Message(put));
    }
    return absl::OkStatus();
  }

  void RemoveOwnTemplate(const ServeFunction& function) {
    if (!function.own_template) return;
    const absl::Status removed = pool_->RemoveTemplate(function.own_template->name);
    if (!removed.ok()) Log("not removed", {{"why", std::string(Message(removed))}});
  }

  // All at once: no call meets half of a new configuration.
  void SwitchFunctions(const FunctionChanges& changes) {
    const auto gone = [this](const std::string& name) -> std::function<void()> {
      const auto old = std::find_if(config_.functions.begin(), config_.functions.end(),
                                    [&](const auto& each) { return each.options.name == name; });
      if (old == config_.functions.end()) return nullptr;
      return
          [this, function = *old] { jobs_.Add([this, function] { RemoveOwnTemplate(function); }); };
    };
    (void)InPool([&] {
      if (router_ == nullptr) return absl::OkStatus();
      for (const std::string& name : changes.removed) router_->Remove(name, gone(name));
      for (const ServeFunction& each : changes.put) {
        router_->Put(each.options, gone(each.options.name));
      }
      return absl::OkStatus();
    });
    std::erase_if(config_.functions, [&](const ServeFunction& each) {
      const auto same = [&](const auto& name) { return name == each.options.name; };
      return std::any_of(changes.removed.begin(), changes.removed.end(), same) ||
             std::any_of(changes.put.begin(), changes.put.end(),
                         [&](const auto& put) { return same(put.options.name); });
    });
    config_.functions.insert(config_.functions.end(), changes.put.begin(), changes.put.end());
  }

  static auto FindTemplate(auto& in, const std::string& name) {
    return std::find_if(in.begin(), in.end(),
                        [&](const auto& each) { return each.options.name == name; });
  }

  absl::Status PutTemplates(const std::vector<ServeTemplate>& next) {
    std::vector<ServeTemplate>& current = config_.templates;
    for (const ServeTemplate& each : next) {
      const auto old = FindTemplate(current, each.options.name);
      if (old != current.end() && old->words == each.words && old->sources == each.sources)
        continue;
      BROOD_RETURN_IF_ERROR(pool_->PutTemplate(each.options));
      if (old != current.end()) {
        *old = each;
      } else {
        current.push_back(each);
      }
    }
    return absl::OkStatus();
  }

  absl::Status RemoveTemplates(const std::vector<ServeTemplate>& next) {
    std::vector<ServeTemplate>& current = config_.templates;
    const std::vector<ServeTemplate> before = current;
    for (const ServeTemplate& each : before) {
      if (FindTemplate(next, each.options.name) != next.end()) continue;
      BROOD_RETURN_IF_ERROR(pool_->RemoveTemplate(each.options.name));
      current.erase(FindTemplate(current, each.options.name));
    }
    current = next;  // in the order of the file: the first is the default
    return absl::OkStatus();
  }

  // Whether a caller of a function still waits for an answer, or reads it, or a function runs whose
  // caller does not.
  bool HttpBusy() {
    bool busy = false;
    if (http_ == nullptr) return busy;
    (void)InPool([&] {
      busy = !http_->idle() || (calls_ != nullptr && !calls_->idle());
      return absl::OkStatus();
    });
    return busy;
  }

  void WaitForEnd(Service& service, Server& server) {
    bool draining = false;
    bool service_idle = false;
    for (;;) {
      std::array<pollfd, 2> fds{{{signals_.get(), POLLIN, 0}, {idle_.get(), POLLIN, 0}}};
      if (service_idle) fds[1].fd = -1;
      if (poll(fds.data(), fds.size(), service_idle ? 20 : -1) < 0) continue;
      if (fds[1].revents != 0) service_idle = true;
      if (service_idle && !HttpBusy()) return;
      if (fds[0].revents == 0) continue;
      signalfd_siginfo info{};
      if (read(signals_.get(), &info, sizeof(info)) != sizeof(info)) continue;
      if (info.ssi_signo == SIGHUP) {
        const absl::Status reloaded = Reload();
        if (reloaded.ok()) {
          Log("reloaded",
              {{"templates", config_.templates.size()}, {"functions", config_.functions.size()}});
        } else {
          Log("not reloaded", {{"why", std::string(Message(reloaded))}});
        }
        continue;
      }
      Log(draining ? "ending at once" : "draining", {{"signal", info.ssi_signo}});
      NotifyManager("STOPPING=1");
      (void)InPool([&] {
        if (draining) {
          service.KillAll();
          if (http_ != nullptr) http_->Close();
          if (calls_ != nullptr) calls_->Close();
        } else {
          if (http_ != nullptr) {
            router_->Drain();
            if (calls_ != nullptr) calls_->Drain();
            http_->StopListening();
          }
          server.StopListening();
          service.Drain([this] {
            const std::uint64_t one = 1;
            (void)!write(idle_.get(), &one, sizeof(one));
          });
        }
        return absl::OkStatus();
      });
      draining = true;
    }
  }

  const ServeWords& words_;
  MemoryReserve reserve_;
  UniqueFd signals_;
  ServeConfig config_;
  UniqueFd idle_;  // eventfd: nothing runs any more
  std::unique_ptr<Pool> pool_;
  Service* service_ = nullptr;
  HttpServer* http_ = nullptr;  // with --http
  Router* router_ = nullptr;
  AsyncCalls* calls_ = nullptr;  // where they are kept
  int reloads_ = 0;
  JobThread jobs_;  // its jobs use the pool
};

}  // namespace

CommandAction AddServeCommand(CLI::App& app) {
  auto words = std::make_shared<ServeWords>();
  CLI::App* serve = app.add_subcommand("serve", "Keep a pool warm for everybody (the daemon)");
  Describe(*serve,
           "brood serve [option...]\n\n"
           "Keep workers parked, and run commands for the clients of a Unix socket: brood submit, "
           "exec,\n"
           "ps, tree, top, inspect, logs, kill, stop, wait and stats.\n\n"
           "  brood serve --pool 64\n"
           "  brood serve --template 'web=--rootfs /srv/debian --root-mode overlay --parked 32'\n"
           "  brood serve --config /etc/brood/brood.toml\n\n"
           "SIGTERM: refuse new commands, end when the last has ended; again: end all at once.\n"
           "SIGHUP: read templates and functions again; what runs goes on.");
  serve->add_option("--config", words->config_file, "Configuration, a TOML file")
      ->type_name("FILE");
  serve
      ->add_option("--socket", words->socket,
                   "Socket (default $BROOD_SOCKET or /run/brood/brood.sock; for an ordinary user "
                   "$XDG_RUNTIME_DIR/brood/brood.sock)")
      ->type_name("PATH");
  serve->add_option("--group", words->group, "Let this group use the daemon, too")
      ->type_name("NAME");
  serve
      ->add_option("--template", words->templates,
                   "A template and its options, as 'web=--rootfs /srv/debian --parked 32'; may be "
                   "given again. The first is the default")
      ->type_name("NAME=SPEC")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  serve
      ->add_option("--http", words->http,
                   "Serve the configuration's functions at this address and port, over HTTP. "
                   "Whoever reaches it may call them")
      ->type_name("ADDRESS:PORT");
  serve->add_option("--pool", words->pool, "Parked workers when no template is given (default 16)")
      ->type_name("N");
  serve
      ->add_option("--max-running", words->max_running,
                   "Commands that may run at once (default 1024); more wait")
      ->type_name("N");
  serve
      ->add_option("--max-unclaimed", words->max_unclaimed,
                   "Detached commands that have ended and nobody has waited for, whose outcome and "
                   "output are kept (default 1024); beyond that the one that ended first is "
                   "forgotten")
      ->type_name("N")
      ->check(CLI::Range(1, static_cast<int>(kMaxUnclaimed)).description(""));
  serve->add_flag("--verbose", words->verbose, "Log every command's end");
  return [words](const std::vector<std::string>& extra) {
    if (!extra.empty()) return TakesOptionsOnly("serve", extra);
    absl::StatusOr<UniqueFd> signals = TakeSignals();
    if (!signals.ok()) return Complain(signals.status());
    const absl::Status status = Daemon(*words, *std::move(signals)).Run();
    return status.ok() ? 0 : Complain(status);
  };
}

}  // namespace brood
