// SPDX-License-Identifier: Apache-2.0

// fork has libraries and languages put themselves right in the child. A clone made past fork has to
// do that itself.
#include <dlfcn.h>

#include <cstddef>

#include "spawn/ready/ready.h"

namespace brood::ready {
namespace {

using Handler = void (*)();

struct AtFork {
  static constexpr std::size_t kMost = 128;
  struct Handlers {
    Handler before;
    Handler in_child;
  };
  Handlers handlers[kMost];
  std::size_t count = 0;
};
AtFork at_fork;

// Of the interpreter in this process, if there is one.
struct Python {
  int (*ensure)() = nullptr;  // PyGILState_STATE is an enum
  void (*release)(int) = nullptr;
  void (*before)() = nullptr;
  void (*in_child)() = nullptr;
  int (*run)(const char*, void*) = nullptr;
  int gil = 0;
  bool running = false;
};
Python python;

template <typename Function>
bool Find(const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
  return function != nullptr;
}

// Until the clone has come back the interpreter is ours. What it has buffered is written once, and
// what is on the heap now is left alone by its collector, which would else copy all its pages.
void BeforePython() {
  int (*initialized)() = nullptr;
  if (!Find("Py_IsInitialized", initialized) || initialized() == 0) return;
  if (!Find("PyGILState_Ensure", python.ensure) || !Find("PyGILState_Release", python.release) ||
      !Find("PyOS_BeforeFork", python.before) || !Find("PyOS_AfterFork_Child", python.in_child) ||
      !Find("PyRun_SimpleStringFlags", python.run)) {
    return;
  }
  python.running = true;
  python.gil = python.ensure();
  python.run(
      "import gc as _brood_gc, sys as _brood_sys\n"
      "_brood_gc.collect(); _brood_gc.freeze()\n"
      "for _brood_each in (_brood_sys.stdout, _brood_sys.stderr):\n"
      "    if _brood_each is not None: _brood_each.flush()\n"
      "del _brood_gc, _brood_sys, _brood_each\n",
      nullptr);
  python.before();
}

}  // namespace

void BeforeClones() {
  BeforePython();
  for (std::size_t i = at_fork.count; i > 0; --i) {
    if (at_fork.handlers[i - 1].before != nullptr) at_fork.handlers[i - 1].before();
  }
}

void AfterClone() {
  for (std::size_t i = 0; i < at_fork.count; ++i) {
    if (at_fork.handlers[i].in_child != nullptr) at_fork.handlers[i].in_child();
  }
  if (!python.running) return;
  python.running = false;
  python.in_child();
  python.release(python.gil);
}

}  // namespace brood::ready

// What pthread_atfork is made of; the C library runs the handlers in fork, we at a clone.
// NOLINTNEXTLINE(bugprone-reserved-identifier): it is the C library's name
extern "C" int __register_atfork(void (*before)(), void (*in_parent)(), void (*in_child)(),
                                 void* library) {
  using Register = int (*)(void (*)(), void (*)(), void (*)(), void*);
  static Register next = nullptr;
  if (next == nullptr) next = reinterpret_cast<Register>(dlsym(RTLD_NEXT, "__register_atfork"));
  if (next == nullptr) return 38;  // ENOSYS
  using brood::ready::at_fork;
  if (at_fork.count < brood::ready::AtFork::kMost) {
    at_fork.handlers[at_fork.count++] = {before, in_child};
  }
  return next(before, in_parent, in_child, library);
}
