# SPDX-License-Identifier: Apache-2.0
"""Functions that are clones of a process that has loaded itself."""

import concurrent.futures
import json
import os
import re
import signal
import socket
import threading
import time
import unittest

from node import SLOWNESS, Node, function

PYTHON = "/usr/bin/python3"


def command(name, words, **settings):
    lines = [f"[function.{name}]", f"command = {json.dumps(words)}", 'mode = "forked"']
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def python(name, script, **settings):
    return command(name, [PYTHON, "-c", script], **settings)


class Forked(Node):
    def ready(self, name):
        """Waits until the function's process has loaded; its description."""
        def look():
            [found] = [each for each in json.loads(self.get("/functions")[1])
                       if each["name"] == name]
            return found if found["ready"] or found.get("problem") else None
        found = self.wait_for(look, 30)
        self.assertTrue(found, f"{name} neither loaded nor failed")
        return found

    def forked(self, name, body=b""):
        """A call that has to be a clone."""
        self.assertTrue(self.ready(name)["ready"], self.log())
        answer = self.call(name, body)
        self.assertEqual(answer.headers["Brood-Path"], "forked", (name, answer.body, self.log()))
        return answer


# Unmodified, and each with functions of its own to read its stdin.
PROGRAMS = {
    "cat": (["/bin/cat"], b"a\nb\n", b"a\nb\n"),
    "sed": (["/bin/sed", "s/a/A/"], b"a\nb\n", b"A\nb\n"),
    "grep": (["/bin/grep", "b"], b"a\nb\n", b"b\n"),
    "awk": (["/usr/bin/awk", "{ print $2 }"], b"a b\n", b"b\n"),
    "wc": (["/usr/bin/wc", "-c"], b"12345", b"5\n"),
    "tr": (["/usr/bin/tr", "a-z", "A-Z"], b"abc", b"ABC"),
    "head": (["/usr/bin/head", "-n", "1"], b"a\nb\n", b"a\n"),
    "sort": (["/usr/bin/sort"], b"b\na\n", b"a\nb\n"),
    "md5sum": (["/usr/bin/md5sum"], b"", b"d41d8cd98f00b204e9800998ecf8427e  -\n"),
    "perl": (["/usr/bin/perl", "-ne", "print uc"], b"abc\n", b"ABC\n"),
    "sh": (["/bin/sh", "-c", "n=1; read x; echo $x $n; cat"], b"a\nrest\n", b"a 1\nrest\n"),
    "exec": (["/bin/sh", "-c", "export A=1; n=$(echo 2); exec /bin/sh -c 'read x; "
                               "echo $x $A '$n', $LD_PRELOAD$BROOD_FORKED'"],
             b"a\n", b"a 1 2,\n"),
    "bash": (["/bin/bash", "-c", "mapfile x; echo ${#x[@]}"], b"a\nb\n", b"2\n"),
    "python": ([PYTHON, "-c", "import sys; print(len(sys.stdin.read()))"], b"abc", b"3\n"),
    "select": ([PYTHON, "-c", "import os, select; select.select([0], [], []); "
                "print(os.read(0, 9).decode())"], b"abc", b"abc\n"),
}


class Programs(Forked):
    CONFIG = "".join(command(f"{name}-{least}", words, min=least)
                     for name, (words, _, _) in PROGRAMS.items() if os.path.exists(words[0])
                     for least in (0, 1))

    def test_each_answers_as_if_it_had_been_started_for_the_call(self):
        for name, (words, body, answer) in PROGRAMS.items():
            if not os.path.exists(words[0]):
                print("skipped: there is no", words[0])
                continue
            for least in (0, 1):
                for _ in range(3):
                    self.assertEqual(self.forked(f"{name}-{least}", body).body, answer, name)


