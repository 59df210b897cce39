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
    const std::size_t from = word.find_first_not_of('[');
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
  out +=
      ".SH COMMANDS\n"
      "Each has a page of its own, such as\n"
      ".BR brood\\-run (1).\n";
  for (const ManualCommand& command : program.commands) {
    out += Item({command.name}, "", "", command.summary);
  }
  out += ".SH OPTIONS\n" + Options(program.options, false);
  out +=
      ".SH EXIT STATUS\n"
      "0 when all went well; 125 when brood itself failed, also if output could not be written. "
      "Commands\n"
      "that run another command exit with its status, as their pages tell. When the reader of "
      "stdout is gone,\n"
      "SIGPIPE ends brood, or it exits with 141 where SIGPIPE is ignored; it prints no error "
      "then.\n";
  out += ".SH ENVIRONMENT\n";
  out += Item({"BROOD_SOCKET"}, "", "", "The daemon's socket, where --socket is not given");
  std::string ways =
      "Kernel features that brood should not use, for comparing and testing, separated by commas:";
  for (const WayName& way : AllWays()) {
    ways += fmt::format("{} {} ({}; without it, {})", &way == AllWays().data() ? "" : ",", way.name,
                        way.wanted, way.used);
  }
  out += Item({kWithoutVariable}, "", "",
              fmt::format("{}; or {}. Outcomes tell what was left out", ways, kAllWays));
  out += ".SH NOTES\n" +
         Paragraphs(
             "Mounts below a worker's root (-v, --tmpfs) are made from the root downwards, "
             "whatever the order of the options, and cover what brood itself mounts there; /proc, "
             "/dev and /dev/pts stay the worker's own. A bound directory is nodev: devices in it "
             "cannot be opened. Bind a device by its own path instead.\n\n"
             "With --net host a worker reaches the abstract Unix sockets of the host, because they "
             "belong to the network namespace and have no permissions.\n\n"
             "stdin, stdout and stderr may be files, pipes, sockets, terminals and devices; "
             "directories and anything else that leads out of the isolate are refused. A worker "
             "can reopen them through /dev/stdin with its own ids. For that, a pipe is opened to "
             "all users, and a terminal belongs to the worker while it runs. A regular file can be "
             "written to if its mode lets those ids, even if it was opened for reading only. A "
             "worker with the host's ids gets no file of another user from the daemon.\n\n"
             "HOME is /tmp, which is writable with any root. /etc/hosts names localhost and the "
             "worker. For that, a read-only root without /etc/hosts gets an overlay of its /etc; "
             "an empty /etc/hosts in the root avoids the overlay.\n\n"
             "apt and dpkg in an overlay need --cap-add CHOWN, DAC_OVERRIDE, FOWNER, SETGID and "
             "SETUID.",
             nullptr);
  out += ".SH FILES\n";
  out += Item({"/run/brood/brood.sock"}, "", "", "Where the daemon listens");
  out += Item({"$XDG_RUNTIME_DIR/brood/brood.sock"}, "", "",
              "Where an ordinary user's daemon listens; that user's commands look here first");
  out +=
      Item({"/run/brood/id-ranges"}, "", "",
           "Which ranges of host ids are in use, as locked bytes; shared by all brood processes");
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
      "name has at most 64 letters, digits, _ and -. Each call has an isolate of its own, unless "
      "mode is warm: the request's body is the command's stdin, its stdout is the answer, and its "
      "stderr is logged if it fails. Any method will do, and /functions/NAME/MORE?QUERY, too. The "
      "command finds the method, the path behind its name, the query and the fields in its "
      "environment, as a CGI script does (RFC 3875), if mode is cold or parked: one that was "
      "started before the call cannot. With input = \"request\" it finds them on its stdin in "
      "every mode. Left out of the environment are Authorization, Proxy, and fields whose names "
      "have "
      "other characters than letters, digits and hyphens.\n\n"
      "The keys are those below and a template's keys for isolation and limits. "
      "Isolation through which one call could reach another's is refused: a pid, ipc, mount or "
      "user namespace or a cgroup that is not its own, and a writable root that outlives the call.",
      nullptr);
  out += Item({"command"}, " = ", "[WORD, ...]",
              "The program and its arguments, or one string that is split at spaces (required)");
  out += Item({"env"}, " = ", "[NAME=VALUE, ...]",
              "Variables added to the usual environment; NAME alone has the value that brood serve "
              "has (default: none)");
  return out + Options(OptionsOf(app), true);
}

