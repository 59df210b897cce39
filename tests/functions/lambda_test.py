# SPDX-License-Identifier: Apache-2.0
"""Lambda's runtime interface: what a runtime is told, and what a caller gets whatever it does."""

import http.client
import json
import os
import socket
import threading
import time
import unittest

from node import MODES as EACH_CALLS, Node, fitting, function

MODES = (*EACH_CALLS, "warm")

MOST = 6 << 20

# What the runtimes of these tests begin with: a client of the interface over one connection.
CLIENT = """
import base64, http.client, json, os, select, socket, sys, threading, time
address = os.environ["AWS_LAMBDA_RUNTIME_API"]
host, port = address.split(":")
connection = http.client.HTTPConnection(address)
def ask(path, body=None, method="POST", **headers):
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, "/2018-06-01/runtime/" + path, body, fields)
    answer = connection.getresponse()
    answer.body = answer.read()
    return answer
def wait():
    global told, call
    told = ask("invocation/next", method="GET")
    call = "invocation/" + told.headers["Lambda-Runtime-Aws-Request-Id"] + "/"
    return told.body
def respond(body, **headers):
    return ask(call + "response", body, **headers)
def raw(data):
    client = socket.create_connection((host, int(port)))
    client.sendall(data)
    return client
"""


def runtime(name, script, **settings):
    lines = [f"[function.{name}]", 'runtime = "lambda"',
             f"command = {json.dumps(['/usr/bin/python3', '-c', CLIENT + script])}"]
    settings = fitting({"mode": "parked", "min": 1, **settings})
    lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()
              if value is not None]
    return "\n".join(lines) + "\n"


def in_modes(name, script, **settings):
    return "".join(runtime(f"{name}-{mode}", script, mode=mode, **settings)
                   for mode in MODES)


class Lambda(Node):
    def sockets(self):
        """Sockets among the daemon's descriptors."""
        found = 0
        for fd in os.listdir(f"/proc/{self.daemon.pid}/fd"):
            try:
                found += os.readlink(f"/proc/{self.daemon.pid}/fd/{fd}").startswith("socket:")
            except OSError:
                pass
        return found

    def failed(self, name, end, body=b"x"):
        answer = self.call(name, body)
        self.assertEqual((answer.status, answer.headers["Brood-End"]), (500, end), answer.body)
        return answer

    def error(self, name, kind, body=b"x"):
        """The error that the function is answered with."""
        answer = self.failed(name, "error", body)
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertEqual(answer.headers["X-Amz-Function-Error"], "Unhandled")
        error = json.loads(answer.body)
        self.assertEqual(error["errorType"], kind)
        return error


