// SPDX-License-Identifier: Apache-2.0

// The manual pages: groff_man(7).
#include <cerrno>
#include <fstream>
#include <sstream>

#include "pool/cli/function_config.h"
#include "pool/cli/isolation_options.h"
#include "pool/cli/manual.h"
#include "pool/cli/serve_config.h"
#include "spawn/base/status.h"
#include "spawn/host/without.h"

namespace brood {
namespace {

// Text that groff prints as it is; of several lines, too.
std::string Escape(std::string_view text) {
  std::string out;
  bool begins = true;
  for (const char c : text) {
    if (begins && (c == '.' || c == '\'')) out += "\\&";
    begins = c == '\n';
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else if (c == '\'') {
      out += "\\(aq";
    } else if (c == '~') {
      out += "\\(ti";
    } else if (c == '^') {
      out += "\\(ha";
    } else if (c == '`') {
      out += "\\(ga";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Header(std::string_view name, int section) {
  std::string title(name);
  for (char& c : title) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return fmt::format(".TH {} {} \"\" \"brood {}\" \"{}\"\n", Escape(title), section, BROOD_VERSION,
                     section == 1 ? "User Commands" : "File Formats");
}

// "brood kill [-s SIGNAL] ID...": literal words bold, words to be replaced in italics.
std::string Synopsis(std::string_view usage) {
  std::string out;
  std::istringstream words{std::string(usage)};
  bool program = true;  // "brood NAME", both literal
  for (std::string word; words >> word; program = program && word == "brood") {
    const std::size_t from = word.find_first_not_of("[");
    const std::size_t to = word.find_last_not_of("].");
    const std::string core = word.substr(from, to - from + 1);
    const bool literal = program || core[0] == '-';
    out += fmt::format("{}{}\\f{}{}\\fP{}", out.empty() ? "" : " ", Escape(word.substr(0, from)),
                       literal ? 'B' : 'I', Escape(core), Escape(word.substr(to + 1)));
  }
  return out + "\n";
}

// Paragraphs; those that are indented are examples. One that begins with "Exit status:" goes to
// `exit_status` instead.
std::string Paragraphs(std::string_view text, std::string* exit_status) {
  std::string out;
  constexpr std::string_view kExit = "Exit status: ";
  while (!text.empty()) {
    const std::size_t end = std::min(text.find("\n\n"), text.size());
    const std::string_view paragraph = text.substr(0, end);
    text.remove_prefix(std::min(end + 2, text.size()));
    if (paragraph.starts_with("  ")) {
      out += fmt::format(".PP\n.in +4n\n.EX\n");
      std::istringstream lines{std::string(paragraph)};
      for (std::string line; std::getline(lines, line);) {
        out += Escape(line.substr(std::min<std::size_t>(2, line.size()))) + "\n";
      }
      out += ".EE\n.in\n";
    } else if (exit_status != nullptr && paragraph.starts_with(kExit)) {
      *exit_status = Escape(paragraph.substr(kExit.size())) + "\n";
    } else {
      out += ".PP\n" + Escape(paragraph) + "\n";
    }
  }
  return out;
}

std::string Item(const std::vector<std::string>& names, std::string_view between,
                 std::string_view value, std::string_view description) {
  std::string out = ".TP\n";
  for (const std::string& name : names) {
    out += fmt::format("{}\\fB{}\\fP", out.ends_with('\n') ? "" : ", ", Escape(name));
  }
  if (!value.empty()) out += fmt::format("{}\\fI{}\\fP", Escape(between), Escape(value));
  return fmt::format("{}\n{}.\n", out, Escape(description));
}

// Groups in the order of their first options.
std::string Options(const std::vector<ManualOption>& options, bool as_keys) {
  std::vector<std::string> groups;
  for (const ManualOption& option : options) {
    if (std::find(groups.begin(), groups.end(), option.group) == groups.end()) {
      groups.push_back(option.group);
    }
  }
  std::string out;
  for (const std::string& group : groups) {
    if (group != "Options") out += fmt::format(".SS {}\n", Escape(group));
    for (const ManualOption& option : options) {
      if (option.group != group) continue;
      if (as_keys) {
        out += Item({option.names.back().substr(2)}, " = ",
                    option.value.empty() ? "true" : option.value, option.description);
      } else {
        out += Item(option.names, " ", option.value, option.description);
      }
    }
  }
  return out;
}

bool HasOption(const ManualCommand& command, std::string_view name) {
  for (const ManualOption& option : command.options) {
    if (!option.names.empty() && option.names.back() == name) return true;
  }
  return false;
}

std::string CommandPage(const ManualCommand& command) {
  const std::string page = "brood-" + command.name;
  std::string exit_status;
  const std::string text = Paragraphs(command.text, &exit_status);
  std::string out = Header(page, 1);
  out += fmt::format(".SH NAME\n{} \\- {}\n", Escape(page), Escape(command.summary));
  out += ".SH SYNOPSIS\n" + Synopsis(command.usage);
  out += ".SH DESCRIPTION\n" + (text.empty() ? Paragraphs(command.summary + ".", nullptr) : text);
  out += ".SH OPTIONS\n" + Options(command.options, false);
  if (!exit_status.empty()) out += ".SH EXIT STATUS\n" + exit_status;
  if (HasOption(command, "--socket")) {
    out +=
        ".SH ENVIRONMENT\n.TP\n\\fBBROOD_SOCKET\\fP\nThe daemon\\(aqs socket, when "
        "\\fB\\-\\-socket\\fP is not given.\n";
  }
  out += ".SH SEE ALSO\n.BR brood (1)";
  if (HasOption(command, "--config")) out += ",\n.BR brood.toml (5)";
  return out + "\n";
}

std::string ProgramPage(const ManualProgram& program) {
  std::string out = Header("brood", 1);
  out += fmt::format(".SH NAME\nbrood \\- {}\n", Escape(program.summary));
  out += ".SH SYNOPSIS\n\\fBbrood\\fP \\fIcommand\\fP [\\fIoption\\fP...]\n";
  out += ".SH COMMANDS\nEach has a page of its own, as\n.BR brood\\-run (1).\n";
  for (const ManualCommand& command : program.commands) {
    out += Item({command.name}, "", "", command.summary);
  }
  out += ".SH OPTIONS\n" + Options(program.options, false);
  out +=
      ".SH EXIT STATUS\n0 when all went well, 125 when brood itself failed, which includes output "
      "that could not be written; the commands that run\nanother one end as that does, which their "
      "pages tell. When the reader of stdout is gone,\nbrood says nothing: SIGPIPE ends it, or it "
      "exits with 141 where SIGPIPE is ignored.\n";
  out += ".SH ENVIRONMENT\n";
  out += Item({"BROOD_SOCKET"}, "", "", "The daemon's socket, where --socket is not given");
  std::string ways = "What brood is to do without, to compare and to test, separated by commas:";
  for (const WayName& way : AllWays()) {
    ways += fmt::format("{} {} ({}; else {})", &way == AllWays().data() ? "" : ",", way.name,
                        way.wanted, way.used);
  }
  out += Item({kWithoutVariable}, "", "",
              fmt::format("{}, or {}. Outcomes tell of it", ways, kAllWays));
  out += ".SH NOTES\n" +
         Paragraphs(
             "What is mounted below a worker's root (-v, --tmpfs) is mounted nearest to the root "
             "first, whatever the order of the options, and covers what brood mounts there by "
             "itself; /proc, /dev and /dev/pts stay the worker's own. A bound directory is nodev: "
             "devices in it cannot be opened. Bind a device by its own path instead.\n"
             "\n"
             "With --net host a worker reaches the abstract Unix sockets of the host, which belong "
             "to the network namespace and have no permissions.\n"
             "\n"
             "stdin, stdout and stderr may be files, pipes, sockets, terminals and devices, not "
             "directories, nor anything else that leads out of the isolate. Through /dev/stdin a "
             "worker opens them anew with its own ids: a pipe is made everybody's for that, a "
             "terminal its own while it runs, and a regular file can be written to where its mode "
             "lets those ids, also when it was opened for reading only. A daemon hands no file of "
             "somebody else's to a worker that has the host's ids.\n"
             "\n"
             "HOME is /tmp, which can be written whatever the root. /etc/hosts names localhost and "
             "the worker; a read-only root without such a file gets an overlay of its /etc for it, "
             "which an empty file in the root saves.\n"
             "\n"
             "apt and dpkg in an overlay need --cap-add CHOWN, DAC_OVERRIDE, FOWNER, SETGID and "
             "SETUID.",
             nullptr);
  out += ".SH FILES\n";
  out += Item({"/run/brood/brood.sock"}, "", "", "Where the daemon listens");
  out += Item({"$XDG_RUNTIME_DIR/brood/brood.sock"}, "", "",
              "Where that of an ordinary user listens; such a user's commands look here first");
  out += Item({"/run/brood/id-ranges"}, "", "",
              "Which user ids on the host are in use: locked bytes, shared by all of brood");
  out += Item({"/etc/brood/brood.toml"}, "", "", "Configuration of the system's daemon");
  out += ".SH SEE ALSO\n";
  for (const ManualCommand& command : program.commands) {
    out += fmt::format(".BR brood\\-{} (1),\n", Escape(command.name));
  }
  return out + ".BR brood.toml (5)\n";
}

std::string FunctionKeys() {
  CLI::App app;
  app.set_help_flag();
  FunctionWords words;
  AddFunctionOptions(app, words);
  std::string out = ".SH FUNCTIONS\n";
  out += Paragraphs(
      "A table [function.NAME] is a function that brood serve --http serves as /functions/NAME; a "
      "name has letters, digits, _ and -, at most 64. Each call has an isolate of its own: the "
      "request's body is the command's stdin, its stdout the answer, and what it writes to stderr "
      "is logged when it fails. Beside the keys below there are those of a template for isolation "
      "and limits. Refused is isolation through which one call could reach another's: a process, "
      "ipc, "
      "mount or user namespace, or a cgroup, that is not its own, and a root it may write to that "
      "outlives it.",
      nullptr);
  out += Item({"command"}, " = ", "[WORD, ...]",
              "The program and its arguments, or one string that is split at spaces; needed");
  out += Item({"env"}, " = ", "[NAME=VALUE, ...]",
              "Its environment, beside the usual one (default: none)");
  return out + Options(OptionsOf(app), true);
}

std::string LambdaText() {
  return ".SH LAMBDA\n" +
         Paragraphs(
             "With runtime = \"lambda\" the command is a custom runtime of AWS Lambda, its "
             "\"bootstrap\". It finds an HTTP endpoint of its own at $AWS_LAMBDA_RUNTIME_API, and "
             "there the runtime interface of version 2018-06-01: invocation/next, "
             "invocation/ID/response, also streamed, invocation/ID/error and init/error. Its "
             "stdin is /dev/null; what it writes to stdout and stderr is logged when it fails. An "
             "isolate serves one call: it is ended once its response or its error has come whole, "
             "and until then waits if it asks for another call. A primed one is ready when it has "
             "asked for its call.\n"
             "\n"
             "An event is what the caller sends, 6 MiB at most; of a call without a body it is "
             "{}. A response has at most 6 MiB, too, unless it is streamed, and is answered with "
             "200 as application/json, a streamed one with its own Content-Type. An error is "
             "answered with 500, Brood-End: error, X-Amz-Function-Error: Unhandled, and the "
             "error's JSON; so is a response that is too long or broken off, and a runtime that "
             "makes requests without end. One that ends without having answered is answered for "
             "as any function, with Brood-End: no_answer when its exit code is 0.\n"
             "\n"
             "Its environment has, unless env says otherwise: AWS_LAMBDA_RUNTIME_API, _HANDLER "
             "(function.handler), LAMBDA_TASK_ROOT (its cwd), LAMBDA_RUNTIME_DIR, "
             "AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_FUNCTION_VERSION ($LATEST), "
             "AWS_LAMBDA_FUNCTION_MEMORY_SIZE (with the key memory), "
             "AWS_LAMBDA_INITIALIZATION_TYPE (provisioned-concurrency when it is primed, else "
             "on-demand), AWS_LAMBDA_LOG_GROUP_NAME, AWS_LAMBDA_LOG_STREAM_NAME, AWS_REGION and "
             "AWS_DEFAULT_REGION (us-east-1), TZ (:UTC). The ARN that it is told is "
             "arn:aws:lambda:REGION:000000000000:function:NAME, which is nobody's. The network "
             "namespace has to be its own.",
             nullptr);
}

std::string HttpKeys() {
  CLI::App app;
  app.set_help_flag();
  HttpWords words;
  AddHttpOptions(app, words);
  return ".SH HTTP\n" +
         Paragraphs(
             "The table [http] is about the door before the functions; the address is an option of "
             "brood serve. GET /openapi.json describes what it answers. SIGHUP changes none of it.",
             nullptr) +
         Options(OptionsOf(app), true);
}

std::string ForkedFunctions() {
  return ".SH FORKED FUNCTIONS\n" +
         Paragraphs(
             "With mode = \"forked\" the command is started once, isolated as the "
             "function says and with libbrood_ready.so preloaded. It must be ready within a "
             "minute: when it "
             "first reads its standard input, or calls brood_ready(), a C function of that "
             "library (Python: ctypes.CDLL(None).brood_ready()). Each call is a clone of it, as "
             "process 1 of a new pid namespace, in new user, mount, ipc, uts and (unless net is "
             "the host's) network namespaces, with a /tmp, a /proc and a cgroup of its own and "
             "without any capability. What the program has loaded it finds there; what a call "
             "changes nobody else sees. The handlers of pthread_atfork and of Python's "
             "os.register_at_fork are run.",
             nullptr) +
         Paragraphs(
             "What calls would share is refused, named in the log and in GET /functions, and "
             "calls are served cold until it is mended: threads, sockets, pipes and files that "
             "are written, writable shared memory, a root that can be written to. Files that are "
             "being read are opened anew for each call, at the same place. What all calls have in "
             "common: the layout of the address space, what the program has drawn from random "
             "generators of its own before it was ready (the kernel's and OpenSSL's are each "
             "call's own; Python's random is seeded anew), and the time namespace. A program that "
             "is linked statically, or whose children read its standard input, cannot be forked.",
             nullptr) +
         Paragraphs(
             "To take an interpreter down at the end of a call copies, page by page, what it has "
             "in common with its process: let a Python function end with sys.stdout.flush() and "
             "os._exit(0).",
             nullptr);
}

std::string ConfigurationPage() {
  CLI::App app;
  app.set_help_flag();
  TemplateOptions workers;
  SpecOptions spec_options;
  AddTemplateOptions(app, workers);
  spec_options.AddTo(app);

  std::string out = Header("brood.toml", 5);
  out += ".SH NAME\nbrood.toml \\- configuration of the brood daemon\n";
  out += ".SH SYNOPSIS\n\\fB/etc/brood/brood.toml\\fP\n";
  out += ".SH DESCRIPTION\n" +
         Paragraphs(
             "A TOML file, which brood serve --config reads when it starts and again on SIGHUP. "
             "Options of brood serve win over it. What is not known in it is an error; after "
             "SIGHUP, an error leaves all as it was.",
             nullptr);
  out += ".SH SETTINGS\n";
  for (const ServeSetting& setting : ServeSettings()) {
    out += Item({std::string(setting.key)}, " = ", setting.value, setting.description);
  }
  out +=
      Paragraphs("All are strings, but N is a whole number. SIGHUP changes none of them.", nullptr);
  out +=
      ".SH TEMPLATES\n" +
      Paragraphs(
          "A table [template.NAME] describes isolation, and how many workers are kept ready with "
          "it. The first one in the file is the default. Its keys are the options of brood "
          "run for isolation and limits without their dashes, and some for the workers. A value "
          "is a string, a number, true for an option without a value (false is as if it were "
          "not there), or, for what may be given again, an array of such. Without a template "
          "there is one, \"default\", isolated as a plain brood run.",
          nullptr);
  out += Options(OptionsOf(app), true);
  out += FunctionKeys() + ForkedFunctions() + LambdaText() + HttpKeys();
  out += ".SH EXAMPLE\n" + Paragraphs(
                               "  group = \"brood\"\n"
                               "  max-running = 256\n"
                               "  \n"
                               "  [template.default]\n"
                               "  parked = 16\n"
                               "  \n"
                               "  [template.web]\n"
                               "  rootfs = \"/srv/debian\"\n"
                               "  root-mode = \"overlay\"\n"
                               "  volume = [\"/srv/data:/data:ro\", \"/srv/cache:/cache\"]\n"
                               "  memory = \"256M\"\n"
                               "  parked = 32\n"
                               "  \n"
                               "  [function.upper]\n"
                               "  command = [\"/usr/bin/tr\", \"a-z\", \"A-Z\"]\n"
                               "  mode = \"primed\"\n"
                               "  timeout = \"5s\"\n"
                               "  memory = \"64M\"\n"
                               "  \n"
                               "  [http]\n"
                               "  max-connections = 512",
                               nullptr);
  return out + ".SH SEE ALSO\n.BR brood\\-serve (1),\n.BR brood\\-run (1)\n";
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::trunc);
  out << text;
  out.flush();
  if (!out) return ErrnoError(errno, "writing the manual page {}", path);
  return absl::OkStatus();
}

}  // namespace

absl::Status WriteManualPages(const ManualProgram& program, const std::string& directory) {
  BROOD_RETURN_IF_ERROR(WriteFile(directory + "/brood.1", ProgramPage(program)));
  BROOD_RETURN_IF_ERROR(WriteFile(directory + "/brood.toml.5", ConfigurationPage()));
  for (const ManualCommand& command : program.commands) {
    BROOD_RETURN_IF_ERROR(
        WriteFile(fmt::format("{}/brood-{}.1", directory, command.name), CommandPage(command)));
  }
  return absl::OkStatus();
}

}  // namespace brood
