// SPDX-License-Identifier: Apache-2.0

#include "spawn/base/text_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

namespace brood {
namespace {

TEST(TextOfTest, IsAllThatThereIs) {
  const std::string path =
      std::filesystem::path(::testing::TempDir()) / ("brood_text_" + std::to_string(getpid()));
  for (const std::size_t size : {0, 1, 4095, 4096, 4097, 20000}) {
    const std::string text(size, 'x');
    std::ofstream(path) << text;
    EXPECT_EQ(TextOf(path), text);
  }
  std::filesystem::remove(path);
  EXPECT_EQ(TextOf(path), "");
}

// As what /proc has of a process that has ended: it opens, and its reading fails.
TEST(TextOfTest, IsEmptyWhereReadingFails) { EXPECT_EQ(TextOf("/"), ""); }

TEST(FirstLineOfTest, IsNoneWithoutALine) {
  const std::string path =
      std::filesystem::path(::testing::TempDir()) / ("brood_line_" + std::to_string(getpid()));
  for (const auto& [text, line] :
       {std::pair<const char*, const char*>{"a b\nc\n", "a b"}, {"\nc", ""}, {"a", "a"}}) {
    std::ofstream(path) << text;
    EXPECT_EQ(FirstLineOf(path), line);
  }
  std::ofstream(path).close();
  EXPECT_EQ(FirstLineOf(path), std::nullopt);
  std::filesystem::remove(path);
  EXPECT_EQ(FirstLineOf(path), std::nullopt);
}

}  // namespace
}  // namespace brood
