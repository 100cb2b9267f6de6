"""The files of a notebook that is opened by hand: itself, and beside it what cannot be inside."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import environment
from launcher.agent import records
from launcher.errors import LauncherError
from launcher.job.gpu import Gpu, fits
from launcher.notebook import wheelhouse
from launcher.notebook.ipynb import Options, embedded, notebook
from launcher.notebook.payload import ARCH, MANIFEST, Payload, Platform
from launcher.notebook.payload import write as write_payload
from launcher.run import State
from launcher.target import Step, Submission

SESSION_S = 12 * 3600.0
INPUT = "/kaggle/input"
ENVIRONMENTS = "launcher-env-"  # as the target kaggle calls the same dataset


@dataclass(frozen=True)
class Files:
    """Where they go. `offline`: the environment too lies beside the notebook, for a place without internet."""

    notebook: Path
    platform: str
    offline: bool = False

    @property
    def payload(self) -> Path:
        """A folder for a dataset of Kaggle's, one file to upload to Colab."""
        return self.notebook.with_name(
            f"{self.notebook.stem}-payload" + (".bin" if self.platform == "colab" else "")
        )

    @property
    def environment(self) -> Path:
        return self.notebook.with_name(f"{self.notebook.stem}-environment")

    def in_the_way(self) -> Path | None:
        """What is there already, and may be the user's."""
        mine = (self.notebook, self.payload, *([self.environment] if self.offline else []))
        return next((path for path in mine if path.exists() or path.is_symlink()), None)


def write(order: Submission, files: Files, root: str, segments: str) -> Generator[Step, None, dict[str, Any]]:
    """Write them all, the notebook last and whole; what to remember."""
    yield Step(State.PENDING, "notebook", files.notebook.name)
    try:
        files.notebook.parent.mkdir(parents=True, exist_ok=True)
        house = yield from _environment(order, files)
        platform = Platform(
            files.platform,
            root,
            segments,
            SESSION_S,
            secrets=files.platform,
            wheelhouse=f"{INPUT}/{house['environment_name']}" if house else "",
        )
        with tempfile.TemporaryDirectory(dir=files.notebook.parent, prefix=".notebook.") as scratch:
            payload = write_payload(order, Path(scratch) / "payload", platform)
            beside = not embedded(payload)
            text = notebook(payload, _options(order, files, beside))
            if beside:
                _put_beside(payload, files, Path(scratch))
        records.write_durably(str(files.notebook), text.encode(), 0o644)
    except OSError as e:
        said = f"cannot write {e.filename or files.notebook}: {e.strerror}"
        raise LauncherError(said, "choose another with -o") from e
    return {"beside": str(files.payload) if beside else "", **house}


def _environment(order: Submission, files: Files) -> Generator[Step, None, dict[str, str]]:
    plan = environment.plan(order.spec.environment, order.lock, ARCH)
    if not files.offline or plan.trivial:
        return {}
    for fetched in wheelhouse.fetching(plan, order.lock, files.environment):
        yield Step(State.PENDING, "collect wheels", fetched.name, fetched.done, fetched.total + 1)
    return {"environment_folder": str(files.environment), "environment_name": ENVIRONMENTS + plan.key}


def _put_beside(payload: Payload, files: Files, scratch: Path) -> None:
    made = payload.folder if files.platform == "kaggle" else payload.packed(scratch / "packed").path
    if (files.payload / MANIFEST).exists():  # of an earlier try
        shutil.rmtree(files.payload)
    made.replace(files.payload)


def _options(order: Submission, files: Files, beside: bool) -> Options:
    return Options(
        order.spec.name,
        f"It runs `{_shown(order.order['command'])}`.",
        accelerator=_accelerator(order.spec.resources.gpu) if files.platform == "colab" else "",
        packed=files.payload.name if beside else "",
    )


def _shown(command: str | list[str]) -> str:
    import shlex

    return command if isinstance(command, str) else shlex.join(command)


def _accelerator(wanted: Gpu | None) -> str:
    """Which of Colab's GPUs the notebook asks for when it is opened."""
    from launcher.targets.colab.offer import MODELS

    good = (one.name for one in MODELS if wanted and fits(wanted, one.shown, one.memory_mb << 20))
    return next(good, "")
