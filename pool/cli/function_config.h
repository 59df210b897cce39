// Functions and the HTTP door, as the daemon's configuration has them.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/functions/function.h"
#include "pool/pool.h"

namespace brood {

struct ServeFunction {
  FunctionOptions options;
  std::optional<TemplateOptions> own_template;  // none: it uses one of the configuration's
};

// A table [function.NAME] as words, "--mode=primed --min=8 --rootfs=/srv/debian": template, mode,
// min, max, concurrency, queue, timeout, queue-timeout, max-body, cgi and cwd, and, without
// template, the fences of `brood run`. `env`: "NAME=value", beside the usual ones.
//
// Fences through which one call could reach another's are refused: a process, ipc, mount or user
// namespace that is not its own, and a root it may write to that outlives it.
absl::StatusOr<ServeFunction> ParseServeFunction(const std::string& name,
                                                 const std::vector<std::string>& words,
                                                 const std::vector<std::string>& command,
                                                 const std::vector<std::string>& env);

// The check of the fences, for a template that functions share.
absl::Status CheckFunctionFences(const Spec& spec);

// The table [http] as words: max-connections, header-timeout, body-timeout, idle-timeout.
absl::Status ParseHttpWords(const std::vector<std::string>& words, HttpOptions& http);

// "127.0.0.1:8080", "[::1]:8080"; port 0 is the kernel's choice.
absl::Status ParseHttpAddress(const std::string& text, HttpOptions& http);

}  // namespace brood
