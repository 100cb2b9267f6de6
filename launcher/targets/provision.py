"""The environment of a job on a machine: a Docker image or a private virtual environment, made once per key."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from launcher import environment
from launcher.errors import RemoteError
from launcher.run import State
from launcher.target import Step, Submission
from launcher.targets.ready import Ready
from launcher.targets.upload import put_file
from launcher.tools import uv_binary

if TYPE_CHECKING:
    from launcher.targets.machine import MachineTarget

SHM = "/dev/shm"


def provision(target: MachineTarget, submission: Submission, form: str) -> Generator[Step, None, Ready]:
    """Yields what it does; returns Ready."""
    if form == "docker":
        from launcher.targets.image import provision_image

        try:
            return (yield from provision_image(target, submission))
        except RemoteError as e:
            if e.code != "not-pulled" or not target.may_go_plain(submission):
                raise
            notice = f"{e.message}; going on without Docker, in a private environment from the same lock"
            yield Step(State.BUILDING, "environment", handle={"form": "plain"}, notice=notice)
    return (yield from _venv(target, submission))


def _venv(target: MachineTarget, submission: Submission) -> Generator[Step, None, Ready]:
    steward = target.host.steward()
    hello, segment = steward.hello, submission.segment
    plan = environment.plan(
        submission.spec.environment, submission.lock, hello["arch"], str(hello["system"]).lower()
    )
    folder = f"{hello['root']}/envs/{plan.key}"
    if not steward.call("have", files=[[f"{folder}/.ready", None]])["have"][0]:
        yield from _build(steward, plan)
    secrets = f"{SHM}/launcher-{hello['uid']}-{segment.run_id[-8:]}-{segment.number}"
    order = {
        "form": "plain",
        "locked": plan.locked,
        "bin": f"{folder}/bin",
        "secrets_dir": secrets if submission.spec.secrets and hello["system"] == "Linux" else None,
    }
    return Ready(f"{folder}/bin/python", order, handle={"environment": plan.key})


def _build(steward: Any, plan: environment.EnvironmentPlan) -> Iterator[Step]:
    uv = uv_binary(str(steward.hello["system"]).lower(), plan.arch)
    path = f"tools/uv-{uv.version}-{uv.sha256[:12]}"
    for step in put_file(steward, uv.path, path, uv.sha256, "upload uv", mode=0o755):
        yield replace(step, state=State.BUILDING)  # a state never goes back from syncing
    root = steward.hello["root"]
    script = environment.venv_script(plan, environment.VenvPaths(root, f"{root}/{path}"))
    steward.call("mkdir", path="envs")
    stream = steward.stream(
        "run_script", script.encode(), argv=["sh", "-s"], env={}, lock=f"{root}/envs/{plan.key}.lock"
    )
    said = ""
    yield Step(State.BUILDING, "environment", plan.key)
    while True:
        try:
            _, data = next(stream)
        except StopIteration as end:
            code = end.value["code"]
            break
        said = (said + data.decode(errors="replace"))[-4000:]
        yield Step(State.BUILDING, "environment", _last_line(said))
    if code != 0:
        raise RemoteError(*_failure(said))
    yield Step(State.BUILDING, "environment", f"ready ({plan.key})", 1, 1)


def _last_line(said: str) -> str:
    lines = [line for line in said.strip().splitlines() if not line.startswith("{")]  # that is for us
    return lines[-1][:120] if lines else ""


def _failure(said: str) -> tuple[str, str]:
    """(message, hint): our own line if there is one, and what uv said."""
    lines = [line for line in said.splitlines() if line.strip()]
    ours = [line.removeprefix("launcher: ") for line in lines if line.startswith("launcher: ")]
    others = " ".join(line.strip() for line in lines if not line.startswith("launcher: "))
    return f"the environment could not be built: {ours[-1] if ours else _last_line(said)}", others[-600:]