class Calls(Lambda):
    CONFIG = in_modes("echo", "respond(wait())") + \
        in_modes("told", "wait()\nrespond(json.dumps(dict(told.headers)))", timeout="20s") + \
        runtime("environment", "wait()\nrespond(json.dumps(dict(os.environ, cwd=os.getcwd())))",
                cwd="/tmp", env=["AWS_REGION=eu-west-1", "OWN=1", "_HANDLER=a.b"]) + \
        runtime("descriptors", "wait()\nrespond(json.dumps(sorted("
                "os.path.realpath(f'/proc/self/fd/{fd}').split(':')[0].split('/')[-1] "
                "for fd in os.listdir('/proc/self/fd'))))") + \
        runtime("small", "respond(wait())", **{"max-body": "1000"}) + \
        runtime("streamed", """
size = int(wait())
connection.putrequest("POST", "/2018-06-01/runtime/" + call + "response")
connection.putheader("Lambda-Runtime-Function-Response-Mode", "streaming")
connection.putheader("Content-Type", "text/x-streamed")
connection.putheader("Transfer-Encoding", "chunked")
connection.endheaders()
while size > 0:
    piece = b"x" * min(size, 50000)
    connection.send(b"%x\\r\\n%s\\r\\n" % (len(piece), piece))
    size -= len(piece)
connection.send(b"0\\r\\n\\r\\n")
connection.getresponse()
""", mode="primed") + \
        runtime("asks-ahead", """
event = wait()
ahead = raw(b"GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
time.sleep(0.1)
respond(event)
time.sleep(1000)
""") + \
        runtime("late", "time.sleep(2)\nrespond(wait())", mode="primed") + \
        runtime("sleeps", "wait()\ntime.sleep(1000)") + \
        runtime("talks", "print('said to stdout', flush=True)\nprint('to stderr', file=sys.stderr)\n"
                "wait()\nsys.exit(1)") + \
        function("stdin", "exec cat", mode="primed", min=1)

    def test_an_event_becomes_a_response(self):
        for mode in MODES:
            for event in (b'{"a": 1}', b"\0\xff no json", b"x" * (1 << 20), b"y" * MOST):
                answer = self.call(f"echo-{mode}", event)
                self.assertEqual((answer.status, answer.headers["Content-Type"]),
                                 (200, "application/json"), answer.body[:200])
                self.assertEqual(answer.body, event)
            self.assertEqual(self.call(f"echo-{mode}").body, b"{}")

    def test_a_primed_one_has_asked_already(self):
        self.primed("echo-primed", 1)
        self.assertEqual(self.call("echo-primed", b"x").headers["Brood-Path"], "primed")
        for mode in ("cold", "parked"):
            self.assertIn(self.call(f"echo-{mode}", b"x").headers["Brood-Path"],
                          (mode, "zygote"))

    def test_what_it_is_told(self):
        seen = set()
        for mode in MODES:
            before = time.time()
            told = json.loads(self.call(f"told-{mode}", b"x").body)
            call = told["Lambda-Runtime-Aws-Request-Id"]
            self.assertRegex(call, "^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-"
                                   "[0-9a-f]{12}$")
            self.assertNotIn(call, seen)
            seen.add(call)
            left = int(told["Lambda-Runtime-Deadline-Ms"]) / 1000 - before
            self.assertGreater(left, 0)
            self.assertLess(left, 20 + time.time() - before + 1)
            self.assertEqual(told["Lambda-Runtime-Invoked-Function-Arn"],
                             f"arn:aws:lambda:us-east-1:000000000000:function:told-{mode}")
            self.assertRegex(told["Lambda-Runtime-Trace-Id"],
                             "^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Sampled=0$")
            self.assertEqual(told["Content-Type"], "application/json")

    def test_its_environment(self):
        env = json.loads(self.call("environment", b"x").body)
        self.assertEqual({key: env.get(key) for key in (
            "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT", "cwd", "AWS_LAMBDA_FUNCTION_NAME",
            "AWS_LAMBDA_FUNCTION_VERSION", "AWS_REGION", "OWN", "_HANDLER",
            "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE")}, {
                "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "LAMBDA_TASK_ROOT": "/tmp",
                "cwd": "/tmp", "AWS_LAMBDA_FUNCTION_NAME": "environment",
                "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_REGION": "eu-west-1", "OWN": "1",
                "_HANDLER": "a.b", "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": None})

    def test_it_holds_nothing_of_the_daemons(self):
        # stdin, stdout and stderr, its own connection, and the directory that it reads.
        self.assertEqual(json.loads(self.call("descriptors", b"x").body),
                         ["4", "null", "pipe", "pipe", "socket"])

    def test_an_event_that_is_too_long(self):
        self.assertEqual(self.call("small", b"x" * 1001).status, 413)
        self.assertEqual(self.call("echo-primed", b"x" * (MOST + 1)).status, 413)
        pieces = (b"x" * 600 for _ in range(2))
        self.assertEqual(self.call("small", pieces, encode_chunked=True,
                                   headers={"Transfer-Encoding": "chunked"}).status, 413)

    def test_a_streamed_response(self):
        for size in (0, 10, 1 << 20, MOST + 5):
            answer = self.call("streamed", b"%d" % size)
            self.assertEqual((answer.status, len(answer.body), answer.headers["Content-Type"]),
                             (200, size, "text/x-streamed"))

    def test_a_second_question_waits(self):
        self.assertEqual(self.call("asks-ahead", b"x").body, b"x")

    def test_one_that_has_not_asked_yet_is_not_ready_but_sooner_than_a_new_one(self):
        self.assertEqual(self.reload(self.CONFIG.replace("time.sleep(2)", "time.sleep(3)")),
                         "reloaded")
        missed = self.metric("misses_total", function="late")
        self.assertEqual(self.metric("primed", function="late"), 0)
        answer = self.call("late", b"x")
        self.assertEqual(answer.status, 200)
        self.assertIn(answer.headers["Brood-Path"], ("parked", "zygote"))
        self.assertEqual(self.metric("misses_total", function="late"), missed + 1)
        self.primed("late", 1)
        self.assertEqual(self.call("late", b"x").headers["Brood-Path"], "primed")

    def test_a_caller_that_vanishes_ends_it(self):
        with socket.create_connection(("127.0.0.1", self.port)) as client:
            client.sendall(b"POST /functions/sleeps HTTP/1.1\r\nHost: x\r\n"
                           b"Content-Length: 1\r\n\r\nx")
            self.assertTrue(self.wait_for(lambda: self.metric("running", function="sleeps") == 1))
        self.assertTrue(self.wait_for(lambda: self.metric("running", function="sleeps") == 0))

    def test_what_it_writes_is_logged(self):
        self.failed("talks", "exited")
        self.logged("said to stdout")
        self.logged("to stderr")

    def test_functions_beside_it(self):
        self.assertEqual(self.call("stdin", b"x").body, b"x")
        runtimes = {each["name"]: each["runtime"]
                    for each in json.loads(self.get("/functions")[1])}
        self.assertEqual((runtimes["stdin"], runtimes["echo-cold"]), ("stdin", "lambda"))


