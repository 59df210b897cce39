// SPDX-License-Identifier: Apache-2.0

// Errors as values: absl::Status inside, one sentence outside.
//
// Convention of this project: std::string_view and std::optional everywhere.
// Debian builds abseil with its own absl::string_view, other distributions make
// it an alias; converting here, and only here, builds against both.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace brood {

// Compiled once, not with each sentence.
namespace internal {
absl::Status FormatError(absl::StatusCode code, fmt::string_view format, fmt::format_args args);
absl::Status FormatErrnoError(int error_number, fmt::string_view format, fmt::format_args args);
}  // namespace internal

// Builds a status of `code` whose message is the formatted sentence.
template <typename... Args>
absl::Status Error(absl::StatusCode code, fmt::format_string<Args...> format, Args&&... args) {
  return internal::FormatError(code, format, fmt::make_format_args(args...));
}

// Builds a status of kInvalidArgument: what was asked for is wrong in itself.
template <typename... Args>
absl::Status InvalidError(fmt::format_string<Args...> format, Args&&... args) {
  return Error(absl::StatusCode::kInvalidArgument, format, std::forward<Args>(args)...);
}

// The message of a status as the standard library's view. Valid while `status` lives.
inline std::string_view Message(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

// An errno of the kernel's own, which no call should return and seccomp(2) does
// (include/linux/errno.h).
inline constexpr int kEnotsupp = 524;

// The name of an errno: "ENOENT", or "errno 4711" where it has none.
std::string ErrnoName(int error_number);
// With what it means: "ENOENT (No such file or directory)".
std::string ErrnoText(int error_number);

// The absl code nearest in meaning to an errno (ENOENT is kNotFound, EPERM kPermissionDenied...).
absl::StatusCode CodeForErrno(int error_number);

// A status for a failed call: "<what was being done>: EPERM (Operation not permitted)".
template <typename... Args>
absl::Status ErrnoError(int error_number, fmt::format_string<Args...> format, Args&&... args) {
  return internal::FormatErrnoError(error_number, format, fmt::make_format_args(args...));
}

}  // namespace brood

// Returns early with the status of `expression` unless it is OK.
#define BROOD_RETURN_IF_ERROR(expression)                                                     \
  do {                                                                                        \
    if (absl::Status brood_status_ = (expression); !brood_status_.ok()) return brood_status_; \
  } while (false)

#define BROOD_CONCAT_INNER_(a, b) a##b
#define BROOD_CONCAT_(a, b) BROOD_CONCAT_INNER_(a, b)

// BROOD_ASSIGN_OR_RETURN(auto value, Call()): value or early return of the status.
#define BROOD_ASSIGN_OR_RETURN(left, expression) \
  BROOD_ASSIGN_OR_RETURN_(BROOD_CONCAT_(brood_or_, __LINE__), left, expression)
#define BROOD_ASSIGN_OR_RETURN_(result, left, expression) \
  auto result = (expression);                             \
  if (!result.ok()) return result.status();               \
  left = *std::move(result)
