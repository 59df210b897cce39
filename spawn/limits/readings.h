// SPDX-License-Identifier: Apache-2.0

// What the files of this folder share: adding what one kind of limit says.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "spawn/limits/limits.h"

namespace brood::internal {

// The sysctl `name` ("kernel.pid_max"), which limits `what`, and what raises it.
LimitReading Sysctl(const LimitQuestion& question, const std::string& name, std::string what);

// Each of these adds the limits that one kind of errno can mean, with what is used of them.
void AddNamespaces(const LimitQuestion& question, std::vector<LimitReading>& limits);
void AddProcesses(const LimitQuestion& question, std::vector<LimitReading>& limits);
void AddCgroups(const LimitQuestion& question, std::vector<LimitReading>& limits);
LimitReading Nofile(const LimitQuestion& question);
void AddKeys(const LimitQuestion& question, std::vector<LimitReading>& limits);
void AddRing(const LimitQuestion& question, std::vector<LimitReading>& limits);
void AddMemory(const LimitQuestion& question, std::vector<LimitReading>& limits);

// What this process may map or pin, beside the machine's memory.
void AddRlimit(const LimitQuestion& question, int resource, const char* name, const char* what,
               std::initializer_list<const char*> counted, std::vector<LimitReading>& limits);
void AddMappings(const LimitQuestion& question, std::vector<LimitReading>& limits);
void AddMounts(const LimitQuestion& question, std::vector<LimitReading>& limits);
void AddFiles(const LimitQuestion& question, std::vector<LimitReading>& limits);

// What the kernel says where a filter was compiled and found no room, and it may not be interpreted
// (CONFIG_BPF_JIT_ALWAYS_ON); it does not say how much is taken. Of the machine's own network
// namespace, so there is no file for it elsewhere.
void AddJit(const LimitQuestion& question, std::vector<LimitReading>& limits);

}  // namespace brood::internal