std::string LambdaText() {
  return ".SH LAMBDA\n" +
         Paragraphs(
             "With runtime = \"lambda\" the command is a custom runtime of AWS Lambda, its "
             "\"bootstrap\". It finds an HTTP endpoint of its own at $AWS_LAMBDA_RUNTIME_API, with "
             "version 2018-06-01 of the runtime interface: invocation/next, "
             "invocation/ID/response, which may be streamed, invocation/ID/error and init/error. "
             "Its stdin is /dev/null; its stdout and stderr are logged if it fails. A "
             "primed one is ready when it has asked for its call.\n\n"
             "Where no mode is named, it is warm: an isolate serves many calls, one after the "
             "other, and what one leaves in its memory, its files and its processes is there for "
             "the next. (The header Brood-Served-Before tells how many came before.) A call waits "
             "for whichever isolate asks first, and another is started where too few will. One "
             "ends when its runtime does; when a call takes too long, or its caller leaves; after "
             "init/error, a response that is broken off and requests without end; with max-calls, "
             "max-age and idle; and when it has not asked again for as long as a call may take. An "
             "error of a call is an answer, and it goes on. One that ends before it has read its "
             "event "
             "leaves the call to another. Nothing is frozen between calls, as it "
             "is in AWS.\n\n"
             "In the other modes an isolate serves one call. It is ended once its response or "
             "error "
             "is complete; if it asks for another call before that, it waits.\n\n"
             "The event is the request's body, 6 MiB at most; without a body it is {}. A response "
             "also has at most 6 MiB, unless it is streamed. It is answered with 200 as "
             "application/json; a streamed one with its own Content-Type. An error is answered "
             "with 500, Brood-End: error, X-Amz-Function-Error: Unhandled, and the error's JSON. "
             "So is a response that is too long or broken off, and a runtime that makes requests "
             "without end. A runtime that ends without an answer is treated as any function is, "
             "with Brood-End: no_answer when its exit code is 0.\n\n"
             "With event = \"api-gateway-1.0\" or \"api-gateway-2.0\" the event is the whole "
             "request "
             "as Amazon API Gateway puts it into one (its payload format of that version: method, "
             "path, query, headers, and the body as text or base64), and the response is taken as "
             "such an answer: statusCode, headers, multiValueHeaders, cookies, body and "
             "isBase64Encoded. A streamed response may begin with these as JSON and eight NUL "
             "bytes, "
             "with the Content-Type application/vnd.awslambda.http-integration-response. What is "
             "no such answer is answered with 502, Brood-End: bad_answer.\n\n"
             "Unless env says otherwise, its environment has: AWS_LAMBDA_RUNTIME_API, _HANDLER "
             "(function.handler), LAMBDA_TASK_ROOT (its cwd), LAMBDA_RUNTIME_DIR, "
             "AWS_LAMBDA_FUNCTION_NAME, AWS_LAMBDA_FUNCTION_VERSION ($LATEST), "
             "AWS_LAMBDA_FUNCTION_MEMORY_SIZE (with the key memory), "
             "AWS_LAMBDA_INITIALIZATION_TYPE (provisioned-concurrency when it is primed, else "
             "on-demand), AWS_LAMBDA_LOG_GROUP_NAME, AWS_LAMBDA_LOG_STREAM_NAME, AWS_REGION and "
             "AWS_DEFAULT_REGION (us-east-1), TZ (:UTC). The ARN that it is given, "
             "arn:aws:lambda:REGION:000000000000:function:NAME, belongs to no account. The "
             "runtime needs a network namespace of its own.",
             nullptr);
}

