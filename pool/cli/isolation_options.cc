// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/isolation_options.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "pool/cli/values.h"
#include "spawn/base/status.h"
#include "spawn/plan/capability_reach.h"

namespace brood {
namespace {

absl::StatusOr<RootMode> ParseRootMode(std::string_view word) {
  if (word.empty() || word == "ro") return RootMode::kReadOnly;
  if (word == "rw") return RootMode::kReadWrite;
  if (word == "overlay") return RootMode::kOverlay;
  return InvalidError("--root-mode takes ro, rw or overlay, not \"{}\"", word);
}

// Relative paths are meant from where the user stands; links are followed once, here.
absl::StatusOr<std::string> HostPath(std::string_view what, const std::string& path) {
  std::error_code error;
  const std::filesystem::path resolved = std::filesystem::canonical(path, error);
  if (error) return ErrnoError(error.value(), "looking for {} {}", what, path);
  return resolved.string();
}

// Offsets may be negative, which durations elsewhere may not.
absl::StatusOr<std::chrono::nanoseconds> ParseOffset(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative) text.remove_prefix(1);
  BROOD_ASSIGN_OR_RETURN(const std::chrono::nanoseconds offset, ParseDuration(text));
  return negative ? -offset : offset;
}

}  // namespace

void SpecOptions::AddTo(CLI::App& app) {
  const std::size_t before = app.get_options().size();
  const std::string root = "Root filesystem";
  app.add_option("--rootfs", rootfs_,
                 "Directory to be the root (default: the host's own tree, read-only)")
      ->type_name("DIR")
      ->group(root);
  app.add_option("--root-mode", root_mode_,
                 "ro: read-only (default); rw: writes go to DIR; overlay: writes are thrown away")
      ->type_name("ro|rw|overlay")
      ->group(root);
  app.add_option("--overlay-size", overlay_size_, "Room for writes with overlay (default 256M)")
      ->type_name("SIZE")
      ->group(root);
  app.add_option("-v,--volume", binds_, "Bind a host path inside; may be given again")
      ->type_name("SRC:DST[:ro]")
      ->group(root)
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--tmpfs", tmpfs_, "Mount an empty tmpfs (default 64M); may be given again")
      ->type_name("DST[:SIZE]")
      ->group(root)
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--tmp-size", tmp_size_, "Size of the private /tmp and /dev/shm (default 64M)")
      ->type_name("SIZE")
      ->group(root);

  const std::string isolation = "Isolation";
  app.add_option("--net", net_, "none: its own, loopback only (default); host: the host's network")
      ->type_name("none|host")
      ->group(isolation);
  app.add_option("--hostname", hostname_, "Hostname inside (default brood)")
      ->type_name("NAME")
      ->group(isolation);
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    const auto kind = static_cast<NamespaceKind>(i);
    const std::string name(NamespaceName(kind));
    app.add_flag("--no-" + name, without_[i], "Stay in the host's " + name + " namespace")
        ->group(isolation);
    app.add_option("--join-" + name, join_[i], "Join this " + name + " namespace")
        ->type_name("PATH")
        ->group(isolation);
  }
  app.add_option("--monotonic-offset", monotonic_offset_,
                 "Shift CLOCK_MONOTONIC inside the time namespace, as 1h or -5s")
      ->type_name("DURATION")
      ->group(isolation);
  app.add_option("--boottime-offset", boottime_offset_,
                 "Shift CLOCK_BOOTTIME inside the time namespace")
      ->type_name("DURATION")
      ->group(isolation);
  app.add_option("-u,--user", user_,
                 "User and group inside, as numbers or as names from the root's /etc/passwd and "
                 "/etc/group (default 0:0)")
      ->type_name("UID[:GID]")
      ->group(isolation);
  app.add_option("--cap-add", capabilities_,
                 "Keep a capability, as NET_RAW (default none); may be given again")
      ->type_name("CAP")
      ->group(isolation)
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  app.add_option("--seccomp", seccomp_, "System call filter: default, off, or an OCI JSON profile")
      ->type_name("default|off|FILE")
      ->group(isolation);

  app.add_flag("--nesting", nesting_, "Let it make namespaces of its own, as nested sandboxes need")
      ->group(isolation);

  app.add_option("--reuse", reuse_,
                 "What a pool's worker may get from one that has ended: its user and network "
                 "namespaces, once nothing is left in them (default), or nothing")
      ->type_name("namespaces|none")
      ->group(isolation);
  app.add_flag("--fresh", fresh_, "The same as --reuse none")->group(isolation);

  app.add_flag("--init", init_,
               "Run an init as its first process: it reaps orphaned processes and passes signals "
               "on; --pids counts it")
      ->group(isolation);

  const std::string limits = "Limits";
  limits_.AddTo(app, limits);
  app.add_option("--rlimit", rlimits_, "Resource limit, as NOFILE=1024; may be given again")
      ->type_name("NAME=SOFT[:HARD]")
      ->group(limits)
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--no-cgroup-leaf", no_cgroup_leaf_, "Give it no cgroup of its own")->group(limits);
  options_ = app.get_options();
  options_.erase(options_.begin(), options_.begin() + static_cast<std::ptrdiff_t>(before));
}

