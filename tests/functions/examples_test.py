# SPDX-License-Identifier: Apache-2.0
"""The examples run as written, and so do the commands of their page."""

import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from node import Node

EXAMPLES = os.environ["BROOD_EXAMPLES"]


def markdown():
    return shutil.which("cmark") is not None


def pil():
    return importlib.util.find_spec("PIL") is not None


class Examples(Node):
    @classmethod
    def setUpClass(cls):
        # A directory of its own: what is built, and the file of calls, must not stay in the sources.
        cls.scratch = tempfile.TemporaryDirectory(prefix="brood_examples_")
        cls.examples = os.path.join(cls.scratch.name, "examples")
        shutil.copytree(EXAMPLES, cls.examples)
        os.chmod(cls.scratch.name, 0o755)  # functions have other ids
        with open(os.path.join(cls.examples, "README.md")) as file:
            cls.page = file.read()
        subprocess.run(re.search(r"^g\+\+ .*", cls.page, re.MULTILINE).group(0), shell=True,
                       check=True, cwd=cls.examples)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.scratch.cleanup()

    @classmethod
    def configure(cls, text):
        # Where it stands, and where no daemon was started: its paths begin there.
        cls.config = os.path.join(cls.examples, "examples.toml")

    @unittest.skipUnless(pil(), "python3-pil is not installed")
    def test_thumbnail(self):
        from PIL import Image
        self.primed("thumbnail", 2)
        for form in ("PNG", "JPEG"):
            picture = io.BytesIO()
            Image.new("RGB", (640, 320), "red").save(picture, form)
            answer = self.call("thumbnail", picture.getvalue())
            self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "image/png"))
            thumbnail = Image.open(io.BytesIO(answer.body))
            self.assertEqual(thumbnail.size, (128, 64))
            red, green, blue, _ = thumbnail.getpixel((5, 5))
            self.assertTrue(red > 240 and green < 15 and blue < 15)
        self.assertEqual(self.call("thumbnail", b"no image").status, 422)
        self.assertEqual(self.call("thumbnail", b"x" * (8 << 20) + b"x").status, 413)

    @unittest.skipUnless(markdown(), "cmark is not installed")
    def test_markdown(self):
        answer = self.call("markdown", b"*a*\n\n- b\n")
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual(answer.body, b"<p><em>a</em></p>\n<ul>\n<li>b</li>\n</ul>\n")

    def test_handler(self):
        answer = self.call("handler", b'{"name": "you"}')
        self.assertEqual((answer.status, json.loads(answer.body)), (200, {"message": "hello, you"}))
        for wrong in (b"", b"[1]", b"{}"):
            self.assertEqual(self.call("handler", wrong).status, 400)

    def test_words(self):
        self.assertEqual(self.call("words", b"b a, B. c b").body.split(),
                         [b"3", b"b", b"1", b"a", b"1", b"c"])

    def test_occurs(self):
        self.assertTrue(self.wait_for(lambda: self.metric("primed", function="occurs") > 0, 30))
        answer = self.call("occurs", b"brood\n")
        self.assertEqual(answer.headers["Brood-Path"], "forked")
        self.assertEqual(int(answer.body), len(re.findall(r"\bbrood\b", self.page)))
        self.assertEqual(self.call("occurs", b"unheard").body, b"0\n")

    def test_count(self):
        self.assertEqual(json.loads(self.call("count", b"one two\nthree").body),
                         {"lines": 1, "words": 3, "bytes": 13})

    def test_greeting(self):
        answer = self.call("greeting", b'{"name": "you"}')
        self.assertEqual((answer.status, json.loads(answer.body)), (200, {"message": "hello, you"}))
        answer = self.call("greeting", b"{}")
        self.assertEqual((answer.status, json.loads(answer.body)["errorType"]),
                         (500, "Function.Failed"))
        self.logged("called with {}")

    def test_notes(self):
        self.assertEqual(self.call("notes/a/b?c", method="GET").status, 404)
        self.assertEqual(self.call("notes/a/b?c", b"a note", "PUT").status, 201)
        answer = self.call("notes/a/b?c", method="GET")
        self.assertEqual((answer.body, answer.headers["Brood-Path"]), (b"a note", "warm"))
        self.assertIn(b"/a/b?c\n", self.call("notes/", method="GET").body)

    def test_a_call_that_is_not_waited_for(self):
        answer = self.call("handler?async=1", b'{"name": "you"}')
        self.assertEqual(answer.status, 202)
        location = answer.headers["Location"]
        state = self.wait_for(lambda: [call for call in [json.loads(self.get(location)[1])]
                                       if call["state"] == "done"])[0]
        self.assertEqual(json.loads(state["output"]), {"message": "hello, you"})

    def test_the_page(self):
        blocks = re.findall(r"^```\n(.*?)^```$", self.page, re.MULTILINE | re.DOTALL)
        commands = [each for block in blocks
                    for each in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]
        self.assertGreater(len(commands), 5)
        for command, wanted in commands:
            if "markdown" in command and not markdown() or "thumbnail" in command and not pil():
                continue
            if "picture.png" in command:
                from PIL import Image
                Image.new("RGB", (640, 320), "red").save(os.path.join(self.examples, "picture.png"))
            got = subprocess.run(command.replace(":8080", f":{self.port}"), shell=True, timeout=30,
                                 cwd=self.examples, stdout=subprocess.PIPE, check=True).stdout
            self.assertEqual(got.decode(), wanted, command)


if __name__ == "__main__":
    unittest.main()
