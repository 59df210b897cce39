// SPDX-License-Identifier: Apache-2.0

#include "pool/functions/call_store_thread.h"

#include <utility>

#include "pool/core/start_thread.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

absl::Status DoAlone(CallStore& store, const CallStoreThread::Work& work) {
  BROOD_RETURN_IF_ERROR(store.Begin());
  absl::Status status = work(store);
  if (status.ok()) status = store.Commit();
  if (!status.ok()) store.Rollback();
  return status;
}

}  // namespace

absl::Status CallStoreThread::Start() {
  return StartThread(thread_, [this] { Loop(); });
}

CallStoreThread::~CallStoreThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

void CallStoreThread::Add(Work work, Done done) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back({std::move(work), std::move(done), absl::OkStatus()});
  }
  wake_.notify_one();
}

void CallStoreThread::Loop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    auto jobs = std::make_shared<std::deque<Job>>(std::exchange(jobs_, {}));
    lock.unlock();
    DoTogether(*jobs);
    // What the callbacks hold belongs to the pool's thread, so they are destroyed there, too.
    pool_.Post([jobs = std::move(jobs)] {
      for (Job& job : *jobs) {
        if (job.done) std::exchange(job.done, nullptr)(job.status);
      }
    });
    lock.lock();
  }
}

void CallStoreThread::DoTogether(std::deque<Job>& jobs) {
  absl::Status together = store_->Begin();
  if (together.ok()) {
    for (const Job& job : jobs) {
      if (together.ok()) together = job.work(*store_);
    }
    if (together.ok()) together = store_->Commit();
    if (together.ok()) return;
    store_->Rollback();
  }
  // One that fails takes no other with it.
  for (Job& job : jobs) job.status = DoAlone(*store_, job.work);
}

}  // namespace brood
