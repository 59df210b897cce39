// SPDX-License-Identifier: Apache-2.0

// brood functions, invoke, deploy, reload, and what logs and kill do with calls: requests to the
// daemon over its own socket.
#include "pool/cli/function_commands.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "pool/cli/commands.h"
#include "pool/cli/output.h"
#include "pool/cli/terminal.h"
#include "pool/daemon/client.h"
#include "pool/http/ask.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

using CallJson = nlohmann::ordered_json;

// The answer's body, where its status is good; otherwise its sentence, as an error.
absl::StatusOr<std::string> AskDaemon(const std::string& socket, const HttpAsked& asked) {
  BROOD_ASSIGN_OR_RETURN(UniqueFd connection, ConnectToDaemon(socket));
  std::string body;
  BROOD_ASSIGN_OR_RETURN(
      const ResponseHead head,
      AskHttp(std::move(connection), asked, [&](const ResponseHead&, std::string_view more) {
        body += more;
        return absl::OkStatus();
      }));
  if (head.status < 300) return body;
  while (body.ends_with('\n')) body.pop_back();
  const auto code = head.status == 404 ? absl::StatusCode::kNotFound : absl::StatusCode::kUnknown;
  return Error(code, "{}", body.empty() ? fmt::format("the daemon answers {}", head.status) : body);
}

std::string TimeText(double since_epoch) {
  const auto seconds = static_cast<std::time_t>(since_epoch);
  std::tm local{};
  localtime_r(&seconds, &local);
  return fmt::format("{:02}:{:02}:{:02}.{:03}", local.tm_hour, local.tm_min, local.tm_sec,
                     static_cast<int>((since_epoch - static_cast<double>(seconds)) * 1000));
}

std::string Milliseconds(const CallJson& us) {
  return us.is_number() ? fmt::format("{:.1f}", us.get<double>() / 1000) : "-";
}

void PrintFunctions(const CallJson& functions) {
  fmt::print("{:<20} {:<7} {:<7} {:>5} {:>5} {:>5} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8}  {}\n",
             "FUNCTION", "MODE", "RUNTIME", "READY", "RUNS", "WAIT", "CALLS", "RATE", "P50 MS",
             "P99 MS", "CPU S", "PEAK MB", "LAST ERROR");
  for (const CallJson& each : functions) {
    const auto number = [&](const char* key, double divide) {
      return each.contains(key) ? fmt::format("{:.1f}", each[key].get<double>() / divide) : "-";
    };
    const bool ahead = each["mode"] != "cold" && each["mode"] != "parked";
    std::string error = each.value("problem", "");
    if (error.empty() && each.contains("last_error")) {
      const CallJson& last = each["last_error"];
      error = fmt::format("{} {}: {}", TimeText(last["time"]), last["end"].get<std::string>(),
                          last["message"].get<std::string>());
    }
    fmt::print("{:<20} {:<7} {:<7} {:>5} {:>5} {:>5} {:>9} {:>7.1f} {:>8} {:>8} {:>8} {:>8}  {}\n",
               Printable(each["name"], 20), each["mode"].get<std::string>(),
               each["runtime"].get<std::string>(), ahead ? each["primed"].dump() : "-",
               each["running"].dump(), each["queued"].dump(), each["calls"].dump(),
               each["calls_per_second"].get<double>(),
               Milliseconds(each.value("p50_us", CallJson())),
               Milliseconds(each.value("p99_us", CallJson())), number("cpu_us", 1e6),
               number("memory_peak_bytes", 1 << 20), Printable(error, 80));
  }
}

// A line for the call, and one for each of its stderr.
void PrintCall(const std::string& line) {
  const CallJson call = CallJson::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!call.is_object()) return;
  if (call.contains("missed")) {
    fmt::print("({} missed: they came faster than they were read)\n", call["missed"].dump());
    return;
  }
  const std::string head =
      fmt::format("{} {}", TimeText(call["time"]), call["function"].get<std::string>());
  if (call.contains("id")) {
    fmt::print("{} {} {:>3} {:>9} ms  {}{}{}\n", head, call["id"].get<std::string>(),
               call["status"].dump(), Milliseconds(call["total_us"]),
               Printable(call.value("request", ""), 100),
               call.contains("user") ? "  by " + Printable(call["user"], 40) : "",
               call.contains("end") ? "  " + call["end"].get<std::string>() : "");
  } else if (call.contains("end")) {
    fmt::print("{} {}\n", head, call["end"].get<std::string>());
  }
  if (call.contains("message")) fmt::print("    {}\n", Printable(call["message"], 1000));
  std::istringstream said(call.value("stderr", ""));
  for (std::string each; std::getline(said, each);) {
    fmt::print("{}  | {}\n", head, Printable(each, 4096));
  }
}

struct InvokeWords {
  std::string socket = DefaultSocketPath();
  std::string method = "POST";
  std::string path;
  std::string data;
  std::string file;
  std::vector<std::string> fields;
  bool async = false;
  bool head = false;
};

