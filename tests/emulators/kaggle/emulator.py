"""The emulated Kaggle as a test sees it: start it, add accounts, look inside, break it."""

from __future__ import annotations

import functools
import http.server
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.emulators.kaggle import environments
from tests.emulators.kaggle.accounts import Account, Accounts
from tests.emulators.kaggle.blobs import Blobs
from tests.emulators.kaggle.datasets import Datasets
from tests.emulators.kaggle.kernels import Kernel, Kernels
from tests.emulators.kaggle.routes import Site
from tests.emulators.kaggle.sessions import Session, Ways, wait_until
from tests.emulators.kaggle.settings import Faults, Settings
from tests.emulators.kaggle.wire import Handler, Served


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is no news; all else is the emulator's own mistake."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Kaggle:
    """`with Kaggle(Settings(time_scale=360)) as kaggle:` serves on kaggle.url; alice has an account."""

    def __init__(self, settings: Settings | None = None) -> None:
        environments.session_python()  # may take its time, once
        self.settings, self.faults = settings or Settings(), Faults()
        self.accounts = Accounts()
        self.folder = Path(tempfile.mkdtemp(prefix="launcher-kaggle-"))
        for name in ("sessions", "datasets"):
            (self.folder / name).mkdir()
        self._serve()
        self.alice = self.account("alice")
        self.token = self.alice.token()

    def _serve(self) -> None:
        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.blobs = Blobs(self.folder / "blobs")
        self.datasets = Datasets(self.folder / "datasets", self.blobs, self.settings, self.faults)
        ways = Ways(self.folder / "sessions", self.settings, self.faults, self.url)
        self.kernels = Kernels(ways, self.datasets)
        site = Site(self.settings, self.faults, self.accounts, self.blobs, self.datasets, self.kernels)
        served = Served(site, self.url)
        self.asked = served.asked
        self._server.RequestHandlerClass = functools.partial(Handler, served)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Kaggle:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self.kernels.sessions:
            session.cancel()
        for session in self.kernels.sessions:
            session.join()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What points our own client here."""
        return {"LAUNCHER_KAGGLE_URL": self.url, "KAGGLE_API_TOKEN": self.token}

    @property
    def official_environment(self) -> dict[str, str]:
        """What points the official client here: it believes in localhost's port 80, behind a proxy."""
        proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy"), self.url)
        return {
            **proxy,
            "NO_PROXY": "",
            "no_proxy": "",
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
            "KAGGLE_API_TOKEN": self.token,
        }

    @property
    def sessions(self) -> list[Session]:
        """All of them, the newest last."""
        return list(self.kernels.sessions)

    def account(self, name: str) -> Account:
        """A further account."""
        account = self.accounts.add(name)
        account.running_s = lambda: sum(
            one.spent_s for one in self.sessions if one.gpu and not one.over and one.account is account
        )
        return account

    def kernel(self, ref: str) -> Kernel:
        return self.kernels.by_ref[ref]

    def wait(self, state: str, session: Session | None = None, timeout_s: float = 60.0) -> Session:
        """Until a session, the newest unless named, is in a state; AssertionError if it ends in another."""
        one = session or self.sessions[-1]
        wait_until(lambda: one.over or one.state == state, timeout_s)
        assert one.state == state, f"{one.state}: {one.failure}\n{one.log.array()[-2000:]}"
        return one


def official(
    kaggle: Kaggle, home: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the unmodified official client; its answers are text on stdout."""
    clean = {"PATH": "/usr/bin:/bin", "HOME": str(home), "TMPDIR": str(home), "PYTHONWARNINGS": "ignore"}
    merged = {**clean, **kaggle.official_environment, **(environment or {})}
    return subprocess.run(
        [environments.official_client(), *arguments],
        env={key: value for key, value in merged.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=home,
    )
