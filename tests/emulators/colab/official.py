"""The official client, google-colab-cli, unmodified, pointed at the emulator.

It needs Python 3.12. Where this machine has none, one comes from the distribution's next release by debootstrap, and
runs with that release's own loader and libraries: nothing is installed.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.emulators.colab import environments
from tests.emulators.colab.emulator import Colab
from tests.servers.base_image import mirror
from tests.servers.programs import ProgramFailed, need, output

NEEDED = (3, 12)
CLIENT = ("google-colab-cli==0.7.5",)
NEWER_RELEASES = {"debian": "trixie", "ubuntu": "noble"}
TIMEOUT_S = 120
# It knows one address only, and its sign-in needs a browser: the address and the sign-in are replaced, no more.
SHIM = """
import os
import requests
import colab_cli.auth
import colab_cli.client

def signed_in(*args, **kwargs):
    session = requests.Session()
    session.headers["Authorization"] = "Bearer " + os.environ["EMULATOR_TOKEN"]
    return session

url = os.environ["EMULATOR_URL"]
colab_cli.client.Prod.__init__.__defaults__ = (url, url)
colab_cli.auth.get_credentials = signed_in
"""


@dataclass(frozen=True)
class OfficialClient:
    """`client.run("new", "-s", "mine")` is `colab new -s mine`; its settings are kept in `home`."""

    colab: Colab
    home: Path
    python: tuple[str, ...]
    packages: Path

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.python, str(self.packages / "bin" / "colab"), *arguments],
            input=stdin,
            cwd=self.home,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": f"{self.home / 'shim'}:{self.packages}",
            "EMULATOR_URL": self.colab.url,
            "EMULATOR_TOKEN": self.colab.token,
            "COLAB_CLI_RETRY_BACKOFF": "0.1",
        }


def install(colab: Colab, home: Path) -> OfficialClient:
    """The client with an empty home folder; its packages are fetched once."""
    python = newer_python()
    (home / "shim").mkdir(parents=True)
    (home / "shim" / "sitecustomize.py").write_text(SHIM)
    settings = home / ".config" / "colab-cli" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"enable_update_check": false}')
    packages = environments.packages("official", CLIENT, ".".join(map(str, version_of(python) or ())))
    return OfficialClient(colab, home, python, packages)


def newer_python() -> tuple[str, ...]:
    """The command of a Python that can run the client: this machine's, or one fetched for it."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [sys.executable, *(shutil.which(f"python3.{minor}") or "" for minor in range(12, 16))]
    candidates += sorted(map(str, pyenv.glob("versions/3.*/bin/python3")))
    for candidate in filter(None, candidates):
        if (version_of((candidate,)) or (0, 0)) >= NEEDED:
            return (candidate,)
    return fetched_python()


def fetched_python() -> tuple[str, ...]:
    """The Python of the distribution's next release, kept in `.cache/`; a minute the first time."""
    distribution = platform.freedesktop_os_release()["ID"]
    if distribution not in NEWER_RELEASES:
        raise ProgramFailed(f"the official client needs Python 3.12 or newer; {distribution} must bring it")
    suite = NEWER_RELEASES[distribution]
    root = environments.CACHE / suite
    environments.CACHE.mkdir(parents=True, exist_ok=True)
    with open(environments.CACHE / f"{suite}.lock", "w") as mutex:
        fcntl.flock(mutex, fcntl.LOCK_EX)
        if not root.exists():
            _bootstrap(suite, root)
    return _with_its_own_loader(root)


def _bootstrap(suite: str, root: Path) -> None:
    need(debootstrap="debootstrap")
    unfinished = root.with_suffix(".tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    source = mirror()
    options = ["--variant=minbase", "--include=python3", f"--components={source.components}"]
    output(["debootstrap", *options, suite, str(unfinished), source.address])
    shutil.rmtree(unfinished / "var/cache/apt/archives", ignore_errors=True)
    unfinished.replace(root)


def _with_its_own_loader(root: Path) -> tuple[str, ...]:
    machine = platform.machine()
    loader = next((root / "usr/lib" / f"{machine}-linux-gnu").glob("ld-linux-*.so.*"))
    binary = next(path for path in sorted((root / "usr/bin").glob("python3.*")) if _is_plain(path.name))
    command = (str(loader), "--library-path", f"{loader.parent}", "--argv0", str(binary), str(binary))
    if (version_of(command) or (0, 0)) < NEEDED:
        raise ProgramFailed(f"{' '.join(command)} is no Python of {NEEDED} or newer")
    return command


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"python3\.\d+", name) is not None


def version_of(python: tuple[str, ...]) -> tuple[int, int] | None:
    code = "import ssl, sys; print(*sys.version_info[:2])"
    done = subprocess.run([*python, "-c", code], capture_output=True, text=True, check=False)
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None  # type: ignore[return-value]