class Failures(Lambda):
    CONFIG = in_modes("error", """
wait()
ask(call + "error", json.dumps({"errorMessage": "no such thing", "errorType": "Thing.Missing",
    "stackTrace": ["here"]}), Lambda_Runtime_Function_Error_Type="Function.Thing")
time.sleep(1000)
""") + in_modes("init", """
ask("init/error", json.dumps({"errorMessage": "cannot begin", "errorType": "Thing.Init"}))
time.sleep(1000)
""") + in_modes("exits", "wait()\nsys.exit(3)") + \
        in_modes("crashes", "wait()\nimport ctypes\nctypes.string_at(0)") + \
        runtime("exits-early", "sys.exit(4)") + \
        runtime("silent", "wait()") + \
        runtime("never-asks", "time.sleep(1000)", timeout="500ms") + \
        runtime("never-answers", "wait()\ntime.sleep(1000)", timeout="500ms") + \
        runtime("plain-error", "wait()\nask(call + 'error', 'in words', "
                "Lambda_Runtime_Function_Error_Type='A.B')\ntime.sleep(1000)") + \
        runtime("long-error", "wait()\nask(call + 'error', 'x' * 100000)\ntime.sleep(1000)") + \
        runtime("statuses", """
early = [ask("invocation/none/response", "x").status]
wait()
respond(json.dumps(early + [answer.status for answer in (
    ask("invocation/" + "0" * 36 + "/response", "x"), ask("invocation//response", "x"),
    ask("invocation/" + "0" * 36 + "/error", "{}"), ask("init/error", "{}"),
    ask("nothing", "x"), ask("invocation/next", "x"), ask(call + "response", method="GET"))]))
""") + runtime("twice", """
wait()
first = raw(("POST /2018-06-01/runtime/" + call + "response HTTP/1.1\\r\\nHost: x\\r\\n"
    "Transfer-Encoding: chunked\\r\\n\\r\\n1\\r\\n[\\r\\n").encode())
time.sleep(0.2)
statuses = b"%d,%d]" % (respond("[]").status, ask(call + "error", "{}").status)
first.sendall(b"%x\\r\\n%s\\r\\n0\\r\\n\\r\\n" % (len(statuses), statuses))
time.sleep(1000)
""") + runtime("both-at-once", """
wait()
post = ("POST /2018-06-01/runtime/" + call + "response HTTP/1.1\\r\\nHost: x\\r\\n"
    "Content-Length: 5\\r\\n\\r\\n")
both = raw((post + "first" + post + "other").encode())
time.sleep(1000)
""") + runtime("garbage", """
wait()
respond(raw(b"\\x16\\x03\\x01 no request\\r\\n\\r\\n").recv(12) + b"," +
        raw(b"POST /x HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 1\\r\\nContent-Length: 2\\r\\n"
            b"\\r\\n").recv(12))
""") + runtime("too-long", """
event = wait()
status = respond(b"x" * (6 * 1024 * 1024 + 1)).status
if event == b"shorter":
    respond(str(status))
elif event == b"goes on":
    wait()
""") + runtime("too-long-in-chunks", """
wait()
connection.request("POST", "/2018-06-01/runtime/" + call + "response",
    (b"x" * 65536 for _ in range(97)), {"Transfer-Encoding": "chunked"}, encode_chunked=True)
time.sleep(1000)
""") + runtime("breaks-off", """
wait()
raw(("POST /2018-06-01/runtime/" + call + "response HTTP/1.1\\r\\nHost: x\\r\\n"
    "Content-Length: 100\\r\\n\\r\\nonly this").encode()).close()
time.sleep(1000)
""") + runtime("bad-mode", "wait()\nrespond('x', Lambda_Runtime_Function_Response_Mode='x')\n"
               "time.sleep(1000)") + \
        runtime("fails-late", """
length = int(wait())
error = base64.b64encode(json.dumps({"errorMessage": "in the midst",
    "errorType": "Thing.Late"}).encode())
held = raw(("POST /2018-06-01/runtime/" + call + "response HTTP/1.1\\r\\nHost: x\\r\\n"
    "Transfer-Encoding: chunked\\r\\nLambda-Runtime-Function-Response-Mode: streaming\\r\\n"
    "Trailer: Lambda-Runtime-Function-Error-Type\\r\\n\\r\\n%x\\r\\n%s\\r\\n0\\r\\n"
    "Lambda-Runtime-Function-Error-Type: Thing.Late\\r\\n"
    "Lambda-Runtime-Function-Error-Body: %s\\r\\n\\r\\n"
    % (length, "x" * length, error.decode())).encode())
time.sleep(1000)
""") + runtime("good", "respond(wait())", mode="primed")

    def test_an_error_is_the_answer(self):
        for mode in MODES:
            error = self.error(f"error-{mode}", "Thing.Missing")
            self.assertEqual((error["errorMessage"], error["stackTrace"]),
                             ("no such thing", ["here"]))
        self.logged("no such thing")

    def test_an_error_before_the_call_is_its_answer(self):
        for mode in MODES:
            self.assertEqual(self.error(f"init-{mode}", "Thing.Init")["errorMessage"],
                             "cannot begin")

    def test_one_that_cannot_begin_does_not_keep_the_machine_busy(self):
        self.assertTrue(self.wait_for(
            lambda: self.metric("primed_lost_total", function="init-primed") >= 2))
        self.assertLess(self.metric("primed_lost_total", function="init-primed"), 60)
        self.assertEqual(self.metric("primed", function="init-primed"), 0)

    def test_an_error_in_other_words(self):
        self.assertEqual(self.error("plain-error", "A.B")["errorMessage"], "in words")
        self.assertIn("longer than", self.error("long-error", "Runtime.Unknown")["errorMessage"])

    def test_one_that_ends_without_an_answer(self):
        for mode in MODES:
            answer = self.failed(f"exits-{mode}", "exited")
            self.assertEqual(answer.headers["Brood-Exit-Code"], "3")
            self.assertEqual(self.failed(f"crashes-{mode}", "signalled").headers["Brood-Signal"],
                             "11")
        self.assertEqual(self.failed("exits-early", "exited").headers["Brood-Exit-Code"], "4")
        self.failed("silent", "no_answer")

    def test_one_that_takes_too_long(self):
        for name in ("never-asks", "never-answers"):
            self.assertEqual(self.call(name, b"x").status, 504)

    def test_what_is_against_the_rules_is_refused_and_the_call_goes_on(self):
        self.assertEqual(json.loads(self.call("statuses", b"x").body),
                         [400, 400, 400, 400, 403, 404, 405, 405])

    def test_a_call_is_answered_once(self):
        self.assertEqual(json.loads(self.call("twice", b"x").body), [403, 403])
        for _ in range(5):
            self.assertEqual(self.call("both-at-once", b"x").body, b"first")

    def test_garbage_is_refused_and_the_call_goes_on(self):
        self.assertEqual(self.call("garbage", b"x").body, b"HTTP/1.1 400,HTTP/1.1 400")

    def test_a_response_that_is_too_long(self):
        self.assertEqual(self.call("too-long", b"shorter").body, b"413")
        for event in (b"goes on", b"ends"):
            self.error("too-long", "Function.ResponseSizeTooLarge", event)
        with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
            self.call("too-long-in-chunks", b"x")

    def test_a_response_that_breaks_off(self):
        self.error("breaks-off", "Runtime.TruncatedResponse")

    def test_a_response_in_another_mode(self):
        self.error("bad-mode", "Runtime.InvalidResponseModeHeader")

    def test_an_error_behind_a_streamed_response(self):
        self.assertEqual(self.error("fails-late", "Thing.Late", b"10")["errorMessage"],
                         "in the midst")
        with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
            self.call("fails-late", b"200000")

    def test_none_of_it_leaves_a_descriptor(self):
        self.primed("good", 1)
        self.call("good", b"x")
        self.primed("good", 1)
        before = self.sockets()
        for name in ("error-cold", "exits-parked", "silent", "garbage", "too-long", "breaks-off",
                     "bad-mode", "never-answers", "both-at-once"):
            self.assertIn(self.call(name, b"x").status, (200, 500, 504), name)
        # init-primed begins anew all the time, and has a channel then.
        self.assertTrue(self.wait_for(lambda: self.sockets() <= before), self.sockets())


