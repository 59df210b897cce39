// SPDX-License-Identifier: Apache-2.0

#include "spawn/seccomp/seccomp_profile.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "spawn/base/capabilities.h"
#include "spawn/base/status.h"
#include "spawn/base/unique_fd.h"
#include "spawn/seccomp/seccomp_compat.h"
#include "spawn/seccomp/seccomp_frame.h"

namespace brood {
namespace {

using Json = nlohmann::json;
using Node = SeccompAssembler::Node;

constexpr std::size_t kMaxFileBytes = 1U << 20;

absl::StatusOr<std::string> ReadProfile(const std::string& path) {
  // O_NONBLOCK: opening a fifo must not wait for a writer.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!fd.valid()) return ErrnoError(errno, "opening seccomp profile {}", path);
  struct stat status {};
  if (fstat(fd.get(), &status) != 0) return ErrnoError(errno, "examining seccomp profile {}", path);
  if (!S_ISREG(status.st_mode)) {
    return InvalidError("seccomp profile {} is not a regular file", path);
  }
  std::string text(kMaxFileBytes + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = read(fd.get(), text.data() + size, text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoError(errno, "reading seccomp profile {}", path);
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  if (size > kMaxFileBytes) {
    return InvalidError("seccomp profile {} is larger than the {} bytes allowed", path,
                        kMaxFileBytes);
  }
  text.resize(size);
  return text;
}

// Finds where a text stops being JSON; the parser proper reports no position without exceptions.
class SyntaxErrorFinder : public nlohmann::json_sax<Json> {
 public:
  // Line of the first error, from 1.
  static std::size_t Line(const std::string& text) {
    SyntaxErrorFinder finder;
    Json::sax_parse(text, &finder);
    const auto end =
        text.begin() + static_cast<std::ptrdiff_t>(std::min(finder.position_, text.size()));
    return 1 + static_cast<std::size_t>(std::count(text.begin(), end, '\n'));
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return true; }
  bool key(string_t&) override { return true; }
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    // Counts the offending byte, which may be the newline itself.
    position_ = position > 0 ? position - 1 : 0;
    return false;
  }

 private:
  std::size_t position_ = 0;
};

// One entry of a profile's list, resolved to this machine's numbers.
struct Rule {
  std::vector<std::uint32_t> numbers;
  std::vector<std::string> compat_names;  // of those that the compat architecture has
  std::uint32_t action = 0;
  std::vector<scmp_arg_cmp> conditions;
};

struct Profile {
  std::uint32_t default_action = 0;
  std::vector<Rule> rules;
  // Highest number that the file names, in rules that apply here or not; absent when none.
  std::optional<std::uint32_t> highest;
  bool compat = false;  // it is for the compat architecture as well
  std::optional<std::uint32_t> highest_compat;
};

// A value of the file and its place in it, as a JSON pointer, for error messages.
struct Item {
  const Json* value;
  std::string place;
};

struct NamedAction {
  std::string_view name;
  std::uint32_t action;
};

constexpr NamedAction kActions[] = {
    {"SCMP_ACT_ALLOW", SCMP_ACT_ALLOW},
    {"SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0)},
    {"SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS},
    {"SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD},
    {"SCMP_ACT_LOG", SCMP_ACT_LOG},
    {"SCMP_ACT_TRACE", SCMP_ACT_TRACE(0)},
    {"SCMP_ACT_TRAP", SCMP_ACT_TRAP},
};

struct NamedComparison {
  std::string_view name;
  scmp_compare comparison;
};

constexpr NamedComparison kComparisons[] = {
    {"SCMP_CMP_EQ", SCMP_CMP_EQ}, {"SCMP_CMP_GE", SCMP_CMP_GE},
    {"SCMP_CMP_GT", SCMP_CMP_GT}, {"SCMP_CMP_LE", SCMP_CMP_LE},
    {"SCMP_CMP_LT", SCMP_CMP_LT}, {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ},
    {"SCMP_CMP_NE", SCMP_CMP_NE},
};

// How profiles name this machine: the runtime specification's way, and engines' own.
#if defined(__x86_64__)
constexpr std::string_view kOciArchitecture = "SCMP_ARCH_X86_64";
constexpr std::string_view kEngineArchitecture = "amd64";
#elif defined(__aarch64__)
constexpr std::string_view kOciArchitecture = "SCMP_ARCH_AARCH64";
constexpr std::string_view kEngineArchitecture = "arm64";
#elif defined(__riscv) && __riscv_xlen == 64
constexpr std::string_view kOciArchitecture = "SCMP_ARCH_RISCV64";
constexpr std::string_view kEngineArchitecture = "riscv64";
#else
#error "name this architecture as OCI profiles do"
#endif

struct KernelVersion {
  unsigned major = 0;
  unsigned minor = 0;
  auto operator<=>(const KernelVersion&) const = default;
};

std::optional<KernelVersion> ParseKernelVersion(const std::string& text) {
  KernelVersion version;
  if (std::sscanf(text.c_str(), "%u.%u", &version.major, &version.minor) != 2) return std::nullopt;
  return version;
}

// Turns the JSON of a profile into rules, or into a sentence that says where it is wrong.
class ProfileReader {
 public:
  ProfileReader(std::string_view file, std::uint64_t capability_mask)
      : file_(file), capability_mask_(capability_mask) {
    utsname system{};
    if (uname(&system) == 0) kernel_ = ParseKernelVersion(system.release).value_or(KernelVersion{});
  }

  absl::StatusOr<Profile> Read(const Json& document) {
    const Item root{&document, ""};
    BROOD_RETURN_IF_ERROR(CheckType(root, Json::value_t::object));
    if (const auto linux_part = Member(root, "linux")) {
      BROOD_RETURN_IF_ERROR(CheckType(*linux_part, Json::value_t::object));
      const auto seccomp = Member(*linux_part, "seccomp");
      if (!seccomp) return Wrong(*linux_part, "has no \"seccomp\"");
      BROOD_RETURN_IF_ERROR(CheckType(*seccomp, Json::value_t::object));
      return ReadSeccomp(*seccomp);
    }
    return ReadSeccomp(root);
  }

 private:
  absl::StatusOr<Profile> ReadSeccomp(const Item& seccomp) {
    BROOD_RETURN_IF_ERROR(CheckArchitectures(seccomp));
    BROOD_RETURN_IF_ERROR(CheckFlags(seccomp));
    if (const auto listener = Member(seccomp, "listenerPath")) {
      return Wrong(*listener, "asks for a listener, which brood does not offer");
    }
    Profile profile;
    profile.compat = compat_;
    BROOD_ASSIGN_OR_RETURN(profile.default_action,
                           ReadAction(seccomp, "defaultAction", "defaultErrnoRet"));
    BROOD_ASSIGN_OR_RETURN(const std::vector<Item> entries, List(seccomp, "syscalls"));
    for (const Item& entry : entries) BROOD_RETURN_IF_ERROR(ReadEntry(entry, profile));
    return profile;
  }

  absl::Status ReadEntry(const Item& entry, Profile& profile) {
    BROOD_RETURN_IF_ERROR(CheckType(entry, Json::value_t::object));
    if (!Member(entry, "names")) return Wrong(entry, "has no \"names\"");
    BROOD_ASSIGN_OR_RETURN(const std::vector<std::string> names, Strings(entry, "names"));
    Rule rule;
    for (const std::string& name : names) {
      if (const auto compat = CompatCallNumber(name)) {
        rule.compat_names.push_back(name);
        profile.highest_compat = std::max(profile.highest_compat.value_or(0), *compat);
      }
      const auto number = CallNumber(name);
      if (!number) continue;
      rule.numbers.push_back(*number);
      profile.highest = std::max(profile.highest.value_or(0), *number);
    }
    BROOD_ASSIGN_OR_RETURN(rule.action, ReadAction(entry, "action", "errnoRet"));
    BROOD_ASSIGN_OR_RETURN(const std::vector<Item> args, List(entry, "args"));
    for (const Item& arg : args) {
      BROOD_ASSIGN_OR_RETURN(const scmp_arg_cmp condition, ReadCondition(arg));
      rule.conditions.push_back(condition);
    }
    BROOD_ASSIGN_OR_RETURN(const bool applies, Applies(entry));
    if (applies) profile.rules.push_back(std::move(rule));
    return absl::OkStatus();
  }

  absl::StatusOr<std::uint32_t> ReadAction(const Item& parent, std::string_view action_key,
                                           std::string_view errno_key) {
    const auto item = Member(parent, action_key);
    if (!item) return Wrong(parent, fmt::format("has no \"{}\"", action_key));
    BROOD_ASSIGN_OR_RETURN(const std::string_view name, String(*item));
    if (name == "SCMP_ACT_NOTIFY") {
      return Wrong(*item, "is SCMP_ACT_NOTIFY, which needs a listener that brood does not offer");
    }
    const auto found = std::ranges::find(kActions, name, &NamedAction::name);
    if (found == std::end(kActions)) {
      return Wrong(*item, fmt::format("is \"{}\", which is not an action such as SCMP_ACT_ALLOW or "
                                      "SCMP_ACT_ERRNO",
                                      name));
    }
    const bool is_errno = found->action == SCMP_ACT_ERRNO(0);
    const bool takes_value = is_errno || found->action == SCMP_ACT_TRACE(0);
    std::uint64_t value = takes_value ? EPERM : 0;
    if (const auto errno_item = Member(parent, errno_key)) {
      if (!takes_value) return Wrong(*errno_item, fmt::format("has no meaning for {}", name));
      // A tracer reads 16 bits; the kernel cuts an errno down to its largest.
      const std::uint64_t highest = is_errno ? 4095 : SECCOMP_RET_DATA;
      BROOD_ASSIGN_OR_RETURN(value, Unsigned(*errno_item, highest));
    }
    return found->action | static_cast<std::uint32_t>(value);
  }

  absl::StatusOr<scmp_arg_cmp> ReadCondition(const Item& arg) {
    BROOD_RETURN_IF_ERROR(CheckType(arg, Json::value_t::object));
    const auto index = Member(arg, "index");
    const auto value = Member(arg, "value");
    const auto value_two = Member(arg, "valueTwo");
    const auto op = Member(arg, "op");
    if (!index || !value || !op) return Wrong(arg, "needs \"index\", \"value\" and \"op\"");

    scmp_arg_cmp condition{};
    BROOD_ASSIGN_OR_RETURN(const std::uint64_t index_value, Unsigned(*index, 5));
    condition.arg = static_cast<unsigned>(index_value);
    BROOD_ASSIGN_OR_RETURN(const std::string_view name, String(*op));
    const auto found = std::ranges::find(kComparisons, name, &NamedComparison::name);
    if (found == std::end(kComparisons)) {
      return Wrong(*op, fmt::format("is \"{}\", which is not a comparison such as SCMP_CMP_EQ or "
                                    "SCMP_CMP_MASKED_EQ",
                                    name));
    }
    condition.op = found->comparison;
    // For SCMP_CMP_MASKED_EQ these are mask and masked value, in libseccomp's order too.
    BROOD_ASSIGN_OR_RETURN(condition.datum_a, Unsigned(*value, UINT64_MAX));
    if (value_two) {
      BROOD_ASSIGN_OR_RETURN(condition.datum_b, Unsigned(*value_two, UINT64_MAX));
    }
    return condition;
  }

  // Whether an entry of an engine's profile is meant for this machine, kernel and capabilities:
  // all that "includes" lists is so, and nothing that "excludes" lists.
  absl::StatusOr<bool> Applies(const Item& entry) {
    bool applies = true;
    if (const auto includes = Member(entry, "includes")) {
      BROOD_ASSIGN_OR_RETURN(const Matches matches, Match(*includes));
      applies = matches.architecture.value_or(true) && matches.all_capabilities &&
                matches.kernel.value_or(true);
    }
    if (const auto excludes = Member(entry, "excludes")) {
      BROOD_ASSIGN_OR_RETURN(const Matches matches, Match(*excludes));
      applies = applies && !matches.architecture.value_or(false) && !matches.any_capability &&
                !matches.kernel.value_or(false);
    }
    return applies;
  }

  // What of a filter holds here; absent for what it does not mention.
  struct Matches {
    std::optional<bool> architecture;
    std::optional<bool> kernel;
    bool all_capabilities = true;
    bool any_capability = false;
  };

  absl::StatusOr<Matches> Match(const Item& filter) {
    BROOD_RETURN_IF_ERROR(CheckType(filter, Json::value_t::object));
    Matches matches;
    BROOD_ASSIGN_OR_RETURN(const std::vector<std::string> arches, Strings(filter, "arches"));
    if (!arches.empty()) {
      matches.architecture = std::ranges::find(arches, kEngineArchitecture) != arches.end();
    }
    BROOD_ASSIGN_OR_RETURN(const std::vector<std::string> caps, Strings(filter, "caps"));
    for (const std::string& cap : caps) {
      const auto capability = CapabilityFromName(cap);
      if (!capability.ok()) {
        return Wrong({nullptr, filter.place + "/caps"}, Message(capability.status()), ": ");
      }
      const bool kept = HasCapability(capability_mask_, *capability);
      matches.all_capabilities = matches.all_capabilities && kept;
      matches.any_capability = matches.any_capability || kept;
    }
    if (const auto item = Member(filter, "minKernel")) {
      BROOD_ASSIGN_OR_RETURN(const std::string_view text, String(*item));
      const auto version = ParseKernelVersion(std::string(text));
      if (!version) return Wrong(*item, "is not a kernel version such as \"4.8\"");
      matches.kernel = kernel_ >= *version;
    }
    return matches;
  }

  // A list of architectures must include the machine's own. Beside it the compat one counts; what a
  // rule means for others is not compiled, so any names will do for them.
  absl::Status CheckArchitectures(const Item& seccomp) {
    BROOD_ASSIGN_OR_RETURN(std::vector<std::string> names, Strings(seccomp, "architectures"));
    BROOD_ASSIGN_OR_RETURN(const std::vector<Item> map, List(seccomp, "archMap"));
    for (const Item& entry : map) {
      BROOD_RETURN_IF_ERROR(CheckType(entry, Json::value_t::object));
      const auto architecture = Member(entry, "architecture");
      if (!architecture) return Wrong(entry, "has no \"architecture\"");
      BROOD_ASSIGN_OR_RETURN(const std::string_view name, String(*architecture));
      names.emplace_back(name);
      BROOD_ASSIGN_OR_RETURN(const std::vector<std::string> others,
                             Strings(entry, "subArchitectures"));
      if (name == kOciArchitecture) names.insert(names.end(), others.begin(), others.end());
    }
    compat_ = kCompat && std::ranges::find(names, kCompat->oci_name) != names.end();
    if (names.empty() || std::ranges::find(names, kOciArchitecture) != names.end()) {
      return absl::OkStatus();
    }
    return Wrong(seccomp, fmt::format("is for other architectures: it does not name this machine's "
                                      "{}",
                                      kOciArchitecture));
  }

  absl::Status CheckFlags(const Item& seccomp) {
    BROOD_ASSIGN_OR_RETURN(const std::vector<std::string> flags, Strings(seccomp, "flags"));
    for (const std::string& flag : flags) {
      if (flag == "SECCOMP_FILTER_FLAG_TSYNC") continue;
      return Wrong({nullptr, seccomp.place + "/flags"},
                   fmt::format("has \"{}\", which brood does not support", flag));
    }
    return absl::OkStatus();
  }

  // ---- Access with complaints ----

  absl::Status Wrong(const Item& item, std::string_view problem, std::string_view glue = " ") {
    return InvalidError("seccomp profile {}: {}{}{}", file_,
                        item.place.empty() ? "the document" : item.place, glue, problem);
  }

  absl::Status CheckType(const Item& item, Json::value_t type) {
    if (item.value->type() == type) return absl::OkStatus();
    const std::string_view article = type == Json::value_t::string ? "a" : "an";
    return Wrong(item, fmt::format("must be {} {}, not {}", article, Json(type).type_name(),
                                   item.value->type_name()));
  }

  // A member that is there and not null.
  static std::optional<Item> Member(const Item& object, std::string_view key) {
    const auto found = object.value->find(key);
    if (found == object.value->end() || found->is_null()) return std::nullopt;
    return Item{&*found, fmt::format("{}/{}", object.place, key)};
  }

  // The elements of an array member; none when it is missing.
  absl::StatusOr<std::vector<Item>> List(const Item& object, std::string_view key) {
    std::vector<Item> items;
    const auto member = Member(object, key);
    if (!member) return items;
    BROOD_RETURN_IF_ERROR(CheckType(*member, Json::value_t::array));
    for (const Json& element : *member->value) {
      items.push_back({&element, fmt::format("{}/{}", member->place, items.size())});
    }
    return items;
  }

  absl::StatusOr<std::vector<std::string>> Strings(const Item& object, std::string_view key) {
    BROOD_ASSIGN_OR_RETURN(const std::vector<Item> items, List(object, key));
    std::vector<std::string> strings;
    for (const Item& item : items) {
      BROOD_ASSIGN_OR_RETURN(const std::string_view text, String(item));
      strings.emplace_back(text);
    }
    return strings;
  }

  absl::StatusOr<std::string_view> String(const Item& item) {
    BROOD_RETURN_IF_ERROR(CheckType(item, Json::value_t::string));
    return std::string_view(*item.value->get_ptr<const std::string*>());
  }

  absl::StatusOr<std::uint64_t> Unsigned(const Item& item, std::uint64_t highest) {
    const auto* number = item.value->get_ptr<const Json::number_unsigned_t*>();
    if (number == nullptr || *number > highest) {
      return Wrong(item, fmt::format("must be a whole number from 0 to {}", highest));
    }
    return *number;
  }

  std::string_view file_;
  std::uint64_t capability_mask_;
  KernelVersion kernel_;
  bool compat_ = false;
};

using FilterContext = std::unique_ptr<void, decltype(&seccomp_release)>;

absl::Status AddRule(const FilterContext& context, const Rule& rule, int number,
                     std::span<const scmp_arg_cmp> conditions) {
  const int error =
      seccomp_rule_add_array(context.get(), rule.action, number,
                             static_cast<unsigned>(conditions.size()), conditions.data());
  // EEXIST: the same rule twice.
  if (error == 0 || error == -EEXIST) return absl::OkStatus();
  return ErrnoError(-error, "adding a rule for system call {}", number);
}

// A rule's calls as libseccomp wants them: by the machine's numbers whatever the architecture, or
// by numbers of its own for what the machine does not have. It knows no others of the compat one.
std::vector<int> NumbersOf(const Rule& rule, bool compat) {
  if (!compat) return {rule.numbers.begin(), rule.numbers.end()};
  std::vector<int> numbers;
  for (const std::string& name : rule.compat_names) {
    const int number = seccomp_syscall_resolve_name(name.c_str());
    if (number != __NR_SCMP_ERROR) numbers.push_back(number);
  }
  return numbers;
}

// The profile as libseccomp compiles it, for the machine's architecture or the compat one.
absl::StatusOr<std::vector<sock_filter>> CompileRules(const Profile& profile, bool compat) {
  const FilterContext context(seccomp_init(profile.default_action), &seccomp_release);
  if (context == nullptr) {
    return InvalidError("libseccomp refuses the default action; does this kernel know it?");
  }
  if (compat) {
    int error = seccomp_arch_add(context.get(), kCompat->arch);
    if (error == 0) error = seccomp_arch_remove(context.get(), seccomp_arch_native());
    if (error != 0) return ErrnoError(-error, "adding the architecture {}", kCompat->oci_name);
  }
  for (const Rule& rule : profile.rules) {
    // libseccomp refuses rules that change nothing; runc leaves them out as well.
    if (rule.action == profile.default_action) continue;
    // It also takes one condition an argument. With more, runc makes each condition a rule of its
    // own, and profiles rely on that.
    std::set<unsigned> arguments;
    for (const scmp_arg_cmp& condition : rule.conditions) arguments.insert(condition.arg);
    const bool separate = arguments.size() < rule.conditions.size();
    for (const int number : NumbersOf(rule, compat)) {
      if (!separate) {
        BROOD_RETURN_IF_ERROR(AddRule(context, rule, number, rule.conditions));
        continue;
      }
      for (const scmp_arg_cmp& condition : rule.conditions) {
        BROOD_RETURN_IF_ERROR(AddRule(context, rule, number, {&condition, 1}));
      }
    }
  }

  const UniqueFd memory(memfd_create("brood-seccomp", MFD_CLOEXEC));
  if (!memory.valid()) return ErrnoError(errno, "making a memory file for a seccomp program");
  if (const int error = seccomp_export_bpf(context.get(), memory.get()); error != 0) {
    return ErrnoError(-error, "compiling the rules");
  }
  struct stat status {};
  if (fstat(memory.get(), &status) != 0) return ErrnoError(errno, "measuring a seccomp program");
  const auto bytes = static_cast<std::size_t>(status.st_size);
  std::vector<sock_filter> program(bytes / sizeof(sock_filter));
  if (pread(memory.get(), program.data(), bytes, 0) != static_cast<ssize_t>(bytes)) {
    return Error(absl::StatusCode::kInternal, "a seccomp program of {} bytes was read short",
                 bytes);
  }
  return program;
}

// An action with which calls that the profile does not know may still work: ENOSYS in its place
// would break them. A tracer counts, since it may emulate them.
bool LetsPass(std::uint32_t action) {
  const std::uint32_t kind = action & SECCOMP_RET_ACTION_FULL;
  return kind == SECCOMP_RET_ALLOW || kind == SECCOMP_RET_LOG || kind == SECCOMP_RET_TRACE;
}

}  // namespace

absl::StatusOr<SeccompProgram> CompileSeccompProfile(const std::string& file,
                                                     std::uint64_t capability_mask) {
  const std::string origin = fmt::format("seccomp profile {}", file);
  BROOD_ASSIGN_OR_RETURN(const std::string text, ReadProfile(file));
  const Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) {
    return InvalidError("{} is not JSON: see line {}", origin, SyntaxErrorFinder::Line(text));
  }
  BROOD_ASSIGN_OR_RETURN(const Profile profile,
                         ProfileReader(file, capability_mask).Read(document));

  // libseccomp asks about each number in turn, and its rules stay as they are: what it decides for
  // a number is taken over, and only the search for the number made anew.
  SeccompAssembler assembler;
  const auto decide =
      [&](bool compat, std::optional<std::uint32_t> highest) -> absl::StatusOr<SeccompDecisions> {
    auto compiled = CompileRules(profile, compat);
    if (!compiled.ok()) {
      return Error(compiled.status().code(), "{}: {}", origin, Message(compiled.status()));
    }
    SeccompDecisions decisions;
    const std::uint32_t arch = compat ? kCompat->arch : seccomp_arch_native();
    const std::uint32_t count = highest ? *highest + 1 : 0;
    for (std::uint32_t number = 0; number < count; ++number) {
      const auto decision = assembler.Specialize(*compiled, arch, number);
      if (!decision) {
        return Error(absl::StatusCode::kInternal,
                     "{}: libseccomp's program for system call {} is in "
                     "a form that brood does not know",
                     origin, number);
      }
      decisions.by_number.push_back(*decision);
    }
    decisions.beyond = assembler.Return(
        LetsPass(profile.default_action) || decisions.by_number.empty() ? profile.default_action
                                                                        : SeccompErrno(ENOSYS));
    return decisions;
  };
  BROOD_ASSIGN_OR_RETURN(const SeccompDecisions native, decide(false, profile.highest));
  std::optional<SeccompDecisions> compat;
  if (profile.compat) {
    BROOD_ASSIGN_OR_RETURN(compat, decide(true, profile.highest_compat));
  }
  return FrameSeccomp(assembler, native, compat, origin);
}

}  // namespace brood
