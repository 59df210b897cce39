// SPDX-License-Identifier: Apache-2.0

// Workers whose memory limit is too small to exec in, beside others: shared by the everyday test
// and the slow one.
#pragma once

namespace brood {

// Runs `tries` of them, cold and from zygotes. Each must end by itself; every zygote, and every
// worker that is parked beside them, must be the same afterwards. Needs the memory controller.
void RunWithTinyMemory(int tries);

}  // namespace brood
