// SPDX-License-Identifier: Apache-2.0

// What each part of isolation that is no namespace adds to a process.
#include <linux/seccomp.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "bench/measures/bare_clone.h"
#include "bench/measures/measures.h"
#include "spawn/base/status.h"
#include "spawn/host/machine.h"
#include "spawn/seccomp/seccomp.h"

namespace brood::bench {
namespace {

constexpr char kFenceFloor[] = "fence/none";

// A filter, and how the kernel takes it.
struct Filter {
  std::vector<sock_filter> instructions;
  kernel::SeccompFilter program;

  explicit Filter(std::vector<sock_filter> from) : instructions(std::move(from)) {
    program.length = static_cast<unsigned short>(instructions.size());
    program.instructions = instructions.data();
  }
};

Row FenceRow(std::string name, std::function<void(BareChild&)> tell,
             std::uint64_t flags = kLikeVfork) {
  Row row;
  row.name = std::move(name);
  if (row.name != kFenceFloor) row.floor = kFenceFloor;
  row.run = [tell = std::move(tell), flags](benchmark::State& state, Samples& samples) {
    absl::StatusOr<BareClone> clone = BareClone::Create();
    if (!clone.ok()) return Fail(state, clone.status());
    if (tell) tell(clone->child());
    samples.Measure(state, [&] { return clone->RunOnce(flags); });
  };
  return row;
}

Row FilterRow(const std::string& name, std::vector<sock_filter> instructions) {
  const auto filter = std::make_shared<const Filter>(std::move(instructions));
  Row row = FenceRow("fence/seccomp/" + name, [filter](BareChild& child) {
    child.no_new_privs = true;
    child.filter = &filter->program;
  });
  row.parameters = {{"instructions", static_cast<double>(filter->instructions.size())}};
  row.note = "with no_new_privs; compiled by the kernel when installed, and freed at the end";
  return row;
}

// A list of refused calls, one comparison after the other, as simple filters are.
std::vector<sock_filter> LinearFilter(std::size_t calls) {
  std::vector<sock_filter> program = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0)};
  for (std::size_t i = 0; i < calls; ++i) {
    // Numbers that no call has, so that nothing is refused.
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(100000 + i), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  return program;
}

}  // namespace

std::vector<Row> FenceRows(const Setup&) {
  std::vector<Row> rows;
  rows.push_back(FenceRow(kFenceFloor, nullptr));
  rows.push_back(
      FenceRow("fence/no_new_privs", [](BareChild& child) { child.no_new_privs = true; }));
  if (CloneKnows(kernel::kCloneNnp)) {
    rows.push_back(FenceRow("fence/CLONE_NNP", nullptr, kLikeVfork | kernel::kCloneNnp));
    rows.back().floor = "fence/no_new_privs";
  } else {
    rows.push_back(UnavailableRow("fence/CLONE_NNP",
                                  "this kernel does not know the flag (it came with Linux 7.1)"));
  }
  rows.push_back(FilterRow("allow-all", {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}));
  if (absl::StatusOr<SeccompProgram> standard = CompileSeccomp({}, 0); standard.ok()) {
    rows.push_back(FilterRow("default", standard->instructions));
  } else {
    rows.push_back(FailingRow("fence/seccomp/default", standard.status()));
  }
  for (const std::size_t calls : {50, 200, 400}) {
    rows.push_back(FilterRow(fmt::format("linear-{}", calls), LinearFilter(calls)));
  }
  rows.push_back(
      FenceRow("fence/capabilities", [](BareChild& child) { child.drop_capabilities = true; }));
  if (geteuid() != 0) rows.back().unavailable = "needs CAP_SETPCAP";
  rows.push_back(FenceRow("fence/rlimits", [](BareChild& child) { child.rlimits = 16; }));
  rows.back().note = "16 limits";
  rows.push_back(FenceRow("fence/user", nullptr, kLikeVfork | kernel::kCloneNewUser));
  const auto map = std::make_shared<const std::string>(fmt::format("0 {} 1\n", geteuid()));
  rows.push_back(FenceRow(
      "fence/user+map",
      [map](BareChild& child) {
        child.uid_map = map->data();
        child.uid_map_bytes = map->size();
      },
      kLikeVfork | kernel::kCloneNewUser));
  return rows;
}

}  // namespace brood::bench
