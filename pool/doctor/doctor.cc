// SPDX-License-Identifier: Apache-2.0

#include "pool/doctor/doctor.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "pool/doctor/capacity.h"
#include "pool/doctor/probes.h"
#include "spawn/base/status.h"
#include "spawn/base/text_file.h"
#include "spawn/host/cgroup_host.h"
#include "spawn/host/id_ranges.h"
#include "spawn/host/machine.h"
#include "spawn/host/mountinfo.h"
#include "spawn/host/subordinate_ids.h"
#include "spawn/host/switches.h"
#include "spawn/outcome.h"
#include "spawn/spec.h"

namespace brood {
namespace {

constexpr std::array kKinds = {NamespaceKind::kMount, NamespaceKind::kPid, NamespaceKind::kNet,
                               NamespaceKind::kIpc,   NamespaceKind::kUts, NamespaceKind::kCgroup,
                               NamespaceKind::kTime};

std::string SetSysctl(std::string name, std::string_view value) {
  return fmt::format("sysctl -w {}={}", name, value);
}

// Who refuses user namespaces, of those that can.
std::string UserNamespaceRemedy(int error) {
  if (const std::optional<Switch> off = UserNamespaceSwitch()) return off->remedy;
  if (error == ENOSPC) {
    return "sysctl -w user.max_user_namespaces=N, here and in the namespaces outside; they nest 32 "
           "deep at most";
  }
  return "a filter or a container round this process refuses it: in Docker, --security-opt "
         "seccomp=unconfined";
}

Finding UserNamespaces() {
  Finding finding{.subject = "user namespaces"};
  if (const int error = TryInChild(MakeUserNamespace); error != 0) {
    const bool root = ThisMachine().mount_admin;
    finding.verdict = root ? Verdict::kLess : Verdict::kCannot;
    finding.what = "making one: " + ErrnoText(error);
    if (const std::optional<Switch> off = UserNamespaceSwitch()) {
      finding.what += fmt::format("; {} is {}", off->name, off->value);
    }
    finding.why = root ? "workers would have the host's ids: --no-user"
                       : "without CAP_SYS_ADMIN, all other isolation needs a user namespace";
    finding.remedy = UserNamespaceRemedy(error);
    return finding;
  }
  if (const int error = TryInChild(UseUserNamespace); error != 0) {
    finding.verdict = ThisMachine().mount_admin ? Verdict::kLess : Verdict::kCannot;
    finding.what = "one can be made, but gives no privileges: " + ErrnoText(error);
    finding.why = "AppArmor and some filters let every user make them and no user use them";
    finding.remedy = UserNamespaceRemedy(error);
    return finding;
  }
  finding.what = "can be made and used";
  return finding;
}

Finding Namespaces() {
  Finding finding{.subject = "namespaces"};
  std::string missing;
  for (const NamespaceKind kind : kKinds) {
    const bool own = ThisMachine().mount_admin;
    const int error = TryInChild([kind, own] { return MakeNamespace(kind, own); });
    if (error == 0) continue;
    missing += fmt::format("{}{} ({})", missing.empty() ? "" : ", ", NamespaceName(kind),
                           ErrnoText(error));
    if (error == ENOSPC && finding.remedy.empty()) {
      finding.remedy = fmt::format("sysctl -w user.max_{}_namespaces=N", NamespaceProcName(kind));
    }
  }
  if (missing.empty()) {
    finding.what = "mount, pid, net, ipc, uts, cgroup and time can be made";
    return finding;
  }
  finding.verdict = Verdict::kCannot;
  finding.what = "refused: " + missing;
  finding.why =
      "a worker has one of each kind; without those that are refused it needs options such as "
      "--no-time";
  return finding;
}

Finding Proc() {
  Finding finding{.subject = "/proc"};
  const bool own = ThisMachine().mount_admin;
  const int error = TryInChild([own] { return MountProc(own); });
  if (error == 0) {
    finding.what = "a new one can be mounted";
    return finding;
  }
  finding.verdict = Verdict::kCannot;
  finding.what = "mounting a new one: " + ErrnoText(error);
  finding.why =
      "parts of this /proc are mounted over, as container engines do, and the kernel allows no new "
      "/proc that would uncover them";
  finding.remedy =
      "in Docker, --security-opt systempaths=unconfined; in Kubernetes, procMount: "
      "Unmasked";
  return finding;
}

// How many of the ranges that workers get are left.
void TellHeldRanges(Finding& finding) {
  const absl::StatusOr<IdRangesHeld> held = HeldIdRanges();
  if (!held.ok()) {
    finding.verdict = Verdict::kNote;
    finding.what += fmt::format("; how many are in use is not known: {}", Message(held.status()));
    return;
  }
  finding.what +=
      fmt::format("; {} of {} such ranges are in use, by {} launcher{}", held->ranges, kRangeCount,
                  held->launchers.size(), held->launchers.size() == 1 ? "" : "s");
  if (held->ranges < kRangeCount / 10 * 9) return;
  finding.verdict = held->ranges < kRangeCount ? Verdict::kNote : Verdict::kLess;
  finding.why = "a launcher takes 64 at a time, and a worker that gets none cannot start";
  finding.remedy = fmt::format(
      "a launcher gives back ranges that its workers no longer use: end some workers, let "
      "templates park fewer (--pool, parked), or stop launchers (processes {})",
      fmt::join(held->launchers, ", "));
}

// Whose ids workers have, outside.
Finding Ids() {
  Finding finding{.subject = "ids"};
  const Machine& machine = ThisMachine();
  const SubordinateIds& ids = OurSubordinateIds();
  if (machine.id_ranges) {
    finding.what = "each worker has 65,536 host ids of its own";
    TellHeldRanges(finding);
  } else if (machine.subordinate_ids) {
    finding.verdict = Verdict::kNote;
    finding.what =
        fmt::format("all workers have the 65,536 host ids that /etc/subuid gives to {}", ids.user);
    finding.why =
        "by their ids, workers are not protected from each other: they are processes of one user";
    finding.remedy = "as root each worker has ids of its own";
  } else if (machine.mount_admin) {
    finding.verdict = Verdict::kLess;
    finding.what = "workers have the one id of the launcher";
    finding.why = "the user namespace of this process has too few ids";
  } else {
    finding.verdict = Verdict::kLess;
    finding.what = fmt::format("workers have one id, that of {}: {}", ids.user, ids.why_not);
    finding.why = fmt::format("they can open what {} can, and know no other user", ids.user);
  }
  return finding;
}

Finding Cgroups(const absl::StatusOr<CgroupHost>& host) {
  Finding finding{.subject = "cgroups"};
  if (!host.ok()) {
    finding.verdict = Verdict::kLess;
    finding.what = std::string(Message(host.status()));
    finding.why = "no limits, and no single way to kill all of a worker's processes";
    return finding;
  }
  const std::string layout(CgroupLayoutName(host->layout));
  if (host->base.empty()) {
    finding.verdict = Verdict::kLess;
    finding.what = fmt::format("{}; this process may make no cgroups in it", layout);
    finding.why = "no limits, and no single way to kill all of a worker's processes";
    finding.remedy = "systemd-run --user --scope -p Delegate=yes brood ...";
    return finding;
  }
  if (FirstLineOf(host->base + "/cgroup.type") == "domain threaded" ||
      FirstLineOf(host->base + "/cgroup.type") == "threaded") {
    finding.verdict = Verdict::kLess;
    finding.what = host->base + " is threaded";
    finding.why = "no process can be started in a cgroup below it";
    finding.remedy = "start brood in another cgroup";
    return finding;
  }
  if (FirstLineOf(host->base + "/cgroup.freeze") == "1") {
    finding.verdict = Verdict::kCannot;
    finding.what = host->base + " is frozen";
    finding.why = "processes started there stay frozen";
    finding.remedy = fmt::format("echo 0 > {}/cgroup.freeze", host->base);
    return finding;
  }
  std::string missing;
  for (const char* const name : {"memory", "pids", "cpu"}) {
    if (!host->Has(name)) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", name);
  }
  finding.what = fmt::format("{}; cgroups can be made in {}{}", layout, host->base,
                             host->has_kill ? "" : "; no cgroup.kill (Linux 5.14)");
  if (missing.empty()) return finding;
  finding.verdict = Verdict::kNote;
  finding.what += "; without the controllers " + missing;
  finding.why = "workers cannot be limited in these";
  finding.remedy =
      host->v1.empty()
          ? "the owner of the cgroup above has to pass them on: Delegate=yes in the unit"
          : "boot with systemd.unified_cgroup_hierarchy=1 or "
            "cgroup_no_v1=all: they are on cgroup v1";
  return finding;
}

Finding IoUring() {
  Finding finding{.subject = "io_uring"};
  const int error = TryInChild(SetUpRing);
  if (error == 0) {
    finding.what = "can be set up";
    return finding;
  }
  finding.verdict = Verdict::kNote;
  finding.what = ErrnoText(error);
  finding.why =
      "burst, serve and the pool wait with epoll instead, which takes more system calls and one "
      "more descriptor for each wait; run uses neither";
  if (const std::optional<Switch> off = RingSwitch()) {
    finding.what += fmt::format("; {} is {}", off->name, off->value);
    finding.remedy = off->remedy;
  } else {
    finding.remedy =
        "a filter round this process refuses it: in Docker, --security-opt seccomp=unconfined";
  }
  return finding;
}

Finding Filters() {
  Finding finding{.subject = "seccomp"};
  const int error = TryInChild(InstallFilter);
  if (error == 0) {
    finding.what = "filters can be installed";
    return finding;
  }
  finding.verdict = Verdict::kLess;
  finding.what = ErrnoText(error);
  finding.why = "workers would have no system call filter: --seccomp off";
  return finding;
}

// What costs, each with its sysctl.
void AddCosts(const absl::StatusOr<CgroupHost>& host, std::vector<Finding>& findings) {
  const auto add = [&](std::string subject, std::string what, std::string why, std::string remedy) {
    findings.push_back(
        {std::move(subject), Verdict::kNote, std::move(what), std::move(why), std::move(remedy)});
  };
  if (FirstLineOf("/proc/sys/net/ipv6/conf/all/disable_ipv6") == "0") {
    add("IPv6", "is set up in each network namespace", "making and freeing one takes longer",
        "ipv6.disable=1 at boot, if IPv6 is not needed");
  }
  if (FirstLineOf("/proc/sys/net/core/fb_tunnels_only_for_init_net") == "0") {
    add("tunnel devices", "those of loaded modules are made in each network namespace",
        "making and freeing one takes longer",
        SetSysctl("net.core.fb_tunnels_only_for_init_net", "2"));
  }
  if (FirstLineOf("/sys/kernel/rcu_expedited") == "0") {
    add("RCU", "grace periods are not expedited",
        "moving a process into a cgroup after a quiet moment, and detaching mounts, wait for one; "
        "brood avoids the first and most of the second",
        "echo 1 > /sys/kernel/rcu_expedited, which wakes every processor more often");
  }
  if (ThisMachine().mount_admin && !ThisMachine().empty_mounts) {
    add("mount namespaces",
        fmt::format("a cold worker's begins as a copy of the {} mounts here",
                    ReadOwnMounts().size()),
        "the more there are, the longer it takes; workers from zygotes copy a handful",
        "Linux 7.1, where it begins empty");
  }
  if (host.ok() && !host->mount.empty() && !host->favordynmods) {
    add("favordynmods", "is off",
        "it makes only moves between cgroups faster, and starting processes in a cgroup slower",
        "");
  }
}

Finding Trial(const DoctorOptions& options) {
  Finding finding{.subject = "a trial run"};
  const TrialRun trial = RunTrial(options.brood);
  if (trial.exit_status != 0) {
    finding.verdict = Verdict::kCannot;
    finding.what = trial.error.empty() ? fmt::format("exited with status {}", trial.exit_status)
                                       : trial.error.substr(0, trial.error.find('\n'));
    finding.why = "this is what brood run does, with full isolation";
    return finding;
  }
  const auto outcome = nlohmann::json::parse(trial.outcome, nullptr, /*allow_exceptions=*/false);
  const auto fallbacks = outcome.is_object() ? outcome.find("fallbacks") : outcome.end();
  std::vector<Fallback> fell;
  if (fallbacks != outcome.end()) {
    for (const auto& each : *fallbacks) {
      fell.push_back({each.value("wanted", "?"), each.value("used", "?"), each.value("errno", 0)});
    }
  }
  if (fell.empty()) {
    finding.what = "a process ran fully isolated, with nothing given up";
    return finding;
  }
  finding.verdict = Verdict::kLess;
  finding.what = ToText(fell);
  finding.why = "a process ran with less isolation than was asked for";
  return finding;
}

}  // namespace

std::vector<Finding> Examine(const DoctorOptions& options) {
  const absl::StatusOr<CgroupHost> host = CgroupHost::Discover();
  std::vector<Finding> findings = {UserNamespaces(), Ids(),     Namespaces(), Proc(),
                                   Cgroups(host),    IoUring(), Filters(),    Trial(options)};
  AddCapacity(options.workers, host, findings);
  AddCosts(host, findings);
  return findings;
}

}  // namespace brood
