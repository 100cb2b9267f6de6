"""Brings results home, and makes verified copies of them elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from launcher.agent import records
from launcher.errors import IntegrityError, LauncherError, Refused, RunNotFound
from launcher.events import ArtifactHome, Event, LogLines, Notice, Result
from launcher.run import Run
from launcher.runner import follow, fromfolder
from launcher.runner.context import Context
from launcher.runner.homes import home_of
from launcher.vault import Home, HomeArtifact, digest_of


def pull(
    ctx: Context,
    run: Run,
    checkpoints: str | None,
    out: str | None,
    watch: bool,
    from_folder: str | None = None,
) -> Iterator[Event]:
    """All that is there comes home; `watch` goes on until the end; `out` gets a verified copy. `from_folder`
    is read instead of the place where the run lives."""
    home = home_of(run)
    if from_folder is not None:
        yield from fromfolder.bring(ctx, run, from_folder)
    elif watch:
        for event in follow.attach(ctx, run):
            if not isinstance(event, LogLines | Result):
                yield event
    elif home.try_lock():
        try:
            for event in follow.catch_up(ctx, run, home):
                if not isinstance(event, LogLines | Result):
                    yield event
        finally:
            home.unlock()
    else:
        yield Notice("another launcher process is bringing this run home")
    run = ctx.ledger.run(run.id)
    if out is not None:
        yield from _copy(run, home, checkpoints or "all", Path(out))
    yield Result(run.id, run.state.value, 0)


def _copy(run: Run, home: Home, which: str, out: Path) -> Iterator[Event]:
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise Refused(f"{out} is there and not empty", "name a new folder with --out")
    chosen = _chosen(home, which)
    out.mkdir(parents=True, exist_ok=True)
    for artifact in [*chosen, *home.outputs().values()]:
        target = out / artifact.path.relative_to(home.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_verified(artifact, target)
        yield ArtifactHome(
            run.id, artifact.kind, artifact.name, str(target), artifact.size_bytes, artifact.digest
        )
    for name in (records.LOG, records.METRICS, "capsule.json"):
        if (home.path / name).is_file():
            shutil.copyfile(home.path / name, out / name)


def _chosen(home: Home, which: str) -> list[HomeArtifact]:
    if which == "all":
        return home.checkpoints()
    found = home.best_checkpoint() if which == "best" else home.newest_checkpoint()
    if found is None and which == "best":
        raise RunNotFound("no checkpoint named best is home", "`--checkpoints last` takes the newest")
    return [found] if found else []


def _copy_verified(artifact: HomeArtifact, target: Path) -> None:
    try:
        if artifact.path.is_dir():
            shutil.copytree(artifact.path, target)
        else:
            shutil.copyfile(artifact.path, target)
    except OSError as e:
        raise LauncherError(f"{target}: {e.strerror}", "free some space, or choose another --out") from e
    if digest_of(target) != artifact.digest:
        raise IntegrityError(
            f"{artifact.path} at home is no longer what was published", f"launcher pull {artifact.name} again"
        )
