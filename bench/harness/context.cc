// SPDX-License-Identifier: Apache-2.0

#include "bench/harness/context.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string_view>

#include "brood_commit.h"
#include "spawn/base/numbers.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/host/machine.h"
#include "spawn/host/mountinfo.h"
#include "spawn/spec.h"

namespace brood::bench {
namespace {

using Json = nlohmann::ordered_json;

void PutLine(Json& json, const char* key, const std::string& path) {
  if (std::optional<std::string> line = FirstLineOf(path)) json[key] = *std::move(line);
}

// As a number where it is one.
void PutNumber(Json& json, const char* key, const std::string& path) {
  const std::optional<std::string> line = FirstLineOf(path);
  if (!line || line->empty()) return;
  char* end = nullptr;
  const long long number = std::strtoll(line->c_str(), &end, 10);
  if (*end == '\0') {
    json[key] = number;
  } else {
    json[key] = *line;
  }
}

// "key : value" of /proc/cpuinfo's first processor.
std::string CpuInfo(std::string_view wanted) {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line)) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos || !std::string_view(line).starts_with(wanted)) continue;
    if (line.find_last_not_of(" \t", colon - 1) + 1 != wanted.size()) continue;
    return colon + 2 <= line.size() ? line.substr(colon + 2) : "";
  }
  return "";
}

Json Cpu() {
  Json cpu;
  const std::string model = CpuInfo("model name");
  const std::string part = CpuInfo("CPU part");
  cpu["model"] = !model.empty() ? model : !part.empty() ? "CPU part " + part : "unknown";
  cpu["online"] = sysconf(_SC_NPROCESSORS_ONLN);
  cpu_set_t usable;
  if (sched_getaffinity(0, sizeof(usable), &usable) == 0) cpu["usable"] = CPU_COUNT(&usable);
  PutNumber(cpu, "threads_share_cores", "/sys/devices/system/cpu/smt/active");
  PutLine(cpu, "governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  const std::string flags = " " + CpuInfo("flags") + " ";
  cpu["hypervisor"] = flags.find(" hypervisor ") != std::string::npos ||
                      std::filesystem::exists("/sys/hypervisor/type");
  PutLine(cpu, "clocksource", "/sys/devices/system/clocksource/clocksource0/current_clocksource");
  return cpu;
}

// One of the dearest choices for whoever enters the kernel often.
Json Mitigations() {
  Json mitigations = Json::object();
  std::vector<std::filesystem::path> files;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator("/sys/devices/system/cpu/vulnerabilities", ignored)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::string active;
  std::string vulnerable;
  for (const std::filesystem::path& file : files) {
    const std::string text = FirstLineOf(file).value_or("");
    const std::string name = file.filename();
    if (text == "Not affected") continue;
    std::string& list = text.starts_with("Vulnerable") ? vulnerable : active;
    list += (list.empty() ? "" : ", ") + name;
    mitigations[name] = text;
  }
  Json out;
  out["active"] = active;
  out["vulnerable"] = vulnerable;
  out["details"] = std::move(mitigations);
  return out;
}

// Of the kernel's command line only what moves figures: the rest may name disks and hosts.
std::string BootOptions() {
  constexpr std::array<std::string_view, 12> kWorthTelling = {
      "mitigations=", "preempt=", "pti=",    "nopti", "nosmt", "isolcpus=",
      "nohz_full=",   "rcu",      "cgroup_", "psi=",  "idle=", "transparent_hugepage="};
  std::istringstream words(FirstLineOf("/proc/cmdline").value_or(""));
  std::string told;
  for (std::string word; words >> word;) {
    const bool worth = std::any_of(kWorthTelling.begin(), kWorthTelling.end(),
                                   [&](std::string_view start) { return word.starts_with(start); });
    if (worth) told += (told.empty() ? "" : " ") + word;
  }
  return told;
}

// "none voluntary (full) lazy" gives "full"; what is not bracketed is given whole.
std::string Chosen(const std::string& text, char open, char close) {
  const std::size_t from = text.find(open);
  const std::size_t to = text.find(close, from == std::string::npos ? 0 : from);
  if (from == std::string::npos || to == std::string::npos) return text;
  return text.substr(from + 1, to - from - 1);
}

// The build options that decide what a process costs, of those that the kernel was built with.
Json KernelConfig() {
  constexpr std::array<std::string_view, 15> kWanted = {
      "CONFIG_HZ=",          "CONFIG_NO_HZ_FULL=", "CONFIG_PREEMPT",   "CONFIG_RCU_LAZY=",
      "CONFIG_RCU_NOCB_CPU", "CONFIG_RCU_EXPERT=", "CONFIG_MEMCG=",    "CONFIG_PSI",
      "CONFIG_BPF_JIT",      "CONFIG_INIT_ON_",    "CONFIG_KASAN=",    "CONFIG_PROVE_LOCKING=",
      "CONFIG_DEBUG_VM=",    "CONFIG_PAGE_POISON", "CONFIG_MITIGATION"};
  utsname system{};
  uname(&system);
  // gzip comes with every distribution; a library for one line would not.
  const std::string command = fmt::format(
      "zcat /proc/config.gz 2>/dev/null || cat /boot/config-{} 2>/dev/null", system.release);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen(command.c_str(), "re"), pclose);
  Json config = Json::object();
  std::array<char, 512> line{};
  while (pipe && std::fgets(line.data(), line.size(), pipe.get()) != nullptr) {
    std::string_view text(line.data());
    if (!std::any_of(kWanted.begin(), kWanted.end(),
                     [&](std::string_view wanted) { return text.starts_with(wanted); })) {
      continue;
    }
    text.remove_prefix(std::string_view("CONFIG_").size());
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    config[std::string(text.substr(0, equals))] =
        std::string(text.substr(equals + 1, text.find('\n') - equals - 1));
  }
  return config;
}

