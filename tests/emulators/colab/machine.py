"""One machine of the emulated Colab: a real Jupyter server in a mount and process namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.emulators.colab.environments import System, runtime_python
from tests.emulators.colab.settings import GPU_MODELS
from tests.emulators.colab.wire import get_over
from tests.servers.programs import ProgramFailed

GUEST = Path(__file__).parent / "guest"
START_TIMEOUT_S = 60
PREFIX = "launcher-colab-"
# what this test machine needs to reach its package mirror, and Colab's machines do not
PASSED_ON = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")


@dataclass(frozen=True)
class Machine:
    """`disk` holds what the machine wrote (content/, root/, tmp/); `socket` is where its Jupyter listens."""

    disk: Path
    process: subprocess.Popen[bytes]

    @property
    def socket(self) -> str:
        return str(self.disk / "run" / "jupyter.sock")


def sweep() -> None:
    """Remove the disks of machines whose emulator was killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        if not Path("/proc", path.name.removeprefix(PREFIX).partition("-")[0]).exists():
            shutil.rmtree(path, ignore_errors=True)


def boot(accelerator: str, label: str | None, system: System) -> Machine:
    """A machine that is starting; it dies with the thread that called."""
    disk = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    for name in ("content/sample_data", "root", "tmp", "run", "machine"):
        (disk / name).mkdir(parents=True)
    (disk / "tmp").chmod(0o1777)
    python = runtime_python(system)
    config = {
        "disk": str(disk),
        "root": str(disk / "machine"),
        "keep": [str(python.parents[1]), _base(python), str(GUEST)],
        "programs": _programs(accelerator),
        "argv": _jupyter(str(python)),
        "environment": _environment(str(python.parent), accelerator, label),
    }
    (disk / "boot.json").write_text(json.dumps(config))
    with open(disk / "jupyter.log", "wb") as log:
        process = subprocess.Popen(
            [*_namespace(), str(python), str(GUEST / "boot.py"), str(disk / "boot.json")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Machine(disk, process)


async def answers(machine: Machine) -> None:
    """Wait until its Jupyter answers."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while await get_over(machine.socket, "/api/status") is None:
        if machine.process.poll() is not None or time.monotonic() > deadline:
            said = (machine.disk / "jupyter.log").read_text(errors="replace")[-2000:]
            raise ProgramFailed(f"the runtime's Jupyter server does not answer: {said}")
        await asyncio.sleep(0.05)


async def busy(machine: Machine) -> bool:
    """Whether a cell is running in one of its kernels, or none of them can be asked."""
    body = await get_over(machine.socket, "/api/kernels")
    return body is None or any(kernel["execution_state"] == "busy" for kernel in json.loads(body))


def destroy(machine: Machine) -> None:
    """SIGKILL for everything that runs there, daemons too; the disk goes with it."""
    first = _children(machine.process.pid)  # the namespace's: when its end is told, all others have ended
    with contextlib.suppress(ProcessLookupError):
        if first:
            os.kill(first[0], signal.SIGKILL)
        else:
            os.killpg(machine.process.pid, signal.SIGKILL)
    machine.process.wait()
    shutil.rmtree(machine.disk, ignore_errors=True)


def kill_kernels(machine: Machine) -> int:
    """SIGKILL for its kernels alone, as when memory runs out; how many there were."""
    killed = 0
    for pid in _descendants(machine.process.pid):
        with contextlib.suppress(OSError):
            if b"ipykernel_launcher" in Path("/proc", str(pid), "cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


def _namespace() -> list[str]:
    """The first process of a process namespace takes all others with it, also those that left their group."""
    return [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"),
    ]


@functools.cache
def _base(python: Path) -> str:
    command = [python, "-c", "import sys; print(sys.base_prefix)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _programs(accelerator: str) -> dict[str, str]:
    if accelerator not in GPU_MODELS:
        return {}
    text = (GUEST / "nvidia_smi.py").read_text()
    for mark, value in zip(("NAME", "MEMORY_MB", "CAPABILITY"), GPU_MODELS[accelerator], strict=True):
        text = text.replace(f"@{mark}@", str(value))
    return {"nvidia-smi": text}


def _jupyter(python: str) -> list[str]:
    """Contents begin at /, kernels in /content, as there; the proxy is the only one to ask who comes."""
    options = {
        "ServerApp.sock": "/run/jupyter.sock",
        "ServerApp.root_dir": "/",
        "ServerApp.open_browser": "False",
        "ServerApp.allow_root": "True",
        "ServerApp.allow_remote_access": "True",
        "ServerApp.allow_origin": "*",
        "ServerApp.disable_check_xsrf": "True",
        "ServerApp.jpserver_extensions": "{}",
        "IdentityProvider.token": "",
        "MappingKernelManager.root_dir": "/content",
        "FileContentsManager.delete_to_trash": "False",
    }
    return [python, "-m", "jupyter_server", *(f"--{name}={value}" for name, value in options.items())]


def _environment(bin_folder: str, accelerator: str, label: str | None) -> dict[str, str]:
    """Colab's variables, those that a job must not inherit among them."""
    return {
        "PATH": f"/opt/bin:{bin_folder}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "PYTHONPATH": f"/env/python:{GUEST / 'packages'}",
        "PYTHONWARNINGS": "ignore:::pip._internal.cli.base_command",
        "LD_LIBRARY_PATH": "/usr/lib64-nvidia",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "UV_SYSTEM_PYTHON": "true",
        "COLAB_RELEASE_TAG": f"release-colab_{label or 'latest'}",
        "COLAB_BACKEND_VERSION": "next",
        "COLAB_GPU": "" if accelerator == "NONE" else "1",
        "JUPYTER_RUNTIME_DIR": "/run/jupyter",
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
    }


def _descendants(pid: int) -> list[int]:
    return [one for child in _children(pid) for one in (child, *_descendants(child))]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path("/proc", str(pid), "task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
