// SPDX-License-Identifier: Apache-2.0

// brood serve: the options of the daemon.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pool/cli/commands.h"
#include "pool/cli/serve_daemon.h"
#include "pool/cli/serve_words.h"
#include "pool/daemon/service.h"
#include "spawn/base/status.h"

namespace brood {

CommandAction AddServeCommand(CLI::App& app) {
  auto words = std::make_shared<ServeWords>();
  CLI::App* serve =
      app.add_subcommand("serve", "Keep a pool of workers for all users (the daemon)");
  Describe(*serve,
           "brood serve [option...]\n\n"
           "Keep workers parked, and run commands for the clients of a Unix socket: brood submit, "
           "exec,\n"
           "ps, tree, top, inspect, logs, kill, stop, wait and stats.\n\n"
           "  brood serve --pool 64\n"
           "  brood serve --template 'web=--rootfs /srv/debian --root-mode overlay --parked 32'\n"
           "  brood serve --config /etc/brood/brood.toml\n\n"
           "SIGTERM: refuse new commands and end after the last one, or after --drain; a second "
           "SIGTERM ends all\nat once.\n"
           "SIGHUP: read templates and functions again; running commands go on.");
  serve->add_option("--config", words->config_file, "Configuration, a TOML file")
      ->type_name("FILE");
  serve
      ->add_option("--socket", words->socket,
                   "Socket (default $BROOD_SOCKET or /run/brood/brood.sock; for an ordinary user "
                   "$XDG_RUNTIME_DIR/brood/brood.sock)")
      ->type_name("PATH");
  serve->add_option("--group", words->group, "Let this group use the daemon too")
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
                   "Serve the configuration's functions over HTTP: at this address and port, as "
                   "127.0.0.1:8080, or :8080 for all addresses; at this path, a Unix socket; or "
                   "inherited, where systemd listens already. Beyond this machine only with tokens "
                   "([http] tokens, or open = true there)")
      ->type_name("ADDRESS:PORT|PATH|inherited");
  serve
      ->add_option(
          "--drain", words->drain,
          "How long what runs may go on after SIGTERM, before it is killed (default 30s); 0 "
          "for as long as it takes")
      ->type_name("DURATION");
  serve->add_option("--pool", words->pool, "Parked workers when no template is given (default 16)")
      ->type_name("N");
  serve
      ->add_option("--max-running", words->max_running,
                   "Commands that may run at once (default 1024); more wait")
      ->type_name("N");
  serve
      ->add_option("--max-unclaimed", words->max_unclaimed,
                   "Ended detached commands whose outcome and output are kept until they are "
                   "waited for (default 1024); beyond that, the one that ended first is dropped")
      ->type_name("N")
      ->check(CLI::Range(1, static_cast<int>(kMaxUnclaimed)).description(""));
  serve->add_flag("--verbose", words->verbose, "Log every command's end");
  return [words](const std::vector<std::string>& extra) {
    if (!extra.empty()) return TakesOptionsOnly("serve", extra);
    absl::StatusOr<UniqueFd> signals = TakeSignals();
    if (!signals.ok()) return Complain(signals.status());
    const absl::Status status = Serve(*words, *std::move(signals));
    return status.ok() ? 0 : Complain(status);
  };
}

}  // namespace brood
