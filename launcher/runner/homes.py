"""The home folder of a recorded run, with the retention that its spec asks for."""

from __future__ import annotations

from launcher.run import Run
from launcher.vault import Home


def home_of(run: Run) -> Home:
    """Not locked; who writes takes the lock."""
    keep = run.spec.get("checkpoints", {}).get("keep", "all")
    return Home(run.home, keep)
