// SPDX-License-Identifier: Apache-2.0

// The protocol between a brood daemon and its clients: every message, and how it is encoded.
//
//   transport  a Unix stream socket. Each message is a 24-byte header and a body.
//   header     magic "brod", version, type, length of the body, descriptors that come with it, tag;
//              integers in the machine's own order, since both ends are on it
//   body       the fields of the message's struct in their order: integers as they are, a string as
//              its length (32 bits) and its bytes, a list as its length and its elements, what may
//              be absent as a byte 0, or 1 and its value
//   fds        SCM_RIGHTS, with the first byte of the header
//   tag        chosen by the client; every answer to a request carries the request's tag, so that
//              many may be under way on one connection
//
// When a client goes away, what it runs in the foreground is ended. A message that breaks the rules
// above ends the connection: kError first, where the socket takes it, and nothing else is affected.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "spawn/signal_order.h"
#include "spawn/spec.h"

namespace brood {

inline constexpr std::uint32_t kProtocolMagic = 0x646f7262;  // "brod"
inline constexpr std::uint16_t kProtocolVersion = 4;
inline constexpr std::uint32_t kMaxBody = 4U << 20;  // argv and env of an exec are at most 2 MiB
inline constexpr std::uint32_t kMaxMessageFds = 3;

// What a message is. Above 63: from the daemon.
enum class MessageType : std::uint16_t {
  kSubmit = 1,     // Submit, with descriptors as its `io` says -> kStarted (detached), kEnded
  kExec = 2,       // ExecIn, likewise                          -> kEnded
  kSignal = 3,     // SignalTo                                  -> kDone
  kStop = 4,       // StopIsolate                               -> kDone once it has ended
  kWait = 5,       // IsolateName                               -> kEnded once it has ended
  kList = 6,       // ListIsolates                              -> kText: a JSON array
  kInspect = 7,    // IsolateName                               -> kText: a JSON object
  kLogs = 8,       // ReadLogs                                  -> kLog ..., kDone
  kStats = 9,      // no fields                                 -> kText: a JSON object
  kTree = 10,      // ListIsolates                              -> kText: a JSON object
  kAskReads = 11,  // AskReads                                -> kReads

  kStarted = 64,  // Started: the worker runs
  kEnded = 65,    // Ended
  kText = 66,     // Text
  kLog = 67,      // LogPart
  kDone = 68,     // no fields
  kError = 69,    // Refusal: the request with this tag came to nothing
  kReads = 70,    // Reads
};

struct MessageHeader {
  std::uint32_t magic = kProtocolMagic;
  std::uint16_t version = kProtocolVersion;
  std::uint16_t type = 0;
  std::uint32_t length = 0;
  std::uint32_t fds = 0;
  std::uint64_t tag = 0;
};
static_assert(sizeof(MessageHeader) == 24);

// What becomes of a command's stdin, stdout and stderr.
enum class ClientIo : std::uint8_t {
  kFds = 0,       // three descriptors come with the message
  kTerminal = 1,  // one does: a Unix socket over which the worker sends its terminal's master
  kLogs = 2,      // none: stdin is /dev/null, the rest is kept for kLogs; the worker is detached
  kNone = 3,      // none: all three are /dev/null
};

// Each message lists its fields once, for writing and reading alike.
struct Submit {
  static constexpr MessageType kType = MessageType::kSubmit;
  std::string template_name;  // empty: the daemon's first
  std::string name;           // unique among what runs; empty: none
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::string cwd;
  ClientIo io = ClientIo::kFds;
  std::uint16_t rows = 0;  // of the terminal; 0: not known
  std::uint16_t columns = 0;
  std::uint64_t timeout_ns = 0;   // of the command; 0: none
  std::uint64_t patience_ns = 0;  // longest wait for a free worker; 0: as long as it takes
  // Those other than the template's. They cost the parked worker: its cgroup and memory are
  // prepared for the template's.
  Limits limits;
  std::uint8_t init = 0;   // Spec::init, beside the template's; costs the parked worker likewise
  std::uint8_t fresh = 0;  // Request::fresh

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.template_name), field(m.name), field(m.argv), field(m.env), field(m.cwd), field(m.io),
        field(m.rows), field(m.columns), field(m.timeout_ns), field(m.patience_ns), field(m.limits),
        field(m.init), field(m.fresh);
  }
};

// Runs another command in the namespaces of one that runs.
struct ExecIn {
  static constexpr MessageType kType = MessageType::kExec;
  std::string isolate;  // id, beginning of an id, or name
  std::vector<std::string> argv;
  std::vector<std::string> env;
  std::string cwd;
  ClientIo io = ClientIo::kFds;
  std::uint16_t rows = 0;
  std::uint16_t columns = 0;
  std::uint64_t timeout_ns = 0;  // of the command; 0: none

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.isolate), field(m.argv), field(m.env), field(m.cwd), field(m.io), field(m.rows),
        field(m.columns), field(m.timeout_ns);
  }
};

struct SignalTo {
  static constexpr MessageType kType = MessageType::kSignal;
  std::string isolate;  // empty: what this connection runs in the foreground under this tag
  SignalOrder order;    // number 0: kill all in its cgroup

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.isolate), field(m.order.number), field(m.order.group), field(m.order.handlers_only);
  }
};

// Whether something of what this connection runs in the foreground under `tag` waits to read a
// file, which the client knows: its terminal, of which it is in the background.
struct AskReads {
  static constexpr MessageType kType = MessageType::kAskReads;
  std::uint64_t tag = 0;
  std::uint64_t device = 0;  // stat(2)
  std::uint64_t inode = 0;

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.tag), field(m.device), field(m.inode);
  }
};

