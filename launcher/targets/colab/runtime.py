"""The way to one runtime's Jupyter server: the proxy token is renewed on the way, a reclaimed runtime is told apart."""

from __future__ import annotations

from collections.abc import Callable

from launcher.errors import RemoteError
from launcher.targets.colab.api import Runtime


class Reclaimed(RemoteError):
    """Colab took the runtime back: its disk and all that ran there are gone."""

    code = "missing"


class RuntimeLine:
    """One runtime, for files and kernels alike. May be shared by threads.

    `refresh` is `lambda: api.refresh(endpoint)`: asked when the token has expired or the runtime does not know us.
    Its methods and those of what is built on it raise Reclaimed, Unreachable (no answer: says nothing about the
    runtime), AuthError, RemoteError (code "full": the disk there is full).
    """

    def __init__(self, runtime: Runtime, refresh: Callable[[], Runtime | None]) -> None:
        raise NotImplementedError

    @property
    def runtime(self) -> Runtime:
        """With the newest token."""
        raise NotImplementedError

    def wait(self, timeout_s: float = 120) -> None:
        """Until its Jupyter server answers; Unreachable after `timeout_s`."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
