// SPDX-License-Identifier: Apache-2.0

// The configuration of a daemon that runs, and changing it.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pool/cli/function_changes.h"
#include "pool/cli/serve_config.h"
#include "pool/core/job_thread.h"
#include "pool/daemon/service.h"
#include "pool/functions/router.h"
#include "pool/pool.h"

namespace brood {

// Logs what of a configuration is left out.
void LogProblems(const ServeConfig& config);

// Names of what a change has added, replaced and taken away.
struct ServedChanges {
  struct Names {
    std::vector<std::string> added, changed, removed;
  };
  Names functions, templates;

  std::string ToJson() const;
};

// What pool, service and router have been given. All are borrowed. Not thread-safe, and not for the
// pool's thread, for which it waits.
class ServedConfig {
 public:
  ServedConfig(ServeConfig config, Pool& pool, Service& service, Router& router, JobThread& jobs)
      : config_(std::move(config)), pool_(pool), service_(service), router_(router), jobs_(jobs) {}

  const ServeConfig& config() const { return config_; }

  // Tells the service which templates there are.
  void PublishTemplates();

  // Templates and functions whose words, or what these lead to, have changed are replaced, and
  // those that are gone taken away. A file that cannot be understood changes nothing, nor does a
  // function whose isolation cannot be made; a template that cannot be made ends the change there.
  absl::StatusOr<ServedChanges> Change(ServeConfig next) { return Change(std::move(next), {}); }
  // The same, but that functions take the place of old ones once they have something ready for a
  // call. When one has not in time, or its process ends, or `give_up` says so, nothing is changed.
  // Those in `renewed` are replaced in any case.
  absl::StatusOr<ServedChanges> ChangeOnceReady(ServeConfig next, std::set<std::string> renewed,
                                                std::function<bool()> give_up) {
    return Change(std::move(next), {std::move(renewed), std::move(give_up)});
  }

 private:
  struct Manner {
    std::set<std::string> renewed;
    std::function<bool()> give_up;  // null: at once
  };
  using Prepared = std::vector<std::shared_ptr<FunctionPool>>;

  absl::StatusOr<ServedChanges> Change(ServeConfig next, const Manner& manner);
  Prepared Prepare(const std::vector<ServeFunction>& functions);
  absl::Status AwaitReady(const Prepared& prepared, const std::function<bool()>& give_up);
  ServedChanges Compare(const FunctionChanges& changes, const ServeConfig& next) const;
  absl::Status PutOwnTemplates(std::vector<ServeFunction>& functions);
  void RemoveOwnTemplate(const ServeFunction& function);
  void SwitchFunctions(const FunctionChanges& changes, const Prepared& prepared);
  absl::Status PutTemplates(const std::vector<ServeTemplate>& next);
  absl::Status RemoveTemplates(const std::vector<ServeTemplate>& next);

  ServeConfig config_;
  Pool& pool_;
  Service& service_;
  Router& router_;
  JobThread& jobs_;
  int reloads_ = 0;
};

}  // namespace brood