std::string HttpServersText() {
  return ".SH HTTP SERVERS\n" +
         Paragraphs(
             "With runtime = \"http\" the command is an HTTP server that listens on $PORT of "
             "127.0.0.1, as for Cloud Run and Knative. Each call is passed on to it as it is, "
             "without "
             "/functions/NAME before its path, and its answer is passed back as it comes: streams, "
             "server-sent events and WebSocket go through. Connections are kept alive, but not "
             "after a "
             "request with a body, which a server may have left unread, unless reads-bodies says "
             "that it leaves none. The fields "
             "X-Forwarded-For, X-Forwarded-Proto and X-Forwarded-Prefix tell who asked for what; "
             "fields of the connection stay with it, and an answer may not set those that begin "
             "with "
             "Brood-.\n\n"
             "Such a function is always warm, and what is said of that under LAMBDA holds for it, "
             "too. One isolate serves max-inflight calls at once; another is started when all are "
             "that busy. It gets calls once it listens, or once ready-path is answered well; it "
             "has "
             "as long for that as a call may take. What it writes to stdout and stderr is in "
             "its log (brood logs), and with a call that fails. A call that takes too long is "
             "answered 504, and its isolate gets no more and "
             "ends after its other calls. A call to a server that has closed its connection or was "
             "killed is made once more where that is safe: if nothing of it was sent, or its "
             "method "
             "has the same effect twice (GET, HEAD, PUT, DELETE, OPTIONS). Where max-inflight "
             "is 1, an isolate ends when the caller of its call leaves, since the server may go on "
             "with it.\n\n"
             "A server should listen on 127.0.0.1, and say Connection: close before it closes a "
             "connection. It needs a network namespace of its own.",
             nullptr);
}

std::string TokensText() {
  return ".SH TOKENS\n" +
         Paragraphs(
             "The file that [http] tokens names is TOML, with a table [token.NAME] for each who "
             "may "
             "call; nobody but its owner may read it. A caller sends the secret in the field "
             "Authorization: Bearer SECRET. Functions hear the token's name (REMOTE_USER, or "
             "X-Forwarded-User), and not the field. SIGHUP reads the file again.",
             nullptr) +
         Item({"secret"}, " = ", "STRING",
              "16 or more letters, digits and -._~+/= that nobody can guess, as openssl rand -hex "
              "32 "
              "prints (required)") +
         Item({"functions"}, " = ", "[NAME, ...]",
              "The functions that may be called with it; \"*\" is all of them") +
         Item({"admin"}, " = ", "true|false",
              "It may read /functions, /logs, /metrics, /openapi.json and all of /calls, and "
              "reload (default false)") +
         Item({"expires"}, " = ", "TIME", "As 2030-01-31T00:00:00Z (default: never)") +
         Paragraphs(
             "/healthz needs no token. A call is answered 401 without a token or with one that "
             "nobody "
             "has, and 403 with one that is not for it. There is no TLS here: let a proxy in front "
             "have that, as nginx or HAProxy, and connect to a Unix socket or to loopback.",
             nullptr);
}

std::string DeployedText() {
  return ".SH DEPLOYED FUNCTIONS\n" +
         Paragraphs(
             "brood deploy FILE, or DIR with a function.toml in it, adds functions to a daemon "
             "that "
             "runs, where its configuration names a directory to note them in (deployed = DIR). "
             "The file has tables [function.NAME] and [template.NAME] and no settings. The "
             "daemon's owner alone may deploy, over the daemon's own socket.\n\n"
             "The file is checked whole. Its functions are started beside those of the same names, "
             "and take their place once they have something ready for a call, within 30 seconds; "
             "calls that run go on. If one does not come up nothing has changed, and the sentence "
             "has the last of what it said. Deployed again, a function gets new isolates, also "
             "where only its program has changed; so it does with brood reload NAME. Nobody else "
             "may be able to write the file or its "
             "directory.\n\n"
             "The directory has a link to each file, named for its first function, which is "
             "followed when the daemon starts or reloads. What cannot be read then is left out, "
             "and the log says why.",
             nullptr);
}