COUNTING = """
import os, random, sys, threading
os.register_at_fork(after_in_child=lambda: print("hook"))
print("buffered before")
calls = 0
line = sys.stdin.readline()
calls += 1
print(calls, os.getpid(), os.getppid(), threading.get_native_id(), random.random())
"""
EXPLICIT = """
import ctypes, sys
ready = ctypes.CDLL(None).brood_ready
print("loaded", file=sys.stderr)
assert ready() == 0 and ready() == 0
print("after", sys.stdin.read())
"""
LEAVES = """
import glob, os, socket, sys
secret = sys.stdin.read()
seen = [os.path.exists(path) for path in ("/tmp/mark", "/dev/shm/mark", "/run/mark")]
seen += [secret_before is not None for secret_before in [globals().get("kept")]]
seen.append("planted" in os.environ)
mine = socket.socket(socket.AF_UNIX)
try:
    mine.bind("\\0brood-test")
    mine.listen()
except OSError:
    seen.append("socket")
pids = sorted(filter(str.isdigit, os.listdir("/proc")))
fds = []
for fd in os.listdir("/proc/self/fd"):
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        continue
    if "pipe:" not in target and fd != str(mine.fileno()):
        fds.append(target)
kept = secret
os.environ["planted"] = secret
for path in ("/tmp/mark", "/dev/shm/mark", "/run/mark"):
    open(path, "w").write(secret)
if os.fork() == 0:
    os.setsid()
    import time
    time.sleep(1000)
print(seen, pids, fds, os.path.exists("/proc/sys/kernel/hostname"))
"""
ISOLATION = """
import ctypes, os, sys
sys.stdin.read()
status = dict(line.split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
def refused(what, *arguments):
    try:
        what(*arguments)
        return False
    except OSError:
        return True
libc = ctypes.CDLL(None, use_errno=True)
print([status[key].strip() for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs",
                                       "Seccomp")],
      refused(open, "/proc/sys/kernel/core_pattern", "w"), refused(open, "/usr/mark", "w"),
      libc.unshare(0x10000000), libc.mount(b"none", b"/tmp", b"tmpfs", 0, 0),
      open("/proc/self/cgroup").read().strip().splitlines()[-1])
"""


class Clones(Forked):
    CONFIG = (python("counts", COUNTING, min=0) + python("explicit", EXPLICIT) +
              python("leaves", LEAVES) + python("isolation", ISOLATION, min=0) +
              function("isolation-parked", "cat > /dev/null; exec " + PYTHON + " -c '" +
                       ISOLATION.replace("'", '"') + "'") +
              command("offset", ["/bin/sh", "-c", "exec 5</etc/passwd; read first <&5; read x; "
                                 "read second <&5; echo $second"]) +
              python("secrets", "import ssl, sys; ssl.RAND_bytes(8); sys.stdin.read(); "
                                "print(ssl.RAND_bytes(8).hex())"))

    def test_a_clone_has_what_was_loaded_and_nothing_of_the_call_before(self):
        answers = [self.forked("counts", b"x\n").body.decode().split("\n") for _ in range(5)]
        drawn = set()
        for hook, line, _ in answers:
            self.assertEqual(hook, "hook")
            calls, pid, parent, thread, number = line.split()
            self.assertEqual((calls, pid, parent, thread), ("1", "1", "0", "1"))
            drawn.add(number)
        self.assertEqual(len(drawn), 5, "random's generator was not seeded anew")
        self.assertNotIn("buffered before", str(answers))

    def test_openssl_draws_other_bytes_in_each_clone(self):
        self.assertEqual(len({self.forked("secrets").body for _ in range(6)}), 6)

    def test_a_program_may_say_itself_when_it_is_ready(self):
        for _ in range(3):
            self.assertEqual(self.forked("explicit", b"x").body, b"after x\n")

    def test_without_its_library_the_same_program_is_an_ordinary_function(self):
        self.assertEqual(self.call("isolation-parked").headers["Brood-Path"], "parked")

    def test_a_call_finds_nothing_of_another(self):
        first = self.forked("leaves", b"secret").body
        self.assertEqual(first, b"[False, False, False, False, False] ['1'] ["
                         + first.split(b"[")[3].split(b"]")[0] + b"] True\n")
        self.assertNotIn(b"socket", first)
        for _ in range(20):
            self.assertEqual(self.forked("leaves", b"secret").body, first)

    def test_its_isolation_is_that_of_every_other_mode(self):
        answer = self.forked("isolation").body
        self.assertEqual(answer, self.call("isolation-parked").body)
        self.assertIn(b"['0000000000000000', '0000000000000000', '0000000000000000', "
                      b"'0000000000000000', '1', '2'] True True -1 -1 0::/", answer)

    def test_a_file_that_was_being_read_is_read_on_by_each(self):
        with open("/etc/passwd") as file:
            second = file.read().splitlines()[1]
        for _ in range(3):
            self.assertEqual(self.forked("offset", b"\n").body.decode().rstrip("\n"), second)


REFUSED = {
    "threads": ("import threading, time; threading.Thread(target=time.sleep, args=(1000,), "
                "daemon=True).start()", "it has 2 threads"),
    "socket": ("import socket; kept = socket.socket()", "descriptor 3 (socket:["),
    "pipe": ("import os; kept = os.pipe()", "descriptor 3 (pipe:["),
    "writes": ("kept = open('/tmp/x', 'w')", "descriptor 3 (/tmp/x) is open for writing"),
    "shared": ("import mmap; kept = mmap.mmap(-1, 4096)", "is mapped to be written and shared"),
    "never": ("raise SystemExit(3)", "it ended (status 3) before it was ready"),
    "dies": ("import os; os.kill(os.getpid(), 9)", "it ended (status 137) before it was ready"),
}


