// SPDX-License-Identifier: Apache-2.0

// brood inspect, logs, kill, stop, wait: one isolate, named by id, beginning of an id, or name.
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "pool/cli/attach.h"
#include "pool/cli/commands.h"
#include "pool/cli/function_commands.h"
#include "pool/cli/output.h"
#include "pool/cli/values.h"
#include "pool/daemon/client.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

struct IsolateWords {
  std::string function;
  bool functions = false;
  std::string socket = DefaultSocketPath();
  std::string signal = "KILL";
  std::string grace = "10s";
  bool follow = false;
};

// Does `act` for each isolate named; the first failure decides the exit status.
int ForEach(const IsolateWords& words, const std::vector<std::string>& isolates,
            const std::function<int(Client&, const std::string&)>& act) {
  if (isolates.empty()) {
    return Complain(
        InvalidError("which isolate? give its id, the beginning of its id, or its name"));
  }
  absl::StatusOr<Client> client = Client::Connect(words.socket);
  if (!client.ok()) return Complain(client.status());
  int status = 0;
  for (const std::string& isolate : isolates) {
    const int result = act(*client, isolate);
    if (status == 0) status = result;
  }
  return status;
}

absl::StatusOr<int> SignalNumber(const std::string& word) {
  std::string name = word;
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c; });
  if (name.starts_with("SIG")) name = name.substr(3);
  for (int number = 1; number < NSIG; ++number) {
    const char* const known = sigabbrev_np(number);
    if ((known != nullptr && name == known) || name == std::to_string(number)) return number;
  }
  return InvalidError("there is no signal {}; give one such as TERM, HUP or 10", word);
}

void WriteLog(const LogPart& part) {
  if (part.lost != 0) {
    std::fprintf(stderr, "brood: %llu bytes of output are no longer kept\n",
                 static_cast<unsigned long long>(part.lost));
  }
  std::FILE* const to = part.stream == 2 ? stderr : stdout;
  std::fwrite(part.bytes.data(), 1, part.bytes.size(), to);
  std::fflush(to);
  // There is nothing to undo, and whoever follows would go on for nobody.
  if (!OutputStatus().ok()) std::exit(FinishOutput(0));
}

CommandAction AddIsolateCommand(
    CLI::App& app, const char* name, const char* summary, const char* description,
    const std::function<void(CLI::App&, IsolateWords&)>& add,
    std::function<int(const IsolateWords&, Client&, const std::string&)> act) {
  auto words = std::make_shared<IsolateWords>();
  CLI::App* command = app.add_subcommand(name, summary);
  Describe(*command, description);
  command->allow_extras();
  AddSocketOption(*command, words->socket);
  add(*command, *words);
  return [words, act = std::move(act)](const std::vector<std::string>& isolates) {
    return ForEach(*words, isolates, [&](Client& client, const std::string& isolate) {
      return act(*words, client, isolate);
    });
  };
}

int Say(const absl::Status& status) { return status.ok() ? 0 : Complain(status); }

}  // namespace

CommandAction AddInspectCommand(CLI::App& app) {
  return AddIsolateCommand(
      app, "inspect", "Everything known of an isolate, as JSON",
      "brood inspect ID...\n\n"
      "Print the isolate's record; while it runs, its isolation as the kernel shows it; once it "
      "has\n"
      "ended, its outcome.",
      [](CLI::App&, IsolateWords&) {},
      [](const IsolateWords&, Client& client, const std::string& isolate) {
        const absl::StatusOr<std::string> text = client.Inspect(isolate);
        if (!text.ok()) return Complain(text.status());
        std::printf("%s\n", nlohmann::ordered_json::parse(*text).dump(2).c_str());
        return 0;
      });
}

