"""Headless Chromium, driven over its debugging pipe: no driver, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ANSWER_SECONDS = 400
# WebGPU on the processor, by SwiftShader; nothing that calls home.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan,WebGPU",
    "--ignore-gpu-blocklist",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--no-first-run",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    """Its program; None where there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Page:
    """A page of a browser of its own.

    Args:
        address: to open.
        flags: more flags of the browser, or those in place of `FLAGS` that start alike.
        width, height: in pixels, as of a phone.
    """

    def __init__(self, address: str, flags=FLAGS, width: int = 390, height: int = 844):
        # Processes of the browser may still write there when the first one has ended.
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        reads, self._to = os.pipe()
        self._from, writes = os.pipe()
        command = [find_chromium(), *flags, f"--user-data-dir={self._profile.name}", "about:blank"]

        def place_pipes():  # the browser reads at 3 and writes at 4
            given = os.dup(reads), os.dup(writes)
            os.dup2(given[0], 3)
            os.dup2(given[1], 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=place_pipes,
            close_fds=False,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(reads)
        os.close(writes)
        self._buffer, self._number, self._session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=2,
            mobile=True,
        )
        self.call("Page.enable")
        self.call("Page.navigate", url=address)

    def call(self, method: str, **arguments):
        """A command of the protocol, and its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self._buffer:
                if not select.select([self._from], [], [], ANSWER_SECONDS)[0]:
                    raise TimeoutError(f"Chromium does not answer {method}")
                part = os.read(self._from, 2**16)
                if not part:
                    raise RuntimeError("Chromium ended")
                self._buffer += part
            answer, _, self._buffer = self._buffer.partition(b"\0")
            answer = json.loads(answer)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, code: str):
        """The value of JavaScript, once it is there."""
        result = self.call(
            "Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"])[:500])
        return result["result"].get("value")

    def wait_for(self, code: str, seconds: float = 400):
        """Waits until JavaScript is true; returns its value."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if value := self.evaluate(code):
                return value
            time.sleep(0.1)
        said = self.evaluate("document.body.innerText")
        raise TimeoutError(f"{code} is not so after {seconds} s. The page says: {said}")

    def choose_files(self, selector: str, *files):
        """Puts files into an input, as a user does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file) for file in files], nodeId=node)

    def screenshot(self, path, whole: bool = True):
        """A PNG of the page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def close(self):
        """Ends the browser."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)
        self._profile.cleanup()
