#include "bench/limits/stress.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <limits>

#include "bench/limits/unit.h"
#include "spawn/status.h"
#include "spawn/unique_fd.h"

namespace brood::limits {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

volatile std::sig_atomic_t interrupted = 0;
void NoteSignal(int signal) { interrupted = signal; }

const std::vector<Unit>& AllUnits() {
  static const std::vector<Unit>& units = *[] {
    auto* const all = new std::vector<Unit>;
    for (auto* const some : {NamespaceUnits, ProcessUnits, CgroupUnits, FileUnits}) {
      for (Unit& unit : some()) all->push_back(std::move(unit));
    }
    return all;
  }();
  return units;
}

double MicrosecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

std::uint64_t Meminfo(std::string_view key) {
  std::ifstream file("/proc/meminfo");
  std::uint64_t kilobytes = 0;
  for (std::string word; file >> word;) {
    if (word == key && file >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

// Descriptors hold most of what is counted, so as many as this process may have.
void RaiseNofile() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// In the process that pushes.
absl::StatusOr<Json> PushHere(const Unit& unit, const StressOptions& options) {
  const std::unique_ptr<Pusher> pusher = unit.make();
  if (unit.limit != "RLIMIT_NOFILE") RaiseNofile();
  BROOD_RETURN_IF_ERROR(pusher->Confine(options.up_to));
  const std::uint64_t maximum = unit.built_in != 0 ? unit.built_in : options.up_to;
  const std::uint64_t before = pusher->ThereBefore();
  const auto reserve = static_cast<std::uint64_t>(static_cast<double>(Meminfo("MemTotal:")) *
                                                  options.memory_reserve);
  const std::uint64_t memory = Meminfo("MemAvailable:");

  std::uint64_t count = 0;
  int error = 0;
  std::string_view stopped_by = "limit";
  Json curve = Json::array();
  std::uint64_t next_sample = 1;
  const Clock::time_point start = Clock::now();
  for (;;) {
    // One more than the limit: the one that is refused.
    if (before + count > maximum) {
      stopped_by = "up-to";
      break;
    }
    if (Clock::now() - start > options.budget / 2) {
      stopped_by = "budget";
      break;
    }
    // Without a descriptor left to look with there is nothing to read; the next call tells.
    const std::uint64_t left = count % 16 == 0 ? Meminfo("MemAvailable:") : 0;
    if (left != 0 && left < reserve) {
      stopped_by = "memory";
      break;
    }
    const Clock::time_point one = Clock::now();
    error = pusher->AddOne();
    if (error != 0) break;
    ++count;
    if (count >= next_sample) {
      curve.push_back({count, MicrosecondsSince(one)});
      next_sample = count + 1 + count / 8;
    }
  }
  const double seconds = MicrosecondsSince(start) / 1e6;
  const std::uint64_t memory_after = Meminfo("MemAvailable:");  // 0 without a descriptor

  Json json;
  json["unit"] = unit.name;
  json["limit"] = unit.limit;
  json["what"] = unit.what;
  json["set_to"] = maximum;
  json["there_before"] = before;
  json["reached"] = before + count;
  json["stopped_by"] = stopped_by;
  if (error != 0) {
    json["call"] = unit.call;
    json["errno"] = ErrnoText(error).substr(0, ErrnoText(error).find(' '));
    LimitQuestion question = pusher->Question(error, count);
    if (error == EMFILE) {
      // Looking needs a few descriptors, which are given back by the limit being put back.
      rlimit limit{};
      getrlimit(RLIMIT_NOFILE, &limit);
      question.nofile = limit.rlim_cur;
      rlimit more = limit;
      more.rlim_cur = std::min<rlim_t>(limit.rlim_cur + 8, limit.rlim_max);
      setrlimit(RLIMIT_NOFILE, &more);
    }
    const std::vector<LimitReading> limits = LimitsBehind(question);
    Json named = Json::array();
    for (const LimitReading& limit : limits) {
      if (limit.Full()) named.push_back(limit.name);
    }
    json["named"] = named;
    json["sentence"] = LimitSentence(limits);
    if (!limits.empty()) json["where"] = limits.front().where;
  }
  json["seconds"] = seconds;
  // What the rest of the machine does meanwhile is in it, too.
  if (count > 0 && memory_after != 0 && memory > memory_after)
    json["bytes_each"] = (memory - memory_after) / count;
  json["curve"] = curve;
  const Clock::time_point release = Clock::now();
  pusher->Release();
  bool drained = pusher->Drained();
  while (!drained && Clock::now() - release < options.budget / 2) {
    usleep(500);
    drained = pusher->Drained();
  }
  json["drained"] = drained;
  json["drain_ms"] = MicrosecondsSince(release) / 1e3;
  return json;
}

[[noreturn]] void RunPusher(const Unit& unit, const StressOptions& options, int out, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(0);
  absl::StatusOr<Json> result = PushHere(unit, options);
  Json answer;
  if (result.ok()) {
    answer["result"] = *std::move(result);
  } else {
    answer["code"] = static_cast<int>(result.status().code());
    answer["error"] = Message(result.status());
  }
  const std::string text = answer.dump(-1, ' ', false, Json::error_handler_t::replace);
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = write(out, text.data() + at, text.size() - at);
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  _exit(0);
}

absl::StatusOr<std::string> ReadUntilEnd(int from, Clock::time_point deadline) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (;;) {
    if (interrupted != 0) return Error(absl::StatusCode::kCancelled, "interrupted");
    if (Clock::now() > deadline) {
      return Error(absl::StatusCode::kDeadlineExceeded, "the budget is used up, and nothing ended");
    }
    pollfd wait{from, POLLIN, 0};
    if (poll(&wait, 1, 50) <= 0) continue;
    const ssize_t n = read(from, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace

std::vector<UnitName> Units() {
  std::vector<UnitName> names;
  for (const Unit& unit : AllUnits()) names.push_back({unit.name, unit.limit});
  return names;
}

absl::StatusOr<Json> Push(std::string_view name, const StressOptions& options) {
  const Unit* wanted = nullptr;
  for (const Unit& unit : AllUnits()) {
    if (unit.name == name) wanted = &unit;
  }
  if (wanted == nullptr) {
    return Error(absl::StatusCode::kNotFound, "there is no limit called {}; see --list", name);
  }
  struct sigaction action {};
  action.sa_handler = NoteSignal;
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
  BROOD_RETURN_IF_ERROR(ClearLeftovers());
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return ErrnoError(errno, "making a pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return ErrnoError(errno, "forking a process that pushes");
  if (pid == 0) RunPusher(*wanted, options, to.get(), parent);
  to.reset();
  absl::StatusOr<std::string> text =
      ReadUntilEnd(from.get(), Clock::now() + options.budget + std::chrono::seconds(5));
  if (!text.ok()) kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  const absl::Status cleared = RemoveOwn();
  if (!text.ok()) return text.status();
  const Json answer = Json::parse(*text, nullptr, false);
  if (answer.is_discarded() || answer.empty()) {
    return Error(absl::StatusCode::kAborted, "{}: the process that pushed was killed", name);
  }
  if (answer.contains("error")) {
    return Error(static_cast<absl::StatusCode>(answer["code"].get<int>()), "{}: {}", name,
                 answer["error"].get<std::string>());
  }
  BROOD_RETURN_IF_ERROR(cleared);
  return answer["result"];
}

}  // namespace brood::limits
