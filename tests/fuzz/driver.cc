// SPDX-License-Identifier: Apache-2.0

// Does without coverage what libFuzzer does with it: replays a corpus, then changes of it.
//
//   NAME_fuzz [--seconds N] [--seed N] FILE_OR_DIRECTORY...
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace brood {
namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open()) {
    std::fprintf(stderr, "%s cannot be read\n", path.c_str());
    std::exit(1);
  }
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
        0, 1, 3, 4, 24, 255, 65536, 0x7fffffff, 0x80000000, 0xffffffff, 4U << 20, (4U << 20) + 1};
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
  corpus.reserve(files.size());
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