class Refusals(Forked):
    CONFIG = "".join(python(name, script + "; import sys; print(sys.stdin.read())", concurrency=4)
                     for name, (script, _) in REFUSED.items()) + (
        command("static", ["/bin/busybox", "cat"]) + command("not-a-program", ["/etc/passwd"]))

    def test_what_its_calls_would_share_is_named_and_calls_are_served_all_the_same(self):
        for name, (_, problem) in REFUSED.items():
            told = self.ready(name)
            self.assertFalse(told["ready"], name)
            self.assertIn(problem, told["problem"])
            answer = self.call(name, b"x")
            self.assertEqual(answer.headers["Brood-Path"], "cold", name)
            if name not in ("never", "dies"):
                self.assertEqual(answer.body, b"x\n", name)
        self.logged('"event":"call","function":"threads","end":"process"')
        self.assertGreater(self.metric("misses_total", reason="no-process"), 0)

    @unittest.skipUnless(os.path.exists("/bin/busybox"), "there is no static busybox")
    def test_a_static_program_cannot_be_forked(self):
        self.assertIn("or it is linked statically", self.ready("static")["problem"])
        self.assertEqual(self.call("static", b"x").body, b"x")

    def test_a_file_that_is_no_program(self):
        self.assertIn("not executable", self.ready("not-a-program")["problem"])
        self.assertEqual(self.call("not-a-program").status, 500)


