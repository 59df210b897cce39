// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/status.h"

#include <cerrno>

namespace brood {

namespace internal {

absl::Status FormatError(absl::StatusCode code, fmt::string_view format, fmt::format_args args) {
  const std::string text = fmt::vformat(format, args);
  return absl::Status(code, absl::string_view(text.data(), text.size()));
}

absl::Status FormatErrnoError(int error_number, fmt::string_view format, fmt::format_args args) {
  return Error(CodeForErrno(error_number), "{}: {}", fmt::vformat(format, args),
               ErrnoText(error_number));
}

}  // namespace internal

std::string ErrnoName(int error_number) {
  if (error_number == kEnotsupp) return "ENOTSUPP";
  const char* name = strerrorname_np(error_number);
  return name == nullptr ? fmt::format("errno {}", error_number) : std::string(name);
}

std::string ErrnoText(int error_number) {
  if (error_number == kEnotsupp) return "ENOTSUPP (Operation is not supported, errno 524)";
  const char* name = strerrorname_np(error_number);
  const char* meaning = strerrordesc_np(error_number);
  if (name == nullptr || meaning == nullptr) return fmt::format("errno {}", error_number);
  return fmt::format("{} ({})", name, meaning);
}

absl::StatusCode CodeForErrno(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
    case ECHILD:
    case ENODEV:
      return absl::StatusCode::kNotFound;
    case EPERM:
    case EACCES:
    case EROFS:
      return absl::StatusCode::kPermissionDenied;
    case EEXIST:
      return absl::StatusCode::kAlreadyExists;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP:
    case E2BIG:
      return absl::StatusCode::kInvalidArgument;
    case ENOMEM:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
    case EDQUOT:
    case EAGAIN:
    case EUSERS:
    case kEnotsupp:
      return absl::StatusCode::kResourceExhausted;
    case ENOSYS:
    case EOPNOTSUPP:
      return absl::StatusCode::kUnimplemented;
    case ETIMEDOUT:
      return absl::StatusCode::kDeadlineExceeded;
    default:
      return absl::StatusCode::kInternal;
  }
}

}  // namespace brood
