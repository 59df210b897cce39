// SPDX-License-Identifier: Apache-2.0

// What an outcome becomes: an exit status and a JSON object.
#include "spawn/outcome.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "spawn/base/status.h"

namespace brood {
namespace {

Outcome Ending(End end, int exit_code, int signal) {
  Outcome outcome;
  outcome.end = end;
  outcome.exit_code = exit_code;
  outcome.signal = signal;
  return outcome;
}

Outcome FailedAt(Step step, int error) {
  Outcome outcome;
  outcome.end = End::kSetupFailed;
  outcome.failure = {step, 0, error};
  outcome.message = "it failed";
  return outcome;
}

TEST(ExitStatusTest, FollowsTheShellsCustoms) {
  struct Case {
    Outcome outcome;
    int status;
  };
  const std::vector<Case> cases = {
      {Ending(End::kExited, 0, 0), 0},
      {Ending(End::kExited, 7, 0), 7},
      {Ending(End::kExited, 255, 0), 255},
      {Ending(End::kSignalled, 0, SIGSEGV), 139},
      {Ending(End::kSignalled, 0, SIGTERM), 143},
      {Ending(End::kSignalled, 0, 64), 192},
      {Ending(End::kKilled, 0, SIGKILL), 137},
      {Ending(End::kOom, 0, SIGKILL), 137},
      {Ending(End::kTimeout, 0, SIGKILL), 124},
      {Ending(End::kTimeout, 0, 0), 124},
      {FailedAt(Step::kExec, ENOENT), 127},
      {FailedAt(Step::kExec, EACCES), 126},
      {FailedAt(Step::kExec, ENOEXEC), 126},
      {FailedAt(Step::kExec, ELOOP), 126},
      {FailedAt(Step::kMountProc, ENOENT), 125},
      {FailedAt(Step::kCloneWorker, EPERM), 125},
      {FailedAt(Step::kNone, 0), 125},
  };
  for (const Case& test : cases) {
    EXPECT_EQ(ExitStatus(test.outcome), test.status)
        << EndName(test.outcome.end) << " " << StepName(test.outcome.failure.step) << " "
        << test.outcome.failure.error;
  }
}

TEST(OutcomeTest, IsOkOnlyForExitZero) {
  EXPECT_TRUE(Ending(End::kExited, 0, 0).ok());
  EXPECT_FALSE(Ending(End::kExited, 1, 0).ok());
  for (const End end :
       {End::kSignalled, End::kTimeout, End::kKilled, End::kOom, End::kSetupFailed}) {
    EXPECT_FALSE(Ending(end, 0, 0).ok()) << EndName(end);
  }
}

TEST(OutcomeTest, IsTruncatedWhenAByteIsMissing) {
  Outcome outcome;
  EXPECT_FALSE(outcome.truncated());
  outcome.out = "abc";
  outcome.out_bytes = 3;
  EXPECT_FALSE(outcome.truncated());
  outcome.out_bytes = 4;
  EXPECT_TRUE(outcome.truncated());
  outcome.out_bytes = 3;
  outcome.err_bytes = 1;
  EXPECT_TRUE(outcome.truncated());
}

TEST(OutcomeNamesTest, AreUnique) {
  std::set<std::string_view> names;
  for (const End end :
       {End::kExited, End::kSignalled, End::kTimeout, End::kKilled, End::kOom, End::kSetupFailed}) {
    EXPECT_TRUE(names.insert(EndName(end)).second) << EndName(end);
  }
  for (const SpawnPath path : {SpawnPath::kCold, SpawnPath::kZygote, SpawnPath::kParked}) {
    EXPECT_TRUE(names.insert(SpawnPathName(path)).second) << SpawnPathName(path);
  }
  EXPECT_EQ(names.count("unknown"), 0U);
}

TEST(ToJsonTest, TellsAllOfASuccess) {
  Outcome outcome = Ending(End::kExited, 7, 0);
  outcome.id = 12;
  outcome.template_name = "python";
  outcome.spawn_path = SpawnPath::kZygote;
  outcome.fallbacks = {{"a parked worker", "a zygote", EAGAIN}, {"an idea", "another", 0}};
  outcome.host_pid = 4711;
  outcome.inside_pid = 1;
  outcome.timeline = {{"born", 1.26}, {"exec", 20}};
  outcome.wall_us = 100.04;
  outcome.park_us = 55;
  outcome.cpu_us = 9.99;
  outcome.usage.memory_peak_bytes = 1 << 20;
  outcome.usage.oom_events = 0;
  outcome.usage.oom_kills = 2;
  outcome.usage.cpu_throttled_us = 1500;
  outcome.usage.pids_refused = 0;
  outcome.usage.io = {.read_bytes = 1, .write_bytes = 2, .read_ops = 3, .write_ops = 4};
  outcome.limits_met = {"one", "two"};
  outcome.usage.pids_peak = 3;
  outcome.out = "abc";
  outcome.out_bytes = 5;
  const nlohmann::ordered_json json = ToJson(outcome);
  EXPECT_EQ(json["id"], 12);
  EXPECT_EQ(json["template"], "python");
  EXPECT_EQ(json["spawn_path"], "zygote");
  ASSERT_EQ(json["fallbacks"].size(), 2U);
  EXPECT_EQ(json["fallbacks"][0]["wanted"], "a parked worker");
  EXPECT_EQ(json["fallbacks"][0]["used"], "a zygote");
  EXPECT_EQ(json["fallbacks"][0]["errno"], EAGAIN);
  EXPECT_EQ(json["fallbacks"][0]["error"], "EAGAIN (Resource temporarily unavailable)");
  EXPECT_EQ(json["fallbacks"][1]["error"], "");
  EXPECT_EQ(json["host_pid"], 4711);
  EXPECT_EQ(json["inside_pid"], 1);
  EXPECT_EQ(json["end"], "exited");
  EXPECT_EQ(json["exit_code"], 7);
  EXPECT_EQ(json["exit_status"], 7);
  EXPECT_FALSE(json.contains("signal"));
  EXPECT_FALSE(json.contains("failure"));
  EXPECT_FALSE(json.contains("message"));
  EXPECT_DOUBLE_EQ(json["wall_us"].get<double>(), 100.0);
  EXPECT_DOUBLE_EQ(json["park_us"].get<double>(), 55);
  EXPECT_DOUBLE_EQ(json["cpu_us"].get<double>(), 10.0);
  EXPECT_EQ(json["memory_peak_bytes"], 1 << 20);
  EXPECT_EQ(json["pids_peak"], 3);
  EXPECT_EQ(json["pids_refused"], 0);
  EXPECT_EQ(json["oom_kills"], 2);
  EXPECT_EQ(json["oom_cause"], "above");
  EXPECT_EQ(json["cpu_throttled_us"], 1500);
  EXPECT_EQ(json["io"]["write_bytes"], 2);
  EXPECT_EQ(json["io"]["read_ops"], 3);
  EXPECT_EQ(json["limits_met"], nlohmann::ordered_json({"one", "two"}));
  EXPECT_EQ(json["out_bytes"], 5);
  EXPECT_EQ(json["err_bytes"], 0);
  EXPECT_EQ(json["truncated"], true);
  ASSERT_EQ(json["timeline"].size(), 2U);
  EXPECT_EQ(json["timeline"][0]["name"], "born");
  EXPECT_DOUBLE_EQ(json["timeline"][0]["at_us"].get<double>(), 1.3);
}

TEST(ToJsonTest, LeavesOutWhatIsNotKnown) {
  const nlohmann::ordered_json json = ToJson(Ending(End::kSignalled, 0, SIGKILL));
  for (const char* absent :
       {"template", "exit_code", "failure", "message", "park_us", "cpu_us", "memory_peak_bytes",
        "pids_peak", "pids_refused", "oom_kills", "oom_cause", "io", "cpu_periods", "limits_met"}) {
    EXPECT_FALSE(json.contains(absent)) << absent;
  }
  EXPECT_EQ(json["end"], "signalled");
  EXPECT_EQ(json["signal"], SIGKILL);
  EXPECT_EQ(json["exit_status"], 137);
  EXPECT_EQ(json["fallbacks"], nlohmann::ordered_json::array());
  EXPECT_EQ(json["timeline"], nlohmann::ordered_json::array());
}

TEST(ToJsonTest, NamesTheFailedStep) {
  Outcome outcome = FailedAt(Step::kMountProc, EPERM);
  outcome.failure.index = 17;
  const nlohmann::ordered_json json = ToJson(outcome);
  EXPECT_EQ(json["end"], "setup_failed");
  EXPECT_EQ(json["failure"]["step"], "mount_proc");
  EXPECT_EQ(json["failure"]["index"], 17);
  EXPECT_EQ(json["failure"]["errno"], EPERM);
  EXPECT_EQ(json["message"], "it failed");
  EXPECT_EQ(json["exit_status"], 125);
  EXPECT_FALSE(json.contains("exit_code"));
}

TEST(OutcomeTest, SaysHowItEnded) {
  Outcome outcome;
  outcome.end = End::kExited;
  outcome.exit_code = 3;
  EXPECT_EQ(EndText(outcome), "the command exited with status 3");
  outcome.end = End::kOom;
  outcome.signal = 9;
  EXPECT_EQ(EndText(outcome), "the command was ended: oom (signal 9)");
  outcome.message = "a sentence";
  EXPECT_EQ(EndText(outcome), "a sentence");
}

TEST(OutcomeTest, SaysWhatItFellBackTo) {
  EXPECT_EQ(ToText(std::vector<Fallback>{}), "");
  EXPECT_EQ(ToText(std::vector<Fallback>{{"a", "b", 0}, {"c", "d", EPERM}}),
            "wanted a, used b; wanted c, used d (" + ErrnoText(EPERM) + ")");
}

}  // namespace
}  // namespace brood
