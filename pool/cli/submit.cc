// SPDX-License-Identifier: Apache-2.0

// brood submit: a command through the daemon.
#include <cstdio>
#include <memory>

#include "pool/cli/attach.h"
#include "pool/cli/commands.h"
#include "pool/cli/isolation_options.h"
#include "pool/cli/limit_options.h"
#include "pool/cli/values.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

struct SubmitWords {
  std::string socket = DefaultSocketPath();
  ProcessOptions process;
  AttachOptions attach;
  bool detach = false;
  std::string name;
  std::string tmpl;
  std::string patience;
  LimitOptions limits;
  bool init = false;
  bool fresh = false;
};

absl::StatusOr<Submit> Resolve(const SubmitWords& words, const std::vector<std::string>& command) {
  BROOD_ASSIGN_OR_RETURN(Command resolved, words.process.Resolve(command));
  Submit submit;
  submit.template_name = words.tmpl;
  submit.name = words.name;
  submit.argv = std::move(resolved.argv);
  submit.env = std::move(resolved.env);
  submit.cwd = std::move(resolved.cwd);
  if (resolved.timeout) submit.timeout_ns = static_cast<std::uint64_t>(resolved.timeout->count());
  if (!words.patience.empty()) {
    BROOD_ASSIGN_OR_RETURN(const std::chrono::nanoseconds patience, ParseDuration(words.patience));
    submit.patience_ns = static_cast<std::uint64_t>(patience.count());
  }
  BROOD_ASSIGN_OR_RETURN(submit.limits, words.limits.Resolve());
  submit.init = words.init ? 1 : 0;
  submit.fresh = words.fresh ? 1 : 0;
  return submit;
}

int Run(const SubmitWords& words, const std::vector<std::string>& command) {
  absl::StatusOr<Submit> submit = Resolve(words, command);
  if (!submit.ok()) return Complain(submit.status());
  if (words.detach && (words.attach.interactive || words.attach.terminal)) {
    return Complain(InvalidError("-d runs in the background: leave out -i and -t"));
  }
  absl::StatusOr<Client> client = Client::Connect(words.socket);
  if (!client.ok()) return Complain(client.status());
  if (words.detach) {
    const absl::StatusOr<StartedAs> started = client->RunDetached(*submit);
    if (!started.ok()) return Complain(started.status());
    std::printf("%s\n", started->id.c_str());
    return 0;
  }
  return Report(
      Attach(*client, words.attach, [&](ClientIo io, TerminalSize size, std::span<const int> fds) {
        submit->io = io;
        submit->rows = size.rows;
        submit->columns = size.columns;
        return client->Start(*submit, fds);
      }));
}

}  // namespace

CommandAction AddSubmitCommand(CLI::App& app) {
  auto words = std::make_shared<SubmitWords>();
  CLI::App* submit = app.add_subcommand("submit", "Run a command through the daemon");
  Describe(
      *submit,
      "brood submit [option...] [--] COMMAND [argument...]\n\n"
      "Run one command in a worker that the daemon keeps parked. It writes straight to this\n"
      "terminal or pipe. Signals to this process and keys on this terminal end, stop and continue "
      "it; a\n"
      "second signal that asks it to end kills it.\n\n"
      "  brood submit -- id\n"
      "  brood submit -it --template web -- /bin/bash\n"
      "  brood submit -d --name job -- sh -c 'make > /tmp/log'; brood logs -f job\n\n"
      "Exit status: the command's; 128+n when signal n ended it; 124 timeout; 125 brood failed;\n"
      "126 not executable; 127 not found.");
  AddSocketOption(*submit, words->socket);
  submit->add_flag("-i,--interactive", words->attach.interactive,
                   "Give it this stdin (default /dev/null)");
  submit->add_flag("-t,--tty", words->attach.terminal, "Give it a terminal of its own");
  submit->add_flag("-d,--detach", words->detach, "Run in the background and print the id");
  submit->add_option("--name", words->name, "A name, unique while it runs")->type_name("NAME");
  submit->add_option("--template", words->tmpl, "Template (default: the daemon's first)")
      ->type_name("NAME");
  submit
      ->add_option("--wait", words->patience,
                   "Give up if no worker is free within this time (default: wait)")
      ->type_name("DURATION");
  submit->add_flag("--init", words->init,
                   "Run an init as its first process, where the template has none (its worker is "
                   "then made cold)");
  submit->add_flag("--fresh", words->fresh,
                   "Make all its namespaces new, where the template's workers may get some of one "
                   "that has ended (a worker is then cloned for it)");
  words->limits.AddTo(*submit, "Limits other than the template's (its worker is then made cold)");
  words->process.AddTo(*submit);
  return [words](const std::vector<std::string>& command) { return Run(*words, command); };
}

}  // namespace brood
