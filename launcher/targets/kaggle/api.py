"""Kaggle's own protocol as methods: notebooks and their sessions, private datasets, quota."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from launcher.errors import AuthError, RemoteError
from launcher.target import Quota
from launcher.targets.kaggle import bodies, fetch, fields, stream, upload
from launcher.targets.kaggle.auth import Credentials
from launcher.targets.kaggle.auth import credentials as credentials
from launcher.targets.kaggle.caller import Caller
from launcher.targets.kaggle.login import Login
from launcher.targets.kaggle.rpc import Call, Denied
from launcher.targets.kaggle.values import KernelStatus as KernelStatus
from launcher.targets.kaggle.values import Listed as Listed
from launcher.targets.kaggle.values import LogEvent as LogEvent
from launcher.targets.kaggle.values import OutputFile as OutputFile
from launcher.targets.kaggle.values import Push as Push
from launcher.targets.kaggle.values import Pushed as Pushed
from launcher.targets.kaggle.wire import Patience, Wire, one_line

URL = "https://api.kaggle.com"  # LAUNCHER_KAGGLE_URL: config.base_url("LAUNCHER_KAGGLE_URL", URL)


class KaggleAPI:
    """One account at Kaggle. A slug may be `name` (mine) or `user/name`.

    Reads wait out 429 and broken answers, within bounds, then raise Unreachable. What creates something is sent
    once (429, which did nothing, is waited out): a lost answer is Unreachable, and the caller looks by name.
    AuthError: the credentials were not accepted. Refused: Kaggle said no. RemoteError: it answered nonsense.
    """

    def __init__(self, url: str, credentials: Credentials, patience: Patience | None = None) -> None:
        self._wire = Wire(url, patience)
        self._login = Login(self._wire, credentials)
        self._caller = Caller(self._wire, self._login)

    def __enter__(self) -> KaggleAPI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._wire.close()

    def user(self) -> str:
        """The account's name; the first call finds out which credentials are accepted."""
        return self._login.user

    def source(self) -> str:
        """Where the accepted credentials come from, for people."""
        return self._login.source

    def ignored(self) -> list[str]:
        """What is wrong with credentials that come before the accepted ones, a line each."""
        return list(self._login.ignored)

    # notebooks and sessions

    def save_kernel(self, push: Push) -> Pushed:
        """A new version of the notebook, which starts to run. Refused with Kaggle's words (quota, name taken…)."""
        owner, name = self._caller.names(push.slug)
        reply = self._caller.create(
            "the notebook", Call("SaveKernel", bodies.save_kernel(owner, name, push), repeat=False)
        )
        return bodies.pushed(reply, f"{owner}/{name}")

    def kernel(self, slug: str) -> Mapping[str, Any] | None:
        """Its metadata (currentVersionNumber, machineShape, dockerImage…); None when there is none."""
        reply = self._kernel_call("GetKernel", slug)
        return None if reply is None else fields.part(reply, "metadata")

    def kernels(self, search: str = "") -> list[Listed]:
        """My notebooks."""
        return self._caller.listed(Call("ListKernels", bodies.kernels(search)), "kernels")

    def kernel_status(self, slug: str, version: int | None = None) -> KernelStatus | None:
        """The session of a version (else of the newest that ran); None: no such notebook, or it never ran."""
        reply = self._kernel_call("GetKernelSessionStatus", slug, version)
        if reply is None:
            return None
        state = fields.text(reply, "status") or "QUEUED"
        return KernelStatus(state, one_line(fields.text(reply, "failureMessage")))

    def log_events(
        self, slug: str, version: int | None = None, heartbeat_s: float = stream.HEARTBEAT_S
    ) -> Iterator[LogEvent | None]:
        """The session's log from its start, over one connection; None whenever nothing came for so long.

        Ends where the log ends. Unreachable: the connection was cut; call again, it replays from index 0.
        RemoteError with code "missing": there is no log (yet).
        """
        self.user()  # in this thread: the stream's own must not find out who we are
        return stream.log_events(lambda: self._caller.open_log(slug, version, self.kernels), heartbeat_s)

    def outputs(self, slug: str, version: int | None = None) -> list[OutputFile]:
        """All files that a session left, with URLs that open them for a while; [] before its end."""
        owner, name = self._caller.names(slug)
        call = Call("ListKernelSessionOutput", bodies.kernel(owner, name, version), skip="log")
        found = []
        try:
            for page in self._caller.pages(call):
                for row in fields.rows(page, "files"):
                    found.append(OutputFile(fields.text(row, "fileName"), fields.text(row, "url")))
        except Denied as error:
            self._caller.absent(error, slug, self.kernels)
        return found

    def read(self, url: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Bytes of an output by its URL; goes on by itself after a cut; nothing when `offset` is at the end.

        RemoteError with code "expired": the URL's time is over, ask `outputs` for a fresh one; with code
        "changed": the file is no longer the one that the first bytes came from; "missing": it is gone.
        """
        return fetch.read(self._wire, url, offset, length)

    def cancel(self, session_id: int) -> str:
        """Stop a session and save what it wrote; "" or Kaggle's words when it no longer ran. Repeatable."""
        try:
            reply = self._caller.call(Call("CancelKernelSession", {"kernelSessionId": session_id}))
        except Denied as error:
            if error.status == 404:
                return error.words or "there is no such session"
            if error.status == 403:
                raise AuthError(
                    f"Kaggle lets only the account that started session {session_id} stop it",
                    f"you are {self.user()}; stop it on https://www.kaggle.com/code",
                ) from error
            raise
        return one_line(fields.text(reply, "errorMessage"))

    def delete_kernel(self, slug: str) -> bool:
        """False when there was none. A session that runs is cancelled by that. Repeatable."""
        return self._kernel_call("DeleteKernel", slug) is not None

    # datasets

    def upload(self, path: Path, name: str) -> Generator[tuple[int, int], None, str]:
        """Send a file; yields (done, total) bytes and returns the token for a dataset's version."""
        source = upload.source_of(path)

        def start() -> tuple[str, str]:
            body = bodies.upload(name, source.size, source.changed_s)
            reply = self._caller.create("the upload", Call("StartBlobUpload", body))
            token, url = fields.text(reply, "token"), fields.text(reply, "createUrl")
            if not token or not url:
                raise RemoteError("Kaggle gives no address for an upload")
            return token, url

        return (yield from upload.send(self._wire, source, start))

    def create_dataset(self, slug: str, title: str, tokens: Sequence[str]) -> None:
        """A private dataset of uploaded files. Refused with Kaggle's words (name or title taken…)."""
        owner, name = self._caller.names(slug)
        body = bodies.create_dataset(owner, name, title, tokens)
        self._caller.create("the dataset", Call("CreateDataset", body, repeat=False))

    def create_dataset_version(self, slug: str, notes: str, tokens: Sequence[str]) -> None:
        """A further version with exactly these files; the older ones are deleted."""
        owner, name = self._caller.names(slug)
        body = bodies.create_version(owner, name, notes, tokens)
        self._caller.create("the dataset's new version", Call("CreateDatasetVersion", body, repeat=False))

    def dataset_status(self, slug: str) -> str | None:
        """NOT_YET_PERSISTED … READY, FAILED, DELETED, REPROCESSING; None when there is no such dataset."""
        reply = self._dataset_call("GetDatasetStatus", slug)
        return None if reply is None else fields.text(reply, "status") or "NOT_YET_PERSISTED"

    def dataset_files(self, slug: str) -> dict[str, int]:
        """Name -> bytes of the version that notebooks would get now; {} when there is none."""
        owner, name = self._caller.names(slug)
        found: dict[str, int] = {}
        try:
            for page in self._caller.pages(Call("ListDatasetFiles", bodies.dataset(owner, name))):
                for row in fields.rows(page, "datasetFiles"):
                    found[fields.text(row, "name")] = fields.number(row, "totalBytes")
        except Denied as error:
            self._caller.absent(error, slug, self.datasets)
        return found

    def datasets(self, search: str = "") -> list[Listed]:
        """My datasets."""
        return self._caller.listed(Call("ListDatasets", bodies.datasets(search)), "datasets")

    def delete_dataset(self, slug: str) -> bool:
        """False when there was none. Repeatable."""
        return self._dataset_call("DeleteDataset", slug) is not None

    # the account

    def quota(self, target: str = "kaggle") -> list[Quota]:
        """Hours of GPU and TPU: used, in all, left, and when they come anew."""
        return bodies.quota(self._caller.call(Call("GetAcceleratorQuotaStatistics")), target)

    # inside

    def _kernel_call(self, method: str, slug: str, version: int | None = None) -> dict[str, Any] | None:
        call = Call(method, bodies.kernel(*self._caller.names(slug), version))
        return self._caller.mine(call, slug, self.kernels)

    def _dataset_call(self, method: str, slug: str) -> dict[str, Any] | None:
        call = Call(method, bodies.dataset(*self._caller.names(slug)))
        return self._caller.mine(call, slug, self.datasets)
