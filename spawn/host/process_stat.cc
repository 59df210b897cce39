// SPDX-License-Identifier: Apache-2.0

#include "spawn/host/process_stat.h"

#include <fmt/format.h>

#include <sstream>
#include <string>

#include "spawn/base/text_file.h"

namespace brood {

std::optional<ProcessStat> StatOf(int pid) {
  const std::string text = TextOf(fmt::format("/proc/{}/stat", pid));
  const std::size_t name_end = text.rfind(')');  // the name may hold anything, even ") "
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  ProcessStat stat;
  fields >> stat.state >> stat.parent >> stat.group >> stat.session;
  std::string skipped;
  for (int field = 7; field < 22; ++field) fields >> skipped;
  if (!(fields >> stat.start_ticks)) return std::nullopt;
  return stat;
}

}  // namespace brood
