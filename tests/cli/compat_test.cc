// SPDX-License-Identifier: Apache-2.0

// 32-bit programs: made here, of a few bytes, since few machines have a compiler for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "tests/kernel/machine_state.h"
#include "tests/needs.h"
#include "tests/program.h"

namespace brood {
namespace {

#if defined(__x86_64__)

// A static i386 program that makes one system call and exits with its errno, 0 when it was done.
std::string I386Program(std::uint32_t number, std::uint32_t first, std::uint32_t second) {
  std::string code;
  const auto byte = [&](std::initializer_list<int> bytes) {
    for (const int each : bytes) code += static_cast<char>(each);
  };
  const auto word = [&](std::uint32_t value) {
    code.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  byte({0xb8}), word(number);      // mov eax, number
  byte({0xbb}), word(first);       // mov ebx, first
  byte({0xb9}), word(second);      // mov ecx, second
  byte({0x31, 0xd2, 0xcd, 0x80});  // xor edx, edx; int 0x80
  byte({0x31, 0xdb, 0x85, 0xc0});  // xor ebx, ebx; test eax, eax
  byte({0x79, 0x04});              // jns over the next two
  byte({0x89, 0xc3, 0xf7, 0xdb});  // mov ebx, eax; neg ebx
  byte({0xb8}), word(1);           // mov eax, 1 (exit)
  byte({0xcd, 0x80});              // int 0x80
  constexpr std::uint32_t kBase = 0x08048000;
  constexpr std::uint32_t kHeaders = 52 + 32;
  struct {
    unsigned char ident[16] = {0x7f, 'E', 'L', 'F', 1, 1, 1};
    std::uint16_t type = 2, machine = 3;
    std::uint32_t version = 1, entry = kBase + kHeaders, program_at = 52, section_at = 0, flags = 0;
    std::uint16_t header = 52, program_size = 32, programs = 1, section_size = 0, sections = 0,
                  names = 0;
    std::uint32_t load = 1, offset = 0, at = kBase, physical = kBase, in_file, in_memory,
                  rights = 5, align = 0x1000;
  } elf;
  static_assert(sizeof(elf) == kHeaders);
  elf.in_file = elf.in_memory = static_cast<std::uint32_t>(kHeaders + code.size());
  return std::string(reinterpret_cast<const char*>(&elf), sizeof(elf)) + code;
}

class CompatTest : public LeavesNothing {
 protected:
  void SetUp() override {
    LeavesNothing::SetUp();
    std::filesystem::create_directories(directory_);
    Write(I386Program(199 /* getuid32 */, 0, 0));
    const pid_t child = fork();
    if (child == 0) {
      execl(path_.c_str(), path_.c_str(), nullptr);
      _exit(255);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      GTEST_SKIP() << "this machine runs no i386 programs";
    }
  }
  void TearDown() override {
    std::filesystem::remove_all(directory_);
    LeavesNothing::TearDown();
  }
  void Write(const std::string& program) {
    std::ofstream(path_, std::ios::binary) << program;
    chmod(path_.c_str(), 0755);
  }
  int RunIt() {
    Brood brood({"run", "-v", directory_ + ":/mnt:ro", "--", "/mnt/program"});
    return brood.Wait();
  }

  const std::string directory_ = testing::TempDir() + "brood-compat";
  const std::string path_ = directory_ + "/program";
};

TEST_F(CompatTest, A32BitProgramRunsUnderTheSameRules) {
  struct Case {
    const char* what;
    std::uint32_t number, first, second;
    int status;
  };
  const Case cases[] = {
      {"getuid32", 199, 0, 0, 0},
      {"socket AF_INET", 359, 2, 1, 0},
      {"socket AF_ALG", 359, 38, 5, EPERM},
      {"socket AF_VSOCK", 359, 40, 1, EPERM},
      {"socketcall SYS_SOCKET", 102, 1, 0, ENOSYS},
      {"unshare CLONE_NEWUSER", 310, 0x10000000, 0, EPERM},
      {"clone CLONE_NEWUSER", 120, 0x10000000, 0, EPERM},
      {"clone3", 435, 0, 0, ENOSYS},
      {"keyctl", 288, 0, 0, EPERM},
      {"ioctl TIOCSTI", 54, 0, 0x5412, EPERM},
      {"mount", 21, 0, 0, EPERM},
      {"io_uring_setup", 425, 1, 0, EPERM},
  };
  for (const Case& each : cases) {
    Write(I386Program(each.number, each.first, each.second));
    EXPECT_EQ(RunIt(), each.status) << each.what;
  }
}

#endif

}  // namespace
}  // namespace brood