Json Kernel() {
  Json kernel;
  utsname system{};
  uname(&system);
  kernel["release"] = system.release;
  kernel["version"] = system.version;
  kernel["machine"] = system.machine;
  const std::string version = system.version;
  kernel["preemption"] = version.find("PREEMPT_DYNAMIC") != std::string::npos ? "dynamic"
                         : version.find("PREEMPT_RT") != std::string::npos    ? "real-time"
                         : version.find("PREEMPT") != std::string::npos       ? "full"
                                                                              : "none or voluntary";
  if (const auto mode = FirstLineOf("/sys/kernel/debug/sched/preempt")) {
    kernel["preemption_mode"] = Chosen(*mode, '(', ')');
  }
  // The coarse clock ticks once a jiffy: the one place that tells HZ to everybody.
  timespec tick{};
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0 && tick.tv_sec == 0 && tick.tv_nsec > 0) {
    kernel["hz"] = std::lround(1e9 / static_cast<double>(tick.tv_nsec));
  }
  kernel["boot_options"] = BootOptions();
  PutNumber(kernel, "rcu_expedited", "/sys/kernel/rcu_expedited");
  PutNumber(kernel, "rcu_normal", "/sys/kernel/rcu_normal");
  if (const auto thp = FirstLineOf("/sys/kernel/mm/transparent_hugepage/enabled")) {
    kernel["transparent_hugepage"] = Chosen(*thp, '[', ']');
  }
  PutLine(kernel, "security_modules", "/sys/kernel/security/lsm");
  PutNumber(kernel, "bpf_jit_harden", "/proc/sys/net/core/bpf_jit_harden");
  if (Json config = KernelConfig(); !config.empty()) kernel["config"] = std::move(config);
  PutNumber(kernel, "io_uring_disabled", "/proc/sys/kernel/io_uring_disabled");
  return kernel;
}

Json Cgroups() {
  Json json;
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  if (!host.ok()) {
    json["error"] = std::string(Message(host.status()));
    return json;
  }
  json["layout"] = std::string(CgroupLayoutName(host->layout));
  json["usable"] = !host->base.empty();
  json["controllers"] = host->controllers;
  Json v1 = Json::array();
  for (const V1Controller& controller : host->v1) v1.push_back(controller.name);
  json["v1_controllers"] = std::move(v1);
  json["favordynmods"] = host->favordynmods;
  return json;
}

