"""Kaggle and Colab as doors of the contract: what lies there, and what differs by the platforms' nature."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.emulators.colab.emulator import Colab
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.processes import descendants
from tests.laptop import Laptop
from tests.targets.conftest import Door

RELAY = {"steps": 60, "pause": 0.4, "later": 0}  # a look at a Kaggle log ends at the first pause in it


class FreeLaptop(Laptop):
    """Its jobs take any Python that is there: no platform has just the one of the other tests."""

    def job(self, name: str, script: str, **spec: Any) -> Path:
        return super().job(name, script, **{"environment": {}, **spec})


@dataclass
class KaggleDoor(Door):
    """What a run wrote is seen once its session has ended."""

    kaggle: Kaggle | None = None
    python = "3."
    live_checkpoints = False
    cancelled_code = 137  # Kaggle kills what it cancels
    relay = RELAY

    @property
    def form(self) -> str:
        return "plain"

    def kill_agent(self, run: str) -> None:
        assert self.kaggle
        session = self.kaggle.sessions[-1]
        assert session.process
        state = session.ways.folder / "root/kaggle/working" / run / "0/state.json"
        kill_inside(session.process.pid, json.loads(state.read_text())["agent_pid"])

    def cat(self, path: str) -> bytes:
        found = self._find(path)
        assert found, path
        return found.read_bytes()

    def exists(self, path: str) -> bool:
        """Nothing of a run is there when neither its notebook nor its datasets are."""
        assert self.kaggle
        nonce = path.split("/")[1][-8:]
        refs = [*self.kaggle.kernels.by_ref, *self.kaggle.datasets.by_ref]
        there = any(nonce in ref for ref in refs)
        return there and (path.count("/") < 3 or self._find(path) is not None)

    def _find(self, path: str) -> Path | None:
        assert self.kaggle
        wanted = path.removeprefix("runs/")
        outputs = [one.outputs for one in self.kaggle.sessions if one.outputs]
        return next((folder / wanted for folder in outputs if (folder / wanted).exists()), None)


@dataclass
class ColabDoor(Door):
    """What a run wrote lies on the disk of a runtime, as long as that lives."""

    colab: Colab | None = None
    python = "3."
    keeps = False  # the runtime is handed back once all is home
    relay = RELAY

    @property
    def form(self) -> str:
        return "plain"

    def kill_agent(self, run: str) -> None:
        assert self.colab
        kill_inside(self.colab.process_id(), json.loads(self.cat(f"runs/{run}/0/state.json"))["agent_pid"])

    def cat(self, path: str) -> bytes:
        found = self._find(path)
        assert found, path
        return found.read_bytes()

    def exists(self, path: str) -> bool:
        return self._find(path) is not None

    def _find(self, path: str) -> Path | None:
        assert self.colab
        disks = [self.colab.disk(endpoint) for endpoint in self.colab.endpoints]
        return next((one for disk in disks if (one := disk / "content/launcher" / path).exists()), None)


def kill_inside(top: int, number: int) -> None:
    """SIGKILL for a process by the number that it has in its own namespace, below a process of this machine."""
    for pid, _ in descendants(top):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            if f"\t{number}\n" in next(
                line + "\n" for line in status.splitlines() if line.startswith("NSpid")
            ):
                os.kill(pid, signal.SIGKILL)
                return
    raise AssertionError(f"there is no process {number}")
