"""The doctor: reaches each target and says what works, what does not, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from launcher.errors import LauncherError
from launcher.runner.context import Context
from launcher.target import Finding
from launcher.targets.registry import target_of


def check(ctx: Context, targets: Sequence[str]) -> Iterator[tuple[str, Finding]]:
    """(target, finding) for the named targets, or for all that are configured and `local`."""
    for name in targets or ["local", *(t for t in ctx.config.targets() if t != "local")]:
        try:
            for finding in target_of(ctx, name).check():
                yield name, finding
        except LauncherError as e:
            yield name, Finding("reachable", False, e.message, e.hint)
