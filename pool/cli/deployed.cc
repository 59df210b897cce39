// SPDX-License-Identifier: Apache-2.0

#include "pool/cli/deployed.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "spawn/base/status.h"

namespace brood {
namespace {

constexpr std::string_view kSuffix = ".toml";

std::string LinkOf(const std::string& directory, const std::string& function) {
  return fmt::format("{}/{}{}", directory, function, kSuffix);
}

std::string TargetOf(const std::string& link) {
  std::error_code error;
  const std::filesystem::path target = std::filesystem::read_symlink(link, error);
  return error ? "" : target.string();
}

// A rename replaces what is there in one step: no reader meets half of it.
absl::Status PutLink(const std::string& path, const std::string& target) {
  const std::string fresh = path + ".new";
  unlink(fresh.c_str());
  if (symlink(target.c_str(), fresh.c_str()) != 0 || rename(fresh.c_str(), path.c_str()) != 0) {
    return ErrnoError(errno, "noting what is deployed in {}", path);
  }
  return absl::OkStatus();
}

// Who can write it decides what of the host functions see.
absl::Status CheckOwner(const std::string& path) {
  struct stat status = {};
  if (lstat(path.c_str(), &status) != 0) return ErrnoError(errno, "looking at {}", path);
  const bool ours = status.st_uid == 0 || status.st_uid == geteuid();
  const bool closed = (status.st_mode & 022) == 0 || (status.st_mode & S_ISVTX) != 0;
  if (ours && closed) return absl::OkStatus();
  return Error(
      absl::StatusCode::kPermissionDenied,
      "others than the daemon's owner could change {}, and so what is bound into functions: "
      "chown and chmod go-w it",
      path);
}

// The first of `more` whose name one of `all` has; empty: none.
std::string TakenName(const auto& all, const auto& more) {
  for (const auto& each : more) {
    for (const auto& other : all) {
      if (other.options.name == each.options.name) return each.options.name;
    }
  }
  return "";
}

absl::Status AddOne(const std::string& link, ServeConfig& config) {
  std::error_code error;
  const std::filesystem::path file = std::filesystem::canonical(link, error);
  if (error) return ErrnoError(error.value(), "following {}", link);
  BROOD_ASSIGN_OR_RETURN(ServeConfig more, ReadDeployable(file.string()));
  if (const std::string taken = TakenName(config.templates, more.templates); !taken.empty()) {
    return InvalidError("{}: there is a template {} already", file.string(), taken);
  }
  if (const std::string taken = TakenName(config.functions, more.functions); !taken.empty()) {
    return InvalidError("{}: there is a function {} already", file.string(), taken);
  }
  std::move(more.templates.begin(), more.templates.end(), std::back_inserter(config.templates));
  std::move(more.functions.begin(), more.functions.end(), std::back_inserter(config.functions));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> DeployableFile(const std::string& path) {
  std::error_code error;
  std::filesystem::path file = std::filesystem::canonical(path, error);
  if (!error && std::filesystem::is_directory(file, error)) {
    file = std::filesystem::canonical(file / "function.toml", error);
  }
  if (error) {
    return ErrnoError(error.value(), "looking for {}, a file of functions or a directory with {}",
                      path, "function.toml");
  }
  return file.string();
}

absl::StatusOr<ServeConfig> ReadDeployable(const std::string& file) {
  BROOD_RETURN_IF_ERROR(CheckOwner(file));
  BROOD_RETURN_IF_ERROR(CheckOwner(std::filesystem::path(file).parent_path().string()));
  BROOD_ASSIGN_OR_RETURN(ServeConfig config, ReadServeFile(file));
  ServeConfig rest;
  rest.base = config.base;
  if (config.socket || config.group || config.max_running || config.max_unclaimed ||
      config.log_bytes || config.drain != rest.drain || !config.deployed.empty() ||
      config.http != rest.http) {
    return InvalidError("{}: what is deployed are functions and their templates, not settings",
                        file);
  }
  if (config.functions.empty()) return InvalidError("{} has no [function.NAME]", file);
  return config;
}

void AddDeployed(ServeConfig& config) {
  if (config.deployed.empty()) return;
  std::vector<std::string> links;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(config.deployed, error)) {
    if (entry.path().extension() == kSuffix) links.push_back(entry.path().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    const absl::Status unread = ErrnoError(error.value(), "reading {}", config.deployed);
    config.problems.push_back({config.deployed, std::string(Message(unread))});
  }
  std::sort(links.begin(), links.end());
  for (const std::string& link : links) {
    const absl::Status added = AddOne(link, config);
    if (!added.ok()) config.problems.push_back({link, std::string(Message(added))});
  }
}

absl::StatusOr<DeployedLink> DeployedLink::Put(const std::string& directory,
                                               const std::string& function,
                                               const std::string& file) {
  if (mkdir(directory.c_str(), 0755) != 0 && errno != EEXIST) {
    return ErrnoError(errno, "making the directory {}", directory);
  }
  DeployedLink link(LinkOf(directory, function), TargetOf(LinkOf(directory, function)));
  BROOD_RETURN_IF_ERROR(PutLink(link.path_, file));
  return link;
}

absl::StatusOr<DeployedLink> DeployedLink::Remove(const std::string& directory,
                                                  const std::string& function) {
  DeployedLink link(LinkOf(directory, function), TargetOf(LinkOf(directory, function)));
  // A name, and not a way out of the directory.
  if (link.before_.empty() || function.find('/') != std::string::npos) {
    return Error(absl::StatusCode::kNotFound, "nothing was deployed as {}", function);
  }
  if (unlink(link.path_.c_str()) != 0) return ErrnoError(errno, "removing {}", link.path_);
  return link;
}

absl::Status DeployedLink::PutBack() const {
  if (!before_.empty()) return PutLink(path_, before_);
  if (unlink(path_.c_str()) != 0) return ErrnoError(errno, "removing {}", path_);
  return absl::OkStatus();
}

}  // namespace brood
