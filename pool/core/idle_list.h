// SPDX-License-Identifier: Apache-2.0

// Parked workers of one template, ready to be taken by any thread.
//
// A launch is a store into shared memory and a futex wake, so the thread that has the request can
// do it itself; handing it to the pool's thread first would cost a wake-up, which on a virtual
// machine is a good part of an exec. Requests that need more (descriptors to be sent, a queue to
// stand in) go to the pool's thread, which takes its workers from here as well.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "spawn/launch/zygote.h"
#include "spawn/outcome.h"
#include "spawn/plan/blueprint.h"
#include "spawn/spec.h"

namespace brood {

class ParentCgroup;

class IdleList {
 public:
  // What callers need to know of the template. Set before any worker is put here.
  struct Facts {
    const Blueprint* blueprint = nullptr;  // to be used only while a worker is under way
    bool has_limits = false;
    std::string template_name;
    std::vector<Fallback> fallbacks;
    int proc_fd = -1;
    const ParentCgroup* parent = nullptr;  // as `blueprint`; null: no cgroup
  };
  Facts facts;

  struct Entry {
    std::uint32_t worker = 0;  // the pool's record of it
    Zygote* zygote = nullptr;  // stays until the worker is freed
    std::uint32_t slot = 0;
  };

  // Any thread. A worker whose launch the caller now owns: it has to be launched, and then the
  // pool's thread told (Inbox::Put), which calls Arrived. None when the idle list is empty or
  // closed, when others wait already, or when `window` launches are on their way.
  std::optional<Entry> TakeForCaller(std::uint32_t window);

  // The rest is for the pool's thread.
  void Put(Entry entry);
  std::optional<Entry> Take();
  std::size_t size() const;
  // Removes the workers for which `gone` is true.
  void Sweep(const std::function<bool(std::uint32_t worker)>& gone);
  // What the other threads have to respect: whether they may launch at all (the queue is empty, and
  // there is room for one more), and how many launches are on their way.
  void Report(bool may_launch, std::size_t launching);
  void Arrived();
  // No caller gets a worker any more.
  void Close();
  bool closed() const;
  // Workers that callers have taken and not yet reported.
  std::uint32_t underway() const;

 private:
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;  // last in, first out: its memory is warm
  bool may_launch_ = true;
  std::size_t launching_ = 0;
  std::uint32_t underway_ = 0;
  bool closed_ = false;
};

}  // namespace brood
