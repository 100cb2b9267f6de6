"""`launcher demo`: a training run is killed and resumed, and ends with the weights of an undisturbed one.

It goes through the same verbs as any run, with everything (ledger, settings, machine folder, results) in a
temporary folder, on this machine, without Docker and without network.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

from launcher.config import Config
from launcher.errors import IntegrityError, LauncherError, Refused
from launcher.events import ArtifactHome, Event, Notice, Result
from launcher.ledger import Ledger
from launcher.runner import control, relay, submit
from launcher.runner.context import Context, Question, ResumeRequest, RunRequest
from launcher.targets.machine import MachineTarget
from launcher.targets.registry import target_of

KILL_AFTER = "epoch-03.json"
WEIGHTS = "model.json"


def demo() -> Iterator[Event]:
    """The story in three steps; the last event is a Result whose detail has both digests."""
    with tempfile.TemporaryDirectory(prefix="launcher-demo-") as folder:
        ctx = _context(Path(folder))
        try:
            yield from _story(ctx, RunRequest(str(Path(__file__).parent), out=f"{folder}/runs"))
        finally:
            _clean(ctx)
            ctx.ledger.close()


def _story(ctx: Context, request: RunRequest) -> Iterator[Event]:
    yield Notice(f"1 of 3: train a small model; SIGKILL as soon as {KILL_AFTER} is home")
    killed = yield from _killed(ctx, submit.run(ctx, request))
    yield Notice("2 of 3: resume it from its newest checkpoint")
    resume = relay.resume(ctx, ctx.ledger.find(killed.run_id), ResumeRequest())
    resumed = yield from _shown(resume, "succeeded")
    yield Notice("3 of 3: the same training, undisturbed")
    undisturbed = yield from _shown(submit.run(ctx, request), "succeeded")
    digests = [_digest(ctx, result.run_id) for result in (resumed, undisturbed)]
    if digests[0] != digests[1]:
        raise IntegrityError("the weights are not the same: sha256 {} and {}".format(*digests))
    detail = {"same": True, "sha256": digests[0], "undisturbed_sha256": digests[1]}
    yield Result(resumed.run_id, resumed.state, 0, detail=detail)


def _killed(ctx: Context, events: Iterator[Event]) -> Generator[Event, None, Result]:
    """Follow a run; kill its agent and its job in the middle."""
    for event in events:
        if isinstance(event, Result):
            if event.state == "succeeded":
                raise LauncherError("the job was over before it could be killed", "try again")
            yield Notice(f"{event.run_id} is {event.state}: {event.reason}")
            return event
        yield event
        if isinstance(event, ArtifactHome) and event.name == KILL_AFTER:
            _kill(ctx, event.run_id)
            yield Notice("SIGKILL to the job and to its agent")
    raise LauncherError("the run ended without a result")


def _shown(events: Iterator[Event], wanted: str) -> Generator[Event, None, Result]:
    for event in events:
        if not isinstance(event, Result):
            yield event
        elif event.state == wanted:
            return event
        else:
            raise LauncherError(f"the run ended as {event.state}: {event.reason}")
    raise LauncherError("the run ended without a result")


def _kill(ctx: Context, run_id: str) -> None:
    segment = ctx.ledger.find(run_id).newest
    target = target_of(ctx, "local")
    assert segment is not None
    assert isinstance(target, MachineTarget)
    steward = target.host.steward()
    steward.call("signal", folder=segment.handle["folder"], signal="KILL", container=None)


def _digest(ctx: Context, run_id: str) -> str:
    return hashlib.sha256(Path(ctx.ledger.find(run_id).home, WEIGHTS).read_bytes()).hexdigest()


def _clean(ctx: Context) -> None:
    """Nothing that this started goes on, whichever way it ended."""
    with contextlib.suppress(LauncherError):
        for _ in control.release(ctx, ctx.ledger.runs(), force=True):
            pass


def _context(folder: Path) -> Context:
    places = {"LAUNCHER_HOME": str(folder / "state"), "LAUNCHER_CONFIG": str(folder / "config")}
    config = Config(Config().child_environment(**places))
    machine = {"type": "local", "docker": "never", "root": str(folder / "machine")}
    config.add_target("local", machine)
    return Context(config, Ledger(config.home), _nobody)


def _nobody(question: Question) -> bool:
    raise Refused(question.text)
