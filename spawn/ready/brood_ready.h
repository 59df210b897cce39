// SPDX-License-Identifier: Apache-2.0

/* What a program calls when it has loaded all that its calls need (functions of mode "forked").
 *
 *   load();                  once, before any call
 *   if (brood_ready() == 0)  returns in each call's own process, isolated by itself
 *     answer(stdin, stdout);
 *
 * brood starts the program with libbrood_ready.so preloaded, so nothing has to be linked: call it
 * where it is there (a weak symbol, dlsym, Python's ctypes.CDLL(None).brood_ready()), or not at
 * all. A program that does not call it is cloned when it first reads its standard input.
 */
#ifndef BROOD_READY_H
#define BROOD_READY_H

#ifdef __cplusplus
extern "C" {
#endif

/* Returns 0 once for each call, every time in a new process: a clone of the caller, with pid 1 in a
 * pid namespace of its own, the call's standard input, output and error as descriptors 0, 1 and 2,
 * and memory of its own. In the process that called it, it never returns. It returns 0 at once in a
 * call's own process, and where brood has not started the program as a forked function.
 *
 * The caller may have one thread, files that it reads, and nothing that its calls would share:
 * writable shared mappings, sockets, pipes and files open for writing are refused, and the process
 * ends with status 125 and a sentence in the daemon's log. Run before and after the clone, as fork
 * does: pthread_atfork's handlers, and Python's (os.register_at_fork). All calls share what the
 * program has drawn from its own random generator before, and the layout of the address space; the
 * random generators of the kernel and of OpenSSL are separate for each process.
 *
 * Not thread-safe, not to be called from a signal handler. */
int brood_ready(void);

#ifdef __cplusplus
}
#endif

#endif
