// SPDX-License-Identifier: Apache-2.0

// The daemon's configuration: what is taken, and what is refused with the line it stands on.
#include "pool/cli/serve_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "spawn/base/status.h"

namespace brood {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::vector<std::string> TemplateNames(const ServeConfig& config) {
  std::vector<std::string> names;
  for (const ServeTemplate& each : config.templates) names.push_back(each.options.name);
  return names;
}

TEST(ServeConfigTest, TheExampleIsTaken) {
  std::ifstream file(BROOD_EXAMPLE_CONFIG);
  ASSERT_TRUE(file.is_open());
  std::stringstream text;
  text << file.rdbuf();
  const auto config = ParseServeConfig(text.str(), BROOD_EXAMPLE_CONFIG);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(TemplateNames(*config), ElementsAre("default", "small", "network"));
  EXPECT_EQ(config->templates[1].options.spec.limits.memory_bytes, 64U << 20);
  EXPECT_EQ(config->templates[1].options.spec.rlimits.size(), 2U);
  EXPECT_EQ(config->templates[1].options.max_workers, 64U);
  EXPECT_EQ(config->templates[2].options.spec.ns(NamespaceKind::kNet).mode, NamespaceMode::kHost);
}

TEST(ServeConfigTest, AnEmptyFileSetsNothing) {
  const auto config = ParseServeConfig("# nothing\n", "brood.toml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->socket);
  EXPECT_FALSE(config->group);
  EXPECT_FALSE(config->max_running);
  EXPECT_FALSE(config->log_bytes);
  EXPECT_THAT(config->templates, IsEmpty());
}

TEST(ServeConfigTest, SettingsAreTaken) {
  const auto config = ParseServeConfig(
      "socket = '/run/x.sock'\ngroup = 'staff'\nmax-running = 7\nmax-unclaimed = 9\nlog-size = "
      "'2M'\n",
      "brood.toml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->socket, "/run/x.sock");
  EXPECT_EQ(config->group, "staff");
  EXPECT_EQ(config->max_running, 7U);
  EXPECT_EQ(config->max_unclaimed, 9U);
  EXPECT_EQ(config->log_bytes, 2U << 20);
}

TEST(ServeConfigTest, TemplatesKeepTheOrderOfTheFile) {
  const auto config = ParseServeConfig(
      "[template.zebra]\n[template.apple]\nparked = 0\n[template.mango]\n", "brood.toml");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_THAT(TemplateNames(*config), ElementsAre("zebra", "apple", "mango"));
}

TEST(ServeConfigTest, ATableBecomesWordsInTheOrderOfTheFile) {
  const auto config = ParseServeConfig(
      "[template.a]\n"
      "tmpfs = ['/x', '/y:1M']\n"
      "no-time = true\n"
      "no-uts = false\n"
      "cpus = 0.5\n"
      "parked = 3\n"
      "memory = '64M'\n",
      "brood.toml");
  ASSERT_TRUE(config.ok()) << config.status();
  ASSERT_EQ(config->templates.size(), 1U);
  const ServeTemplate& a = config->templates[0];
  EXPECT_THAT(a.words, ElementsAre("--tmpfs=/x", "--tmpfs=/y:1M", "--no-time", "--cpus=0.5",
                                   "--parked=3", "--memory=64M"));
  EXPECT_EQ(a.options.parked, 3U);
  EXPECT_EQ(a.options.spec.tmpfs.size(), 2U);
  EXPECT_EQ(a.options.spec.ns(NamespaceKind::kTime).mode, NamespaceMode::kHost);
  EXPECT_EQ(a.options.spec.ns(NamespaceKind::kUts).mode, NamespaceMode::kNew);
}

struct BadConfig {
  std::string_view text;
  std::string_view where;  // "line N"
  std::string_view why;
};

TEST(ServeConfigTest, WhatIsWrongIsNamedWithItsLine) {
  const std::vector<BadConfig> cases = {
      {"group = 'a'\n\nspeed = 9\n", "line 3", "no setting \"speed\""},
      {"socket = 5\n", "line 1", "socket must be a string"},
      {"\ngroup = true\n", "line 2", "group must be a string"},
      {"log-size = 65536\n", "line 1", "log-size must be a string"},
      {"log-size = 'much'\n", "line 1", "much"},
      {"max-running = '5'\n", "line 1", "max-running must be a whole number"},
      {"max-running = 1.5\n", "line 1", "max-running must be a whole number"},
      {"max-running = 0\n", "line 1", "max-running"},
      {"max-unclaimed = 0\n", "line 1", "max-unclaimed"},
      {"max-unclaimed = 'x'\n", "line 1", "max-unclaimed must be a whole number"},
      {"max-running = -1\n", "line 1", "max-running"},
      {"max-running = 99999999\n", "line 1", "max-running"},
      {"group = 'a'\ngroup = 'b'\n", "line 2", "group"},
      {"group = \n", "line 1", ""},
      {"template = 'web'\n", "line 1", "templates are tables"},
      {"[[template]]\n", "line 1", "templates are tables"},
      {"[template]\nweb = 1\n", "line 2", "[template.web]"},
      {"[other]\n", "line 1", "no setting \"other\""},
      {"[template.a]\n[template.web]\nspeed = 9\n", "line 3", "template web"},
      {"[template.web]\nhelp = true\n", "line 2", "no key help"},
      {"[template.web]\nv = '/a:/b'\n", "line 2", "template web"},
      {"[template.web]\nparked = 'many'\n", "line 2", "template web"},
      {"[template.web]\nparked = -1\n", "line 2", "template web"},
      {"[template.web]\nmemory = 'much'\n", "line 2", "template web"},
      {"[template.web]\nroot-mode = 'overlay'\n", "line 2", "needs rootfs"},
      {"[template.web]\nrootfs = '/nowhere/at/all'\n", "line 2", "/nowhere/at/all"},
      {"[template.web]\nrootfs = ['/', '/']\n", "line 2", "template web"},
      {"[template.web]\nrootfs = true\n", "line 2", "template web"},
      {"[template.web]\nhostname = 2020-01-01\n", "line 2", "hostname must be"},
      {"[template.web]\nhostname = {a = 1}\n", "line 2", "hostname must be"},
      {"[template.web]\ntmpfs = ['/x', {a = 1}]\n", "line 2", "tmpfs must be"},
      {"[template.web]\nenv = ['A=b']\n", "line 2", "template web"},
      // The line is the key's, wherever it stands, and whichever check finds it.
      {"[template.web]\nparked = 2\nmemory = 'much'\npids = '3'\n", "line 3", "much"},
      {"[template.web]\nparked = 2\nhostname = 'a'\n\nroot-mode = 'overlay'\n", "line 5", "rootfs"},
      {"[template.web]\nparked = 2\nspeed = 9\nhurry = 8\n", "line 3", "no key speed"},
      {"[template.web]\nparked = 9\nmax-workers = 'few'\n", "line 3", "few"},
      {"[template.web]\nparked = 2\nmemory = false\n", "line 3", "memory takes a value (SIZE)"},
      {"[template.web]\ntmpfs = ['/x', false]\n", "line 2", "tmpfs takes a value"},
      {"[template.web]\nspeed = false\n", "line 2", "there is no key speed"},
      {"[template.web]\n[template.web]\n", "line 2", ""},
      {"[template.web]\nparked = 2\nmemory = 'much'\n", "line 3", "memory: \"much\""},
      {"[function.a]\ncommand = 'cat'\n[function.b]\ncommand = 'cat'\ntimeout = 'long'\n", "line 5",
       "function b: timeout: \"long\""},
      {"[function.a]\ncommand = 'cat'\n[function.b]\nspeed = 9\ncommand = 'cat'\n", "line 4",
       "no key speed"},
      {"[function.a]\ncommand = 'cat'\n[function.b]\nmin = 2\n", "line 3",
       "function b: it needs a command"},
      {"[function.a]\ncommand = 'cat'\n\nmode = 'cold'\nmin = 3\n", "line 4", "mode is cold"},
      {"[function.a]\ncommand = 'cat'\nenv = ['NOT_THERE']\nmin = 3\n", "line 3", "NOT_THERE"},
      {"[function.a]\ncommand = 'cat'\nenv = ['=x']\n", "line 3", "env has \"=x\""},
      {"[function.a]\ncommand = 'cat'\nenv-file = '/not/there'\n", "line 3", "/not/there"},
      {"[function.a]\ncommand = 'cat'\ncgi = 'yes'\n", "line 3", "cgi is true or false"},
      {"[function.a]\ncommand = 'cat'\nmin = true\n", "line 3", "min takes a value (N)"},
      {"[function.a]\ncommand = 'cat'\nmin = 99999\n", "line 3", "min"},
      {"[function.a]\ncommand = '/not/there'\n", "line 2", "the program /not/there is not there"},
      {"[function.a]\ncommand = 'not-there-at-all'\n", "line 2", "not-there-at-all is not there"},
      {"[function.a]\ncommand = '/usr'\n", "line 2", "the program /usr is not there"},
      {"[function.a]\ncommand = 'cat'\ntemplate = 'x'\nmemory = '1M'\n", "line 3",
       "memory is the template's to say"},
      {"[function.a]\nmin = 3\ncommand = [1]\n", "line 3", "command must be"},
      {"[function.a]\ncommand = 'cat'\ntimeout = false\n", "line 3",
       "timeout takes a value (DURATION)"},
      {"[function.a]\ncommand = 'cat'\nno-pid = true\n", "line 3", "pid namespace"},
      {"[function]\na = {command = 'cat'}\nb = 5\n", "line 3", "[function.b]"},
      {"[http]\nmax-connections = 9\nidle-timeout = 'long'\n", "line 3", "idle-timeout: \"long\""},
      {"[http]\nmax-connections = 9\nkeep = '1h'\n", "line 3", "keep is without effect"},
      {"[http]\nmax-connections = 9\nkeep = false\n", "line 3", "keep takes a value"},
  };
  for (const BadConfig& each : cases) {
    const auto config = ParseServeConfig(each.text, "brood.toml");
    ASSERT_FALSE(config.ok()) << each.text;
    const std::string sentence(Message(config.status()));
    EXPECT_THAT(sentence, HasSubstr("brood.toml, " + std::string(each.where))) << each.text;
    EXPECT_THAT(sentence, HasSubstr(std::string(each.why))) << each.text;
  }
}

TEST(ServeConfigTest, NamesOfUsersAreThoseOfTheRoot) {
  const std::filesystem::path root = std::filesystem::path(::testing::TempDir()) /
                                     ("brood_config_root_" + std::to_string(getpid()));
  std::filesystem::create_directories(root / "etc");
  std::ofstream(root / "etc/passwd") << "app:x:4242:4343::/:/bin/sh\n";
  std::ofstream(root / "app") << "#!/bin/sh\n";
  const std::string keys = fmt::format("rootfs = '{}'\nuser = 'app'\n", root.string());
  const auto config = ParseServeConfig(
      "[template.web]\n" + keys + "[function.f]\ncommand = '/app'\n" + keys, "brood.toml");
  std::filesystem::remove_all(root);
  ASSERT_TRUE(config.ok()) << config.status();
  const Spec& web = config->templates.at(0).options.spec;
  EXPECT_EQ(std::pair(web.uid, web.gid), std::pair(4242U, 4343U));
  const Spec& function = config->functions.at(0).own_template->spec;
  EXPECT_EQ(std::pair(function.uid, function.gid), std::pair(4242U, 4343U));
}

TEST(ServeTemplateTest, WordsAreSplitAsByAShell) {
  EXPECT_THAT(SplitWords(""), IsEmpty());
  EXPECT_THAT(SplitWords("--rootfs /srv/a  --parked 3"),
              ElementsAre("--rootfs", "/srv/a", "--parked", "3"));
  EXPECT_THAT(SplitWords("--hostname 'a b' \"c d\""), ElementsAre("--hostname", "a b", "c d"));
}

TEST(ServeTemplateTest, WordsThatAreNoOptionAreRefused) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"stray"},
                                                {"--nothing"},
                                                {"--parked"},
                                                {"-h"},
                                                {"--parked", "x"}}) {
    const auto parsed = ParseServeTemplate("web", words);
    ASSERT_FALSE(parsed.ok()) << words[0];
    EXPECT_THAT(std::string(Message(parsed.status())), HasSubstr("template web: ")) << words[0];
  }
}

}  // namespace
}  // namespace brood
