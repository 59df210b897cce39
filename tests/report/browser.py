# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, led through chromedriver by the WebDriver protocol. No more of either than
the tests need.

Run by itself it takes pictures, for people to look at: browser.py PAGE.html DIR
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]


def missing() -> str:
    """The Debian packages that are not there; empty when all are."""
    wanted = {"chromium": "chromium", "chromedriver": "chromium-driver"}
    return " ".join(package for program, package in wanted.items() if not shutil.which(program))


class Browser:
    def __enter__(self) -> Browser:
        self._profile = tempfile.TemporaryDirectory(prefix="brood-chromium-",
                                                    ignore_cleanup_errors=True)
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, start_new_session=True)
        self._session = ""
        try:
            self._base = f"http://127.0.0.1:{self._port()}"
            session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {
                "goog:chromeOptions": {
                    "args": [*ARGUMENTS, f"--user-data-dir={self._profile.name}"]},
                "goog:loggingPrefs": {"browser": "ALL"},
            }}})
            self._session = f"/session/{session['sessionId']}"
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._close()

    def open(self, page: Path, width: int, height: int = 800, dark: bool = False,
             media: str = "") -> None:
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height,
                     deviceScaleFactor=1, mobile=width < 600)
        self.command("Emulation.setEmulatedMedia", media=media, features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self._call("POST", f"{self._session}/url", {"url": page.resolve().as_uri()})

    def run(self, script: str) -> Any:
        """What a JavaScript function body returns."""
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": []})

    def console(self) -> list[str]:
        """What the console was told since it was last asked."""
        entries = self._call("POST", f"{self._session}/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries]

    def picture(self, to: Path) -> None:
        size = self.run("return [document.documentElement.clientWidth,"
                        " document.documentElement.scrollHeight]")
        data = self.command("Page.captureScreenshot", captureBeyondViewport=True, clip={
            "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1})["data"]
        to.write_bytes(base64.b64decode(data))

    def paper(self, to: Path) -> None:
        """As printed: a PDF."""
        data = self.command("Page.printToPDF", preferCSSPageSize=True)["data"]
        to.write_bytes(base64.b64decode(data))

    def command(self, name: str, **parameters: Any) -> Any:
        """One of the DevTools protocol."""
        return self._call("POST", f"{self._session}/goog/cdp/execute",
                          {"cmd": name, "params": parameters})

    def _port(self) -> int:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            if match := re.search(r"started successfully on port (\d+)", line):
                return int(match[1])
        raise RuntimeError("chromedriver ended without telling its port")

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self._base + path, method=method, headers={"Content-Type": "application/json"},
            data=None if body is None else json.dumps(body).encode())
        # Proxies are for others: this is the machine itself.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()[:500]}") from error

    def _close(self) -> None:
        try:
            if self._session:
                self._call("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(timeout=20)
            if self._driver.stdout:
                self._driver.stdout.close()
            self._profile.cleanup()


def main() -> None:
    page, directory = Path(sys.argv[1]), Path(sys.argv[2])
    os.makedirs(directory, exist_ok=True)
    with Browser() as browser:
        for name, width, dark in (("desk", 1200, False), ("phone", 390, False),
                                  ("narrow", 360, True), ("dark", 1200, True)):
            browser.open(page, width, dark=dark)
            browser.picture(directory / f"{name}.png")
        browser.open(page, 1000)
        browser.paper(directory / "paper.pdf")
        print("\n".join(browser.console()))


if __name__ == "__main__":
    main()
