// SPDX-License-Identifier: Apache-2.0

// The configuration of a daemon that runs, and changing it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "pool/cli/function_changes.h"
#include "pool/cli/serve_config.h"
#include "pool/core/job_thread.h"
#include "pool/daemon/service.h"
#include "pool/functions/router.h"
#include "pool/pool.h"

namespace brood {

// What pool, service and router have been given. All are borrowed; `router` is null where nothing
// is served over HTTP. Not thread-safe, and not for the pool's thread, for which it waits.
class ServedConfig {
 public:
  ServedConfig(ServeConfig config, Pool& pool, Service& service, Router* router, JobThread& jobs)
      : config_(std::move(config)), pool_(pool), service_(service), router_(router), jobs_(jobs) {}

  const ServeConfig& config() const { return config_; }

  // Tells the service which templates there are.
  void PublishTemplates();

  // Templates and functions whose words, or what these lead to, have changed are replaced, and
  // those that are gone taken away. A file that cannot be understood changes nothing, nor does a
  // function whose isolation cannot be made; a template that cannot be made ends the change there.
  absl::Status Change(ServeConfig next);

 private:
  absl::Status PutOwnTemplates(std::vector<ServeFunction>& functions);
  void RemoveOwnTemplate(const ServeFunction& function);
  void SwitchFunctions(const FunctionChanges& changes);
  absl::Status PutTemplates(const std::vector<ServeTemplate>& next);
  absl::Status RemoveTemplates(const std::vector<ServeTemplate>& next);

  ServeConfig config_;
  Pool& pool_;
  Service& service_;
  Router* const router_;
  JobThread& jobs_;
  int reloads_ = 0;
};

}  // namespace brood