class Gateway(Lambda):
    """Events and responses as API Gateway has them."""

    SAYS = """
while True:
    event = json.loads(wait())
    path = event.get("rawPath") or event["path"]
    if path == "/event": respond(json.dumps({"statusCode": 200, "body": json.dumps(event)}))
    elif path == "/teapot":
        respond(json.dumps({"statusCode": 418, "headers": {"X-A": "b", "Content-Type": "a/b"},
                            "body": base64.b64encode(b"\\0\\1" * 50000).decode(),
                            "isBase64Encoded": True}))
    elif path == "/plain": respond(json.dumps({"hello": "you"}))
    elif path == "/streamed":
        respond(iter([b'{"statusCode": 201, "headers": {"X-S": "1"}}', b"\\0" * 8, b"first",
                      b"x" * 100000]),
                Lambda_Runtime_Function_Response_Mode="streaming",
                Content_Type="application/vnd.awslambda.http-integration-response")
    else: respond(json.dumps({"statusCode": 9999}))
"""
    CONFIG = runtime("one", SAYS, mode=None, min=None, event="api-gateway-1.0") + \
        runtime("two", SAYS, mode=None, min=None, event="api-gateway-2.0") + \
        runtime("parked", SAYS, mode="parked", event="api-gateway-2.0")

    def test_the_event_is_the_request(self):
        for name in ("two", "parked"):
            answer = self.call(f"{name}/event?a=1&a=2", b"\xff\0", "PUT",
                               {"X-A": "1", "Cookie": "c=d", "User-Agent": "tests"})
            self.assertEqual(answer.status, 200, answer.body)
            event = json.loads(answer.body)
            self.assertEqual(
                [event["version"], event["rawPath"], event["rawQueryString"], event["cookies"],
                 event["headers"]["x-a"], event["queryStringParameters"], event["body"],
                 event["isBase64Encoded"], event["requestContext"]["http"]["method"],
                 event["requestContext"]["http"]["sourceIp"]],
                ["2.0", "/event", "a=1&a=2", ["c=d"], "1", {"a": "1,2"}, "/wA=", True, "PUT",
                 "127.0.0.1"])
        event = json.loads(self.call("one/event?a=1&a=2", b"text").body)
        self.assertEqual(
            [event["version"], event["path"], event["httpMethod"], event["body"],
             event["multiValueQueryStringParameters"], event["isBase64Encoded"]],
            ["1.0", "/event", "POST", "text", {"a": ["1", "2"]}, False])
        self.assertIsNone(json.loads(self.call("one/event", method="GET").body)["body"])

    def test_the_response_is_the_answer(self):
        for name in ("one", "two", "parked"):
            answer = self.call(f"{name}/teapot")
            self.assertEqual((answer.status, answer.headers["X-A"], answer.headers["Content-Type"],
                              answer.body), (418, "b", "a/b", b"\0\1" * 50000), name)
            answer = self.call(f"{name}/streamed")
            self.assertEqual((answer.status, answer.headers["X-S"], answer.body),
                             (201, "1", b"first" + b"x" * 100000), name)
        answer = self.call("two/plain")
        self.assertEqual((answer.status, answer.body), (200, b'{"hello": "you"}'))
        for target in ("one/plain", "two/odd"):
            answer = self.call(target)
            self.assertEqual((answer.status, answer.headers["Brood-End"]), (502, "bad_answer"))