std::string ManyNodesText() {
  return ".SH MANY NODES\n" +
         Paragraphs(
             "Nodes know nothing of each other; a proxy in front spreads calls over them. With "
             "agent = ADDRESS:PORT in [http], HAProxy's agent-check is answered there: \"ready up "
             "maxconn:N\", where N is how many calls may run at once, or \"drain\" once the "
             "daemon has been told to end. With agent-send \"NAME\\n\" N is that of a function: "
             "its concurrency, less where max-running or memory is short. Calls beyond that wait "
             "in HAProxy, from where any node with room can take them. Who can connect learns "
             "these "
             "numbers, and nothing else.",
             nullptr);
}

std::string HttpKeys() {
  CLI::App app;
  app.set_help_flag();
  HttpWords words;
  AddHttpOptions(app, words);
  return ".SH HTTP\n" +
         Paragraphs(
             "The table [http] is about the HTTP server for functions; its address is an option of "
             "brood serve. Without one, functions are called over the daemon's own socket alone, "
             "which speaks HTTP too (brood invoke; curl --unix-socket). There the daemon's owner "
             "needs "
             "no token; /logs, /reload and /deploy are the owner's alone, and but for /deploy "
             "those "
             "of who has a token for administration. GET /openapi.json describes all requests and "
             "answers. SIGHUP does "
             "not "
             "change these settings, but for what the file of tokens says.",
             nullptr) +
         Options(OptionsOf(app), true);
}

std::string ForkedFunctions() {
  return ".SH FORKED FUNCTIONS\n" +
         Paragraphs(
             "With mode = \"forked\" the command is started once, isolated as the function says, "
             "with libbrood_ready.so preloaded. It is ready when it first reads its standard "
             "input, or when it calls brood_ready(), a C function of that library (Python: "
             "ctypes.CDLL(None).brood_ready()); that must happen within a minute. Each call is a "
             "clone of it: process 1 of a new pid namespace, in new user, mount, ipc, uts and "
             "(unless net is the host's) network namespaces, with a /tmp, a /proc and a cgroup of "
             "its own and no capability. The clone has all that the program has loaded; no other "
             "call sees what it changes. Handlers of pthread_atfork and of Python's "
             "os.register_at_fork are run.",
             nullptr) +
         Paragraphs(
             "State that calls would share is refused: threads, sockets, pipes and files open for "
             "writing, writable shared memory, a writable root. It is named in the log and in GET "
             "/functions, and calls are served cold until it is gone. Files open for reading are "
             "reopened for each call at the same position. All calls share the layout of the "
             "address space, what the program has drawn from its own random generators before it "
             "was ready (the kernel's and OpenSSL's are separate for each call; Python's random is "
             "seeded anew), and the time namespace. A program that is linked statically, or whose "
             "children read its standard input, cannot be forked.",
             nullptr) +
         Paragraphs(
             "Shutting an interpreter down at the end of a call copies, page by page, memory that "
             "it shares with its process. So let a Python function end with sys.stdout.flush() and "
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
             "A TOML file, which brood serve --config reads at its start and again on SIGHUP. "
             "Options of brood serve take precedence. Unknown tables and keys are errors. If there "
             "is an error after SIGHUP, nothing changes.",
             nullptr);
  out += ".SH SETTINGS\n";
  for (const ServeSetting& setting : ServeSettings()) {
    out += Item({std::string(setting.key)}, " = ", setting.value, setting.description);
  }
  out += Paragraphs(
      "N is a whole number; all others are strings. SIGHUP does not change these settings. "
      "Relative paths, here and below, begin where the file stands.",
      nullptr);
  out += ".SH TEMPLATES\n" +
         Paragraphs(
             "A table [template.NAME] describes isolation, and how many workers are kept ready "
             "with it. The first one in the file is the default. Its keys are the options of brood "
             "run for isolation and limits, without their dashes, and some for the workers. A "
             "value is a string, a number, true for an option without a value (false is the same "
             "as leaving it out), or an array of these for an option that may be given again. If "
             "the file has no template there is one, \"default\", isolated as a plain brood run.",
             nullptr);
  out += Options(OptionsOf(app), true);
  out += FunctionKeys() + ForkedFunctions() + LambdaText() + HttpServersText() + HttpKeys() +
         TokensText() + DeployedText() + ManyNodesText();
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
