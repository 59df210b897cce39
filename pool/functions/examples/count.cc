// SPDX-License-Identifier: Apache-2.0

// Text on stdin, its lines, words and bytes on stdout.
#include <cctype>
#include <cstdio>

int main() {
  unsigned long long lines = 0;
  unsigned long long words = 0;
  unsigned long long bytes = 0;
  bool in_word = false;
  for (int c = std::getchar(); c != EOF; c = std::getchar()) {
    ++bytes;
    lines += c == '\n' ? 1 : 0;
    const bool space = std::isspace(c) != 0;
    words += !space && !in_word ? 1 : 0;
    in_word = !space;
  }
  std::printf("{\"lines\": %llu, \"words\": %llu, \"bytes\": %llu}\n", lines, words, bytes);
  return std::ferror(stdin) != 0;
}