class Isolation(Lambda):
    # A runtime out of Bash alone: it is quick.
    QUICK = r"""
ask() {
  exec 3<>/dev/tcp/127.0.0.1/9001
  printf '%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s' \
    "$1" "/2018-06-01/runtime/invocation/$2" "${#3}" "$3" >&3
  while read -r line <&3 && [ "$line" != $'\r' ]; do
    case $line in
      Lambda-Runtime-Aws-Request-Id:*) id=${line#*: }; id=${id%$'\r'} ;;
      Content-Length:*) length=${line#*: }; length=${length%$'\r'} ;;
    esac
  done
  read -r -N "$length" event <&3
}
ask GET next
ask POST "$id/response" "$event"
sleep 1000
"""
    FLOOD = """
import threading
def flood():
    while True:
        try:
            %s
        except OSError:
            time.sleep(0.01)
for _ in range(4):
    threading.Thread(target=flood, daemon=True).start()
time.sleep(1000)
"""
    PROBE = ("/usr/bin/python3 -c 'import socket, sys\n"
             "with socket.socket() as s: print(s.connect_ex((\"127.0.0.1\", 9001)))'")
    CONFIG = "[function.quick]\nruntime = 'lambda'\nmode = 'primed'\nmin = 2\n" \
        f"command = {json.dumps(['/bin/bash', '-c', QUICK])}\n" + \
        runtime("waits", "respond(wait())", mode="primed") + \
        function("probe", PROBE, mode="cold") + \
        runtime("floods-next", "wait()" + FLOOD %
                "raw(b'GET /2018-06-01/runtime/x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n').close()",
                timeout="60s") + \
        runtime("floods-garbage", FLOOD % "raw(b'\\0' * 100000).close()", timeout="60s") + \
        runtime("floods-one", "wait()" + FLOOD %
                "raw(b'GET /x HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' * 1000).recv(1 << 20)", timeout="60s") + \
        runtime("pours", "connection.close()\nclient = raw(b'POST /x HTTP/1.1\\r\\nHost: x\\r\\n"
                "Content-Length: 100000000000\\r\\n\\r\\n')\n"
                "try:\n    while True: client.sendall(b'x' * 65536)\n"
                "except OSError: pass\nrespond(wait())", timeout="60s") + \
        runtime("crowds", "crowd = [raw(b'GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\n"
                "Host: x\\r\\n\\r\\n') for _ in range(20)]\n"
                "told = select.select(crowd, [], [])[0][0].recv(65536).decode()\n"
                "call = 'invocation/' + told.split('Request-Id: ')[1].split('\\r')[0] + '/'\n"
                "for each in crowd: each.close()\n"
                "respond('served')")

    def test_nobody_else_reaches_the_endpoint(self):
        self.primed("waits", 1)
        refused = str(111).encode()  # ECONNREFUSED
        self.assertEqual(self.call("probe").body.strip(), refused)
        # The daemon accepts there, and yet does not listen where it lives.
        held = set()
        for fd in os.listdir(f"/proc/{self.daemon.pid}/fd"):
            try:
                held.add(os.readlink(f"/proc/{self.daemon.pid}/fd/{fd}"))
            except OSError:
                pass
        with open(f"/proc/{self.daemon.pid}/net/tcp") as sockets:
            for line in list(sockets)[1:]:
                words = line.split()
                if int(words[1].split(":")[1], 16) == 9001:
                    self.assertNotIn(f"socket:[{words[9]}]", held)
        self.assertEqual(self.call("waits", b"x").body, b"x")

    def test_two_hundred_calls_leave_nothing(self):
        self.primed("quick", 2)
        self.call("quick", b"first")
        for name, count in (("quick", 2), ("waits", 1)):
            self.primed(name, count)
        before = self.fds(), self.sockets()
        for i in range(200):
            body = b'{"call": %d}' % i
            answer = self.call("quick", body)
            self.assertEqual((answer.status, answer.body), (200, body))
        self.primed("quick", 2)
        self.assertTrue(self.wait_for(lambda: self.sockets() <= before[1]), self.sockets())
        # Namespaces of the last ones are closed many at once, a little later.
        self.assertTrue(self.wait_for(lambda: self.fds() <= before[0] + 4, 20), self.fds())

    def test_whoever_floods_is_ended_while_others_are_served(self):
        for name in ("floods-next", "floods-garbage", "floods-one"):
            answers = []
            caller = threading.Thread(target=lambda: answers.append(self.call(name, b"x")))
            caller.start()
            while caller.is_alive():
                self.assertEqual(self.call("quick", b"x").status, 200)
            caller.join()
            self.assertEqual(answers[0].status, 500, name)
            self.assertEqual(json.loads(answers[0].body)["errorType"], "Runtime.TooManyRequests")

    def test_a_body_that_nobody_wants_is_not_read_for_ever(self):
        self.assertEqual(self.call("pours", b"x").body, b"x")

    def test_a_crowd_of_questions(self):
        self.assertEqual(self.call("crowds", b"x").body, b"served")


