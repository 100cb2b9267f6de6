"""Kaggle's own protocol as methods: notebooks and their sessions, private datasets, quota."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from launcher.target import Quota
from launcher.targets.kaggle.auth import Credentials
from launcher.targets.kaggle.auth import credentials as credentials
from launcher.targets.kaggle.values import KernelStatus as KernelStatus
from launcher.targets.kaggle.values import Listed as Listed
from launcher.targets.kaggle.values import LogEvent as LogEvent
from launcher.targets.kaggle.values import OutputFile as OutputFile
from launcher.targets.kaggle.values import Push as Push
from launcher.targets.kaggle.values import Pushed as Pushed

URL = "https://api.kaggle.com"  # LAUNCHER_KAGGLE_URL: config.base_url("LAUNCHER_KAGGLE_URL", URL)


class KaggleAPI:
    """One account at Kaggle. A slug may be `name` (mine) or `user/name`.

    Reads wait out 429 and broken answers, within bounds, then raise Unreachable. What creates something is sent
    once (429, which did nothing, is waited out): a lost answer is Unreachable, and the caller looks by name.
    AuthError: the credentials were not accepted. Refused: Kaggle said no. RemoteError: it answered nonsense.
    """

    def __init__(self, url: str, credentials: Credentials) -> None: ...

    def __enter__(self) -> KaggleAPI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def user(self) -> str:
        """The account's name; the first call finds out which credentials are accepted."""
        raise NotImplementedError

    # notebooks and sessions

    def save_kernel(self, push: Push) -> Pushed:
        """A new version of the notebook, which starts to run. Refused with Kaggle's words (quota, name taken…)."""
        raise NotImplementedError

    def kernel(self, slug: str) -> Mapping[str, Any] | None:
        """Its metadata (currentVersionNumber, machineShape, dockerImage…); None when there is none."""
        raise NotImplementedError

    def kernels(self, search: str = "") -> list[Listed]:
        """My notebooks."""
        raise NotImplementedError

    def kernel_status(self, slug: str, version: int | None = None) -> KernelStatus | None:
        """The session of a version (else of the newest that ran); None: no such notebook, or it never ran."""
        raise NotImplementedError

    def log_events(self, slug: str, version: int | None = None) -> Iterator[LogEvent | None]:
        """The session's log from its start, over one connection; None at least every 5 s of silence.

        Ends where the log ends. Unreachable: the connection was cut; call again, it replays from index 0.
        RemoteError with code "missing": there is no log (yet).
        """
        raise NotImplementedError

    def outputs(self, slug: str, version: int | None = None) -> list[OutputFile]:
        """All files that a session left, with URLs that open them for a while; [] before its end."""
        raise NotImplementedError

    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Bytes of an output by its URL; goes on by itself after a cut; nothing when `offset` is at the end.

        RemoteError with code "expired": the URL's time is over, ask `outputs` for a fresh one; with code
        "changed": the file is no longer the one that the first bytes came from.
        """
        raise NotImplementedError

    def cancel(self, session_id: int) -> str:
        """Stop a session and save what it wrote; "" or Kaggle's words when it no longer ran. Repeatable."""
        raise NotImplementedError

    def delete_kernel(self, slug: str) -> bool:
        """False when there was none. A session that runs is cancelled by that. Repeatable."""
        raise NotImplementedError

    # datasets

    def upload(self, path: Path, name: str) -> Generator[tuple[int, int], None, str]:
        """Send a file; yields (done, total) bytes and returns the token for a dataset's version."""
        raise NotImplementedError

    def create_dataset(self, slug: str, title: str, tokens: Sequence[str]) -> None:
        """A private dataset of uploaded files. Refused with Kaggle's words (name or title taken…)."""
        raise NotImplementedError

    def create_dataset_version(self, slug: str, notes: str, tokens: Sequence[str]) -> None:
        """A further version with exactly these files; the older ones are deleted."""
        raise NotImplementedError

    def dataset_status(self, slug: str) -> str | None:
        """NOT_YET_PERSISTED … READY, FAILED, DELETED, REPROCESSING; None when there is no such dataset."""
        raise NotImplementedError

    def dataset_files(self, slug: str) -> dict[str, int]:
        """Name -> bytes of the version that notebooks would get now; {} when there is none."""
        raise NotImplementedError

    def datasets(self, search: str = "") -> list[Listed]:
        """My datasets."""
        raise NotImplementedError

    def delete_dataset(self, slug: str) -> bool:
        """False when there was none. Repeatable."""
        raise NotImplementedError

    # the account

    def quota(self, target: str = "kaggle") -> list[Quota]:
        """Hours of GPU and TPU: used, in all, left, and when they come anew."""
        raise NotImplementedError
