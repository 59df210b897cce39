// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/values.h"

#include <sys/resource.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "spawn/base/status.h"
#include "spawn/host/block_device.h"

namespace brood {
namespace {

// A decimal number and what follows it.
struct Quantity {
  double number;
  std::string_view unit;
};
std::optional<Quantity> SplitQuantity(std::string_view text) {
  double number = 0;
  const auto [end, error] =
      std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (error != std::errc() || end == text.data() || !std::isfinite(number)) return std::nullopt;
  return Quantity{number, text.substr(static_cast<std::size_t>(end - text.data()))};
}

template <typename Number>
std::optional<Number> WholeNumber(std::string_view text) {
  Number number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::string Upper(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return upper;
}

}  // namespace

absl::StatusOr<std::uint64_t> ParseSize(std::string_view text) {
  const auto quantity = SplitQuantity(text);
  const auto bad = [&] {
    return InvalidError("\"{}\" is not a size: write it as 64M, 1.5G or 4096 (bytes)", text);
  };
  if (!quantity) return bad();
  std::string unit = Upper(quantity->unit);
  if (unit.size() == 3 && unit.ends_with("IB")) unit.resize(1);
  if (unit.size() > 1 && unit.ends_with("B")) unit.pop_back();
  if (unit == "B") unit.clear();
  double factor = 0;
  for (const auto& [name, value] :
       {std::pair{"", 1.0}, {"K", 0x1p10}, {"M", 0x1p20}, {"G", 0x1p30}, {"T", 0x1p40}}) {
    if (unit == name) factor = value;
  }
  if (factor == 0) return bad();
  const double bytes = quantity->number * factor;
  if (bytes < 1) return InvalidError("the size \"{}\" must be at least one byte", text);
  if (bytes > 0x1p60)
    return InvalidError("the size \"{}\" is beyond what a kernel can count", text);
  return static_cast<std::uint64_t>(bytes);
}

absl::StatusOr<std::chrono::nanoseconds> ParseDuration(std::string_view text) {
  const auto quantity = SplitQuantity(text);
  double factor = 0;
  if (quantity) {
    for (const auto& [name, value] :
         {std::pair{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"m", 60e9}, {"h", 3600e9}}) {
      if (quantity->unit == name) factor = value;
    }
  }
  if (factor == 0) {
    return InvalidError("\"{}\" is not a duration: write it as 5s, 200ms or 1.5m", text);
  }
  const double nanoseconds = quantity->number * factor;
  if (nanoseconds < 1) return InvalidError("the duration \"{}\" must be longer than zero", text);
  // A hundred years still leaves room to add it to a clock.
  if (nanoseconds > 3.15e18) return InvalidError("the duration \"{}\" is over a century", text);
  return std::chrono::nanoseconds(static_cast<std::int64_t>(nanoseconds));
}

absl::StatusOr<std::pair<std::uint32_t, std::uint32_t>> ParseUser(std::string_view text,
                                                                  const UserDatabase& users) {
  const std::size_t colon = text.find(':');
  const std::string user(text.substr(0, colon));
  User ids;
  if (const auto number = WholeNumber<std::uint32_t>(user)) {
    ids = {*number, *number};
  } else {
    BROOD_ASSIGN_OR_RETURN(ids, users.FindUser(user));
  }
  if (colon != std::string_view::npos) {
    const std::string group(text.substr(colon + 1));
    if (const auto number = WholeNumber<std::uint32_t>(group)) {
      ids.gid = *number;
    } else {
      BROOD_ASSIGN_OR_RETURN(ids.gid, users.FindGroup(group));
    }
  }
  return std::pair{ids.uid, ids.gid};
}

absl::StatusOr<Bind> ParseBind(std::string_view text) {
  Bind bind;
  std::string_view rest = text;
  const std::size_t first = rest.find(':');
  if (first == std::string_view::npos || first == 0) {
    return InvalidError("\"{}\" is not a bind: write SOURCE:TARGET or SOURCE:TARGET:ro", text);
  }
  bind.source = rest.substr(0, first);
  rest.remove_prefix(first + 1);
  if (const std::size_t second = rest.find(':'); second != std::string_view::npos) {
    const std::string_view mode = rest.substr(second + 1);
    if (mode != "ro" && mode != "rw") {
      return InvalidError("the bind \"{}\" ends in \"{}\": only ro and rw may end it", text, mode);
    }
    bind.read_only = mode == "ro";
    rest = rest.substr(0, second);
  }
  bind.target = rest;
  if (bind.target.empty()) {
    return InvalidError("the bind \"{}\" has no target: write SOURCE:TARGET", text);
  }
  return bind;
}

absl::StatusOr<Tmpfs> ParseTmpfs(std::string_view text) {
  Tmpfs tmpfs;
  const std::size_t colon = text.find(':');
  tmpfs.target = text.substr(0, colon);
  tmpfs.mode = 01777;
  if (tmpfs.target.empty()) {
    return InvalidError("the tmpfs \"{}\" has no target: write TARGET or TARGET:SIZE", text);
  }
  if (colon != std::string_view::npos) {
    BROOD_ASSIGN_OR_RETURN(tmpfs.bytes, ParseSize(text.substr(colon + 1)));
  }
  return tmpfs;
}

absl::StatusOr<Rlimit> ParseRlimit(std::string_view text) {
  static constexpr std::pair<std::string_view, int> kResources[] = {
      {"AS", RLIMIT_AS},           {"CORE", RLIMIT_CORE},         {"CPU", RLIMIT_CPU},
      {"DATA", RLIMIT_DATA},       {"FSIZE", RLIMIT_FSIZE},       {"LOCKS", RLIMIT_LOCKS},
      {"MEMLOCK", RLIMIT_MEMLOCK}, {"MSGQUEUE", RLIMIT_MSGQUEUE}, {"NICE", RLIMIT_NICE},
      {"NOFILE", RLIMIT_NOFILE},   {"NPROC", RLIMIT_NPROC},       {"RSS", RLIMIT_RSS},
      {"RTPRIO", RLIMIT_RTPRIO},   {"RTTIME", RLIMIT_RTTIME},     {"SIGPENDING", RLIMIT_SIGPENDING},
      {"STACK", RLIMIT_STACK}};
  const std::size_t equals = text.find('=');
  std::string name = Upper(text.substr(0, equals));
  if (name.starts_with("RLIMIT_")) name.erase(0, 7);
  const auto* found = std::find_if(std::begin(kResources), std::end(kResources),
                                   [&](const auto& entry) { return entry.first == name; });
  if (equals == std::string_view::npos || found == std::end(kResources)) {
    return InvalidError("\"{}\" is not a resource limit: write NOFILE=1024 or NOFILE=512:1024",
                        text);
  }
  const auto value = [&](std::string_view word) -> absl::StatusOr<std::uint64_t> {
    if (word == "unlimited") return RLIM_INFINITY;
    if (const auto number = WholeNumber<std::uint64_t>(word)) return *number;
    return InvalidError("\"{}\" in \"{}\" is neither a number nor unlimited", word, text);
  };
  const std::string_view values = text.substr(equals + 1);
  const std::size_t colon = values.find(':');
  Rlimit limit;
  limit.resource = found->second;
  BROOD_ASSIGN_OR_RETURN(limit.soft, value(values.substr(0, colon)));
  limit.hard = limit.soft;
  if (colon != std::string_view::npos) {
    BROOD_ASSIGN_OR_RETURN(limit.hard, value(values.substr(colon + 1)));
  }
  return limit;
}

absl::StatusOr<double> ParseCpus(std::string_view text) {
  const auto quantity = SplitQuantity(text);
  if (!quantity || !quantity->unit.empty() || quantity->number < 0.01 ||
      quantity->number > 100000) {
    return InvalidError("\"{}\" is not a number of cpus: write 0.5 or 2 (at least 0.01)", text);
  }
  return quantity->number;
}

absl::StatusOr<IoLimit> ParseIoMax(std::string_view text) {
  const auto bad = [&] {
    return InvalidError(
        "\"{}\" is not an io limit: write DISK:rbps=10M,wbps=10M,riops=100,wiops=100, with "
        "one of these or more",
        text);
  };
  // A path may have colons, the rates have none.
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return bad();
  IoLimit limit;
  std::string_view rates = text.substr(colon + 1);
  do {
    const std::string_view rate = rates.substr(0, rates.find(','));
    rates.remove_prefix(std::min(rate.size() + 1, rates.size()));
    const std::string_view key = rate.substr(0, rate.find('='));
    std::optional<std::uint64_t>* const field = key == "rbps"    ? &limit.read_bytes
                                                : key == "wbps"  ? &limit.write_bytes
                                                : key == "riops" ? &limit.read_ops
                                                : key == "wiops" ? &limit.write_ops
                                                                 : nullptr;
    if (field == nullptr || field->has_value() || key.size() == rate.size()) return bad();
    const std::string_view value = rate.substr(key.size() + 1);
    const absl::StatusOr<std::uint64_t> number =
        key.ends_with("bps") ? ParseSize(value) : ParseCount(key, value, 1, UINT32_MAX);
    if (!number.ok()) {
      return InvalidError("the io limit \"{}\": {}", text, Message(number.status()));
    }
    *field = *number;
  } while (!rates.empty());
  BROOD_ASSIGN_OR_RETURN(const BlockDevice disk, DiskOf(std::string(text.substr(0, colon))));
  limit.major = disk.major;
  limit.minor = disk.minor;
  return limit;
}

absl::StatusOr<std::uint64_t> ParseCount(std::string_view what, std::string_view text,
                                         std::uint64_t least, std::uint64_t most) {
  const auto number = WholeNumber<std::uint64_t>(text);
  if (!number || *number < least || *number > most) {
    return InvalidError("{} must be a whole number from {} to {}, not \"{}\"", what, least, most,
                        text);
  }
  return *number;
}

std::string PathFrom(const std::string& base, const std::string& path) {
  if (base.empty() || path.empty() || path.starts_with('/')) return path;
  return base + "/" + path;
}

}  // namespace brood
