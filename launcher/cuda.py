"""Judges whether a lock's torch would see a machine's GPU, and names the build that would (pure).

Sources: NVIDIA's minor version compatibility (a program built with CUDA 12.8 runs on every driver of CUDA
12), and PyTorch's RELEASE.md for the architectures in each build. A cubin runs on its own major architecture
from its minor on: sm_86 serves 8.9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from launcher.lock import Lock

TO_HOPPER = ((5, 0), (6, 0), (7, 0), (7, 5), (8, 0), (8, 6), (9, 0))
ARCHITECTURES = {  # CUDA version of PyTorch's builds -> compute capabilities in them; ascending
    (11, 8): TO_HOPPER,
    (12, 1): TO_HOPPER,
    (12, 4): TO_HOPPER,
    (12, 6): TO_HOPPER,
    (12, 8): ((7, 0), (7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
    (13, 0): ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (11, 0), (12, 0)),
}
NEWEST_KNOWN = (12, 9)  # of a GPU beyond this nothing is claimed
CHOICES = ("cu130", "cu128", "cu126")  # what `torch:` can be, newest first


@dataclass(frozen=True)
class Trouble:
    """Why torch would not see the GPU, and what to do."""

    message: str
    hint: str
    torch: str  # the value of `torch:` that would work


def trouble(lock: Lock, driver_cuda: str | None, capabilities: Sequence[str | None]) -> Trouble | None:
    """None when the GPUs would be seen, or when it cannot be told. `driver_cuda` is what nvidia-smi shows."""
    torch = lock.pins.get("torch")
    if torch is None:
        return None
    known = [capability for capability in capabilities if capability]
    works = suggestion(driver_cuda, known)
    hint = f"set torch: {works} under environment: in job.yaml, then run `launcher lock`"
    cuda = cuda_of(lock)
    if cuda is None:
        cpu = lock.torch == "cpu" or torch.endswith("+cpu")
        return Trouble(f"torch {torch} of the lock is a build for CPUs", hint, works) if cpu else None
    if not driver_runs(driver_cuda, cuda):
        said = f"torch {torch} of the lock needs CUDA {cuda}, the driver there has {driver_cuda}"
        return Trouble(said, hint, works)
    for capability in known:
        if not architecture_in(capability, cuda):
            said = f"torch {torch} of the lock (CUDA {cuda}) has no code for a GPU of capability {capability}"
            return Trouble(said, hint, works)
    return None


def suggestion(driver_cuda: str | None, capabilities: Sequence[str]) -> str:
    """The newest build that the driver runs and that has code for all these GPUs, else `cpu`."""
    for choice in CHOICES:
        cuda = f"{choice[2:-1]}.{choice[-1]}"
        if driver_runs(driver_cuda, cuda) and all(architecture_in(c, cuda) for c in capabilities):
            return choice
    return "cpu"


def cuda_of(lock: Lock) -> str | None:
    """The CUDA version of a lock's torch: `13.0`; None for a CPU build or when nothing tells."""
    pins = lock.pins
    if match := re.search(r"\+cu(\d+)(\d)$", pins.get("torch", "")):
        return f"{match[1]}.{match[2]}"
    for name in (
        "nvidia-cuda-runtime",
        "nvidia-cuda-runtime-cu12",
        "nvidia-cuda-runtime-cu11",
        "cuda-toolkit",
    ):
        if name in pins:
            return ".".join(pins[name].split(".")[:2])
    return None


def driver_runs(driver_cuda: str | None, cuda: str) -> bool:
    """Whether a driver runs programs of a CUDA version; an unknown driver is believed to."""
    numbers = _numbers(driver_cuda)
    return numbers is None or numbers[0] >= int(cuda.split(".")[0])


def architecture_in(capability: str, cuda: str) -> bool:
    """Whether torch built with that CUDA has code for a GPU; believed where the table does not reach."""
    wanted, build = _numbers(capability), _numbers(cuda)
    if wanted is None or build is None or wanted > NEWEST_KNOWN:
        return True
    rows = [version for version in ARCHITECTURES if version <= build and version[0] == build[0]]
    if not rows:
        return True
    return any(one[0] == wanted[0] and one[1] <= wanted[1] for one in ARCHITECTURES[rows[-1]])


def _numbers(version: str | None) -> tuple[int, int] | None:
    match = re.match(r"(\d+)\.(\d+)", version or "")
    return (int(match[1]), int(match[2])) if match else None
