"""Headless Chromium over its debugging pipe: no driver, no package. Only as much as the tests of pages need."""

import base64
import json
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager

PROGRAM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)


class Page:
    """One page. errors: what scripts threw and the console said of errors."""

    def __init__(self, commands, answers):
        self._commands, self._answers, self._number, self.errors = commands, answers, 0, []
        target = self._send("Target.createTarget", {"url": "about:blank"}, None)["targetId"]
        attached = self._send("Target.attachToTarget", {"targetId": target, "flatten": True}, None)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        return self._send(method, parameters, self._session)

    def _send(self, method, parameters, session):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(answer["params"]["exceptionDetails"])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"])

    def _read(self):
        data = b""
        while not data.endswith(b"\0"):
            byte = self._answers.read(1)
            assert byte, "Chromium ended"
            data += byte
        return json.loads(data[:-1])

    def size(self, width, height, mobile=False):
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    def open(self, url):
        self.send("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script):
        """The value of an expression of JavaScript."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, script, seconds=60):
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({script})"):
            assert time.monotonic() < end, f"waited in vain for {script}"
            time.sleep(0.1)

    def choose_file(self, selector, path):
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def drag(self, points):
        """A stroke of the mouse through points of the window."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 2), "mouseReleased"]
        for kind, (x, y) in zip(kinds, points, strict=True):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def screenshot(self, path):
        shot = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(folder):
    """A page of a browser whose profile is in `folder`, killed at the end or after five minutes."""
    here, theirs = os.pipe(), os.pipe()

    def ends():
        os.dup2(here[0], 1000)
        os.dup2(theirs[1], 1001)
        os.dup2(1000, 3)
        os.dup2(1001, 4)

    options = (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    )
    process = subprocess.Popen(
        [
            PROGRAM,
            *options,
            "--no-first-run",
            "--disable-background-networking",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder}",
        ],
        preexec_fn=ends,
        pass_fds=(3, 4),
        stderr=subprocess.DEVNULL,
    )
    end = threading.Timer(300, process.kill)
    end.start()
    os.close(here[0])
    os.close(theirs[1])
    try:
        with os.fdopen(here[1], "wb") as commands, os.fdopen(theirs[0], "rb") as answers:
            yield Page(commands, answers)
    finally:
        end.cancel()
        process.kill()
        process.wait()
