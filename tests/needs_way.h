// What a test needs of the kernel that BROOD_WITHOUT may have taken away.
#pragma once

#include <gtest/gtest.h>

#include "spawn/without.h"

// In a test's body: skips it, by name.
#define BROOD_NEEDS_WAY(way) \
  if (::brood::Without(way)) GTEST_SKIP() << "BROOD_WITHOUT takes away what it is about"
