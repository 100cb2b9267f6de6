"""One HTTP request to Kaggle or its storage: timeouts, bounded bodies, errors in our words, waits between tries."""

from __future__ import annotations

import base64
import email.utils
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import requests
from requests.exceptions import BaseHTTPError as HTTPError  # type: ignore[attr-defined]  # urllib3's own

from launcher import __version__
from launcher.errors import RemoteError, Unreachable

CONNECT_S = 15.0
READ_S = 60.0
CHUNK_BYTES = 1 << 16
MOST_REDIRECTS = 5
BUSY = (408, 425, 429, 500, 502, 503, 504)
TOKEN = re.compile(r"KG[A-Z]{2}_\w+")
LOOPBACK = ("localhost", "127.0.0.1", "::1")

Sign = Callable[[requests.PreparedRequest], requests.PreparedRequest]


@dataclass(frozen=True)
class Patience:
    """How often and how long to try again; a wait that Kaggle asks for counts, up to `total_s` in all."""

    attempts: int = 5
    first_wait_s: float = 0.5
    total_s: float = 120.0
    sleep: Callable[[float], None] = time.sleep

    def waits(self) -> Waits:
        return Waits(self)


@dataclass
class Waits:
    """The tries of one undertaking; `again` waits for the next one, or says that it is over."""

    patience: Patience
    tries: int = 0
    waited_s: float = 0.0

    def again(self, asked_s: float | None = None) -> bool:
        self.tries += 1
        wait_s = self.patience.first_wait_s * 2 ** min(self.tries - 1, 8) if asked_s is None else asked_s
        if self.tries >= self.patience.attempts or self.waited_s + wait_s > self.patience.total_s:
            return False
        self.patience.sleep(wait_s)
        self.waited_s += wait_s
        return True

    def progress(self) -> None:
        """Something came of the last try: the next ones count anew."""
        self.tries, self.waited_s = 0, 0.0


@dataclass(frozen=True)
class Ask:
    """A request; `sign` adds who we are, and stays behind when an answer leads to another host."""

    method: str
    url: str
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    sign: Sign | None = None
    read_s: float = READ_S
    follow: bool = False  # downloads are sent to where the bytes are; a call that is sent elsewhere is none
    fresh: bool = False  # over a connection of its own: a kept one may have died, and then nobody knows


class Wire:
    """Connections to one Kaggle; `base` is its address."""

    def __init__(self, base: str, patience: Patience | None = None) -> None:
        self.base = base.rstrip("/")
        self.patience = patience or Patience()
        self._session = requests.Session()

    def close(self) -> None:
        self._session.close()

    def send(self, ask: Ask) -> requests.Response:
        """The answer, whatever its status, with its body still to be read. Unreachable when there is none."""
        url, sign = ask.url, ask.sign
        for _ in range(MOST_REDIRECTS):
            answer = self._once(ask, self._checked(url), sign)
            where = answer.headers.get("Location", "")
            if not ask.follow or answer.status_code not in (301, 302, 303, 307, 308) or not where:
                return answer
            answer.close()
            url, before = urllib.parse.urljoin(url, where), url
            ask = replace(ask, method="GET", body=None)
            sign = sign if host_of(url) == host_of(before) else None
        raise RemoteError(f"{host_of(ask.url)} leads round in circles")

    def _once(self, ask: Ask, url: str, sign: Sign | None) -> requests.Response:
        session = requests.Session() if ask.fresh else self._session
        headers = {
            "User-Agent": f"gpu-launcher/{__version__}",
            "Accept-Encoding": "identity",
            **({"Connection": "close"} if ask.fresh else {}),
            **ask.headers,
        }
        try:
            return session.request(
                ask.method,
                url,
                data=ask.body,
                headers=headers,
                auth=sign or _unsigned,
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_S, ask.read_s),
            )
        except requests.RequestException as error:
            raise unreachable(url, error) from None  # the error's own text holds the whole URL

    def _checked(self, url: str) -> str:
        """An address that the other side names must be as safe as our own."""
        try:
            parts = urllib.parse.urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            parts, host = urllib.parse.SplitResult("", "", "", "", ""), ""
        near = parts.scheme == "http" and host in LOOPBACK and self.base.startswith("http://")
        if not host or not (parts.scheme == "https" or near):
            raise RemoteError("Kaggle names an address that is not https", "is LAUNCHER_KAGGLE_URL right?")
        return url


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Without it requests would send what ~/.netrc says."""
    return request


def chunks(answer: requests.Response) -> Iterator[bytes]:
    """The body, each piece as soon as it is there: neither a log nor the bytes before a cut wait for a full buffer.

    Unreachable at a cut.
    """
    try:
        if answer.raw.chunked:
            yield from answer.iter_content(CHUNK_BYTES)
        else:
            while chunk := answer.raw.read1(CHUNK_BYTES, decode_content=True):
                yield chunk
    except (requests.RequestException, HTTPError, OSError) as error:
        raise unreachable(answer.url, error) from None


def bounded(answer: requests.Response, most_bytes: int, most_s: float) -> Iterator[bytes]:
    """The body, as long as it is neither too large nor takes for ever."""
    size, began = 0, time.monotonic()
    for chunk in chunks(answer):
        size += len(chunk)
        if size > most_bytes:
            answer.close()
            raise RemoteError(
                f"{host_of(answer.url)} sent more than {most_bytes >> 20} MiB where less was due"
            )
        if time.monotonic() - began > most_s:
            answer.close()
            raise Unreachable(f"{host_of(answer.url)} sends too slowly", "check the network, then try again")
        yield chunk


def retry_after(answer: requests.Response) -> float | None:
    """Seconds that the answer asks to wait; None when it does not say."""
    said = answer.headers.get("Retry-After", "").strip()
    try:
        wait_s = float(said)
    except ValueError:
        try:
            wait_s = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, wait_s) if wait_s == wait_s else None


def unreachable(url: str, error: BaseException) -> Unreachable:
    """No answer, or half of one, in a line that holds no secret of the URL."""
    reason = _reason(error)
    hint = "check the network, then try again"
    if isinstance(error, requests.exceptions.SSLError):
        hint = "check this machine's clock and certificates (REQUESTS_CA_BUNDLE)"
    return Unreachable(f"no answer from {host_of(url)}: {reason}", hint)


def host_of(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc.rpartition("@")[2]


def one_line(text: str, most: int = 300) -> str:
    """Somebody else's words, fit for a message."""
    tame = " ".join("".join(c if c.isprintable() else " " for c in text[: 8 * most]).split())
    return tame if len(tame) <= most else tame[: most - 1] + "…"


def hidden(text: str, answer: requests.Response) -> str:
    """The text without what we had signed the request with: an error may repeat it."""
    kind, _, value = str(answer.request.headers.get("Authorization", "")).partition(" ")
    if kind == "Basic":
        value = base64.b64decode(value).decode().partition(":")[2]
    text = text.replace(value, "***") if value else text
    return TOKEN.sub("***", text)


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy does not let us through"
    if isinstance(error, requests.exceptions.Timeout):
        return "it took too long"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return one_line(cause.strerror, 100)
        if "NameResolution" in type(cause).__name__:
            return "its name is not known here"
        inner = getattr(cause, "reason", None) or next(
            (one for one in cause.args if isinstance(one, BaseException)), None
        )
        cause = inner if isinstance(inner, BaseException) else cause.__cause__ or cause.__context__
    return "the connection was cut"