Json Namespaces() {
  Json json;
  PutNumber(json, "unprivileged_userns_clone", "/proc/sys/kernel/unprivileged_userns_clone");
  PutNumber(json, "apparmor_restrict_unprivileged_userns",
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns");
  for (const NamespaceKind kind : kNamespaceKinds) {
    const std::string name = fmt::format("max_{}_namespaces", NamespaceProcName(kind));
    PutNumber(json, name.c_str(), "/proc/sys/user/" + name);
  }
  return json;
}

// A new network namespace sets up whatever protocols and devices the kernel has loaded.
Json Network() {
  Json json;
  const std::string ipv6 = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
  const std::optional<std::string> disabled = FirstLineOf(ipv6);
  json["ipv6"] = !disabled ? "absent" : *disabled == "0" ? "enabled" : "disabled";
  PutNumber(json, "fb_tunnels_only_for_init_net",
            "/proc/sys/net/core/fb_tunnels_only_for_init_net");
  return json;
}

Json Memory() {
  Json json;
  const std::string meminfo = TextOf("/proc/meminfo");
  const auto put = [&](const char* name, std::string_view key) {
    if (const auto kilobytes = NumberBehind(meminfo, key)) json[name] = *kilobytes / 1024;
  };
  put("total_mib", "MemTotal:");
  put("available_mib", "MemAvailable:");
  put("swap_mib", "SwapTotal:");
  return json;
}

Json Process() {
  Json json;
  const Machine& machine = ThisMachine();
  json["root"] = machine.uid == 0;
  json["cap_sys_admin"] = machine.mount_admin;
  json["id_ranges"] = machine.id_ranges;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    json["rlimit_nofile"] = {{"soft", files.rlim_cur}, {"hard", files.rlim_max}};
  }
  // fork copies the page tables of what is resident: its row depends on this.
  std::ifstream statm("/proc/self/statm");
  std::int64_t size = 0;
  std::int64_t resident = 0;
  if (statm >> size >> resident) json["resident_kib"] = resident * (sysconf(_SC_PAGESIZE) / 1024);
  json["mounts"] = ReadOwnMounts().size();
  return json;
}

Json Build() {
  Json json;
#if defined(__clang__)
  json["compiler"] = "clang " __clang_version__;
#else
  json["compiler"] = "gcc " __VERSION__;
#endif
  json["type"] = BROOD_BUILD_TYPE;
#if defined(NDEBUG)
  json["assertions"] = false;
#else
  json["assertions"] = true;
#endif
#if defined(__OPTIMIZE__)
  json["optimized"] = true;
#else
  json["optimized"] = false;
#endif
  json["sanitizers"] = BROOD_SANITIZERS;
  return json;
}

std::string UtcTime(const char* format) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), format, &parts);
  return text.data();
}

}  // namespace

std::string Today() { return UtcTime("%Y-%m-%d"); }
std::string Now() { return UtcTime("%Y-%m-%dT%H:%M:%SZ"); }
std::string Commit() { return BROOD_COMMIT; }

std::string MachineName() {
  utsname system{};
  uname(&system);
  return fmt::format("{}c-{}", sysconf(_SC_NPROCESSORS_ONLN), system.release);
}

std::vector<double> LoadAverage() {
  std::array<double, 3> loads{};
  const int count = getloadavg(loads.data(), static_cast<int>(loads.size()));
  for (double& load : loads) load = std::round(load * 100) / 100;
  return {loads.begin(), loads.begin() + std::max(count, 0)};
}

nlohmann::ordered_json CollectContext() {
  Json context;
  context["brood"] = {{"version", BROOD_VERSION}, {"commit", Commit()}};
  context["build"] = Build();
  context["started"] = Now();
  context["machine"] = MachineName();
  context["cpu"] = Cpu();
  context["mitigations"] = Mitigations();
  context["kernel"] = Kernel();
  context["cgroup"] = Cgroups();
  context["namespaces"] = Namespaces();
  context["network"] = Network();
  context["memory"] = Memory();
  context["process"] = Process();
  context["load_average"] = {{"before", LoadAverage()}};
  return context;
}

std::vector<std::string> Warnings(const nlohmann::ordered_json& context) {
  std::vector<std::string> warnings;
  const Json& build = context.at("build");
  if (build.at("assertions") || !build.at("optimized")) {
    warnings.push_back("this is a " + build.at("type").get<std::string>() +
                       " build, not a release: do not publish its figures");
  }
  if (!build.at("sanitizers").get<std::string>().empty()) {
    warnings.push_back("this build runs under sanitizers (" +
                       build.at("sanitizers").get<std::string>() + "): do not publish its figures");
  }
  const Json& loads = context.at("load_average").at("before");
  const double cpus = context.at("cpu").at("online").get<double>();
  if (!loads.empty() && loads[0].get<double>() > cpus / 2) {
    warnings.push_back(
        fmt::format("the machine was busy with something else before the run "
                    "(load average {:.2f} on {:.0f} processors)",
                    loads[0].get<double>(), cpus));
  }
  return warnings;
}

}  // namespace brood::bench
