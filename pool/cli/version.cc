// SPDX-License-Identifier: Apache-2.0

// brood version: which brood this is, and which kernel it runs on.
#include <sys/utsname.h>

#include <cstdio>

#include "pool/cli/commands.h"

namespace brood {

CommandAction AddVersionCommand(CLI::App& app) {
  app.add_subcommand("version", "Print the version of brood and of the kernel");
  return [](const std::vector<std::string>& extra) {
    if (!extra.empty()) return TakesOptionsOnly("version", extra);
    utsname system{};
    uname(&system);
    std::printf("brood %s (%s %s %s)\n", BROOD_VERSION, system.sysname, system.release,
                system.machine);
    return 0;
  };
}

}  // namespace brood
