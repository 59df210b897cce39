// SPDX-License-Identifier: Apache-2.0

#include "pool/doctor/finding.h"

#include <algorithm>

namespace brood {

std::string_view VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kFine:
      return "fine";
    case Verdict::kNote:
      return "note";
    case Verdict::kLess:
      return "less";
    case Verdict::kCannot:
      return "cannot";
  }
  return "unknown";
}

int ExitStatus(const std::vector<Finding>& findings) {
  Verdict worst = Verdict::kFine;
  for (const Finding& finding : findings) worst = std::max(worst, finding.verdict);
  return worst == Verdict::kCannot ? 2 : worst == Verdict::kLess ? 1 : 0;
}

}  // namespace brood
