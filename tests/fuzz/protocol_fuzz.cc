// Fuzzes what a daemon and its clients read from each other: the bodies of all messages, and the
// putting together of messages that arrive in pieces.
//
// The input is a stream as it comes over the socket, behind one byte that says in which pieces.
// With clang's libFuzzer this is an ordinary target. Elsewhere, a driver at the end of this file
// does without coverage: protocol_fuzz [--seconds N] [--seed N] FILE_OR_DIRECTORY...
#include <sys/socket.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "pool/daemon/connection.h"
#include "pool/daemon/protocol.h"

namespace brood {
namespace {

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "protocol_fuzz: broken: %s\n", what);
  std::abort();
}

// What is taken must be written as it was read: there is one way to write each message.
template <typename M>
void Decode(std::string_view body) {
  if (const absl::StatusOr<M> message = DecodeBody<M>(body); message.ok()) {
    Require(EncodeBody(*message) == body, "a message is not written as it was read");
  }
}

void DecodeAll(std::string_view body) {
  Decode<Submit>(body);
  Decode<ExecIn>(body);
  Decode<SignalTo>(body);
  Decode<StopIsolate>(body);
  Decode<IsolateName>(body);
  Decode<ListIsolates>(body);
  Decode<ReadLogs>(body);
  Decode<StartedAs>(body);
  Decode<Ended>(body);
  Decode<Text>(body);
  Decode<LogPart>(body);
  Decode<Refusal>(body);
}

struct Taken {
  std::vector<std::string> messages;  // header and body
  absl::StatusCode end = absl::StatusCode::kOk;
};

// Sends `stream` in pieces of `piece` bytes and receives after each.
Taken Receive(std::string_view stream, std::size_t piece) {
  int ends[2];
  Require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0,
          "a socket");
  const UniqueFd writer(ends[0]);
  Connection connection{UniqueFd(ends[1])};
  Taken taken;
  std::vector<Incoming> messages;
  while (!stream.empty() && taken.end == absl::StatusCode::kOk) {
    const std::string_view part = stream.substr(0, piece);
    const ssize_t sent = send(writer.get(), part.data(), part.size(), MSG_NOSIGNAL);
    if (sent > 0) stream.remove_prefix(static_cast<std::size_t>(sent));
    taken.end = connection.Receive(messages).code();
    Require(connection.partial_bytes() <= sizeof(MessageHeader) + kMaxBody ||
                taken.end != absl::StatusCode::kOk,
            "more is kept than the longest message");
  }
  for (const Incoming& message : messages) {
    Require(message.body.size() == message.header.length, "a body's length");
    Require(message.fds.size() == message.header.fds, "a message's descriptors");
    taken.messages.emplace_back(reinterpret_cast<const char*>(&message.header),
                                sizeof(message.header));
    taken.messages.back() += message.body;
    DecodeAll(message.body);
  }
  return taken;
}

}  // namespace
}  // namespace brood

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  brood::DecodeAll(stream);
  // Pieces must not change what arrives.
  const brood::Taken whole = brood::Receive(stream, 16'384);
  const brood::Taken pieces = brood::Receive(stream, std::size_t{1} + data[0]);
  brood::Require(whole.messages == pieces.messages, "pieces arrive as other messages");
  brood::Require(whole.end == pieces.end, "pieces end in another way");
  return 0;
}

#ifdef BROOD_FUZZ_DRIVER

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

namespace brood {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  Require(file.is_open(), "an input that can be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::string Mutate(const std::vector<std::string>& corpus) {
    std::string input = corpus[Below(corpus.size())];
    for (std::size_t i = 0, changes = 1 + Below(6); i < changes; ++i) Change(input, corpus);
    if (input.size() > 100'000) input.resize(100'000);
    return input;
  }

 private:
  std::size_t Below(std::size_t n) { return n == 0 ? 0 : static_cast<std::size_t>(random_() % n); }

  void Change(std::string& input, const std::vector<std::string>& corpus) {
    static constexpr std::uint32_t kNumbers[] = {
        0, 1, 3, 4, 24, 255, 0x7fffffff, 0x80000000, 0xffffffff, 65536, kMaxBody, kMaxBody + 1};
    const std::size_t at = Below(input.size() + 1);
    switch (Below(7)) {
      case 0:
        if (at < input.size()) input[at] = static_cast<char>(input[at] ^ (1 << Below(8)));
        break;
      case 1:
        if (at < input.size()) input[at] = static_cast<char>(random_());
        break;
      case 2:
        input.erase(at, Below(16));
        break;
      case 3:
        input.insert(at, Below(16), static_cast<char>(random_()));
        break;
      case 4:
        input.resize(at);
        break;
      case 5: {  // a length or count that lies
        const std::uint32_t number = kNumbers[Below(std::size(kNumbers))];
        if (at + sizeof(number) <= input.size()) {
          std::memcpy(input.data() + at, &number, sizeof(number));
        }
        break;
      }
      default: {  // another stream behind this one, without its first byte
        const std::string& other = corpus[Below(corpus.size())];
        if (!other.empty()) input.append(other, 1);
      }
    }
  }

  std::mt19937_64 random_;
};

int Drive(int argc, char** argv) {
  double seconds = 5;
  std::uint64_t seed = std::random_device{}();
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--seconds" && i + 1 < argc) {
      seconds = std::atof(argv[++i]);
    } else if (word == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else if (std::filesystem::is_directory(word)) {
      for (const auto& entry : std::filesystem::directory_iterator(word)) {
        files.push_back(entry.path());
      }
    } else {
      files.emplace_back(word);
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<std::string> corpus;
  for (const auto& file : files) corpus.push_back(ReadFile(file));
  const auto test = [](const std::string& input) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  };
  for (const std::string& input : corpus) test(input);
  std::printf("replayed %zu files; mutating them for %g s, --seed %llu\n", corpus.size(), seconds,
              static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  if (corpus.empty()) corpus.emplace_back();
  Mutator mutator(seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::uint64_t count = 0;
  for (; std::chrono::steady_clock::now() < end; ++count) test(mutator.Mutate(corpus));
  std::printf("%llu inputs\n", static_cast<unsigned long long>(count));
  return 0;
}

}  // namespace
}  // namespace brood

int main(int argc, char** argv) { return brood::Drive(argc, argv); }

#endif  // BROOD_FUZZ_DRIVER
