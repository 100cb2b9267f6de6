"""`notebook`: a run, or a further segment of one, as a notebook that the user opens by hand."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.errors import Refused
from launcher.events import Event, Notice, Result
from launcher.job.spec import JobSpec
from launcher.run import Run
from launcher.runner import relay, sources
from launcher.runner.context import Context, ResumeRequest, RunRequest
from launcher.runner.homes import claimed
from launcher.runner.pack import pack, recorded_lock
from launcher.runner.submit import checked, make
from launcher.target import Need
from launcher.targets import hand
from launcher.targets.hand_files import Files


@dataclass(frozen=True)
class Wanted:
    """For which platform, and where the notebook goes: a path, or in the current folder named after the run."""

    platform: str  # kaggle | colab
    file: str | None = None
    offline: bool = False

    def handle(self, run_id: str, segment: int) -> dict[str, Any]:
        """What the segment must know."""
        name = run_id if not segment else f"{run_id}-{segment}"
        path = Path(self.file or f"{name}.ipynb").absolute()
        return {"notebook": str(path), "offline": self.offline}

    def check(self) -> None:
        """Raise Refused rather than write over what somebody may have worked in."""
        if self.offline and self.platform != "kaggle":
            raise Refused("only Kaggle has notebooks without internet", "leave --offline out")
        if self.file is None:
            return
        if Path(self.file).is_dir():
            raise Refused(f"{self.file} is a folder", f"-o {self.file.rstrip('/')}/NAME.ipynb")
        if there := Files(Path(self.file), self.platform, self.offline).in_the_way():
            raise Refused(f"{there} is there already", "name another notebook with -o, or remove it")


def notebook(ctx: Context, request: RunRequest, wanted: Wanted) -> Iterator[Event]:
    """A new run whose place is the notebook. Nothing is recorded before the job is packed."""
    wanted.check()
    loaded = sources.settled(checked(ctx, request), request)
    target = hand.HandTarget(ctx.config, hand.name_of(wanted.platform))
    hand.refuse(Need(loaded.spec))
    packed = yield from pack(ctx, request, loaded)
    made = yield from make(ctx, request, loaded, packed)
    yield from relay.record(ctx, made, target, wanted.handle(made.run.id, 0))
    with made.home.writer():
        yield from relay.finish_submission(ctx, ctx.ledger.run(made.run.id), target)
    yield from _written(ctx, made.run.id)


def resumed(ctx: Context, run: Run, request: ResumeRequest, wanted: Wanted) -> Iterator[Event]:
    """A further segment of a run, from its newest checkpoint, as a notebook."""
    wanted.check()
    run = relay.resumable(ctx, run, request)
    target = hand.HandTarget(ctx.config, hand.name_of(wanted.platform))
    hand.refuse(Need(JobSpec.from_json(run.spec), recorded_lock(ctx, run)))
    if not (yield from relay.ready_to_go_on(ctx, run)):
        return
    with claimed(run) as home:
        handle = wanted.handle(run.id, len(ctx.ledger.run(run.id).segments))
        following = relay.Next(target, request.checkpoint, handle)
        yield from relay.add_segment(ctx, run, home, following)
        yield from relay.finish_submission(ctx, ctx.ledger.run(run.id), target)
    yield from _written(ctx, run.id)


def _written(ctx: Context, run_id: str) -> Generator[Event, None, None]:
    """What was written, and what the user does now."""
    run = ctx.ledger.run(run_id)
    segment = run.newest
    assert segment is not None
    ctx.ledger.update_segment(run.id, segment.number, reason=hand.WAITS)
    for line in hand.next_steps(segment, JobSpec.from_json(run.spec).secrets):
        yield Notice(line)
    keys = ("notebook", "beside", "environment_folder")
    paths = {key: segment.handle[key] for key in keys if segment.handle.get(key)}
    yield Result(run.id, segment.state.value, 0, hand.WAITS, paths)
