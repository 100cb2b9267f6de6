"""A page in a headless Chromium, driven over the DevTools protocol: what it shows and what it complains of."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import websocket

from tests.servers.programs import ProgramFailed, find, need

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WAIT_S = 120
COMPLAINTS = ("error", "assert", "warning")
OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--remote-debugging-port=0", "--window-size=1400,2000", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-default-browser-check", "--mute-audio"),
)


class Page:
    """One page; `complaints` holds its console's warnings and errors, failed requests, exceptions and dialogs."""

    def __init__(self, address: str) -> None:
        self.complaints: list[str] = []
        self._number = 0
        self._link = websocket.create_connection(address, timeout=WAIT_S, suppress_origin=True)
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def ask(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{script}: {found['exceptionDetails']['text']} {found['result']}")
        return found["result"].get("value")

    def wait_for(self, script: str, what: str) -> Any:
        """Until an expression is true; its value. Errors on the way, of a page that is still loading, are none."""
        end = time.monotonic() + WAIT_S
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError):
                if found := self.ask(script):
                    return found
            time.sleep(0.1)
        raise AssertionError(f"not within {WAIT_S} s: {what}; the page complains of {self.complaints}")

    def close(self) -> None:
        self._link.close()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._link.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._link.recv())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Page.javascriptDialogOpening":
            self.complaints.append(f"dialog: {told['message']}")
        elif method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            said = details.get("exception", {}).get("description", "")
            self.complaints.append(f"exception: {details['text']} {said}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in COMPLAINTS:
            words = [str(one.get("value", one.get("description", ""))) for one in told["args"]]
            self.complaints.append(f"{told['type']}: {' '.join(words)}")
        elif method == "Log.entryAdded" and told["entry"]["level"] in COMPLAINTS:
            entry = told["entry"]
            self.complaints.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")


@contextlib.contextmanager
def browser() -> Iterator[str]:
    """A browser of its own, without any user's profile; the address of its DevTools."""
    program = executable()
    profile = Path(tempfile.mkdtemp(prefix="launcher-browser-"))
    with open(profile / "said", "wb") as said:
        command = [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    try:
        yield _address(process, profile)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(profile, ignore_errors=True)


@contextlib.contextmanager
def page(devtools: str) -> Iterator[Page]:
    """A new page in a browser."""
    request = urllib.request.Request(f"{devtools}/json/new?about:blank", method="PUT")
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        target = json.load(answer)
    opened = Page(target["webSocketDebuggerUrl"])
    try:
        yield opened
    finally:
        opened.close()
        urllib.request.urlopen(f"{devtools}/json/close/{target['id']}", timeout=WAIT_S).close()


def executable() -> str:
    """A Chromium; on a Debian without one, its package is installed."""
    if not any(map(find, NAMES)):
        need(chromium="chromium")
    return next(found for name in NAMES if (found := find(name)))


def _address(process: subprocess.Popen[bytes], profile: Path) -> str:
    port = profile / "DevToolsActivePort"
    end = time.monotonic() + WAIT_S
    while not (port.exists() and port.read_text().count("\n")):
        if process.poll() is not None or time.monotonic() > end:
            said = (profile / "said").read_text(errors="replace")[-2000:]
            raise ProgramFailed(f"the browser does not start: {said}")
        time.sleep(0.05)
    return f"http://127.0.0.1:{port.read_text().split()[0]}"


def query(**values: str) -> str:
    return urllib.parse.urlencode(values)
