"""The plainest client of Colab, for tests of the emulator and for looking into its runtimes."""

from __future__ import annotations

import base64
import json
import subprocess
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.environments import runtime_python

PREFIX = ")]}'\n"
TIMEOUT_S = 60
VISITOR = Path(__file__).with_name("visitor.py")  # runs in the emulator's environment


@dataclass(frozen=True)
class Cell:
    """What came from the kernel for one cell."""

    kernel: str
    messages: list[dict[str, Any]]

    def printed(self, stream: str = "stdout") -> str:
        return "".join(one["text"] for one in self.messages if one.get("name") == stream)

    @property
    def error(self) -> str | None:
        return next((one["ename"] for one in self.messages if one["type"] == "error"), None)


class CellLost(Exception):
    """The connection to the kernel broke before the cell's end."""


@dataclass(frozen=True)
class Runtime:
    """A runtime's Jupyter server behind its proxy; `told` is all that assign said."""

    endpoint: str
    url: str
    token: str
    told: dict[str, Any]

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"X-Colab-Runtime-Proxy-Token": self.token, **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, timeout=TIMEOUT_S, **options)

    def read(self, path: str, first: int, last: int) -> requests.Response:
        return self.request("GET", f"/files/{path}", headers={"Range": f"bytes={first}-{last}"})

    def put_chunk(self, path: str, number: int, data: bytes) -> int:
        """The status; chunks count 1, 2, … and the last one is -1."""
        text = base64.b64encode(data).decode()
        model = {"type": "file", "format": "base64", "chunk": number, "content": text}
        return self.request("PUT", f"/api/contents/{path}", json=model).status_code

    def execute(self, code: str, kernel: str | None = None, leave_after: str | None = None) -> Cell:
        command = [str(runtime_python()), str(VISITOR)]
        command += ["--kernel", kernel] if kernel else []
        command += ["--leave-after", leave_after] if leave_after else []
        command += ["--", self.url, self.token, code]  # a token may begin with a dash
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * TIMEOUT_S)
        if done.returncode != 0:
            raise CellLost(done.stderr)
        first, *lines = done.stdout.splitlines()
        return Cell(json.loads(first)["kernel"], [json.loads(line) for line in lines])


class PlainClient:
    """The account's side."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    @classmethod
    def of(cls, colab: Colab) -> PlainClient:
        return cls(colab.url, colab.token)

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {**self._headers, **options.pop("headers", {})}
        return requests.request(method, self._url + path, headers=headers, timeout=TIMEOUT_S, **options)

    def get(self, path: str, **query: str) -> Any:
        answer = self.request("GET", path, params=query)
        answer.raise_for_status()
        return unguarded(answer)

    def assign(self, gpu: str | None = None, nbh: str | None = None, **query: str) -> requests.Response:
        """The last answer: POST's, or GET's where it already has a runtime or refuses."""
        wish = {"nbh": nbh or notebook(), "variant": "GPU" if gpu else "DEFAULT", **query}
        wish |= {"accelerator": gpu} if gpu else {}
        asked = self.request("GET", "/tun/m/assign", params=wish)
        if asked.status_code != 200 or "endpoint" in unguarded(asked):
            return asked
        headers = {"X-Goog-Colab-Token": unguarded(asked)["token"]}
        return self.request("POST", "/tun/m/assign", params=wish, headers=headers)

    def runtime(self, gpu: str | None = None, **query: str) -> Runtime:
        answer = self.assign(gpu, **query)
        answer.raise_for_status()
        return _runtime(unguarded(answer))

    def runtimes(self) -> dict[str, Runtime]:
        """The account's runtimes, each with a fresh proxy token."""
        listed: Iterable[dict[str, Any]] = self.get("/tun/m/assignments")["assignments"]
        return {one["endpoint"]: _runtime(one) for one in listed}

    def unassign(self, endpoint: str) -> int:
        path = f"/tun/m/unassign/{endpoint}"
        headers = {"X-Goog-Colab-Token": self.get(path)["token"]}
        return self.request("POST", path, headers=headers).status_code

    def keep_alive(self, endpoint: str) -> int:
        headers = {"X-Colab-Tunnel": "Google"}
        return self.request("GET", f"/tun/m/{endpoint}/keep-alive/", headers=headers).status_code


def notebook() -> str:
    """A notebook's hash as clients send it."""
    return str(uuid.uuid4()).replace("-", "_").ljust(44, ".")


def unguarded(answer: requests.Response) -> Any:
    return json.loads(answer.text.removeprefix(PREFIX))


def _runtime(told: dict[str, Any]) -> Runtime:
    info = told["runtimeProxyInfo"]
    return Runtime(told["endpoint"], info["url"], info["token"], told)