absl::StatusOr<std::string> BodyOf(const InvokeWords& words) {
  if (words.file.empty()) return words.data;
  if (words.file == "-") {
    return std::string(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  }
  std::ifstream file(words.file, std::ios::binary);
  std::string body{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) return ErrnoError(errno, "reading {}", words.file);
  return body;
}

absl::StatusOr<int> Invoke(const InvokeWords& words, const std::string& name) {
  HttpAsked asked;
  asked.method = words.method;
  asked.target = fmt::format("/functions/{}{}", name, words.path);
  // It would make another function's name of this one's.
  if (!words.path.empty() && words.path[0] != '/' && words.path[0] != '?') {
    return InvalidError("-p takes a path that begins with a slash, or a query, not \"{}\"",
                        words.path);
  }
  for (const std::string& field : words.fields) {
    const std::size_t colon = field.find(':');
    const std::size_t begin =
        colon == std::string::npos ? colon : field.find_first_not_of(' ', colon + 1);
    const std::string value = begin == std::string::npos ? "" : field.substr(begin);
    if (colon == std::string::npos) {
      return InvalidError("-H takes 'Name: value', not \"{}\"", field);
    }
    asked.fields.emplace_back(field.substr(0, colon), value);
  }
  if (words.async) asked.fields.emplace_back("Prefer", "respond-async");
  BROOD_ASSIGN_OR_RETURN(asked.body, BodyOf(words));
  BROOD_ASSIGN_OR_RETURN(UniqueFd connection, ConnectToDaemon(words.socket));
  bool told = false;
  BROOD_ASSIGN_OR_RETURN(
      const ResponseHead head,
      AskHttp(std::move(connection), asked, [&](const ResponseHead& answer, std::string_view body) {
        if (words.head && !std::exchange(told, true)) {
          fmt::print("HTTP/1.1 {} {}\n", answer.status, answer.reason);
          for (const auto& [key, value] : answer.fields) fmt::print("{}: {}\n", key, value);
          fmt::print("\n");
        }
        std::FILE* const to = answer.status < 400 ? stdout : stderr;
        std::fwrite(body.data(), 1, body.size(), to);
        std::fflush(to);
        return OutputStatus();
      }));
  if (head.status < 400) return 0;
  const std::string_view end = FindField(head.fields, "Brood-End");
  std::fprintf(stderr, "brood: %s\n",
               fmt::format("the call was answered {}{}", head.status,
                           end.empty() ? "" : fmt::format(" ({})", end))
                   .c_str());
  return 1;
}

std::string Changes(const std::string& json) {
  const CallJson changes = CallJson::parse(json, nullptr, /*allow_exceptions=*/false);
  std::string out;
  for (const char* const kind : {"functions", "templates"}) {
    if (!changes.is_object() || !changes.contains(kind)) continue;
    for (const auto& [what, names] : changes[kind].items()) {
      for (const CallJson& name : names) {
        out += fmt::format("{} {} {}\n", what, std::string_view(kind).substr(0, 8),
                           name.get<std::string>());
      }
    }
  }
  return out.empty() ? "nothing has changed\n" : out;
}

int TellChanges(const absl::StatusOr<std::string>& json) {
  if (!json.ok()) return Complain(json.status());
  std::fputs(Changes(*json).c_str(), stdout);
  return 0;
}

struct DeployWords {
  std::string socket = DefaultSocketPath();
  bool remove = false;
};

int Deploy(const DeployWords& words, const std::string& what) {
  if (words.remove)
    return TellChanges(AskDaemon(words.socket, {"DELETE", "/deploy/" + what, {}, ""}));
  char path[PATH_MAX];
  if (realpath(what.c_str(), path) == nullptr) {
    return Complain(ErrnoError(errno, "looking for {}", what));
  }
  return TellChanges(AskDaemon(words.socket, {"POST", "/deploy", {}, path}));
}

}  // namespace

absl::Status KillCall(const std::string& socket, const std::string& id) {
  return AskDaemon(socket, {"DELETE", "/calls/" + id, {}, ""}).status();
}

absl::Status PrintCallLogs(const std::string& socket, const std::string& function, bool follow) {
  BROOD_ASSIGN_OR_RETURN(UniqueFd connection, ConnectToDaemon(socket));
  HttpAsked asked;
  asked.target =
      fmt::format("/logs{}{}", function.empty() ? "" : "/" + function, follow ? "?follow=1" : "");
  std::string rest;
  BROOD_ASSIGN_OR_RETURN(
      const ResponseHead head,
      AskHttp(std::move(connection), asked, [&](const ResponseHead& answer, std::string_view more) {
        rest += more;
        for (std::size_t end = rest.find('\n'); answer.status == 200 && end != std::string::npos;
             end = rest.find('\n')) {
          PrintCall(rest.substr(0, end));
          rest.erase(0, end + 1);
        }
        std::fflush(stdout);
        return OutputStatus();
      }));
  if (head.status == 200) return absl::OkStatus();
  while (rest.ends_with('\n')) rest.pop_back();
  return Error(absl::StatusCode::kNotFound, "{}", rest);
}

