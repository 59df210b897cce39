// SPDX-License-Identifier: Apache-2.0

// A thread, or the sentence why there is none: std::thread throws where no process can be added.
#pragma once

#include <system_error>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "spawn/base/status.h"
#include "spawn/limits/advice.h"

namespace brood {

template <typename Body>
absl::Status StartThread(std::thread& thread, Body&& body) {
  try {
    thread = std::thread(std::forward<Body>(body));
  } catch (const std::system_error& error) {
    // A thread counts as a process does, so the advice is the same.
    const int number = error.code().value();
    const std::string advice = AdviceHere(Step::kCloneWorker, number);
    return Error(CodeForErrno(number), "starting a thread: {}{}{}", ErrnoText(number),
                 advice.empty() ? "" : "; ", advice);
  }
  return absl::OkStatus();
}

}  // namespace brood
