// SPDX-License-Identifier: Apache-2.0

// What the functions of the soak test run: whatever the first line of the request says, as
// "17 exit 3". Linked statically, so that its start is a small part of a call.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace {

constexpr std::size_t kPiece = 4096;

void WriteAll(int fd, const char* bytes, std::size_t size) {
  while (size > 0) {
    const ssize_t count = write(fd, bytes, size);
    if (count <= 0) _exit(99);
    bytes += count;
    size -= static_cast<std::size_t>(count);
  }
}

void WriteKib(int fd, int kib) {
  char piece[1024];
  std::memset(piece, '~', sizeof(piece));
  for (int i = 0; i < kib; ++i) WriteAll(fd, piece, sizeof(piece));
}

// Of signals the first process of a pid namespace gets only those that it cannot help.
void Crash(int signal) {
  if (signal == 4) __builtin_trap();
  volatile char* volatile nowhere = nullptr;
  *nowhere = 0;
}

}  // namespace

int main() {
  static char input[kPiece];
  std::size_t size = 0;
  std::size_t line = 0;  // its length, with its end
  while (line == 0) {
    const ssize_t got = read(STDIN_FILENO, input + size, sizeof(input) - size);
    if (got <= 0) return 98;
    size += static_cast<std::size_t>(got);
    if (const void* const end = std::memchr(input, '\n', size)) {
      line = static_cast<std::size_t>(static_cast<const char*>(end) - input) + 1;
    }
  }
  char action[16] = "";
  int number = 0;
  if (std::sscanf(input, "%*s %15s %d", action, &number) != 2) return 97;
  const std::string_view wanted = action;

  if (wanted == "echo" || wanted == "slow") {
    // Reads, and for "slow" naps so many microseconds after each piece.
    WriteAll(STDOUT_FILENO, input, size);
    for (;;) {
      if (wanted == "slow") usleep(static_cast<useconds_t>(number));
      const ssize_t got = read(STDIN_FILENO, input, sizeof(input));
      if (got <= 0) return 0;
      WriteAll(STDOUT_FILENO, input, static_cast<std::size_t>(got));
    }
  }
  if (wanted == "errors") WriteKib(STDERR_FILENO, number);
  if (wanted == "fork") {
    for (int i = 0; i < number; ++i) {
      if (fork() == 0) {
        for (;;) pause();
      }
    }
  }
  WriteAll(STDOUT_FILENO, input, line);
  if (wanted == "flood") WriteKib(STDOUT_FILENO, number);
  if (wanted == "late") WriteKib(STDOUT_FILENO, 200);
  if (wanted == "exit" || wanted == "late") return number;
  if (wanted == "crash") Crash(number);
  if (wanted == "hang") {
    for (;;) pause();
  }
  return 0;
}
