// SPDX-License-Identifier: Apache-2.0

// Completions for bash, zsh and fish. Each walks over the words typed so far as the parser would:
// options until the first operand of a command that runs another one.
#include <map>

#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "pool/cli/manual.h"
#include "spawn/base/status.h"

namespace brood {
namespace {

using Names = std::vector<std::string>;

std::string Join(const Names& words) { return absl::StrJoin(words, " "); }

Names CommandNames(const ManualProgram& program) {
  Names names;
  for (const ManualCommand& command : program.commands) names.push_back(command.name);
  return names;
}

// Which of an option's names take a value: those of all its options that do.
Names Valued(const std::vector<ManualOption>& options) {
  Names names;
  for (const ManualOption& option : options) {
    if (!option.value.empty()) names.insert(names.end(), option.names.begin(), option.names.end());
  }
  return names;
}

Names AllNames(const std::vector<ManualOption>& options) {
  Names names;
  for (const ManualOption& option : options) {
    names.insert(names.end(), option.names.begin(), option.names.end());
  }
  return names;
}

// Isolates that have ended are of no use to these.
bool WantsRunning(const ManualCommand& command) {
  return command.name == "exec" || command.name == "kill" || command.name == "stop";
}

// Within single quotes, which all three shells have.
std::string Quote(const std::string& text) {
  return "'" + absl::StrReplaceAll(text, {{"'", "'\\''"}}) + "'";
}

}  // namespace

std::string BashCompletion(const ManualProgram& program) {
  std::string out = R"SH(# bash completion of brood; made by: brood manual bash

# Ids and names of isolates; the first argument is the state they must be in, if any.
_brood_isolates() {
  local name state rest
  while IFS=$'\t' read -r name state rest; do
    [[ -n $1 && $state != "$1" ]] || printf '%s\n' "$name"
  done < <("$program" manual isolates ${socket:+--socket "$socket"} 2>/dev/null)
}

# Completes the current word from a list of words.
_brood_words() {
  local word
  for word in $1; do
    [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
  done
}

_brood_files() {
  local word
  while IFS= read -r word; do
    COMPREPLY+=("$word")
  done < <(compgen "$1" -- "$cur")
  compopt -o filenames 2>/dev/null
}

# A value of an option: "COMMAND OPTION".
_brood_value() {
  case $1 in
)SH";
  // Values alike share a branch.
  std::map<std::string, Names> branches;
  for (const ManualCommand& command : program.commands) {
    for (const ManualOption& option : command.options) {
      const ValueWords values = WordsFor(option);
      Names actions;
      if (!values.words.empty()) {
        actions.push_back(fmt::format("_brood_words '{}'", Join(values.words)));
      }
      if (values.files) actions.emplace_back("_brood_files -f");
      if (values.directories) actions.emplace_back("_brood_files -d");
      if (option.value.empty() || actions.empty()) continue;
      for (const std::string& name : option.names) {
        branches[absl::StrJoin(actions, "; ")].push_back(
            fmt::format("'{} {}'", command.name, name));
      }
    }
  }
  for (const auto& [action, patterns] : branches) {
    out += fmt::format("    {}) {} ;;\n", absl::StrJoin(patterns, " | "), action);
  }
  out += R"SH(  esac
}

_brood() {
  local cur=${COMP_WORDS[COMP_CWORD]} program=${COMP_WORDS[0]}
  local command='' options='' valued='' kind='' socket='' pending='' word i
  local -i operands=0 wrapped=0
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word=${COMP_WORDS[i]}
    if [[ $word == = ]]; then  # --option=value comes in three words
      continue
    elif [[ -n $pending ]]; then
      [[ $pending == --socket ]] && socket=$word
      pending=''
    elif [[ -z $command ]]; then
      [[ $word == -* ]] && continue
      command=$word
      case $command in
)SH";
  for (const ManualCommand& command : program.commands) {
    std::string kind;
    if (command.takes_isolates) kind = WantsRunning(command) ? "running" : "isolates";
    if (command.takes_command) kind += "+command";
    out += fmt::format(
        "        {})\n          options='{}'\n          valued=' {} '\n          kind={}\n"
        "          ;;\n",
        command.name, Join(AllNames(command.options)), Join(Valued(command.options)),
        kind.empty() ? "''" : kind);
  }
  out += R"SH(        *) return ;;
      esac
    elif [[ $word == -- ]]; then
      [[ $kind == +command || ($kind == *+command && $operands -gt 0) ]] && wrapped=i+1 && break
    elif [[ $word == -?* ]]; then
      [[ $valued == *" $word "* ]] && pending=$word
    else
      [[ $kind == +command || ($kind == *+command && $operands -gt 0) ]] && wrapped=i && break
      operands+=1
    fi
  done
  if ((wrapped > 0)); then
    # The words of the command that brood is to run.
    if declare -F _command_offset >/dev/null; then
      _command_offset $wrapped
    elif ((wrapped == COMP_CWORD)); then
      _brood_files -c
    else
      _brood_files -f
    fi
    return
  fi
  [[ $cur == = ]] && cur=''
  if [[ -n $pending ]]; then
    _brood_value "$command $pending"
  elif [[ -z $command ]]; then
    if [[ $cur == -* ]]; then
      _brood_words ')SH" +
         Join(AllNames(program.options)) + R"SH('
    else
      _brood_words ')SH" +
         Join(CommandNames(program)) + R"SH('
    fi
  elif [[ $cur == -* ]]; then
    _brood_words "$options"
  else
    case $kind in
      +command) _brood_files -c ;;
      isolates) _brood_words "$(_brood_isolates)" ;;
      running) _brood_words "$(_brood_isolates running)" ;;
      running+command)
        if ((operands == 0)); then
          _brood_words "$(_brood_isolates running)"
        else
          _brood_files -c
        fi
        ;;
    esac
  fi
}

