// SPDX-License-Identifier: Apache-2.0

// The brood program: parses, and hands over to one command.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "pool/cli/commands.h"
#include "pool/cli/output.h"
#include "pool/cli/read_only_program.h"
#include "spawn/base/status.h"
#include "spawn/host/without.h"

namespace brood {

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "brood: %s\n", std::string(Message(status)).c_str());
  return kBroodFailed;
}

int TakesOptionsOnly(std::string_view command, const std::vector<std::string>& extra) {
  return Complain(InvalidError("brood {} takes options only, not \"{}\"", command, extra.front()));
}

absl::Status WriteJson(const nlohmann::ordered_json& json, const std::string& file,
                       std::FILE* stream, std::string_view what) {
  // Words of the command that are not UTF-8 show as U+FFFD.
  const std::string text =
      json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  if (file.empty()) {
    std::fputs(text.c_str(), stream);
    return absl::OkStatus();
  }
  std::ofstream out(file);
  out << text;
  out.flush();
  if (!out) return ErrnoError(errno, "writing {} to {}", what, file);
  return absl::OkStatus();
}

void AddSocketOption(CLI::App& command, std::string& socket) {
  command
      .add_option("--socket", socket, "The daemon's socket ($BROOD_SOCKET, /run/brood/brood.sock)")
      ->type_name("PATH");
}

void Describe(CLI::App& command, std::string_view text) {
  command.description(fmt::format("{}\n\n{}", command.get_description(), text));
}

namespace {

// Lists commands by their summaries: the first line of what Describe has put together.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_subcommand(const CLI::App* command) const override {
    const std::string text = command->get_description();
    std::stringstream out;
    CLI::detail::format_help(out, command->get_display_name(true), text.substr(0, text.find('\n')),
                             column_width_);
    return out.str();
  }
};

// A program started with stdin, stdout or stderr closed would see its next descriptors take their
// numbers, and write into them.
void OpenClosedStdio() {
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", O_RDWR);
  }
}

struct CommandEntry {
  std::string_view name;
  CommandAction (*add)(CLI::App& app);
};
constexpr std::array kCommands = {
    CommandEntry{"run", AddRunCommand},
    CommandEntry{"burst", AddBurstCommand},
    CommandEntry{"serve", AddServeCommand},
    CommandEntry{"submit", AddSubmitCommand},
    CommandEntry{"exec", AddExecCommand},
    CommandEntry{"ps", AddPsCommand},
    CommandEntry{"tree", AddTreeCommand},
    CommandEntry{"top", AddTopCommand},
    CommandEntry{"stats", AddStatsCommand},
    CommandEntry{"inspect", AddInspectCommand},
    CommandEntry{"logs", AddLogsCommand},
    CommandEntry{"kill", AddKillCommand},
    CommandEntry{"stop", AddStopCommand},
    CommandEntry{"wait", AddWaitCommand},
    CommandEntry{"functions", AddFunctionsCommand},
    CommandEntry{"invoke", AddInvokeCommand},
    CommandEntry{"deploy", AddDeployCommand},
    CommandEntry{"reload", AddReloadCommand},
    CommandEntry{"doctor", AddDoctorCommand},
    CommandEntry{"stress", AddStressCommand},
    CommandEntry{"version", AddVersionCommand},
    CommandEntry{"manual", AddManualCommand},
};

// The parser knows only the command that is wanted, where the first word tells: all of their
// options would take longer to put together than a process takes to start. `manual` describes them
// all.
std::vector<const CommandEntry*> ToAdd(std::string_view word) {
  std::vector<const CommandEntry*> all;
  for (const CommandEntry& command : kCommands) {
    if (command.name == word && command.add != AddManualCommand) return {&command};
    all.push_back(&command);
  }
  return all;
}

// The commands that may have workers with the host's ids: by their own words, or by those of a
// file.
bool MayKeepTheHostsIds(int argc, char** argv) {
  if (argc < 2) return false;
  if (std::string_view(argv[1]) == "serve") return true;
  return std::any_of(argv + 2, argv + argc, [](const char* word) {
    return std::string_view(word).starts_with("--no-user");
  });
}

int Main(int argc, char** argv) {
  if (MayKeepTheHostsIds(argc, argv)) RunFromReadOnlyMount(argv);
  // By descriptor, an exec takes that for the name of the process (before Linux 6.14).
  prctl(PR_SET_NAME, "brood");
  // Ignored, the kernel would reap our children itself and forget how they ended.
  (void)std::signal(SIGCHLD, SIG_DFL);
  // Never taken apart: the process ends first.
  CLI::App& app =
      *new CLI::App("brood: isolated Linux processes, fast, and what they cost", "brood");
  app.formatter(std::make_shared<HelpFormatter>());
  app.allow_extras();
  app.set_help_all_flag("--help-all", "Help of all commands");
  std::vector<std::pair<CLI::App*, CommandAction>> commands;
  for (const CommandEntry* const command : ToAdd(argc > 1 ? argv[1] : "")) {
    CommandAction action = command->add(app);
    commands.emplace_back(app.get_subcommands([](CLI::App*) { return true; }).back(),
                          std::move(action));
  }
  if (argc == 1) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  }
  // Everything behind a first "--" is the command's. Taken away before the parse, because an option
  // with an optional value would take it for one.
  std::vector<std::string> tail;
  int own = argc;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) != "--") continue;
    own = i;
    tail.assign(argv + i + 1, argv + argc);
    break;
  }
  try {
    app.parse(own, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      std::ostringstream help;
      const int status = app.exit(error, help, help);
      std::fputs(help.str().c_str(), stdout);
      return status;
    }
    return Complain(InvalidError("{}; see brood --help", error.what()));
  }
  if (absl::Status known = CheckWithout(); !known.ok()) return Complain(known);
  for (const auto& [command, action] : commands) {
    if (!command->parsed()) continue;
    std::vector<std::string> words = command->remaining();
    if (!words.empty() && words[0].size() > 1 && words[0][0] == '-') {
      return Complain(InvalidError("there is no option {}; see brood {} --help", words[0],
                                   command->get_name()));
    }
    // A "--" behind the command's first word is one of its own arguments.
    if (!words.empty() && own < argc) words.emplace_back("--");
    words.insert(words.end(), tail.begin(), tail.end());
    return action(words);
  }
  const std::vector<std::string> unknown = app.remaining();
  return Complain(InvalidError("{}; see brood --help",
                               unknown.empty()
                                   ? "a command is required, as run, submit or ps"
                                   : fmt::format("there is no command \"{}\"", unknown[0])));
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) {
  brood::OpenClosedStdio();
  if (const absl::Status watched = brood::WatchOutput(); !watched.ok()) {
    return brood::Complain(watched);
  }
  return brood::FinishOutput(brood::Main(argc, argv));
}
