// SPDX-License-Identifier: Apache-2.0

// brood exec: another command in the namespaces of one that runs.
#include <memory>

#include "pool/cli/attach.h"
#include "pool/cli/commands.h"
#include "pool/cli/isolation_options.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

struct ExecWords {
  std::string socket = DefaultSocketPath();
  ProcessOptions process;
  AttachOptions attach;
};

int Run(const ExecWords& words, std::vector<std::string> command) {
  if (command.empty()) {
    return Complain(InvalidError("which isolate? brood exec ID [--] COMMAND [argument...]"));
  }
  ExecIn exec;
  exec.isolate = command.front();
  command.erase(command.begin());
  if (!command.empty() && command.front() == "--") command.erase(command.begin());
  absl::StatusOr<Command> resolved = words.process.Resolve(command);
  if (!resolved.ok()) return Complain(resolved.status());
  exec.argv = std::move(resolved->argv);
  exec.env = std::move(resolved->env);
  exec.cwd = std::move(resolved->cwd);
  if (resolved->timeout) exec.timeout_ns = static_cast<std::uint64_t>(resolved->timeout->count());
  absl::StatusOr<Client> client = Client::Connect(words.socket);
  if (!client.ok()) return Complain(client.status());
  return Report(
      Attach(*client, words.attach, [&](ClientIo io, TerminalSize size, std::span<const int> fds) {
        exec.io = io;
        exec.rows = size.rows;
        exec.columns = size.columns;
        return client->Start(exec, fds);
      }));
}

}  // namespace

CommandAction AddExecCommand(CLI::App& app) {
  auto words = std::make_shared<ExecWords>();
  CLI::App* exec = app.add_subcommand("exec", "Run a command inside a running isolate");
  Describe(*exec,
           "brood exec [option...] ID [--] COMMAND [argument...]\n\n"
           "Run a command in the namespaces and the cgroup of an isolate, with the same ids, "
           "capabilities\n"
           "and filter.\n\n"
           "  brood exec -it web /bin/sh\n"
           "  brood exec --timeout 5s web -- curl localhost\n"
           "  brood exec 3f2 -- ps -ef");
  AddSocketOption(*exec, words->socket);
  exec->add_flag("-i,--interactive", words->attach.interactive,
                 "Give it this stdin (default /dev/null)");
  exec->add_flag("-t,--tty", words->attach.terminal, "Give it a terminal of its own");
  words->process.AddTo(*exec);
  return [words](const std::vector<std::string>& command) { return Run(*words, command); };
}

}  // namespace brood
