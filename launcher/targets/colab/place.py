"""Puts a segment on a Colab runtime: the runtime, the payload, the environment, the agent; each step repeatable."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.agent import records
from launcher.errors import CapacityError, LauncherError, Unreachable
from launcher.ledger.files import private_folder
from launcher.notebook import payload as payloads
from launcher.run import Resource, Segment, State
from launcher.target import Step, Submission
from launcher.targets.colab import cells, outcomes
from launcher.targets.colab.api import ColabAPI, Runtime, Wanted
from launcher.targets.colab.files import RuntimeFiles
from launcher.targets.colab.folder import ROOT, SEGMENTS, Spot
from launcher.targets.colab.kernel import Cell, Kernel
from launcher.targets.colab.runtime import Reclaimed, RuntimeLine

PLATFORM = payloads.Platform("colab", ROOT, SEGMENTS, session_s=12 * 3600.0, secrets=payloads.SENT)
GRANT_S = 90.0  # after which a request for a runtime is granted, or never
TRIES = 10  # of a cell whose answer is lost: connections may break again and again
FOLLOWED = (records.LOG, records.MANIFEST, f"{records.OUT}/{records.METRICS}")


@dataclass(frozen=True)
class Placing:
    """One submission on its way; `scratch` is where its payload may lie on this disk for a while."""

    api: ColabAPI
    submission: Submission
    wanted: Wanted
    scratch: Path

    @property
    def segment(self) -> Segment:
        return self.submission.segment

    @property
    def spot(self) -> Spot:
        return Spot(self.segment.run_id, self.segment.number)

    @property
    def resource(self) -> Resource:
        return runtime_resource(self.segment.run_id, self.segment.number)


def runtime_resource(run_id: str, number: int) -> Resource:
    """A segment's runtime as the ledger knows it: by its notebook, which is known before Colab is asked."""
    identity = outcomes.notebook_id(run_id, number)
    return Resource("runtime", identity, run_id[-8:], paid=True, detail={"spends": "compute units"})


def place(placing: Placing) -> Iterator[Step]:
    """Until the hand-over. What fails for good hands the runtime back; what nobody answers leaves it to be adopted."""
    wanted = placing.wanted
    told = {"accelerator": wanted.accelerator, "high_memory": wanted.high_memory, "version": wanted.version}
    handle: dict[str, Any] = {"notebook": wanted.notebook_id, "wanted": told, "endpoint": None}
    handle |= {"asked_at": time.time(), "folder": placing.spot.folder, "form": "plain"}
    yield Step(State.PROVISIONING, "runtime", shown(wanted), handle=handle, resource=placing.resource)
    try:
        runtime = yield from _runtime(placing)
        yield from _on(placing, runtime)
    except Unreachable:
        raise
    except LauncherError as e:
        yield from _given_back(placing)
        raise _before_start(e) from e


def shown(wanted: Wanted) -> str:
    """The runtime in a few words."""
    more = (
        [wanted.accelerator or "CPU"]
        + ["high memory"] * wanted.high_memory
        + [wanted.version] * bool(wanted.version)
    )
    return "Colab " + ", ".join(more)


def hand_back(api: ColabAPI, segment: Segment) -> bool:
    """Unassign whatever this segment's notebook has; whether it had anything.

    It is looked for as one without a GPU: what the account may not ask for (now) is refused, whoever has it.
    """
    found = api.find(Wanted(outcomes.notebook_id(segment.run_id, segment.number)))
    for endpoint in {segment.handle.get("endpoint"), found.endpoint if found else None} - {None}:
        api.unassign(str(endpoint))
    return found is not None


def given_late(api: ColabAPI, segment: Segment) -> Iterator[Step]:
    """A runtime that was asked for, by who then died: the answer may yet be on its way. Hands back what it brings."""
    known = segment.handle
    if known.get("endpoint") or not known.get("asked_at"):
        return
    until = min(float(known["asked_at"]), time.time()) + GRANT_S
    if time.time() < until:
        yield Step(
            segment.state, "hand back", "Colab may be about to give what was asked for: waiting for it"
        )
    while time.time() < until and not hand_back(api, segment):
        time.sleep(1.0)


def forget(scratch: Path, segment: Segment) -> None:
    """The payload on this disk, should a crash have left it."""
    shutil.rmtree(_payload_here(scratch, segment), ignore_errors=True)


def _runtime(placing: Placing) -> Generator[Step, None, Runtime]:
    """The one that an earlier try was given, else a new one."""
    runtime = placing.api.assign(placing.wanted)
    handle = {"endpoint": runtime.endpoint, "machine": _machine(placing.wanted, runtime)}
    yield Step(State.PROVISIONING, "runtime", shown(placing.wanted), 1, 1, handle=handle)
    if wrong := outcomes.mismatch(placing.wanted, runtime):
        raise wrong
    return runtime


def _on(placing: Placing, runtime: Runtime) -> Iterator[Step]:
    line = RuntimeLine(runtime, lambda: placing.api.refresh(runtime.endpoint))
    try:
        line.wait()
        files = RuntimeFiles(line)
        if not _started(files, placing.spot):
            with Kernel(line, placing.spot.kernel) as kernel:
                yield from _begin(placing, files, kernel)
        yield Step(State.RUNNING, "start", shown(placing.wanted), 1, 1, handed_over=True)
    finally:
        line.close()


