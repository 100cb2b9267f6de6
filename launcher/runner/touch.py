"""Touching a live run: a command beside the job, a shell, a port."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from launcher.errors import Refused
from launcher.events import Notice
from launcher.hosts.forward import relay
from launcher.run import Run, Segment, State
from launcher.runner.context import Context
from launcher.targets.machine import MachineTarget
from launcher.targets.registry import target_of

LOOK_S = 5.0


def execute(ctx: Context, run: Run, argv: Sequence[str]) -> int:
    """Run a command where the job runs (in its container, or with its environment); its exit code."""
    target, segment = _living(ctx, run)
    streams = {"stdout": sys.stdout.buffer, "stderr": sys.stderr.buffer}
    words = target.beside_job(segment, argv)
    stream = target.host.steward().stream("run_script", argv=words, env={}, cwd=segment.handle["folder"])
    while True:
        try:
            header, data = next(stream)
        except StopIteration as end:
            return int(end.value["code"])
        sink = streams[header.get("stream", "stdout")]
        sink.write(data)
        sink.flush()


def shell(ctx: Context, run: Run) -> int:
    """A terminal on the machine, in the job's folder."""
    target, segment = _living(ctx, run)
    return target.host.shell(target.beside_job(segment, ["sh", "-i"], terminal=True))


def forward(ctx: Context, run: Run, local_port: int, remote_port: int) -> Iterator[Notice]:
    """Make a port of the job's machine this machine's, on loopback only, until closed."""
    target, segment = _living(ctx, run)
    words = target.beside_job(segment, relay(remote_port))
    with target.host.forward(local_port, remote_port, target.address_of(segment), words) as port:
        yield Notice(f"http://127.0.0.1:{port} → port {remote_port} of {run.id}; Ctrl-C ends it")
        while target.status(segment).state is State.RUNNING:
            time.sleep(LOOK_S)
    yield Notice(f"{run.id} is no longer running")


def _living(ctx: Context, run: Run) -> tuple[MachineTarget, Segment]:
    segment = run.newest
    if segment is None or not segment.handed_over or segment.state.final:
        raise Refused(f"{run.id} is {run.state.value}, not running")
    target = target_of(ctx, segment.target)
    if not isinstance(target, MachineTarget):
        raise Refused(
            f"{segment.target} gives no way in: exec, ssh and forward need a machine",
            f"`launcher logs {run.id} -f` shows what the job prints",
        )
    return target, segment
