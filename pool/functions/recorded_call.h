// SPDX-License-Identifier: Apache-2.0

// An asynchronous call: its answer is kept.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "pool/functions/call_end.h"
#include "pool/functions/call_report.h"
#include "pool/functions/call_store.h"
#include "pool/functions/function_pool.h"
#include "pool/functions/running_calls.h"
#include "pool/http/caller.h"
#include "pool/http/connection.h"

namespace brood {

// Only in the pool's thread.
class RecordedCall : public Caller, public std::enable_shared_from_this<RecordedCall> {
 public:
  static constexpr std::size_t kMaxOutput = 64U << 10;  // bytes kept

  // `refused`: the function had no place for it or no isolate could be started, so it did not run.
  using Done = std::function<void(CallResult result, bool refused)>;

  // Runs it. `done` is called once, at once or later, unless it is dropped; `log` as for any call.
  void Start(Pool& pool, Timers& timers, std::shared_ptr<FunctionPool> function,
             const std::string& id, const KeptRequest& request, RunningCalls& running, CallSink log,
             Done done);
  // Ends what runs; `done` is not called any more.
  void Drop();

  void Answer(HttpStatus status, Fields fields, std::string_view body) override;
  void Begin(HttpStatus status, Fields fields, std::optional<std::uint64_t> length) override;
  void Write(std::string_view bytes) override;
  void Finish(const Fields& trailer) override;
  void Abort() override { broken_ = true; }  // why is told to the log, next
  bool Upgrade(const Fields&) override { return false; }
  std::shared_ptr<void> Hold() override { return shared_from_this(); }
  void Continue() override {}
  void Resume() override {}
  bool congested() const override { return false; }
  bool open() const override { return true; }
  std::string peer() const override { return peer_; }

 private:
  void OnReport(const CallReport& report);
  void End();

  std::shared_ptr<Exchange> call_;  // and it holds this; until either has ended
  std::string peer_;
  Done done_;
  CallResult result_;
  Fields fields_;
  bool broken_ = false;
};

}  // namespace brood
