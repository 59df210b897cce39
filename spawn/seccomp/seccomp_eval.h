// SPDX-License-Identifier: Apache-2.0

// Classic BPF as seccomp(2) runs it: what a program says of a call, and programs made from
// decisions. Knows instructions, not policy; spawn/seccomp/seccomp.h has the policy.
//
// Nothing here makes a system call. Free functions are thread-safe.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <vector>

namespace brood {

// Offset of the half of argument `index` (0 to 5) that a 32-bit parameter of a system call takes.
// The other half is ignored by the kernel for such parameters, but is the caller's to set: rules
// that deny must look at this half only, or a stray high bit walks around them.
constexpr std::uint32_t LowWordOfArgument(std::uint32_t index) {
  constexpr bool kBigEndian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args)) + 8 * index +
         (kBigEndian ? 4 : 0);
}

constexpr std::uint32_t HighWordOfArgument(std::uint32_t index) {
  return LowWordOfArgument(index) ^ 4;
}

// What `program` answers to `call`: a SECCOMP_RET_* action with its data.
//
// Takes every instruction that the kernel takes in a seccomp filter. For a program that the kernel
// would refuse to load (an unknown instruction, a jump or a read out of bounds, no return)
// the answer is SECCOMP_RET_KILL_PROCESS, as far as the walk meets the fault.
std::uint32_t EvaluateSeccomp(std::span<const sock_filter> program, const seccomp_data& call);

// A 32-bit argument of a system call that is known beforehand.
struct KnownArgument {
  std::uint32_t index;
  std::uint32_t value;
};

// What `program` answers to system call `number` of `arch` (AUDIT_ARCH_*) whatever the arguments
// that are not known: every path through it ends in that SECCOMP_RET_* action. Nothing when there
// is no such answer, or none that can be proved.
std::optional<std::uint32_t> AlwaysAnswers(std::span<const sock_filter> program, std::uint32_t arch,
                                           std::uint32_t number,
                                           std::optional<KnownArgument> known = std::nullopt);

// Whether that is SECCOMP_RET_ALLOW.
bool AlwaysAllows(std::span<const sock_filter> program, std::uint32_t arch, std::uint32_t number,
                  std::optional<KnownArgument> known = std::nullopt);

// Builds a filter from its decisions, backwards: a node is made after those it leads to.
//
// Equal nodes are one node, so equal decisions can be told by ==, and common tails are emitted
// once. That, and Dispatch's ranges, is what keeps the program short: the kernel checks, translates
// and compiles each instruction again for every process that installs the filter, and since Linux
// 5.11 also walks it once for each system call number, to find those it always allows.
//
// Nodes belong to the assembler that made them. Not thread-safe.
class SeccompAssembler {
 public:
  enum class Node : std::uint32_t {};

  // System calls numbered `first` and up, until the next range, are decided by `decision`.
  struct Range {
    std::uint32_t first;
    Node decision;
  };

  // Ends with a SECCOMP_RET_* action.
  Node Return(std::uint32_t action);
  // Loads the 32-bit word at `offset` of seccomp_data.
  Node Load(std::uint32_t offset, Node next);
  // Keeps the bits of `mask` in the word loaded.
  Node And(std::uint32_t mask, Node next);
  // Compares the word loaded with `value`. `comparison` is BPF_JEQ, BPF_JGT, BPF_JGE or BPF_JSET.
  Node Branch(std::uint16_t comparison, std::uint32_t value, Node if_true, Node if_false);

  // Whether argument `index` is `value`, in one comparison of both words: how long it takes tells
  // nothing of either.
  Node Matches(std::uint32_t index, std::uint64_t value, Node if_true, Node if_false);

  // Decides by the word loaded, a system call number: a balanced search over `ranges`, which are
  // in ascending order, the first at 0. Neighbours with the same decision are merged.
  Node Dispatch(std::span<const Range> ranges);

  // What is left of `program` once architecture and number are known, and perhaps an argument: only
  // its questions about others. Nothing when it uses an instruction that libseccomp does not emit.
  std::optional<Node> Specialize(std::span<const sock_filter> program, std::uint32_t arch,
                                 std::uint32_t number,
                                 std::optional<KnownArgument> known = std::nullopt);

  // The action that `node` ends with, if that is all it does.
  std::optional<std::uint32_t> ActionOf(Node node) const;

  // The program that starts at `entry`. May exceed what the kernel takes (BPF_MAXINSNS).
  std::vector<sock_filter> Assemble(Node entry) const;

 private:
  class Layout;
  class Specializer;

  struct Instruction {
    std::uint16_t code;
    std::uint32_t k;
    Node if_true;  // also the next one, for those that do not branch
    Node if_false;
    auto Key() const { return std::tuple(code, k, if_true, if_false); }
    bool operator<(const Instruction& other) const { return Key() < other.Key(); }
  };

  Node Intern(const Instruction& instruction);
  const Instruction& At(Node node) const { return nodes_[static_cast<std::size_t>(node)]; }
  // True when the node does not care what was loaded before it.
  bool IgnoresWord(Node node) const;
  Node Search(std::span<const Range> ranges);

  std::vector<Instruction> nodes_;
  std::map<Instruction, Node> interned_;
};

}  // namespace brood
