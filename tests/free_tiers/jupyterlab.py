"""A real JupyterLab with one folder of notebooks, and what it shows and says when one is opened."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.emulators.colab.environments import System, runtime_python
from tests.free_tiers.browser import Page, query
from tests.servers.gpu_server import free_port
from tests.servers.programs import ProgramFailed

TOKEN = "of-the-test"
WAIT_S = 120
SETTINGS = {  # all cells at once, and no questions about news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": False,
    },
}
BAD = ("[W ", "[E ", "[C ", "Warning", "Traceback")  # in what the server says
# said whatever notebook is opened; trusted are only those that this very server wrote
OF_ALL = ("is not trusted", "websocket_ping_timeout", "Kernel is running over TCP")
SHOWN = """(() => {
  const texts = one => [...document.querySelectorAll(one)].map(found => found.innerText.trim());
  return {
    cells: texts('.jp-Notebook .jp-Cell'),
    codes: document.querySelectorAll('.jp-Notebook .jp-CodeCell').length,
    titles: texts('.jp-Notebook .jp-MarkdownCell h1'),
    broken: texts('.jp-Notebook .jp-RenderedMarkdown .jp-mod-error, .jp-Notebook .cm-invalid'),
    asked: texts('.jp-Dialog'),
    noted: texts('.Toastify__toast--warning, .Toastify__toast--error'),
    trusted: document.querySelector('.jp-StatusBar-TrustedItem, [title*="trusted" i]')?.title ?? '',
    kernel: texts('.jp-KernelName').join(' '),
  };
})()"""
READY = """(() => {
  const all = one => [...document.querySelectorAll(one)];
  const drawn = all('.jp-Notebook .jp-Cell').length >= %d
    && all('.jp-Notebook .jp-MarkdownCell').every(cell => cell.innerText.trim())
    && !document.querySelector('#jupyterlab-splash');
  const idle = document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'
    && all('.jp-KernelName').some(one => one.innerText.startsWith('Python 3'));
  return drawn && (idle || all('.jp-Dialog').length > 0);
})()"""


@dataclass(frozen=True)
class Shown:
    """What the user sees of an opened notebook: its cells' texts, dialogs, and warnings that popped up."""

    cells: list[str]
    codes: int
    titles: list[str]
    broken: list[str]
    asked: list[str]
    noted: list[str]
    trusted: str
    kernel: str


@dataclass(frozen=True)
class Lab:
    """`said` is the server's log; notebooks lie in `folder`."""

    folder: Path
    url: str
    said: Path

    def open(self, page: Page, name: str, cells: int) -> Shown:
        """Open a notebook that has so many cells, and wait until its kernel stands ready or a dialog asks something."""
        page.open(f"{self.url}/lab/tree/{name}?{query(token=TOKEN, reset='')}")
        page.wait_for(READY % cells, f"{name} with {cells} cells and a kernel")
        return Shown(**page.ask(SHOWN))

    def complaints(self) -> list[str]:
        """Lines of the server's log that warn."""
        lines = self.said.read_text(errors="replace").splitlines()
        return [line for line in lines if _any(BAD, line) and not _any(OF_ALL, line)]


def _any(marks: Sequence[str], line: str) -> bool:
    return any(mark in line for mark in marks)


@contextlib.contextmanager
def running() -> Iterator[Lab]:
    """JupyterLab in an environment of its own, without a user's settings."""
    python = runtime_python(System(packages=("jupyterlab>=4.4",)))
    home = Path(tempfile.mkdtemp(prefix="launcher-lab-"))
    for name, values in SETTINGS.items():
        path = home / "settings/@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    (home / "notebooks").mkdir()
    lab = Lab(home / "notebooks", f"http://127.0.0.1:{free_port()}", home / "said")
    process = _start(str(python), home, lab)
    try:
        _wait(process, lab)
        yield lab
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _start(python: str, home: Path, lab: Lab) -> subprocess.Popen[bytes]:
    options = {
        "ServerApp.port": lab.url.rpartition(":")[2],
        "ServerApp.port_retries": "0",
        "ServerApp.open_browser": "False",
        "ServerApp.allow_root": "True",
        "ServerApp.root_dir": str(lab.folder),
        "IdentityProvider.token": TOKEN,
    }
    environment = {
        "PATH": f"{Path(python).parent}:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
        "JUPYTER_PLATFORM_DIRS": "1",
    }
    words = [python, "-m", "jupyterlab", *(f"--{key}={value}" for key, value in options.items())]
    with open(lab.said, "wb") as said:
        return subprocess.Popen(
            words, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )


def _wait(process: subprocess.Popen[bytes], lab: Lab) -> None:
    end = time.monotonic() + WAIT_S
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{lab.url}/api?{query(token=TOKEN)}", timeout=WAIT_S).close()
            return
        if process.poll() is not None or time.monotonic() > end:
            raise ProgramFailed(f"JupyterLab does not answer: {lab.said.read_text()[-2000:]}")
        time.sleep(0.1)
