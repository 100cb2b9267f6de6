"""The machine that a session gets: accelerator, folders, variables and traps, as on Kaggle."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.emulators.kaggle.environments import session_python
from tests.servers.fake_gpu import FakeGPU, nvidia_smi

GUEST = Path(__file__).parent / "guest"
DEFAULT_GPU = "NvidiaTeslaT4"
DEFAULT_TPU = "TpuV5E8"
RETIRED = {
    "NvidiaTeslaP100": DEFAULT_GPU,
    "TpuV38": DEFAULT_TPU,
    "Tpu1VmV38": DEFAULT_TPU,
    "TpuV232": DEFAULT_TPU,
    "TpuV2256": DEFAULT_TPU,
}
GPUS = {
    "NvidiaTeslaT4": FakeGPU("FAKE Tesla T4", "580.82.07", "13.0", 15360, "7.5", 2),
    "NvidiaL4": FakeGPU("FAKE NVIDIA L4", "580.82.07", "13.0", 23034, "8.9", 4),
    "NvidiaL4X1": FakeGPU("FAKE NVIDIA L4", "580.82.07", "13.0", 23034, "8.9", 1),
    "NvidiaTeslaA100": FakeGPU("FAKE NVIDIA A100-SXM4-40GB", "580.82.07", "13.0", 40960, "8.0", 1),
    "NvidiaH100": FakeGPU("FAKE NVIDIA H100 80GB HBM3", "580.82.07", "13.0", 81559, "9.0", 1),
    "NvidiaRtxPro6000": FakeGPU("FAKE NVIDIA RTX PRO 6000", "580.82.07", "13.0", 97887, "12.0", 1),
}
IMAGE_DIGEST = "sha256:" + "bdf9e053" * 8
CERTIFICATES = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
TRAP = "kaggle_preinstalled"  # a package on the platform's paths that no job may see


def given(shape: str, gpu: bool, allowed: Sequence[str]) -> str:
    """The accelerator that a push really gets; "" is none. Retired and unknown names are never refused."""
    shape = RETIRED.get(shape, shape) or (DEFAULT_GPU if gpu else "")
    if shape in allowed or not shape:
        return shape
    return DEFAULT_GPU if shape in GPUS else ""


@dataclass(frozen=True)
class Machine:
    """What one session sees."""

    session_id: int
    kind: str  # notebook | script
    source: str
    shape: str
    internet: bool
    inputs: tuple[tuple[str, Path], ...]  # slug, folder
    environment: dict[str, str]
    visible: tuple[Path, ...] = ()
    image: str = ""

    def prepare(self, folder: Path) -> list[str]:
        """Make the session's root folder; the argv that runs the session, but for the events' descriptor."""
        root = folder / "root"
        for name in (
            "kaggle/input",
            "kaggle/working",
            "kaggle/tmp",
            "kaggle/src",
            "kaggle/lib",
            "root",
            "tmp",
        ):
            (root / name).mkdir(parents=True)
        for name in ("var/tmp", "run", "opt/bin", "dev", "proc"):
            (root / name).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        self._programs(root)
        _traps(root)
        plan = folder / "plan.json"
        plan.write_text(json.dumps(self._plan(root)))
        return [*unshare(self.internet), sys.executable, str(GUEST / "enter.py"), str(plan)]

    def _programs(self, root: Path) -> None:
        suffix = "ipynb" if self.kind == "notebook" else "py"
        (root / f"kaggle/src/script.{suffix}").write_text(self.source)
        shutil.copy(GUEST / "execute.py", root / "opt/bin/kaggle-execute.py")
        shutil.copy(GUEST / "kaggle_secrets.py", root / "kaggle/lib/kaggle_secrets.py")
        (root / "opt/bin/uv").symlink_to(session_python().with_name("uv"))
        if self.shape in GPUS:
            program = root / "opt/bin/nvidia-smi"
            program.write_text(nvidia_smi(GPUS[self.shape]))
            program.chmod(0o755)

    def _plan(self, root: Path) -> dict[str, object]:
        suffix = "ipynb" if self.kind == "notebook" else "py"
        binds = [[str(path), f"/kaggle/input/{slug}"] for slug, path in self.inputs]
        binds += [[one, one] for one in _python_folders() if not one.startswith(("/usr/", "/opt/"))]
        binds += [[str(path), str(path)] for path in self.visible]
        python = str(session_python())
        return {
            "root": str(root),
            "binds": binds,
            "network": self.internet,
            "cwd": "/kaggle/working",
            "argv": [python, "/opt/bin/kaggle-execute.py", self.kind, f"/kaggle/src/script.{suffix}"],
            "environment": {**self._variables(), **self.environment},
        }

    def _variables(self) -> dict[str, str]:
        bin_folder, gpu = session_python().parent, "gpu-" if self.shape else ""
        return {
            **{name: os.environ[name] for name in CERTIFICATES if name in os.environ},
            "PATH": f"{bin_folder}:/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "KAGGLE_CONTAINER_NAME": f"kaggle_emulated-{self.session_id}-webtier",
            "KAGGLE_DOCKER_IMAGE": self.image or f"gcr.io/kaggle-{gpu}images/python@{IMAGE_DIGEST}",
            "KAGGLE_KERNEL_RUN_TYPE": "Batch",
            "KAGGLE_API_V1_TOKEN": "/kaggle/tmp/.api-token",
            "PYTHONPATH": "/kaggle/lib/kagglegym:/kaggle/lib",
            "PYTHONUSERBASE": "/root/.local",
            "LD_LIBRARY_PATH": "/usr/local/cuda/lib64:/usr/local/nvidia/lib64",
            "MPLBACKEND": "agg",
        }


@functools.cache
def unshare(internet: bool) -> tuple[str, ...]:
    """The command before a session's own: it dies with the thread that started it, and takes all with it."""
    user = () if os.geteuid() == 0 else ("--map-root-user",)
    network = () if internet else ("--net",)
    start = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL")
    return (*start, *user, *network)


def _traps(root: Path) -> None:
    """A package with its metadata on PYTHONPATH and in the user's site: what leaks into a job is seen."""
    versions = [f"3.{minor}" for minor in range(10, 15)]
    places = [root / "kaggle/lib", *(root / f"root/.local/lib/python{one}/site-packages" for one in versions)]
    for place in places:
        (place / f"{TRAP}-6.6.6.dist-info").mkdir(parents=True)
        metadata = f"Metadata-Version: 2.1\nName: {TRAP}\nVersion: 6.6.6\n"
        (place / f"{TRAP}-6.6.6.dist-info/METADATA").write_text(metadata)
        (place / f"{TRAP}.py").write_text("WHERE = __file__\n")


@functools.cache
def _python_folders() -> tuple[str, ...]:
    """Where the session's interpreter lies: its environment, and what that was made of."""
    code = "import sys; print(sys.prefix); print(sys.base_prefix)"
    shown = subprocess.run([session_python(), "-c", code], capture_output=True, text=True, check=True)
    return tuple(dict.fromkeys(shown.stdout.split("\n")[:2]))
