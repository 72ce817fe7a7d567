"""A real browser over the DevTools protocol, by a pair of pipes: no package is needed, only Chromium."""

import base64
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 20.0  # seconds for one answer
KEYS = {"Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


class Browser:
    """Chromium without a window; `open` gives a tab."""

    def __init__(self, program: str, profile: Path) -> None:
        from_us, to_browser = os.pipe()
        from_browser, to_us = os.pipe()
        self._out, self._in = to_browser, from_browser
        options = ["--headless", "--no-sandbox", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        quiet = ["--no-first-run", "--disable-gpu", "--hide-scrollbars", "about:blank"]
        # the protocol wants exactly the descriptors 3 and 4
        shell = f'exec 13<&{from_us} 14>&{to_us}; exec 3<&13 4>&14; exec "$@"'
        command = ["bash", "-c", shell, "bash", program, *options, *quiet]
        self._process = subprocess.Popen(
            command, pass_fds=(from_us, to_us), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(from_us)
        os.close(to_us)
        self._buffer, self._number = b"", 0
        self.events: list[dict[str, Any]] = []
        self.tabs: list[Tab] = []
        os.set_blocking(self._in, False)

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        os.write(self._out, json.dumps({**message, **({"sessionId": session} if session else {})}).encode() + b"\0")
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            received = self._received()
            self.events += [answer for answer in received if "id" not in answer]
            for answer in received:
                if answer.get("id") == self._number:
                    assert "error" not in answer, f"{method}: {answer['error']}"
                    return answer["result"]
        raise TimeoutError(method)

    def _received(self) -> list[dict[str, Any]]:
        try:
            self._buffer += os.read(self._in, 2**20)
        except BlockingIOError:
            time.sleep(0.002)
        *messages, self._buffer = self._buffer.split(b"\0")
        return [json.loads(message) for message in messages]

    def open(self, path: Path, width: int = 1200, height: int = 800, dark: bool = False) -> "Tab":
        tab = Tab(self, path, width, height, dark)
        self.tabs.append(tab)
        return tab

    def close_tabs(self) -> None:
        while self.tabs:
            self.call("Target.closeTarget", targetId=self.tabs.pop().target)
        self.events.clear()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE)
        os.close(self._in)
        os.close(self._out)


class Tab:
    """A page, what it asked the network for, and what went wrong in it."""

    def __init__(self, browser: Browser, path: Path, width: int, height: int, dark: bool) -> None:
        self.browser, self.url = browser, path.resolve().as_uri()
        self.target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=self.url)
        self.wait("document.querySelector('#table table, #table p')")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **params)

    def run(self, script: str) -> Any:
        """The value of an expression, which may be a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        end = time.monotonic() + PATIENCE
        while not self.run(f"!!({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def texts(self, selector: str) -> list[str]:
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((one) => one.innerText)")

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def choose(self, selector: str, label: str) -> None:
        self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)});"
            f" box.value = [...box.options].find((one) => one.text === {json.dumps(label)}).value;"
            " box.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def type(self, selector: str, text: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        code = KEYS.get(key, ord(key[0].upper()))
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, button="left", clickCount=1, **more)

    def drag(self, places: list[tuple[float, float]]) -> None:
        self.mouse("Pressed", *places[0])
        for place in places:
            self.mouse("Moved", *place, buttons=1)
        self.mouse("Released", *places[-1])

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height in pixels."""
        script = f"(({{x, y, width, height}}) => [x, y, width, height])(document.querySelector({json.dumps(selector)})"
        return tuple(self.run(f"{script}.getBoundingClientRect())"))

    def picture(self) -> np.ndarray:
        """The screen, (height, width, 3)."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)

    def happened(self, method: str) -> list[dict[str, Any]]:
        events = [event for event in self.browser.events if event.get("sessionId") == self.session]
        return [event["params"] for event in events if event["method"] == method]

    def requests(self) -> list[str]:
        """What was asked for beyond the page itself; what lies in the page is none."""
        asked = [event["request"]["url"] for event in self.happened("Network.requestWillBeSent")]
        return [url for url in asked if url != self.url and not url.startswith(("data:", "blob:"))]

    def troubles(self) -> list[str]:
        """Errors, refusals of the page's policy, and opened dialogues."""
        dialogues = [event["message"] for event in self.happened("Page.javascriptDialogOpening")]
        thrown = [str(event["exceptionDetails"]) for event in self.happened("Runtime.exceptionThrown")]
        logged = [event["entry"]["text"] for event in self.happened("Log.entryAdded")]
        said = [str(event["args"]) for event in self.happened("Runtime.consoleAPICalled")]
        return dialogues + thrown + logged + said


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the PATH")
    made = Browser(program, tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    yield chromium
    chromium.close_tabs()