std::string SpecOptions::FirstGiven() const {
  for (const CLI::Option* const option : options_) {
    if (option->count() > 0) return option->get_name();
  }
  return "";
}

void ProcessOptions::AddTo(CLI::App& app) {
  const std::string process = "Process";
  app.add_option("-e,--env", env_, "Set a variable; a bare NAME takes the caller's value")
      ->type_name("NAME=VALUE")
      ->group(process)
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  app.add_flag("--clear-env", clear_env_, "Start without PATH, HOME, LANG and TERM")
      ->group(process);
  app.add_option("-w,--workdir", cwd_, "Working directory inside (default /)")
      ->type_name("DIR")
      ->group(process);
  app.add_option("--timeout", timeout_,
                 "Kill the command and all its processes after this time, as 5s")
      ->type_name("DURATION")
      ->group(process);
  // The first word that is no option begins the command; brood parses nothing after it.
  app.prefix_command();
}

absl::StatusOr<Spec> SpecOptions::Resolve() const {
  Spec spec;
  if (!rootfs_.empty()) {
    BROOD_ASSIGN_OR_RETURN(spec.root.mode, ParseRootMode(root_mode_));
    BROOD_ASSIGN_OR_RETURN(spec.root.directory,
                           HostPath("the root directory", PathFrom(base_, rootfs_)));
  } else if (!root_mode_.empty()) {
    return InvalidError("--root-mode {} needs --rootfs DIR", root_mode_);
  }
  if (!overlay_size_.empty()) {
    BROOD_ASSIGN_OR_RETURN(spec.root.overlay_bytes, ParseSize(overlay_size_));
    if (spec.root.mode != RootMode::kOverlay) {
      return InvalidError(
          "--overlay-size needs --root-mode overlay: it limits what is written there");
    }
  }
  for (const std::string& word : binds_) {
    BROOD_ASSIGN_OR_RETURN(Bind bind, ParseBind(word));
    BROOD_ASSIGN_OR_RETURN(bind.source,
                           HostPath("the bind's source", PathFrom(base_, bind.source)));
    spec.binds.push_back(std::move(bind));
  }
  for (const std::string& word : tmpfs_) {
    BROOD_ASSIGN_OR_RETURN(Tmpfs tmpfs, ParseTmpfs(word));
    spec.tmpfs.push_back(std::move(tmpfs));
  }
  if (!tmp_size_.empty()) {
    BROOD_ASSIGN_OR_RETURN(spec.tmp_bytes, ParseSize(tmp_size_));
  }

  const bool own_net = !without_[static_cast<std::size_t>(NamespaceKind::kNet)] &&
                       join_[static_cast<std::size_t>(NamespaceKind::kNet)].empty();
  if (net_ == "none" && !own_net) {
    return InvalidError(
        "--net none means a network namespace of its own: it excludes --no-net and --join-net");
  }
  for (std::size_t i = 0; i < kNamespaceCount; ++i) {
    if (without_[i] && !join_[i].empty()) {
      const std::string_view name = NamespaceName(static_cast<NamespaceKind>(i));
      return InvalidError("--no-{0} and --join-{0} exclude each other", name);
    }
    if (without_[i]) spec.namespaces[i].mode = NamespaceMode::kHost;
    if (!join_[i].empty()) spec.namespaces[i] = {NamespaceMode::kJoin, PathFrom(base_, join_[i])};
  }
  if (net_ == "host") {
    if (spec.ns(NamespaceKind::kNet).mode == NamespaceMode::kJoin) {
      return InvalidError("--net host and --join-net exclude each other");
    }
    spec.ns(NamespaceKind::kNet).mode = NamespaceMode::kHost;
  } else if (!net_.empty() && net_ != "none") {
    return InvalidError("--net takes none or host, not \"{}\"", net_);
  }
  if (!tmp_size_.empty() && !spec.is_new(NamespaceKind::kMount)) {
    return InvalidError(
        "--tmp-size sets the size of a private /tmp, which needs a mount namespace of its own");
  }
  if (!monotonic_offset_.empty()) {
    BROOD_ASSIGN_OR_RETURN(spec.time_offsets.monotonic, ParseOffset(monotonic_offset_));
  }
  if (!boottime_offset_.empty()) {
    BROOD_ASSIGN_OR_RETURN(spec.time_offsets.boottime, ParseOffset(boottime_offset_));
  }
  if (hostname_) {
    if (!spec.is_new(NamespaceKind::kUts)) {
      return InvalidError(
          "--hostname needs a uts namespace of its own: it excludes --no-uts and --join-uts");
    }
    spec.hostname = *hostname_;
  }
  if (!user_.empty()) {
    BROOD_ASSIGN_OR_RETURN(const auto ids,
                           ParseUser(user_, UserDatabase(spec.root.directory, spec.binds)));
    spec.uid = ids.first;
    spec.gid = ids.second;
  } else if (!spec.is_new(NamespaceKind::kUser)) {
    spec.uid = geteuid();
    spec.gid = getegid();
  }
  spec.capabilities = capabilities_;
  // Here it was asked for by name, so that it cannot be meant to do nothing.
  if (const std::vector<Fallback> idle = CapabilitiesWithoutEffect(spec); !idle.empty()) {
    return InvalidError("--cap-add {} has no effect: it would be {}", idle[0].wanted, idle[0].used);
  }
  spec.nesting = nesting_;
  spec.init = init_;
  if (fresh_ || reuse_ == "none") {
    spec.reuse = Reuse::kNone;
  } else if (reuse_ && reuse_ != "namespaces") {
    return InvalidError("--reuse \"{}\": it takes namespaces or none", *reuse_);
  }
  if (seccomp_ == "off") {
    spec.seccomp.mode = SeccompMode::kOff;
  } else if (seccomp_ != "default") {
    spec.seccomp.mode = SeccompMode::kFile;
    BROOD_ASSIGN_OR_RETURN(spec.seccomp.file,
                           HostPath("the seccomp profile", PathFrom(base_, seccomp_)));
  }
  BROOD_ASSIGN_OR_RETURN(spec.limits, limits_.Resolve());
  for (const std::string& word : rlimits_) {
    BROOD_ASSIGN_OR_RETURN(const Rlimit limit, ParseRlimit(word));
    for (const Rlimit& other : spec.rlimits) {
      if (other.resource != limit.resource) continue;
      return InvalidError("--rlimit sets the limit of \"{}\" twice", word);
    }
    spec.rlimits.push_back(limit);
  }
  spec.use_cgroup = !no_cgroup_leaf_;

  BROOD_RETURN_IF_ERROR(Validate(spec));
  return spec;
}

