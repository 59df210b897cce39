#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is installed, as the programs that use it find it: by CMake and by pkg-config.

The build directory comes from BROOD_BUILD.
"""

import os
import pathlib
import shlex
import shutil
import subprocess
import tempfile
import unittest

BUILD = os.environ["BROOD_BUILD"]

PROGRAM = """
#include <cstdio>
#include <string>
#include <utility>

#include "pool/daemon/client.h"
#include "pool/pool.h"

int main() {
  if (brood::Client::Connect("/nowhere").ok()) return 1;
  brood::PoolOptions options;
  options.templates.push_back({.name = "default"});
  auto pool = brood::Pool::Create(std::move(options));
  if (!pool.ok()) {
    std::puts(std::string(pool.status().message()).c_str());
    return 2;
  }
  const auto outcome =
      (*pool)->Run({.command = {.argv = {"/bin/true"}, .env = brood::DefaultEnvironment()}});
  std::puts(outcome.ok() ? brood::EndName(outcome->end).data() : "refused");
}
"""

CMAKE = """
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
find_package(brood REQUIRED)
if(CMAKE_BUILD_TYPE)
  message(FATAL_ERROR "the build type is brood's: ${CMAKE_BUILD_TYPE}")
endif()
add_executable(consumer main.cc)
target_link_libraries(consumer PRIVATE brood::pool brood::daemon)
get_target_property(links brood::pool INTERFACE_LINK_LIBRARIES)
if(links MATCHES "sqlite|boost")
  message(FATAL_ERROR "brood::pool links ${links}")
endif()
"""


def run(*command, **keywords):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, **keywords)
    if done.returncode != 0:
        raise AssertionError(f"{shlex.join(map(str, command))}: {done.returncode}\n{done.stdout}")
    return done.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for tool in ("cmake", "g++", "pkg-config"):
            if shutil.which(tool) is None:
                raise unittest.SkipTest(f"there is no {tool}")
        if not os.access(BUILD, os.W_OK):
            raise unittest.SkipTest(f"cmake --install writes its manifest into {BUILD}")
        cls.scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.scratch.cleanup)
        cls.home = pathlib.Path(cls.scratch.name)
        cls.prefix = cls.home / "prefix"
        run("cmake", "--install", BUILD, "--prefix", cls.prefix)
        (cls.home / "main.cc").write_text(PROGRAM)
        (cls.home / "CMakeLists.txt").write_text(CMAKE)

    def check(self, program):
        if os.geteuid() != 0:
            self.skipTest("ids of their own for isolates need root")
        self.assertEqual(run(program), "exited\n")

    def test_found_by_cmake(self):
        run("cmake", "-S", self.home, "-B", self.home / "build",
            f"-DCMAKE_PREFIX_PATH={self.prefix}")
        run("cmake", "--build", self.home / "build")
        self.check(self.home / "build" / "consumer")

    def test_found_by_pkg_config(self):
        (directory,) = {path.parent for path in self.prefix.rglob("brood.pc")}
        flags = run("pkg-config", "--cflags", "--libs", "brood",
                    env=os.environ | {"PKG_CONFIG_PATH": str(directory)})
        self.assertNotIn("sqlite", flags)
        program = self.home / "by_pkg_config"
        run("g++", "-std=c++20", "-o", program, self.home / "main.cc", *shlex.split(flags))
        self.check(program)

    def test_only_public_headers_are_installed(self):
        include = self.prefix / "include" / "brood"
        headers = {str(path.relative_to(include)) for path in include.rglob("*.h")}
        self.assertIn("pool/pool.h", headers)
        self.assertIn("spawn/spec.h", headers)
        self.assertEqual({each for each in headers if each.startswith(
            ("pool/core", "pool/functions", "spawn/child", "spawn/launch", "spawn/plan"))}, set())

    def test_the_licence_goes_along(self):
        self.assertTrue(list(self.prefix.rglob("LICENSE")))


if __name__ == "__main__":
    unittest.main()
