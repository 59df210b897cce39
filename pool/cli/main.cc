// The brood program: parses, and hands over to one command.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "pool/cli/commands.h"
#include "spawn/status.h"

namespace brood {

int Complain(const absl::Status& status) {
  std::fprintf(stderr, "brood: %s\n", std::string(Message(status)).c_str());
  return kBroodFailed;
}

namespace {

// A program started with stdin, stdout or stderr closed would see its next descriptors take their
// numbers, and write into them.
void OpenClosedStdio() {
  for (int fd = 0; fd < 3; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) (void)open("/dev/null", O_RDWR);
  }
}

int Main(int argc, char** argv) {
  OpenClosedStdio();
  CLI::App app("brood: isolated Linux processes, fast, and what they cost", "brood");
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "Help of all commands");
  std::vector<std::pair<CLI::App*, CommandAction>> commands;
  for (const auto add : {AddRunCommand, AddBurstCommand, AddVersionCommand}) {
    CommandAction action = add(app);
    commands.emplace_back(app.get_subcommands([](CLI::App*) { return true; }).back(),
                          std::move(action));
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : kBroodFailed;
  }
  for (const auto& [command, action] : commands) {
    if (command->parsed()) return action();
  }
  return kBroodFailed;
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) { return brood::Main(argc, argv); }
