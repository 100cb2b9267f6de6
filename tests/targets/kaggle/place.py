"""A laptop whose `kaggle` is an emulated one with an account of its own, and what is left of a run there."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.config import Config
from launcher.targets.kaggle.target import KaggleTarget
from launcher.targetsfile import TargetConfig
from tests.emulators.kaggle.accounts import Account
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.sessions import Session
from tests.emulators.kaggle.settings import Faults, Settings
from tests.laptop import Laptop

ANY_PYTHON: dict[str, Any] = {}  # environment: the session's own Python will do, nothing is built
COUNTER = """
import json, os, pathlib, time
out = pathlib.Path(os.environ["LAUNCHER_OUT"])
params = json.loads(os.environ["LAUNCHER_PARAMS"])
step = 0
if os.environ.get("LAUNCHER_RESUME"):
    step = json.loads(pathlib.Path(os.environ["LAUNCHER_RESUME"]).read_text())["step"]
    print("resumed at", step, flush=True)
(out / "checkpoints").mkdir(exist_ok=True)
while step < params["steps"]:
    step += 1
    print("step", step, flush=True)
    with open(out / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / step}) + "\\n")
    part = out / "checkpoints" / f"step-{step:03}.json.tmp"
    part.write_text(json.dumps({"step": step}))
    part.rename(part.with_suffix(""))
    while step == params["hold"] and not os.path.exists(params["gate"]):
        time.sleep(0.05)
(out / "final.txt").write_text(f"after {step} steps")
"""


@dataclass
class Place:
    """`place.laptop.ok("run", …, "--on", "kaggle")`; `account` is nobody else's."""

    laptop: Laptop
    kaggle: Kaggle
    account: Account

    def counter(self, steps: int = 3, hold: int = 0, **spec: Any) -> str:
        """A job that counts, saving each step; after `hold` steps it waits until the gate is opened."""
        params = {"steps": steps, "hold": hold, "gate": str(self.gate)}
        return str(self.laptop.job("counter", COUNTER, environment=ANY_PYTHON, params=params, **spec))

    @property
    def gate(self) -> Path:
        """A file that sessions see as well."""
        return self.kaggle.settings.visible[0] / self.account.name

    def said(self, text: str) -> bool:
        """Whether the newest session has printed something."""
        return bool(self.sessions) and text in self.sessions[-1].log.array()

    @property
    def sessions(self) -> list[Session]:
        return [one for one in self.kaggle.sessions if one.account is self.account]

    @property
    def kernels(self) -> list[str]:
        return [ref for ref in self.kaggle.kernels.by_ref if ref.startswith(f"{self.account.name}/")]

    @property
    def datasets(self) -> list[str]:
        return [ref for ref in self.kaggle.datasets.by_ref if ref.startswith(f"{self.account.name}/")]

    def home(self, run: str = "last") -> Path:
        return Path(self.laptop.status(run)["out"])

    def nothing_left(self) -> None:
        """Nothing that eats quota or space."""
        assert self.kernels == []
        assert self.datasets == []
        for session in self.sessions:
            session.join()
        assert all(session.over for session in self.sessions)


def target_of(place: Place, **options: str) -> KaggleTarget:
    """The target itself, without the command."""
    return KaggleTarget(Config(place.laptop.env), TargetConfig("kaggle", "kaggle", options))


def place_of(kaggle: Kaggle, folder: Path) -> Place:
    account = kaggle.account("u" + uuid.uuid4().hex[:10])
    variables = {"LAUNCHER_KAGGLE_URL": kaggle.url, "KAGGLE_API_TOKEN": account.token()}
    return Place(Laptop(folder / "laptop with 'quotes' ü", variables), kaggle, account)


@pytest.fixture(scope="module")
def kaggle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kaggle]:
    settings = Settings(time_scale=60, visible=(tmp_path_factory.mktemp("gates"),))
    with Kaggle(settings) as running:
        yield running


@pytest.fixture
def place(kaggle: Kaggle, tmp_path: Path) -> Iterator[Place]:
    made = place_of(kaggle, tmp_path)
    settings = dict(vars(kaggle.settings))
    try:
        yield made
    finally:
        made.laptop.close()
        made.gate.touch()
        for session in made.sessions:
            session.cancel()
        vars(kaggle.settings).update(settings)
        quiet = Faults()
        for name in vars(quiet):
            if not name.startswith("_"):
                setattr(kaggle.faults, name, getattr(quiet, name))