class Settings(Lambda):
    CONFIG = runtime("echo", "respond(wait())", mode="primed") + \
        runtime("fails", "wait()\nask(call + 'error', '{\"errorType\": \"A\"}')\ntime.sleep(9)") + \
        '[http]\ncalls = "calls.sqlite"\n'

    @classmethod
    def start(cls):
        cls.cwd = cls.directory.name
        super().start()

    def setUp(self):
        self.assertEqual(self.reload(self.CONFIG), "reloaded")

    def ended(self, name, body):
        answer = self.call(f"{name}?async=1", body)
        self.assertEqual(answer.status, 202)
        location = answer.headers["Location"]
        return self.wait_for(lambda: [call for call in [json.loads(self.get(location)[1])]
                                      if call["state"] == "done"], 20)[0]

    def test_calls_that_nobody_waits_for(self):
        call = self.ended("echo", b'{"a": 1}')
        self.assertEqual((call["status"], call["output"]), (200, '{"a": 1}'))
        call = self.ended("fails", b"x")
        self.assertEqual((call["status"], call["headers"]["Brood-End"],
                          json.loads(call["output"])["errorType"]), (500, "error", "A"))

    def test_a_network_that_others_share_is_refused(self):
        for wrong in (runtime("echo", "x", net="host"),
                      runtime("echo", "x", template="open") + "[template.open]\nnet = 'host'\n"):
            self.assertEqual(self.reload(wrong), "not reloaded")
            last = json.loads(self.log().splitlines()[-1])
            self.assertIn("network namespace of its own", last["why"])
            self.assertIn("echo", last["why"])
            self.assertEqual(self.call("echo", b"x").body, b"x")

    def test_a_template_of_others(self):
        self.assertEqual(self.reload(
            runtime("echo", "wait()\nrespond(socket.gethostname())", template="named") +
            "[template.named]\nparked = 1\nhostname = 'named'\n"), "reloaded")
        self.assertEqual(self.call("echo", b"x").body, b"named")

    def test_the_runtime_of_a_function_changes(self):
        self.primed("echo", 1)
        self.assertEqual(self.reload(function("echo", "cat; echo .", mode="primed", min=1)),
                         "reloaded")
        self.assertEqual(self.call("echo", b"x").body, b"x.\n")
        self.assertEqual(self.reload(self.CONFIG), "reloaded")
        self.assertEqual(self.call("echo", b"x").body, b"x")


if __name__ == "__main__":
    unittest.main()