CommandAction AddFunctionsCommand(CLI::App& app) {
  struct Words {
    std::string socket = DefaultSocketPath();
    bool json = false;
  };
  auto words = std::make_shared<Words>();
  CLI::App* command = app.add_subcommand("functions", "The functions, and how they fare");
  Describe(*command,
           "brood functions [--json]\n\n"
           "What each function has ready, runs and lets wait; its calls, their rate over ten "
           "seconds and\nthe percentiles of the latest 1,024; what its ended isolates have used; "
           "and what went wrong last.");
  AddSocketOption(*command, words->socket);
  command->add_flag("--json", words->json, "As JSON");
  return [words](const std::vector<std::string>& extra) {
    if (!extra.empty()) return TakesOptionsOnly("functions", extra);
    const absl::StatusOr<std::string> text =
        AskDaemon(words->socket, {"GET", "/functions", {}, ""});
    if (!text.ok()) return Complain(text.status());
    if (words->json) {
      std::fputs(text->c_str(), stdout);
    } else {
      PrintFunctions(CallJson::parse(*text));
    }
    return 0;
  };
}

CommandAction AddInvokeCommand(CLI::App& app) {
  auto words = std::make_shared<InvokeWords>();
  CLI::App* command = app.add_subcommand("invoke", "Call a function");
  Describe(*command,
           "brood invoke [option...] NAME\n\n"
           "Call it over the daemon's own socket, and print its answer. The exit status is 1 when "
           "the answer's\nstatus is 400 or more; its body then goes to stderr.");
  command->allow_extras();
  AddSocketOption(*command, words->socket);
  auto* data = command->add_option("-d,--data", words->data, "Body of the request");
  data->type_name("DATA");
  command->add_option("-f,--file", words->file, "File that is the body; - for stdin")
      ->type_name("FILE")
      ->excludes(data);
  command->add_option("-X,--method", words->method, "Method (default POST)")->type_name("METHOD");
  command->add_option("-p,--path", words->path, "Path and query behind the name, as /a?b=c")
      ->type_name("PATH");
  command->add_option("-H,--header", words->fields, "A field of the request; may be given again")
      ->type_name("'NAME: VALUE'")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--async", words->async, "Do not wait for it: print the call's id");
  command->add_flag("-i,--include", words->head, "Print the answer's head, too");
  return [words](const std::vector<std::string>& extra) {
    if (extra.size() != 1) return Complain(InvalidError("brood invoke takes one function's name"));
    const absl::StatusOr<int> status = Invoke(*words, extra.front());
    return status.ok() ? *status : Complain(status.status());
  };
}

CommandAction AddDeployCommand(CLI::App& app) {
  auto words = std::make_shared<DeployWords>();
  CLI::App* command = app.add_subcommand("deploy", "Add functions to a running daemon");
  Describe(*command,
           "brood deploy FILE|DIR\nbrood deploy --remove NAME\n\n"
           "Add the functions of a TOML file, or of DIR/function.toml, or replace those of the "
           "same names.\nThe file is checked whole, and they are called once they have something "
           "ready; until then, and\nwhere that fails, the old ones are. Relative paths in the file "
           "begin where it stands. The daemon\nnotes a link to it in the directory that its "
           "configuration names (deployed = DIR), and reads it\nagain when it starts. Only its "
           "owner may deploy.");
  command->allow_extras();
  AddSocketOption(*command, words->socket);
  command->add_flag("--remove", words->remove, "Take away what was deployed under a name");
  return [words](const std::vector<std::string>& extra) {
    if (extra.size() != 1) {
      return Complain(InvalidError("brood deploy takes one {}",
                                   words->remove ? "function's name" : "file or directory"));
    }
    return Deploy(*words, extra.front());
  };
}

CommandAction AddReloadCommand(CLI::App& app) {
  auto words = std::make_shared<DeployWords>();
  CLI::App* command = app.add_subcommand("reload", "Read the configuration, or a function, again");
  Describe(*command,
           "brood reload [NAME]\n\n"
           "Have the daemon read its configuration again, as SIGHUP does, and say what has "
           "changed. With a\nfunction's name, give it new isolates, and so its program as it is "
           "now; the old ones serve until\nthey are ready.");
  command->allow_extras();
  AddSocketOption(*command, words->socket);
  return [words](const std::vector<std::string>& extra) {
    if (extra.size() > 1) return Complain(InvalidError("brood reload takes one function's name"));
    const std::string target = extra.empty() ? "/reload" : "/reload/" + extra.front();
    return TellChanges(AskDaemon(words->socket, {"POST", target, {}, ""}));
  };
}

}  // namespace brood