class Life(Forked):
    CONFIG = (python("waits", "import sys, time; x = sys.stdin.read(); time.sleep(float(x)); "
                              "print(x)", timeout="2s") +
              python("fails", "import os, sys; x = int(sys.stdin.read()); "
                              "sys.exit(x) if x > 0 else os.kill(os.getppid() or 1, 0) or "
                              "exec('import ctypes; ctypes.string_at(0)')") +
              command("yes", ["/bin/sh", "-c", "read x; yes"]) +
              command("cat", ["/bin/cat"], min=2, concurrency=32, queue=2000) +
              command("stays", ["/bin/cat"], min=0, concurrency=32) +
              command("crowd", ["/bin/sed", "s/crowd//"], min=0, concurrency=1000) +
              python("breeds", "import os, sys; x = sys.stdin.read()\n"
                               "while True:\n  try:\n    if os.fork() == 0: break\n"
                               "  except OSError: pass", timeout="1s",
                     rlimit=["NPROC=64"]))

    def processes(self, name):
        """Host numbers of the processes that function `name` is cloned from, and their inits."""
        if not self.cgroup:
            self.skipTest("needs cgroups: these processes are found by theirs")
        found = {}  # how many pid namespaces deep: numbers
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cgroup") as cgroup, open(f"/proc/{pid}/cmdline") as words, \
                        open(f"/proc/{pid}/status") as status:
                    if re.search(r"/forked-\d+/process$", cgroup.read(), re.M) and \
                            name in words.read():
                        depth = len(re.search(r"NSpid:(.*)", status.read()).group(1).split())
                        found.setdefault(depth, []).append(int(pid))
            except OSError:
                pass
        # Calls that have no cgroup of their own are in here, too, one deeper.
        return found[min(found)] if found else []

    def command_lines(self):
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as file:
                    yield file.read()
            except OSError:
                pass

    def leaves(self):
        return [leaf for directory, _, _ in os.walk(self.cgroup)
                for leaf in [os.path.basename(directory)] if leaf.startswith("call-")]

    def test_a_call_that_takes_too_long_is_ended_and_others_go_on(self):
        self.forked("waits", b"0")
        with concurrent.futures.ThreadPoolExecutor() as threads:
            slow = threads.submit(self.call, "waits", b"1000")
            self.assertEqual(self.forked("waits", b"0.1").body, b"0.1\n")
            self.assertEqual(slow.result().status, 504)
        self.assertEqual(self.forked("waits", b"0").body, b"0\n")

    def test_a_caller_that_vanishes_ends_its_clone(self):
        self.forked("waits", b"0")
        self.assertTrue(self.ready("yes")["ready"])
        gone = self.metric("callers_gone_total", function="yes")
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(b"POST /functions/yes HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n\n")
            self.assertTrue(client.recv(12).startswith(b"HTTP/1.1 200"))
        self.assertTrue(self.wait_for(lambda: self.metric("running", function="yes") == 0))
        self.assertEqual(self.metric("callers_gone_total", function="yes"), gone + 1)

    def test_how_it_ended_is_told(self):
        answer = self.forked("fails", b"7")
        self.assertEqual((answer.status, answer.headers["Brood-Exit-Code"]), (500, "7"))
        answer = self.forked("fails", b"0")
        self.assertEqual((answer.status, answer.headers["Brood-Signal"]), (500, "11"))

    def test_one_that_forks_without_end_is_ended_with_all_it_made(self):
        self.assertEqual(self.forked("breeds").status, 504)

        def made():
            return sum("os.fork() == 0" in words for words in self.command_lines())
        # Its process, the init of that, and what was forked ahead.
        self.assertTrue(self.wait_for(lambda: made() <= 2 + 4), made())
        self.assertEqual(self.forked("stays", b"x").body, b"x")

    def test_many_at_once_and_one_after_the_other(self):
        self.forked("cat")
        before = len(os.listdir(f"/proc/{self.daemon.pid}/fd"))
        with concurrent.futures.ThreadPoolExecutor(16) as threads:
            bodies = [str(i).encode() * 100 for i in range(500)]
            answers = list(threads.map(lambda body: self.call("cat", body), bodies))
        self.assertEqual([answer.body for answer in answers], bodies)
        self.assertEqual({answer.headers["Brood-Path"] for answer in answers}, {"forked"})
        leaves = self.leaves()
        self.assertLess(len(leaves), 120, "cgroups of calls are not used again")
        # A leaf keeps a descriptor: the mount that the process is given. What was cloned ahead for so
        # many callers has its pipes.
        self.assertTrue(self.wait_for(lambda: len(os.listdir(f"/proc/{self.daemon.pid}/fd")) <=
                                      before + len(leaves) + 8 + 4 * 16))

    def test_more_calls_at_once_than_their_socket_has_room_for(self):
        """They are taken while the process stands still, and served when it goes on."""
        self.forked("crowd")
        process = [pid for pid in self.processes("crowd")]
        for pid in process:
            os.kill(pid, signal.SIGSTOP)
        clients = []
        for i in range(400):
            client = socket.create_connection(("127.0.0.1", self.port), timeout=60 * SLOWNESS)
            self.addCleanup(client.close)
            client.sendall(b"POST /functions/crowd HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Length: 4\r\n\r\n%03d\n" % i)
            clients.append(client)
        self.assertTrue(self.wait_for(
            lambda: self.metric("running", function="crowd") == len(clients), 30))
        for pid in process:
            os.kill(pid, signal.SIGCONT)
        for i, client in enumerate(clients):
            answer = client.recv(4096)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
            self.assertTrue(answer.endswith(b"%03d\n" % i), answer)

    def test_a_process_that_is_killed_is_replaced(self):
        self.forked("stays")
        connection = socket.create_connection(("127.0.0.1", self.port))
        self.addCleanup(connection.close)
        connection.sendall(b"POST /functions/stays HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Length: 5\r\n\r\nab")
        self.assertTrue(self.wait_for(lambda: self.metric("running", function="stays") == 1))
        for pid in self.processes("/bin/cat"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # with its init
        self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 503 "))
        self.assertTrue(self.wait_for(
            lambda: self.call("stays", b"x").headers["Brood-Path"] == "forked"))
        self.assertEqual(self.forked("stays", b"again").body, b"again")

    def test_a_reload_lets_calls_end_and_takes_the_old_process_away(self):
        self.forked("waits", b"0")
        with concurrent.futures.ThreadPoolExecutor() as threads:
            slow = threads.submit(self.call, "waits", b"1")
            self.assertTrue(self.wait_for(lambda: self.metric("running", function="waits") == 1))
            self.assertEqual(self.reload(self.CONFIG.replace('timeout = "2s"', 'timeout = "3s"')),
                             "reloaded")
            self.assertEqual(slow.result().body, b"1\n")
        self.assertEqual(self.forked("waits", b"0").body, b"0\n")
        # A process and its init.
        self.assertTrue(self.wait_for(lambda: len(self.processes("sleep")) == 2))


class Configuration(Node):
    CONFIG = function("any", "cat")

    def test_what_cannot_be_forked_is_said_at_the_start(self):
        for settings, problem in (
                ({"template": "default"}, "a forked function is isolated by its own keys"),
                ({"rootfs": "/", "root-mode": "overlay"}, "root must be read-only")):
            self.assertEqual(self.reload(self.CONFIG + command("bad", ["/bin/cat"], **settings)),
                             "not reloaded")
            self.logged(problem)
        self.reload(self.CONFIG)


if __name__ == "__main__":
    unittest.main()