CommandAction AddLogsCommand(CLI::App& app) {
  auto words = std::make_shared<IsolateWords>();
  CLI::App* command =
      app.add_subcommand("logs", "The output of a detached isolate, or of a function's calls");
  Describe(*command,
           "brood logs [-f] ID\nbrood logs [-f] --function NAME\nbrood logs [-f] --functions\n\n"
           "Print what an isolate submitted with -d has written, stdout to stdout and stderr to "
           "stderr; the\ndaemon keeps the latest part. Or the latest calls of a function, or of "
           "all: when, id, status, how\nlong, and what each wrote to stderr.");
  command->allow_extras();
  AddSocketOption(*command, words->socket);
  command->add_flag("-f,--follow", words->follow, "Go on with what comes");
  command->add_option("--function", words->function, "The calls of this function")
      ->type_name("NAME");
  command->add_flag("--functions", words->functions, "The calls of all functions");
  return [words](const std::vector<std::string>& isolates) {
    if (words->function.empty() && !words->functions) {
      return ForEach(*words, isolates, [&](Client& client, const std::string& isolate) {
        return Say(client.Logs(isolate, words->follow, WriteLog));
      });
    }
    if (!isolates.empty()) {
      return Complain(InvalidError("the logs of {} or of functions: not of both", isolates[0]));
    }
    return Say(PrintCallLogs(words->socket, words->function, words->follow));
  };
}

CommandAction AddKillCommand(CLI::App& app) {
  return AddIsolateCommand(
      app, "kill", "Kill an isolate or a call, or send a signal",
      "brood kill [-s SIGNAL] ID...\n\n"
      "KILL (the default) ends everything in the isolate's cgroup. Any other signal goes to its "
      "first\n"
      "process and acts as on any process, although that one is the init of its pid namespace.\n"
      "The id may be that of a function's call, which is ended then.",
      [](CLI::App& command, IsolateWords& words) {
        command.add_option("-s,--signal", words.signal, "Signal (default KILL)")
            ->type_name("SIGNAL");
      },
      [](const IsolateWords& words, Client& client, const std::string& isolate) {
        const absl::StatusOr<int> number = SignalNumber(words.signal);
        if (!number.ok()) return Complain(number.status());
        const absl::Status sent = client.Signal(isolate, *number == SIGKILL ? 0 : *number);
        if (!absl::IsNotFound(sent) || *number != SIGKILL) return Say(sent);
        const absl::Status killed = KillCall(words.socket, isolate);
        return Say(absl::IsNotFound(killed) ? sent : killed);
      });
}

CommandAction AddStopCommand(CLI::App& app) {
  return AddIsolateCommand(
      app, "stop", "Ask an isolate to end, then end it",
      "brood stop [-t DURATION] ID...\n\n"
      "Send SIGTERM, which ends a command that does not handle it. If it has not ended after the\n"
      "time given, kill it. Returns when it has ended.",
      [](CLI::App& command, IsolateWords& words) {
        command.add_option("-t,--time", words.grace, "Time it has to end by itself (default 10s)")
            ->type_name("DURATION");
      },
      [](const IsolateWords& words, Client& client, const std::string& isolate) {
        const absl::StatusOr<std::chrono::nanoseconds> grace = ParseDuration(words.grace);
        if (!grace.ok()) return Complain(grace.status());
        return Say(client.Stop(isolate, static_cast<std::uint64_t>(grace->count())));
      });
}

CommandAction AddWaitCommand(CLI::App& app) {
  return AddIsolateCommand(
      app, "wait", "Wait for isolates to end",
      "brood wait ID...\n\n"
      "Exit with the status of the first isolate named that failed, as brood submit would; 0 if "
      "all\n"
      "succeeded. The daemon keeps what was submitted with -d until it has been waited for, but "
      "no\n"
      "more than brood serve --max-unclaimed. Of everything else it keeps the latest 256 that "
      "have\n"
      "ended.",
      [](CLI::App&, IsolateWords&) {},
      [](const IsolateWords&, Client& client, const std::string& isolate) {
        return Report(client.Wait(isolate));
      });
}

}  // namespace brood
