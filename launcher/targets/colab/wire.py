"""HTTP as Colab needs it: bounded answers, bounded waiting, one clear line for whatever goes wrong."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from launcher.errors import RemoteError, Unreachable

CONNECT_S, READ_S = 15.0, 60.0
ANSWER_BYTES = 32 << 20  # of an answer that is kept in memory
BLOCK = 256 << 10
DELAYS_S = (0.5, 1.0, 2.0, 4.0)  # between the attempts of what may be asked again
LONGEST_WAIT_S = 60.0  # however long Retry-After is
AGAIN = (429, 502, 503, 504)
XSSI_PREFIX = b")]}'"  # keeps other sites from running an answer as a script


class Cut(Unreachable):
    """The connection broke in the middle of an answer."""


@dataclass(frozen=True)
class Call:
    """One request; `auth` gives the headers that say who we are, which no redirect and no netrc replaces."""

    method: str
    url: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    read_s: float = READ_S


@dataclass(frozen=True)
class Answer:
    """`headers` may be asked for in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Stream:
    """An answer whose body is still to come."""

    status: int
    headers: Mapping[str, str]
    blocks: Callable[[int], Iterator[bytes]]


class Wire:
    """Connections to one peer, called `peer` in errors. May be shared by threads."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._session = requests.Session()
        self._session.headers.update({"Accept-Encoding": "identity", "User-Agent": "launcher"})

    def once(self, call: Call) -> Answer:
        """The answer, whatever its status; Unreachable when none came whole: it may have had its effect."""
        with self.stream(call) as stream:
            body = b"".join(self._bounded(stream.blocks(BLOCK)))
            return Answer(stream.status, stream.headers, body)

    def ask(self, call: Call) -> Answer:
        """The answer to what may be asked any number of times; the last one when it stays 429 or 5xx."""
        return again(lambda: self.once(call))

    @contextmanager
    def stream(self, call: Call) -> Iterator[Stream]:
        try:
            reply = self._session.request(
                call.method,
                call.url,
                params=call.params,
                headers=dict(call.headers),
                data=call.body,
                auth=_Headers(call.auth),
                timeout=(CONNECT_S, call.read_s),
                allow_redirects=False,
                stream=True,
            )
        except requests.RequestException as error:
            raise self._no_answer(error) from None  # its text may hold the address with all that is in it
        with reply:
            if "Content-Encoding" in reply.headers:
                raise RemoteError(f"{self._peer} answered with compressed bytes that nobody asked for")
            yield Stream(reply.status_code, reply.headers, lambda size: self._blocks(reply, size))

    def close(self) -> None:
        self._session.close()

    def _blocks(self, reply: requests.Response, size: int) -> Iterator[bytes]:
        try:
            yield from reply.iter_content(size)
        except requests.RequestException as error:
            raise Cut(f"{self._peer} broke off in the middle of an answer: {_reason(error)}") from None

    def _bounded(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        total = 0
        for block in blocks:
            total += len(block)
            if total > ANSWER_BYTES:
                raise RemoteError(f"{self._peer} answered with more than {ANSWER_BYTES >> 20} MB")
            yield block

    def _no_answer(self, error: requests.RequestException) -> Unreachable:
        return Unreachable(
            f"{self._peer} does not answer: {_reason(error)}", "check the network, then try again"
        )


def again(attempt: Callable[[], Answer]) -> Answer:
    """Attempts until one is answered for good, with pauses; Retry-After is honoured up to a minute."""
    for delay_s in DELAYS_S:
        try:
            answer = attempt()
        except Unreachable:
            time.sleep(delay_s)
            continue
        if answer.status not in AGAIN:
            return answer
        time.sleep(wait_s(answer, delay_s))
    return attempt()


def wait_s(answer: Answer, otherwise_s: float) -> float:
    """How long to wait before asking again."""
    said = answer.headers.get("Retry-After", "")
    try:
        asked = (
            float(said) if said.strip().isdigit() else parsedate_to_datetime(said).timestamp() - time.time()
        )
    except (ValueError, TypeError, OverflowError):
        return otherwise_s
    return min(max(asked, otherwise_s), LONGEST_WAIT_S)


def json_object(answer: Answer, peer: str) -> dict[str, Any]:
    """The object in an answer; RemoteError for anything else (a sign-in page, nesting without end)."""
    body = answer.body.removeprefix(XSSI_PREFIX)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        what = "a web page" if body.lstrip()[:1] == b"<" else "something else"
        raise RemoteError(
            f"{peer} answered with {what} instead of JSON (HTTP {answer.status})",
            "a proxy or a sign-in page of your network may be in the way",
        )
    return value


def said(answer: Answer) -> str:
    """What an answer says about itself, as the end of a line: `HTTP 400: invalid accelerator`."""
    text = message(answer)
    return f"HTTP {answer.status}" + (f": {short(text)}" if text else "")


def message(answer: Answer) -> str:
    """The error message in an answer, as it came; "" when there is none."""
    try:
        told = json.loads(answer.body.removeprefix(XSSI_PREFIX)[:65536])
        error = told.get("error", told)
        text = error.get("message", "") if isinstance(error, dict) else error
    except (ValueError, RecursionError, AttributeError):
        return ""
    return str(text or "")


def short(text: object, length: int = 200) -> str:
    """Foreign text as one short line that a terminal can show."""
    line = " ".join(str(text)[: 10 * length].split())
    return "".join(c if c.isprintable() else "?" for c in line)[:length]


def secure(url: str) -> bool:
    """Whether secrets may go there: https, or plain http to this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return bool(host) and (
        parts.scheme == "https" or (parts.scheme == "http" and host in ("127.0.0.1", "::1", "localhost"))
    )


def number(value: object) -> float:
    """A number that came as one or as a string; 0.0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0.0
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return 0.0
    return found if math.isfinite(found) else 0.0


class _Headers(AuthBase):
    """Given as `auth`, so that a netrc file of the user's cannot take their place."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


def _reason(error: requests.RequestException) -> str:
    """In a few words and without the address."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy of your network refuses"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.InvalidHeader | requests.exceptions.InvalidURL):
        return "not a valid request"
    return "the connection failed or broke"