complete -F _brood brood
)SH";
  return out;
}

std::string ZshCompletion(const ManualProgram& program) {
  // "[text]" ends at a bracket, and a colon begins the next part.
  const auto plain = [](const std::string& text) {
    return absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"[", "\\["}, {"]", "\\]"}, {":", "\\:"}});
  };
  const auto specs = [&](const std::vector<ManualOption>& options) {
    std::string out;
    for (const ManualOption& option : options) {
      const ValueWords values = WordsFor(option);
      std::string action = " ";  // offers nothing
      if (!values.words.empty() && (values.files || values.directories)) {
        action = fmt::format("{{_alternative \"words:word:({})\" \"files:file:_files\"}}",
                             Join(values.words));
      } else if (!values.words.empty()) {
        action = fmt::format("({})", Join(values.words));
      } else if (values.files) {
        action = "_files";
      } else if (values.directories) {
        action = "_files -/";
      }
      for (const std::string& name : option.names) {
        std::string spec = option.description.find("again") != std::string::npos
                               ? "*"
                               : fmt::format("({})", Join(option.names));
        spec += name;
        if (!option.value.empty()) spec += name.starts_with("--") ? "=" : "";
        spec += fmt::format("[{}]", plain(option.description));
        if (!option.value.empty()) {
          spec += fmt::format("{}{}:{}", option.value.starts_with('[') ? "::" : ":",
                              plain(option.value), action);
        }
        out += fmt::format("        {} \\\n", Quote(spec));
      }
    }
    return out;
  };

  std::string out = R"SH(#compdef brood
# zsh completion of brood; made by: brood manual zsh

# Ids and names of isolates; the first argument is the state they must be in, if any.
_brood_isolates() {
  local -a isolates
  local name state what
  while IFS=$'\t' read -r name state what; do
    [[ -n $1 && $state != $1 ]] || isolates+=("$name:${what:-$state}")
  done < <(_call_program isolates brood manual isolates ${opt_args[--socket]:+--socket ${opt_args[--socket]}})
  _describe -t isolates isolate isolates
}

# The words of the command that brood is to run.
_brood_wrapped() {
  if [[ $subcommand == exec ]]; then
    shift words
    ((--CURRENT))
  fi
  _normal
}

_brood() {
  local curcontext=$curcontext state line subcommand
  local -A opt_args
  local -a subcommands=(
)SH";
  for (const ManualCommand& command : program.commands) {
    out += fmt::format("    {}\n", Quote(command.name + ":" + plain(command.summary)));
  }
  out += "  )\n  _arguments -C \\\n" + specs(program.options) + R"SH(    '1: :->command' \
    '*:: :->rest' && return
  if [[ $state == command ]]; then
    _describe -t commands command subcommands
    return
  fi
  [[ $state == rest ]] || return
  subcommand=$words[1]
  curcontext=${curcontext%:*}-$words[1]:
  case $words[1] in
)SH";
  for (const ManualCommand& command : program.commands) {
    std::string operands;
    // The space keeps _arguments from putting words of its own before ours.
    const std::string isolates =
        WantsRunning(command) ? " _brood_isolates running" : " _brood_isolates";
    const std::string wrapped = "command: _command_names -e' '*:: : _brood_wrapped'";
    if (command.takes_command && command.takes_isolates) {
      operands = fmt::format("'(-)1:isolate:{}' '(-)2:{}", isolates, wrapped);
    } else if (command.takes_command) {
      operands = "'(-)1:" + wrapped;
    } else if (command.takes_isolates) {
      operands = fmt::format("'*:isolate:{}'", isolates);
    }
    out += fmt::format("    {})\n      _arguments -s -S \\\n{}        {}\n      ;;\n", command.name,
                       specs(command.options), operands.empty() ? "&& return" : operands);
  }
  return out + "  esac\n}\n\n_brood \"$@\"\n";
}

