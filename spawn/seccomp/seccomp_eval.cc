// SPDX-License-Identifier: Apache-2.0

#include "spawn/seccomp/seccomp_eval.h"

#include <array>
#include <cstring>
#include <limits>

namespace brood {
namespace {

constexpr std::uint32_t kInvalidProgram = SECCOMP_RET_KILL_PROCESS;

constexpr std::uint16_t kLoadWord = BPF_LD | BPF_W | BPF_ABS;
constexpr std::uint16_t kAndConstant = BPF_ALU | BPF_AND | BPF_K;
constexpr std::uint16_t kJumpAlways = BPF_JMP | BPF_JA;
constexpr std::uint16_t kReturnConstant = BPF_RET | BPF_K;

// The word of `call` at a byte offset; nothing where the kernel would refuse the read.
std::optional<std::uint32_t> WordAt(const seccomp_data& call, std::uint32_t offset) {
  std::uint32_t word = 0;
  if (offset % sizeof(word) != 0 || offset >= sizeof(call)) return std::nullopt;
  std::memcpy(&word, reinterpret_cast<const char*>(&call) + offset, sizeof(word));
  return word;
}

std::optional<std::uint32_t> Arithmetic(std::uint16_t operation, std::uint32_t a, std::uint32_t b) {
  // The kernel masks the count of a shift by X, and refuses a constant one above 31.
  const std::uint32_t shift = b & 31;
  switch (operation) {
    case BPF_ADD:
      return a + b;
    case BPF_SUB:
      return a - b;
    case BPF_MUL:
      return a * b;
    case BPF_AND:
      return a & b;
    case BPF_OR:
      return a | b;
    case BPF_XOR:
      return a ^ b;
    case BPF_LSH:
      return a << shift;
    case BPF_RSH:
      return a >> shift;
    case BPF_NEG:
      return 0 - a;
    default:
      return std::nullopt;
  }
}

std::optional<bool> Compare(std::uint16_t comparison, std::uint32_t a, std::uint32_t b) {
  switch (comparison) {
    case BPF_JEQ:
      return a == b;
    case BPF_JGT:
      return a > b;
    case BPF_JGE:
      return a >= b;
    case BPF_JSET:
      return (a & b) != 0;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::uint32_t EvaluateSeccomp(std::span<const sock_filter> program, const seccomp_data& call) {
  std::uint32_t a = 0;
  std::uint32_t x = 0;
  std::array<std::uint32_t, BPF_MEMWORDS> memory{};

  // Jumps only go forward, so this ends.
  for (std::size_t pc = 0; pc < program.size(); ++pc) {
    const sock_filter& in = program[pc];
    const std::uint32_t operand = BPF_SRC(in.code) == BPF_X ? x : in.k;
    const bool in_memory = in.k < memory.size();
    switch (in.code) {
      case kLoadWord: {
        const auto word = WordAt(call, in.k);
        if (!word) return kInvalidProgram;
        a = *word;
        continue;
      }
      case BPF_LD | BPF_IMM:
        a = in.k;
        continue;
      case BPF_LDX | BPF_IMM:
        x = in.k;
        continue;
      case BPF_LD | BPF_W | BPF_LEN:
        a = sizeof(call);
        continue;
      case BPF_LDX | BPF_W | BPF_LEN:
        x = sizeof(call);
        continue;
      case BPF_LD | BPF_MEM:
        if (!in_memory) return kInvalidProgram;
        a = memory[in.k];
        continue;
      case BPF_LDX | BPF_MEM:
        if (!in_memory) return kInvalidProgram;
        x = memory[in.k];
        continue;
      case BPF_ST:
        if (!in_memory) return kInvalidProgram;
        memory[in.k] = a;
        continue;
      case BPF_STX:
        if (!in_memory) return kInvalidProgram;
        memory[in.k] = x;
        continue;
      case BPF_MISC | BPF_TAX:
        x = a;
        continue;
      case BPF_MISC | BPF_TXA:
        a = x;
        continue;
      case BPF_ALU | BPF_DIV | BPF_K:
        if (in.k == 0) return kInvalidProgram;
        a /= in.k;
        continue;
      case BPF_ALU | BPF_DIV | BPF_X:
        // The kernel ends the program with 0, which seccomp reads as SECCOMP_RET_KILL_THREAD.
        if (x == 0) return SECCOMP_RET_KILL_THREAD;
        a /= x;
        continue;
      case kJumpAlways:
        pc += in.k;
        continue;
      case kReturnConstant:
        return in.k;
      case BPF_RET | BPF_A:
        return a;
      default:
        break;
    }
    if (BPF_CLASS(in.code) == BPF_ALU) {
      const auto result = Arithmetic(BPF_OP(in.code), a, operand);
      if (!result) return kInvalidProgram;
      a = *result;
    } else if (BPF_CLASS(in.code) == BPF_JMP) {
      const auto taken = Compare(BPF_OP(in.code), a, operand);
      if (!taken) return kInvalidProgram;
      pc += *taken ? in.jt : in.jf;
    } else {
      return kInvalidProgram;
    }
  }
  return kInvalidProgram;
}

std::optional<std::uint32_t> AlwaysAnswers(std::span<const sock_filter> program, std::uint32_t arch,
                                           std::uint32_t number,
                                           std::optional<KnownArgument> known) {
  SeccompAssembler assembler;
  const auto rest = assembler.Specialize(program, arch, number, known);
  return rest ? assembler.ActionOf(*rest) : std::nullopt;
}

bool AlwaysAllows(std::span<const sock_filter> program, std::uint32_t arch, std::uint32_t number,
                  std::optional<KnownArgument> known) {
  return AlwaysAnswers(program, arch, number, known) == SECCOMP_RET_ALLOW;
}

// ---- Making nodes ----

SeccompAssembler::Node SeccompAssembler::Intern(const Instruction& instruction) {
  const auto next = static_cast<Node>(nodes_.size());
  const auto [entry, inserted] = interned_.try_emplace(instruction, next);
  if (inserted) nodes_.push_back(instruction);
  return entry->second;
}

bool SeccompAssembler::IgnoresWord(Node node) const {
  return At(node).code == kReturnConstant || At(node).code == kLoadWord;
}

SeccompAssembler::Node SeccompAssembler::Return(std::uint32_t action) {
  return Intern({.code = kReturnConstant, .k = action, .if_true = {}, .if_false = {}});
}

std::optional<std::uint32_t> SeccompAssembler::ActionOf(Node node) const {
  const Instruction& in = At(node);
  return in.code == kReturnConstant ? std::optional(in.k) : std::nullopt;
}

SeccompAssembler::Node SeccompAssembler::Load(std::uint32_t offset, Node next) {
  if (IgnoresWord(next)) return next;
  return Intern({.code = kLoadWord, .k = offset, .if_true = next, .if_false = next});
}

SeccompAssembler::Node SeccompAssembler::And(std::uint32_t mask, Node next) {
  if (IgnoresWord(next)) return next;
  return Intern({.code = kAndConstant, .k = mask, .if_true = next, .if_false = next});
}

SeccompAssembler::Node SeccompAssembler::Branch(std::uint16_t comparison, std::uint32_t value,
                                                Node if_true, Node if_false) {
  if (if_true == if_false) return if_true;
  const auto code = static_cast<std::uint16_t>(BPF_JMP | comparison | BPF_K);
  return Intern({.code = code, .k = value, .if_true = if_true, .if_false = if_false});
}

SeccompAssembler::Node SeccompAssembler::Matches(std::uint32_t index, std::uint64_t value,
                                                 Node if_true, Node if_false) {
  const auto then = [&](std::uint16_t code, std::uint32_t k, Node next) {
    return Intern({.code = code, .k = k, .if_true = next, .if_false = next});
  };
  constexpr std::uint16_t kXor = BPF_ALU | BPF_XOR | BPF_K;
  Node node = Branch(BPF_JEQ, 0, if_true, if_false);
  node = then(BPF_ALU | BPF_OR | BPF_X, 0, node);
  node = then(BPF_LDX | BPF_MEM, 0, node);
  node = then(kXor, static_cast<std::uint32_t>(value >> 32), node);
  node = then(kLoadWord, HighWordOfArgument(index), node);
  node = then(BPF_ST, 0, node);
  node = then(kXor, static_cast<std::uint32_t>(value), node);
  return then(kLoadWord, LowWordOfArgument(index), node);
}

SeccompAssembler::Node SeccompAssembler::Dispatch(std::span<const Range> ranges) {
  std::vector<Range> merged;
  for (const Range& range : ranges) {
    if (merged.empty() || merged.back().decision != range.decision) merged.push_back(range);
  }
  return Search(merged);
}

SeccompAssembler::Node SeccompAssembler::Search(std::span<const Range> ranges) {
  if (ranges.size() == 1) return ranges[0].decision;

  // A lone number among others that are all decided alike takes one JEQ, not the two comparisons
  // of a range. Two of them in a row are still no deeper than the search would be.
  constexpr std::size_t kShortChain = 5;
  bool lone_numbers = ranges.size() % 2 == 1 && ranges.size() <= kShortChain;
  for (std::size_t i = 1; lone_numbers && i + 1 < ranges.size(); i += 2) {
    lone_numbers =
        ranges[i + 1].first - ranges[i].first == 1 && ranges[i + 1].decision == ranges[0].decision;
  }
  if (lone_numbers) {
    Node chain = ranges[0].decision;
    for (std::size_t i = 1; i < ranges.size(); i += 2) {
      chain = Branch(BPF_JEQ, ranges[i].first, ranges[i].decision, chain);
    }
    return chain;
  }

  const std::size_t middle = ranges.size() / 2;
  const Node upper = Search(ranges.subspan(middle));
  const Node lower = Search(ranges.first(middle));
  return Branch(BPF_JGE, ranges[middle].first, upper, lower);
}

// ---- Specializing ----

// Follows a program with its number and architecture known and its arguments not. Jumps only go
// forward, so one pass up the program finds what can be reached, and one down makes the nodes: a
// program may be as long as it likes.
class SeccompAssembler::Specializer {
 public:
  Specializer(SeccompAssembler& assembler, std::span<const sock_filter> program, std::uint32_t arch,
              std::uint32_t number, std::optional<KnownArgument> known)
      : assembler_(assembler), program_(program), arch_(arch), number_(number), known_(known) {}

  std::optional<Node> Run() {
    // The kernel starts a filter with the accumulator at zero.
    const std::size_t entry = Follow(0, std::uint32_t{0});
    std::vector<bool> reached(program_.size() + 1, false);
    reached[entry] = true;
    for (std::size_t pc = entry; pc < program_.size(); ++pc) {
      if (!reached[pc] || !Continues(pc)) continue;
      for (const std::size_t next : Successors(pc)) reached[next] = true;
    }
    std::vector<std::optional<Node>> nodes(program_.size() + 1);
    for (std::size_t pc = program_.size(); pc-- > entry;) {
      if (reached[pc]) nodes[pc] = Make(pc, nodes);
    }
    return nodes[entry];
  }

 private:
  // From `pc` on, the first instruction that returns or whose result depends on arguments;
  // program_.size() when there is none. `word` is the word loaded, where known.
  std::size_t Follow(std::size_t pc, std::optional<std::uint32_t> word) const {
    while (pc < program_.size()) {
      const sock_filter& in = program_[pc];
      if (in.code == kJumpAlways) {
        pc += in.k + std::size_t{1};
      } else if (in.code == kLoadWord && in.k == offsetof(seccomp_data, nr)) {
        word = number_;
        ++pc;
      } else if (in.code == kLoadWord && in.k == offsetof(seccomp_data, arch)) {
        word = arch_;
        ++pc;
      } else if (in.code == kLoadWord && known_ && IsHalfOf(in.k, known_->index)) {
        word = in.k == LowWordOfArgument(known_->index) ? known_->value : 0;
        ++pc;
      } else if (word && in.code == kAndConstant) {
        *word &= in.k;
        ++pc;
      } else if (word && IsComparison(in)) {
        const auto taken = Compare(BPF_OP(in.code), *word, in.k);
        if (!taken) return program_.size();
        pc += std::size_t{1} + (*taken ? in.jt : in.jf);
      } else {
        return pc;
      }
    }
    return program_.size();
  }

  static bool IsHalfOf(std::uint32_t offset, std::uint32_t argument) {
    constexpr std::uint32_t kArguments = offsetof(seccomp_data, args);
    const std::uint32_t first = kArguments + 8 * argument;
    return offset == first || offset == first + 4;
  }

  static bool IsComparison(const sock_filter& in) {
    return BPF_CLASS(in.code) == BPF_JMP && BPF_SRC(in.code) == BPF_K;
  }

  // Whether it is an instruction that libseccomp emits, and no return.
  bool Continues(std::size_t pc) const {
    const sock_filter& in = program_[pc];
    return in.code == kLoadWord || in.code == kAndConstant ||
           (IsComparison(in) && Compare(BPF_OP(in.code), 0, 0));
  }

  // Where it goes on when the comparison, if it is one, is true and when it is false.
  std::array<std::size_t, 2> Successors(std::size_t pc) const {
    const sock_filter& in = program_[pc];
    const bool branches = IsComparison(in);
    return {Follow(pc + 1 + (branches ? in.jt : 0), std::nullopt),
            Follow(pc + 1 + (branches ? in.jf : 0), std::nullopt)};
  }

  std::optional<Node> Make(std::size_t pc, const std::vector<std::optional<Node>>& nodes) {
    const sock_filter& in = program_[pc];
    if (in.code == kReturnConstant) return assembler_.Return(in.k);
    if (!Continues(pc)) return std::nullopt;
    const auto [if_true, if_false] = Successors(pc);
    if (!nodes[if_true] || !nodes[if_false]) return std::nullopt;
    if (in.code == kLoadWord) return assembler_.Load(in.k, *nodes[if_true]);
    if (in.code == kAndConstant) return assembler_.And(in.k, *nodes[if_true]);
    return assembler_.Branch(BPF_OP(in.code), in.k, *nodes[if_true], *nodes[if_false]);
  }

  SeccompAssembler& assembler_;
  std::span<const sock_filter> program_;
  std::uint32_t arch_;
  std::uint32_t number_;
  std::optional<KnownArgument> known_;
};

std::optional<SeccompAssembler::Node> SeccompAssembler::Specialize(
    std::span<const sock_filter> program, std::uint32_t arch, std::uint32_t number,
    std::optional<KnownArgument> known) {
  return Specializer(*this, program, arch, number, known).Run();
}

// ---- Laying out ----

// Places nodes from the last instruction to the first: jumps go forward only, so whatever an
// instruction leads to already has its place.
class SeccompAssembler::Layout {
 public:
  explicit Layout(const SeccompAssembler& assembler)
      : assembler_(assembler), placed_(assembler.nodes_.size(), kNowhere) {}

  // What leads on is placed after what it leads to. Without recursion: a filter may be a chain of
  // thousands.
  void Place(Node entry) {
    std::vector<Node> pending{entry};
    while (!pending.empty()) {
      const Node node = pending.back();
      const Instruction& in = assembler_.At(node);
      const bool branches = BPF_CLASS(in.code) == BPF_JMP;
      const bool leads_on = in.code != kReturnConstant;
      if (PlaceOf(node) != kNowhere) {
        pending.pop_back();
      } else if (branches && PlaceOf(in.if_false) == kNowhere) {
        pending.push_back(in.if_false);
      } else if (leads_on && PlaceOf(in.if_true) == kNowhere) {
        pending.push_back(in.if_true);
      } else {
        Emit(node, in, branches, leads_on);
        pending.pop_back();
      }
    }
  }

  std::vector<sock_filter> Program() const { return {reversed_.rbegin(), reversed_.rend()}; }

 private:
  static constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();
  static constexpr std::size_t kFarthest = std::numeric_limits<std::uint8_t>::max();

  std::size_t& PlaceOf(Node node) { return placed_[static_cast<std::size_t>(node)]; }

  void Emit(Node node, const Instruction& in, bool branches, bool leads_on) {
    std::uint8_t jt = 0;
    std::uint8_t jf = 0;
    if (branches) {
      // One less than fits: bringing the other one near may put an instruction in between.
      BringWithin(kFarthest - 1, in.if_false);
      BringWithin(kFarthest, in.if_true);
      jt = static_cast<std::uint8_t>(Distance(in.if_true));
      jf = static_cast<std::uint8_t>(Distance(in.if_false));
    } else if (leads_on) {
      BringWithin(0, in.if_true);
    }
    PlaceOf(node) = reversed_.size();
    reversed_.push_back({.code = in.code, .jt = jt, .jf = jf, .k = in.k});
  }

  // Instructions to skip from the next one placed to `node`.
  std::size_t Distance(Node node) { return reversed_.size() - PlaceOf(node) - 1; }

  // Conditional jumps reach 255 instructions: farther nodes get a copy, or a long jump, close by.
  void BringWithin(std::size_t limit, Node node) {
    if (Distance(node) <= limit) return;
    const Instruction& in = assembler_.At(node);
    const bool copy = in.code == kReturnConstant;
    const auto skip = static_cast<std::uint32_t>(Distance(node));
    PlaceOf(node) = reversed_.size();
    reversed_.push_back(
        {.code = copy ? in.code : kJumpAlways, .jt = 0, .jf = 0, .k = copy ? in.k : skip});
  }

  const SeccompAssembler& assembler_;
  std::vector<std::size_t> placed_;
  std::vector<sock_filter> reversed_;
};

std::vector<sock_filter> SeccompAssembler::Assemble(Node entry) const {
  Layout layout(*this);
  layout.Place(entry);
  return layout.Program();
}

}  // namespace brood
