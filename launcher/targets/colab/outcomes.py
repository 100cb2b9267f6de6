"""What Colab's answers mean for a segment (pure)."""

from __future__ import annotations

import uuid

from launcher.errors import CapacityError, LauncherError, RemoteError
from launcher.published import ExitRecord
from launcher.run import State, Status
from launcher.targets.colab.api import Runtime, Wanted
from launcher.targets.colab.kernel import Ending

TAKEN_BACK = "Colab took the runtime back"
NAMESPACE = uuid.UUID("6f0b6a4e-3f5c-5d1e-9c0a-6c61756e6368")


def notebook_id(run_id: str, number: int) -> str:
    """The notebook that a segment's runtime is given to: always the same, so that a lost answer is adopted."""
    return str(uuid.uuid5(NAMESPACE, f"{run_id}/{number}"))


def mismatch(wanted: Wanted, given: Runtime) -> LauncherError | None:
    """Colab may give less than was asked for; a training that waits for a GPU must not start without."""
    if wanted.accelerator.upper() != given.accelerator.upper():
        asked, got = wanted.accelerator or "a CPU runtime", given.accelerator or "one without a GPU"
        return CapacityError(
            f"Colab gave {got} where {asked} was asked for; it was handed back",
            "try again later, or choose another target with --on",
        )
    if wanted.high_memory and not given.high_memory:
        return CapacityError(
            "Colab gave a standard runtime where high memory was asked for; it was handed back",
            "try again later, or set `memory: standard` for this target",
        )
    return None


def ended(record: ExitRecord) -> Status:
    """A proven end."""
    return Status(record.state, record.reason, record.exit_code)


def gone(handed_over: bool) -> Status:
    """The provider says that the runtime is no more."""
    return Status(State.PREEMPTED, TAKEN_BACK) if handed_over else Status(State.PENDING)


def failed(what: str, ending: Ending) -> LauncherError | None:
    """A cell that did not do its work, in one line."""
    if ending.status == "ok":
        return None
    if ending.status in ("died", "lost"):
        return RemoteError(
            f"the Colab kernel died during {what}", "`launcher attach` tries again; was its memory full?"
        )
    said = ending.value.strip().splitlines() or [ending.name]
    return RemoteError(f"{what} on Colab: {said[0]}" + ("" if _ours(ending) else f" ({ending.name})"))


def _ours(ending: Ending) -> bool:
    return ending.name == "NotebookError"