def _started(files: RuntimeFiles, spot: Spot) -> bool:
    """Whether an agent lives or has lived there: it writes its state first of all, its exit record last."""
    return any(files.size(f"{spot.folder}/{name}") is not None for name in (records.STATE, records.EXIT))


def _begin(placing: Placing, files: RuntimeFiles, kernel: Kernel) -> Iterator[Step]:
    """Payload, environment, secrets, agent; then a cell that keeps the kernel busy as long as the agent lives."""
    if kernel.busy():  # an earlier try left a cell, which may wait for secrets for ever
        kernel.interrupt()
    yield from _opened(placing, files, kernel)
    yield from _cell(kernel, "environment", Cell(cells.BUILD))
    yield from _cell(kernel, "unpack", Cell(cells.RESTORE))
    values = json.dumps(dict(placing.submission.secrets))
    yield from _cell(kernel, "start", Cell(cells.SECRETS, on_input=lambda prompt: values))
    yield from _cell(kernel, "start", Cell(cells.START))
    watching = cells.watching(placing.spot.payload, placing.spot.folder, FOLLOWED)
    with contextlib.closing(kernel.run(Cell(watching, silent=False))) as running:
        next(running, None)


def _opened(placing: Placing, files: RuntimeFiles, kernel: Kernel) -> Iterator[Step]:
    """The payload stands there and is whole; one that arrived harmed is sent once more."""
    for last_try in (False, True):
        digest = yield from _send(placing, files)
        try:
            yield from _cell(kernel, "payload", Cell(cells.opened(placing.spot.payload, digest)))
            return
        except LauncherError as e:
            if last_try or isinstance(e, (Reclaimed, Unreachable)):
                raise
            files.delete(placing.spot.payload)


def _send(placing: Placing, files: RuntimeFiles) -> Generator[Step, None, str]:
    """Everything that is not there yet; the list of all, which names their hashes, last. Returns its own."""
    folder, there = _scratch(placing), placing.spot.payload
    try:
        payload = payloads.write(placing.submission, folder, PLATFORM)
        agent = payload.file(payloads.AGENT).sha256
        yield Step(State.SYNCING, "upload", there, handle={"agent": agent, "environment": payload.key})
        files.make_folder(there)
        for file in payload.files:
            if file.name == payloads.MANIFEST:
                continue
            if files.size(f"{there}/{file.name}") == file.size_bytes:
                continue
            for done in files.upload(f"{there}/{file.name}", file.path, resume=True):
                yield Step(State.SYNCING, f"upload {_what(file.name)}", file.name, done, file.size_bytes)
        manifest = payload.file(payloads.MANIFEST)
        files.put(f"{there}/{manifest.name}", manifest.path.read_bytes())
        yield Step(State.SYNCING, "upload", f"{len(payload.files)} files", 1, 1)
        return manifest.sha256
    finally:
        forget(placing.scratch, placing.segment)


def _cell(kernel: Kernel, phase: str, cell: Cell) -> Iterator[Step]:
    """Run one; its lines are shown as they come. Raises what it says went wrong.

    One whose answer was lost with the connection is run again: each of ours adopts what is there.
    """
    said = ""
    for _ in range(TRIES):
        running = kernel.run(cell)
        while True:
            try:
                output = next(running)
            except StopIteration as stop:
                ending = stop.value
                break
            lines = [line for line in (output.text if output else "").splitlines() if line.strip()]
            if lines:
                said = lines[-1].removeprefix("launcher: ")
                yield Step(State.SYNCING, phase, said)
        if ending.status != "lost":
            break
    if wrong := outcomes.failed(phase, ending):
        raise wrong
    yield Step(State.SYNCING, phase, said, 1, 1)


def _given_back(placing: Placing) -> Iterator[Step]:
    """A place that cannot be used must not spend anything; if it cannot be handed back now, it stays recorded."""
    with contextlib.suppress(LauncherError):
        hand_back(placing.api, placing.segment)
        yield Step(State.PROVISIONING, released=placing.resource)


def _before_start(error: LauncherError) -> LauncherError:
    if isinstance(error, Reclaimed):
        return CapacityError(
            "Colab took the runtime back before the job had started",
            "try again later, or choose another target with --on",
        )
    return error


def _scratch(placing: Placing) -> Path:
    private_folder(placing.scratch)
    forget(placing.scratch, placing.segment)
    return _payload_here(placing.scratch, placing.segment)


def _payload_here(scratch: Path, segment: Segment) -> Path:
    return scratch / f"{segment.run_id}-{segment.number}"


def _what(name: str) -> str:
    """A payload's file in the user's words."""
    return name.removesuffix(".bin").replace("-", " ")


def _machine(wanted: Wanted, given: Runtime) -> dict[str, Any]:
    """What the capsule tells of the place."""
    return {
        "system": "linux",
        "arch": "x86_64",
        "accelerator": given.accelerator,
        "high_memory": given.high_memory,
        "runtime_version": wanted.version,
    }
