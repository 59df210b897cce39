// SPDX-License-Identifier: Apache-2.0

// Enough submissions to meet what is rare. Slow.
#include "tests/daemon/daemon_fixture.h"

namespace brood {
namespace {

TEST_F(DaemonTest, TenThousandSubmissionsFromManyClients) { ManyClients(64, 157); }

}  // namespace
}  // namespace brood
