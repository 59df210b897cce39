// SPDX-License-Identifier: Apache-2.0

// What a test may need of the machine. Each skips it, by name, where that is not had; to be used in
// a test's body or SetUp.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include "spawn/host/without.h"

#define BROOD_NEEDS_ROOT() \
  if (geteuid() != 0) GTEST_SKIP() << "needs root"

// Of the kernel, unless BROOD_WITHOUT has taken it away.
#define BROOD_NEEDS_WAY(way) \
  if (::brood::Without(way)) GTEST_SKIP() << "BROOD_WITHOUT takes away what it is about"
