"""One call of Kaggle's RPC protocol: a POST of JSON, its reply as a dict, its errors as ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import requests

from launcher.errors import LauncherError, RemoteError, Unreachable
from launcher.targets.kaggle import lean
from launcher.targets.kaggle.wire import (
    BUSY,
    Ask,
    Sign,
    Wire,
    bounded,
    hidden,
    host_of,
    one_line,
    retry_after,
)

MOST_BYTES = 32 << 20
MOST_WORDS_BYTES = 1 << 16
MOST_S = 120.0
MOST_SLIM_S = 1200.0  # hundreds of MB of a log may come before what is wanted
CREATE_S = 180.0
SERVICES = {
    "IntrospectToken": "security.OAuthService",
    "GenerateAccessToken": "users.AccountService",
    "StartBlobUpload": "blobs.BlobApiService",
}
T = TypeVar("T")


class Denied(RemoteError):
    """Kaggle answered with an HTTP status that is an error; what it means depends on the call."""

    def __init__(self, what: str, status: int, words: str) -> None:
        super().__init__(f"{what} failed with {status}{': ' if words else ''}{words}")
        self.status = status
        self.words = words


@dataclass(frozen=True)
class Call:
    """A method and its body."""

    method: str
    body: Mapping[str, Any] = field(default_factory=dict)
    repeat: bool = True  # sending it twice does no harm
    skip: str = ""  # a text of the reply that is not wanted, whatever its size

    def ask(self, wire: Wire, sign: Sign | None) -> Ask:
        """The request that makes the call."""
        named = "datasets.DatasetApiService" if "Dataset" in self.method else "kernels.KernelsApiService"
        url = f"{wire.base}/v1/{SERVICES.get(self.method, named)}/{self.method}"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        ask = Ask("POST", url, json.dumps(self.body).encode(), headers, sign)
        return ask if self.repeat else replace(ask, read_s=CREATE_S, fresh=True)


def perform(wire: Wire, call: Call, sign: Sign | None = None) -> dict[str, Any]:
    """The reply. Denied when Kaggle says no; Unreachable when it does not say, in time or at all."""
    what = f"Kaggle's {call.method}"

    def read(answer: requests.Response) -> dict[str, Any]:
        return _reply(what, call, answer)

    return patiently(wire, call.ask(wire, sign), read, call.repeat)


def patiently(wire: Wire, ask: Ask, read: Callable[[requests.Response], T], repeat: bool = True) -> T:
    """What `read` makes of the answer, once there is one; a 429, which did nothing, is always waited out."""
    waits = wire.patience.waits()
    while True:
        wait_s, again = None, repeat
        try:
            answer = wire.send(ask)
            if answer.status_code not in BUSY:
                return read(answer)
            answer.close()
            wait_s, again = retry_after(answer), repeat or answer.status_code == 429
            trouble = busy(answer)
        except Unreachable as error:
            trouble = error
        if not again or not waits.again(wait_s):
            raise trouble


def busy(answer: requests.Response) -> Unreachable:
    """What an answer says that has no time for us."""
    host, wait_s = host_of(answer.url), retry_after(answer)
    if answer.status_code == 429:
        asked = f" for {wait_s:.0f} s" if wait_s else ""
        return Unreachable(f"{host} asks us to wait{asked} (429)", "try again later")
    return Unreachable(f"{host} is in trouble itself (HTTP {answer.status_code})", "try again later")


def denied(what: str, answer: requests.Response) -> Denied:
    """The error status of an answer, with its message; nothing of a page that is meant for people."""
    data = bytearray()
    with answer:
        for piece in _first(answer):
            data += piece
    try:
        said = json.loads(data)
        words = (said.get("message") or said.get("error")) if isinstance(said, dict) else ""
    except (ValueError, RecursionError):
        words = ""
    words = one_line(hidden(words, answer)) if isinstance(words, str) else ""
    return Denied(what, answer.status_code, words)


def _reply(what: str, call: Call, answer: requests.Response) -> dict[str, Any]:
    """The reply's object; Denied for an error status, also for one inside an HTTP 200."""
    if answer.status_code != 200:
        raise denied(what, answer)
    with answer:
        body = bounded(answer, MOST_BYTES, MOST_S) if not call.skip else _slim(answer, call.skip)
        data = bytearray()  # not a list: pieces may be as small as the other side likes
        for piece in body:
            data += piece
        reply = _object(what, data, answer)
    code = reply.get("code")
    if type(code) is int and code >= 400:
        raise Denied(what, code, one_line(hidden(str(reply.get("message") or ""), answer)))
    return reply


def _slim(answer: requests.Response, key: str) -> Iterator[bytes]:
    whole = bounded(answer, 1 << 50, MOST_SLIM_S)
    return lean.capped(lean.without(whole, key), MOST_BYTES)


def _object(what: str, data: bytearray, answer: requests.Response) -> dict[str, Any]:
    try:
        reply = json.loads(data)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        kind = one_line(answer.headers.get("Content-Type", "no type"), 40)
        raise RemoteError(
            f"{what} was answered with something that is no JSON object ({kind})",
            f"is there a proxy or a login page before {host_of(answer.url)}? Else try again later",
        )
    return reply


def _first(answer: requests.Response) -> Iterator[bytes]:
    """As much of an error's body as any message needs."""
    size = 0
    try:
        for chunk in bounded(answer, 1 << 50, 20.0):
            size += len(chunk)
            yield chunk
            if size > MOST_WORDS_BYTES:
                return
    except LauncherError:
        return