absl::StatusOr<Command> ProcessOptions::Resolve(const std::vector<std::string>& words) const {
  if (words.empty()) {
    return InvalidError(
        "no command was given; it comes after the options: [--] COMMAND [argument...]");
  }
  Command command;
  command.argv = words;
  if (!clear_env_) command.env = DefaultEnvironment();
  for (const std::string& word : env_) {
    const std::size_t equals = word.find('=');
    std::string entry = word;
    if (equals == std::string::npos) {
      const char* value = std::getenv(word.c_str());
      if (value == nullptr) {
        return InvalidError("-e {}: the caller has no such variable to pass on", word);
      }
      entry += '=' + std::string(value);
    }
    const std::string name = entry.substr(0, entry.find('=') + 1);
    std::erase_if(command.env, [&](const std::string& old) { return old.starts_with(name); });
    command.env.push_back(std::move(entry));
  }
  command.cwd = cwd_;
  if (!timeout_.empty()) {
    BROOD_ASSIGN_OR_RETURN(command.timeout, ParseDuration(timeout_));
  }
  BROOD_RETURN_IF_ERROR(Validate(command));
  return command;
}

void IsolationOptions::AddTo(CLI::App& app) {
  spec_options_.AddTo(app);
  process_.AddTo(app);
}

absl::StatusOr<IsolationOptions::Resolved> IsolationOptions::Resolve(
    const std::vector<std::string>& words) const {
  Resolved out;
  // The command first: that it is missing is what most people have to be told.
  BROOD_ASSIGN_OR_RETURN(out.command, process_.Resolve(words));
  BROOD_ASSIGN_OR_RETURN(out.spec, spec_options_.Resolve());
  return out;
}

}  // namespace brood
