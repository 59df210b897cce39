// SPDX-License-Identifier: Apache-2.0

// brood manual: the manual pages, the shells' completions, and what the latter ask for.
#include "pool/cli/manual.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <utility>

#include "pool/cli/commands.h"
#include "pool/daemon/client.h"
#include "spawn/base/capabilities.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

ManualCommand CommandOf(const CLI::App& app) {
  ManualCommand command;
  command.name = app.get_name();
  command.options = OptionsOf(app);
  // What Describe has put together, or a summary alone.
  const std::string text = app.get_description();
  const std::size_t summary_end = std::min(text.find('\n'), text.size());
  command.summary = text.substr(0, summary_end);
  command.usage = fmt::format("brood {} [option...]", command.name);
  if (summary_end == text.size()) return command;
  const std::string rest = text.substr(text.find_first_not_of('\n', summary_end));
  const std::size_t usage_end = std::min(rest.find('\n'), rest.size());
  command.usage = rest.substr(0, usage_end);
  if (usage_end < rest.size()) command.text = rest.substr(usage_end + 2);
  std::istringstream words(command.usage);
  for (std::string word; words >> word;) {
    if (word == "ID" || word == "ID...") command.takes_isolates = true;
    if (word == "COMMAND") command.takes_command = true;
  }
  return command;
}

// Runs within a completion: a daemon that does not answer must not hold the shell up, and whoever
// types wants no errors.
int ListForCompletion(const std::string& socket) {
  (void)std::signal(SIGALRM, [](int) { _exit(0); });
  alarm(2);
  absl::StatusOr<Client> client = Client::Connect(socket);
  if (!client.ok()) return 0;
  const absl::StatusOr<std::string> text = client->List(/*all=*/true);
  if (!text.ok()) return 0;
  const auto isolates = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!isolates.is_array()) return 0;
  for (const auto& isolate : isolates) {
    std::string what;
    for (const auto& word : isolate.value("command", nlohmann::json::array())) {
      if (word.is_string()) what += (what.empty() ? "" : " ") + word.get<std::string>();
    }
    what = what.substr(0, 40);
    for (char& c : what) {
      if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) >= 0x7f) c = '?';
    }
    const std::string state = isolate.value("state", "");
    for (const char* key : {"id", "name"}) {
      const std::string word = isolate.value(key, "");
      if (!word.empty()) fmt::print("{}\t{}\t{}\n", word, state, what);
    }
  }
  return 0;
}

int Run(const CLI::App& app, const std::string& socket, const std::vector<std::string>& words) {
  const std::string what = words.empty() ? "" : words[0];
  if (what == "man" && words.size() == 2) {
    const absl::Status written = WriteManualPages(ManualOf(app), words[1]);
    return written.ok() ? 0 : Complain(written);
  }
  if (words.size() == 1 && what == "isolates") return ListForCompletion(socket);
  std::string text;
  if (words.size() == 1 && what == "bash") text = BashCompletion(ManualOf(app));
  if (words.size() == 1 && what == "zsh") text = ZshCompletion(ManualOf(app));
  if (words.size() == 1 && what == "fish") text = FishCompletion(ManualOf(app));
  if (text.empty()) {
    return Complain(
        InvalidError("brood manual man DIRECTORY writes the manual pages, brood manual bash, "
                     "zsh and fish print completions"));
  }
  std::fputs(text.c_str(), stdout);
  return 0;
}

}  // namespace

std::vector<ManualOption> OptionsOf(const CLI::App& app) {
  std::vector<ManualOption> options;
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    ManualOption out;
    for (const std::string& name : option->get_snames()) out.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) out.names.push_back("--" + name);
    if (option->get_items_expected_max() > 0) out.value = option->get_type_name();
    out.description = option->get_description();
    out.group = option->get_group();
    options.push_back(std::move(out));
  }
  return options;
}

ManualProgram ManualOf(const CLI::App& app) {
  ManualProgram program;
  program.summary = app.get_description();
  if (const std::size_t colon = program.summary.find(": "); colon != std::string::npos) {
    program.summary = program.summary.substr(colon + 2);
  }
  program.options = OptionsOf(app);
  for (const CLI::App* command :
       app.get_subcommands([](const CLI::App* each) { return !each->get_group().empty(); })) {
    program.commands.push_back(CommandOf(*command));
  }
  return program;
}

ValueWords WordsFor(const ManualOption& option) {
  ValueWords out;
  if (option.value == "SIGNAL") {
    for (int number = 1; number < NSIG; ++number) {
      if (const char* name = sigabbrev_np(number)) out.words.emplace_back(name);
    }
    return out;
  }
  if (option.value == "CAP") {
    out.words.emplace_back("ALL");
    for (int number = 0; !CapabilityName(number).empty(); ++number) {
      out.words.emplace_back(CapabilityName(number).substr(std::strlen("CAP_")));
    }
    return out;
  }
  // "default|off|FILE": words in small letters are meant as they are.
  std::istringstream parts(option.value);
  for (std::string part; std::getline(parts, part, '|');) {
    if (part == "DIR") out.directories = true;
    if (part == "FILE" || part == "[FILE]" || part == "PATH" || part.starts_with("SRC:")) {
      out.files = true;
    }
    if (part.find_first_not_of("abcdefghijklmnopqrstuvwxyz") == std::string::npos) {
      out.words.push_back(part);
    }
  }
  return out;
}

CommandAction AddManualCommand(CLI::App& app) {
  auto socket = std::make_shared<std::string>(DefaultSocketPath());
  CLI::App* manual = app.add_subcommand("manual", "Manual pages and completions");
  manual->group("");
  AddSocketOption(*manual, *socket);
  return [&app, socket](const std::vector<std::string>& words) { return Run(app, *socket, words); };
}

}  // namespace brood
