// SPDX-License-Identifier: Apache-2.0

// brood doctor: what this machine allows, what it costs, and what to do about it.
#include "pool/doctor/doctor.h"

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "pool/cli/commands.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

struct DoctorCommandOptions {
  DoctorOptions doctor;
  bool json = false;
};

nlohmann::ordered_json ToJson(const std::vector<Finding>& findings) {
  auto json = nlohmann::ordered_json::array();
  for (const Finding& finding : findings) {
    auto& one = json.emplace_back();
    one["subject"] = finding.subject;
    one["verdict"] = VerdictName(finding.verdict);
    one["what"] = finding.what;
    if (!finding.why.empty()) one["why"] = finding.why;
    if (!finding.remedy.empty()) one["remedy"] = finding.remedy;
  }
  return json;
}

void Print(const std::vector<Finding>& findings) {
  for (const Finding& finding : findings) {
    fmt::print("{:6}  {}: {}\n", VerdictName(finding.verdict), finding.subject, finding.what);
    if (!finding.why.empty()) fmt::print("        {}\n", finding.why);
    if (!finding.remedy.empty()) fmt::print("        to change it: {}\n", finding.remedy);
  }
}

int Run(const DoctorCommandOptions& options) {
  DoctorOptions doctor = options.doctor;
  std::error_code error;
  doctor.brood = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Complain(ErrnoError(error.value(), "looking for this program's own file"));
  const std::vector<Finding> findings = Examine(doctor);
  if (options.json) {
    fmt::print("{}\n", ToJson(findings).dump(2, ' ', false,
                                             nlohmann::ordered_json::error_handler_t::replace));
  } else {
    Print(findings);
  }
  return ExitStatus(findings);
}

}  // namespace

CommandAction AddDoctorCommand(CLI::App& app) {
  CLI::App* const doctor =
      app.add_subcommand("doctor", "What this machine allows brood, and what it costs");
  const auto options = std::make_shared<DoctorCommandOptions>();
  doctor->add_flag("--json", options->json, "As JSON: a list of findings");
  doctor
      ->add_option("--for", options->doctor.workers,
                   "Check whether this many workers can be parked at once (default 1000)")
      ->type_name("N")
      ->check(CLI::Range(1, 1'000'000));
  Describe(*doctor,
           "brood doctor [option...]\n\n"
           "Try what brood needs, in child processes: making and using a user namespace; every "
           "other namespace; a new /proc; cgroups; io_uring; system call filters; and one run with "
           "full isolation. Then check every limit that a pool of --for workers would meet, and "
           "what makes spawning slower than it need be. Each finding says what it is, why it "
           "matters and how to change it.\n\n"
           "Exit status: 0 all is fine; 1 brood works, but something is missing; 2 it cannot run.");
  return [options](const std::vector<std::string>& extra) {
    return extra.empty() ? Run(*options) : TakesOptionsOnly("doctor", extra);
  };
}

}  // namespace brood