std::string FishCompletion(const ManualProgram& program) {
  std::string out = R"SH(# fish completion of brood; made by: brood manual fish

# Prints the command typed so far, a word for where the cursor is (options, isolate, wrapped), and,
# when it is in the command that brood is to run, that command's words.
function __brood_state
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]; and string match -q -- '-*' $words[1]
        set -e words[1]
    end
    if not set -q words[1]
        echo; echo command
        return
    end
    set -l name $words[1]
    set -e words[1]
    set -l valued
    set -l isolates 0
    set -l wraps 0
    switch $name
)SH";
  for (const ManualCommand& command : program.commands) {
    out += fmt::format("        case {}\n            set valued {}\n", command.name,
                       Join(Valued(command.options)));
    if (command.takes_isolates) {
      out += fmt::format("            set isolates {}\n", command.takes_command ? 1 : 1000000);
    }
    if (command.takes_command) out += "            set wraps 1\n";
  }
  out += R"SH(    end
    echo $name
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if test "$word" = --
            test $wraps = 1; and test $isolates = 0; or continue
            printf '%s\n' wrapped $words
            return
        else if string match -q -- '-?*' $word
            if contains -- $word $valued
                set -e words[1]
            end
        else if test $isolates -gt 0
            set isolates (math $isolates - 1)
        else if test $wraps = 1
            printf '%s\n' wrapped $word $words
            return
        end
    end
    if test $isolates -gt 0
        echo isolate
    else if test $wraps = 1
        echo wrapped
    else
        echo options
    end
end

# Whether the cursor is where this command's options may be.
function __brood_in
    set -l state (__brood_state)
    test "$state[1]" = $argv[1]; and not set -q state[3]
end

function __brood_at
    set -l state (__brood_state)
    test "$state[2]" = $argv[1]; or return 1
    set -e argv[1]
    not set -q argv[1]; or contains -- "$state[1]" $argv
end

function __brood_wrapped
    set -l state (__brood_state)
    set -l current (commandline -ct)
    if set -q state[3]; or not string match -q -- '-*' $current
        set -l line (string join ' ' -- (string escape -- $state[3..]) $current)
        complete -C "$line"
    end
end

# Ids and names of isolates; the first argument is the state they must be in, if any.
function __brood_isolates
    set -l socket
    set -l words (commandline -opc)
    if set -l at (contains -i -- --socket $words)
        set socket --socket $words[(math $at + 1)]
    end
    brood manual isolates $socket 2>/dev/null | while read -l -d \t name state what
        if not set -q argv[1]; or test $state = $argv[1]
            printf '%s\t%s\n' $name $what
        end
    end
end

complete -c brood -f
complete -c brood -n '__brood_at wrapped' -a '(__brood_wrapped)'
)SH";
  Names running;
  Names any;
  for (const ManualCommand& command : program.commands) {
    if (command.takes_isolates) (WantsRunning(command) ? running : any).push_back(command.name);
  }
  out += fmt::format(
      "complete -c brood -n '__brood_at isolate {}' -a '(__brood_isolates)'\n"
      "complete -c brood -n '__brood_at isolate {}' -a '(__brood_isolates running)'\n",
      Join(any), Join(running));
  const auto add = [&](const std::string& condition, const ManualOption& option) {
    std::string line = fmt::format("complete -c brood -n {}", Quote(condition));
    for (const std::string& name : option.names) {
      line += fmt::format(" {} {}", name.starts_with("--") ? "-l" : "-s",
                          name.substr(name.find_first_not_of('-')));
    }
    const ValueWords values = WordsFor(option);
    if (!option.value.empty()) {
      if (!option.value.starts_with('[')) line += " -r";
      if (values.files) {
        line += " -F";
      } else {
        line += " -f";
      }
      std::string words = Join(values.words);
      if (values.directories) words += "(__fish_complete_directories (commandline -ct))";
      if (!words.empty()) line += fmt::format(" -a {}", Quote(words));
    }
    // fish has its own escapes within single quotes: \\ and \'.
    out += fmt::format("{} -d '{}'\n", line,
                       absl::StrReplaceAll(option.description, {{"\\", "\\\\"}, {"'", "\\'"}}));
  };
  for (const ManualOption& option : program.options) add("__brood_at command", option);
  for (const ManualCommand& command : program.commands) {
    out += fmt::format("complete -c brood -n '__brood_at command' -a {} -d '{}'\n", command.name,
                       absl::StrReplaceAll(command.summary, {{"\\", "\\\\"}, {"'", "\\'"}}));
  }
  for (const ManualCommand& command : program.commands) {
    for (const ManualOption& option : command.options) add("__brood_in " + command.name, option);
  }
  return out;
}

}  // namespace brood
