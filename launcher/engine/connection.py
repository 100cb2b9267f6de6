"""The Docker SDK over any byte channel: a local unix socket, or one behind SSH.

The SDK's own ssh:// is not used: its connection costs a second handshake, and every call may open a new one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
from docker import APIClient
from docker.constants import DEFAULT_DOCKER_API_VERSION
from docker.errors import APIError, DockerException
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

from launcher.errors import RemoteError, Unreachable

Dial = Callable[[], Any]  # opens something like a socket that leads to an engine
Engine = Any  # docker.APIClient, most of whose methods have no types

URL = "http://engine:80"  # the SDK wants a port; nothing looks the name up
SMALL_CALL_S = 60


@contextlib.contextmanager
def connected(dial: Dial) -> Iterator[Engine]:
    """The SDK's client of the engine behind `dial`; the SDK's and the network's errors become ours."""
    with told():
        client = _client(dial)
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Errors of the engine and of the way to it, as ours."""
    try:
        yield
    except APIError as e:
        raise RemoteError(f"Docker: {_said(e)}") from e
    except (requests.RequestException, DockerException, OSError, EOFError) as e:
        said = f"{type(e).__name__}: {e}"
        raise Unreachable(
            f"no answer from Docker: {said:.300}", "is it running? `launcher check` tells"
        ) from e


def stream(engine: Engine, path: str, **request: Any) -> Iterator[Mapping[str, Any]]:
    """POST to the engine and yield the JSON values of its answer as they come."""
    url = f"{URL}/v{engine.api_version}{path}"
    with engine.post(url, stream=True, timeout=(SMALL_CALL_S, None), **request) as response:
        if response.status_code >= 400:
            raise RemoteError(f"Docker: {_message(response)}")
        pending = b""
        for piece in response.iter_content(None):
            *lines, pending = (pending + piece).split(b"\n")
            yield from (json.loads(line) for line in lines if line.strip())
        if pending.strip():
            yield json.loads(pending)


def download(engine: Engine, path: str) -> Iterator[bytes]:
    """GET from the engine, piece by piece."""
    url = f"{URL}/v{engine.api_version}{path}"
    with engine.get(url, stream=True, timeout=(SMALL_CALL_S, None)) as response:
        if response.status_code >= 400:
            raise RemoteError(f"Docker: {_message(response)}")
        yield from response.iter_content(1 << 20)


def _client(dial: Dial) -> Engine:
    first = _mounted(DEFAULT_DOCKER_API_VERSION, dial)
    version = str(first.version(api_version=False)["ApiVersion"])
    return _mounted(version, dial, first.adapters["http://"])


def _mounted(version: str, dial: Dial, adapter: Any = None) -> Engine:
    client = APIClient(URL, version=version, timeout=SMALL_CALL_S)
    client.trust_env = False  # a proxy for the web is none for an engine
    client.mount("http://", adapter or _Adapter(dial))
    return client


class _Connection(HTTPConnection):
    def __init__(self, dial: Dial) -> None:
        super().__init__("engine")
        self._dial = dial

    def connect(self) -> None:
        self.sock = self._dial()

    @property
    def is_connected(self) -> bool:
        return self.sock is not None  # not every channel has a file descriptor to ask


class _Pool(HTTPConnectionPool):
    def __init__(self, dial: Dial) -> None:
        super().__init__("engine", maxsize=2, retries=False)
        self._dial = dial

    def _new_conn(self) -> _Connection:
        return _Connection(self._dial)


class _Adapter(HTTPAdapter):
    """Sends every request through the one pool, whatever host its URL names."""

    def __init__(self, dial: Dial) -> None:
        super().__init__()
        self._pool = _Pool(dial)

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> _Pool:
        return self._pool

    def request_url(self, request: requests.PreparedRequest, proxies: Any) -> str:
        return request.path_url

    def close(self) -> None:
        super().close()
        self._pool.close()


def _said(error: APIError) -> str:
    return str(error.explanation or error)


def _message(response: requests.Response) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:500]