struct StopIsolate {
  static constexpr MessageType kType = MessageType::kStop;
  std::string isolate;
  std::uint64_t grace_ns = 0;  // between SIGTERM and the end of all in its cgroup

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.isolate), field(m.grace_ns);
  }
};

struct IsolateName {
  std::string isolate;

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.isolate);
  }
};

struct ListIsolates {
  std::uint8_t all = 0;  // also what has ended; kTree: also parked workers

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.all);
  }
};

struct ReadLogs {
  static constexpr MessageType kType = MessageType::kLogs;
  std::string isolate;
  std::uint8_t follow = 0;

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.isolate), field(m.follow);
  }
};

struct StartedAs {
  static constexpr MessageType kType = MessageType::kStarted;
  std::string id;
  std::int32_t host_pid = 0;

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.id), field(m.host_pid);
  }
};

struct Ended {
  static constexpr MessageType kType = MessageType::kEnded;
  std::int32_t exit_status = 0;  // what a command line reports (spawn/outcome.h)
  std::string message;           // empty, why the command never ran, or the limits it met
  std::string outcome;           // JSON

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.exit_status), field(m.message), field(m.outcome);
  }
};

struct Text {
  static constexpr MessageType kType = MessageType::kText;
  std::string text;

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.text);
  }
};

struct LogPart {
  static constexpr MessageType kType = MessageType::kLog;
  std::uint8_t stream = 1;  // 1: stdout, 2: stderr
  std::uint64_t lost = 0;   // bytes of both streams before these that are not kept any more
  std::string bytes;

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.stream), field(m.lost), field(m.bytes);
  }
};

struct Reads {
  static constexpr MessageType kType = MessageType::kReads;
  std::uint8_t waits = 0;

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.waits);
  }
};

struct Refusal {
  static constexpr MessageType kType = MessageType::kError;
  std::int32_t code = 0;  // absl::StatusCode
  std::string sentence;

  template <typename F>
  static void Fields(F&& field, auto& m) {
    field(m.code), field(m.sentence);
  }
};

// The fields of what messages are made of, as a message lists its own.
void ListFields(auto&& field,
                auto& m) requires std::same_as<std::remove_cvref_t<decltype(m)>, IoLimit> {
  field(m.major), field(m.minor), field(m.read_bytes), field(m.write_bytes), field(m.read_ops),
      field(m.write_ops);
}
void ListFields(auto&& field,
                auto& m) requires std::same_as<std::remove_cvref_t<decltype(m)>, Limits> {
  field(m.memory_bytes), field(m.memory_high_bytes), field(m.swap_bytes), field(m.pids),
      field(m.cpus), field(m.cpu_period_us), field(m.cpu_weight), field(m.io), field(m.io_weight),
      field(m.cpuset_cpus), field(m.cpuset_mems);
}

// Appends a field's bytes.
class FieldWriter {
 public:
  explicit FieldWriter(std::string& out) : out_(out) {}
  void operator()(const std::string& text);
  void operator()(const std::vector<std::string>& list);
  void operator()(const Limits& limits) { ListFields(*this, limits); }
  void operator()(const std::vector<IoLimit>& list) {
    (*this)(static_cast<std::uint32_t>(list.size()));
    for (const IoLimit& limit : list) ListFields(*this, limit);
  }
  template <typename T>
  void operator()(const std::optional<T>& value) {
    (*this)(static_cast<std::uint8_t>(value ? 1 : 0));
    if (value) (*this)(*value);
  }
  template <typename T>
  void operator()(const T& number) {
    out_.append(reinterpret_cast<const char*>(&number), sizeof(number));
  }

 private:
  std::string& out_;
};

// Takes a field's bytes; after the first that is not all there, ok() is false and stays it. Never
// allocates more than the body's size for what the body claims to hold.
class FieldReader {
 public:
  explicit FieldReader(std::string_view body) : rest_(body) {}
  void operator()(std::string& text);
  void operator()(std::vector<std::string>& list);
  void operator()(Limits& limits) { ListFields(*this, limits); }
  void operator()(std::vector<IoLimit>& list);
  template <typename T>
  void operator()(std::optional<T>& value) {
    std::uint8_t there = 0;
    (*this)(there);
    ok_ = ok_ && there <= 1;
    if (there == 1) (*this)(value.emplace());
  }
  template <typename T>
  void operator()(T& number) {
    if (std::string_view bytes; Take(sizeof(number), bytes)) {
      __builtin_memcpy(&number, bytes.data(), sizeof(number));
    }
  }
  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }

 private:
  bool Take(std::size_t count, std::string_view& bytes);
  std::string_view rest_;
  bool ok_ = true;
};

template <typename M>
std::string EncodeBody(const M& message) {
  std::string body;
  M::Fields(FieldWriter(body), message);
  return body;
}

// kInvalidArgument when the body is too short or too long for the message.
template <typename M>
absl::StatusOr<M> DecodeBody(std::string_view body) {
  M message;
  FieldReader reader(body);
  M::Fields(reader, message);
  if (!reader.ok()) return absl::InvalidArgumentError("a message is shorter than its fields");
  if (!reader.at_end()) return absl::InvalidArgumentError("a message is longer than its fields");
  return message;
}

// Checks a header that came in: kInvalidArgument for what is no brood message or too long,
// kFailedPrecondition for another version of the protocol.
absl::Status CheckHeader(const MessageHeader& header);

}  // namespace brood
