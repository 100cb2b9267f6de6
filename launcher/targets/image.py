"""The Docker form of a job's environment: built beside the GPU, made here and shipped, or the job's own image."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from launcher import environment
from launcher.bundle import member
from launcher.engine.run import SECRETS_PATH
from launcher.errors import Refused, SpecError
from launcher.events import Progress
from launcher.job.spec import Environment
from launcher.run import State
from launcher.target import Step, Submission
from launcher.targets.ready import Ready

if TYPE_CHECKING:
    from launcher.targets.machine import MachineTarget

Made = tuple[str, str]  # (image id, digest of its base)


def provision_image(target: MachineTarget, submission: Submission) -> Generator[Step, None, Ready]:
    """The image is on the engine there; nothing is built or sent when it was already."""
    wanted: Environment = submission.spec.environment
    hello = target.host.steward().hello
    if wanted.image:
        image, base = yield from _steps(_own_image(target, wanted.image))
        return _ready(submission, image, base, "python3", None)
    if wanted.dockerfile:
        image, base = yield from _steps(_own_dockerfile(target, submission, wanted.dockerfile))
        return _ready(submission, image, base, "python3", None)
    plan = environment.plan(wanted, submission.lock, hello["arch"])
    assert wanted.base is not None
    base_id = (target.here() if submission.image == "ship" else target).image_id(wanted.base)
    tag = environment.image_tag(plan, base_id, wanted.apt) if base_id else None
    image_id = target.image_id(tag) if tag else None
    if image_id and base_id:
        return _ready(submission, image_id, base_id, None, plan)
    if submission.image == "ship":
        image, base = yield from _steps(_shipped(target, submission, plan))
    else:
        image, base = yield from _steps(_build(target, submission, plan))
    return _ready(submission, image, base, None, plan)


def _ready(
    submission: Submission,
    image: str,
    base: str,
    python: str | None,
    plan: environment.EnvironmentPlan | None,
) -> Ready:
    order = {
        "form": "docker",
        "image": image,
        "locked": plan.locked if plan else None,
        "bin": f"{environment.IMAGE_ENV}/bin" if plan else None,
        "secrets_dir": SECRETS_PATH,
    }
    handle = {"image": image, "base": base, "environment": plan.key if plan else None}
    return Ready(python or f"{environment.IMAGE_ENV}/bin/python", order, image, handle)


def _steps(progress: Generator[Progress, None, Made]) -> Generator[Step, None, Made]:
    while True:
        try:
            seen = next(progress)
        except StopIteration as end:
            made: Made = end.value
            return made
        yield Step(State.BUILDING, seen.phase, seen.detail, seen.done_bytes, seen.total_bytes)


def _own_image(target: MachineTarget, name: str) -> Generator[Progress, None, Made]:
    from launcher.engine.build import have
    from launcher.engine.connection import connected

    known = target.image_id(name)
    if known:
        return known, name.partition("@")[2]
    with connected(target.dial_docker) as engine:
        digest = yield from have(engine, name, target.arch)
        return str(engine.inspect_image(name)["Id"]), digest


def _own_dockerfile(
    target: MachineTarget, submission: Submission, path: str
) -> Generator[Progress, None, Made]:
    from launcher.engine.build import Recipe, bases_of, build
    from launcher.engine.connection import connected
    from launcher.engine.context import Context

    text = member(submission.bundle.path, f"files/{path}")
    if text is None:
        raise SpecError(f"environment.dockerfile: {path} is not among the job's files", "is it ignored?")
    tag = f"launcher/job:{submission.bundle.digest[:16]}"
    recipe = Recipe(
        context=Context(bundle=submission.bundle.path, compress=target.host.far),
        tag=tag,
        bases=bases_of(text.decode(errors="replace")),
        arch=target.arch,
        dockerfile=path,
    )
    with connected(target.dial_docker) as engine:
        return (yield from build(engine, recipe))


def _build(
    target: MachineTarget, submission: Submission, plan: environment.EnvironmentPlan
) -> Generator[Progress, None, Made]:
    from launcher.engine.build import Recipe, build, have
    from launcher.engine.connection import connected
    from launcher.engine.context import Context

    wanted = submission.spec.environment
    with connected(target.dial_docker) as engine:
        yield from have(engine, wanted.base, target.arch)
        base_id = str(engine.inspect_image(wanted.base)["Id"])
        uv = yield from _uv(target, engine)
        recipe = Recipe(
            context=Context(environment.context_files(plan, str(wanted.base), uv, wanted.apt)),
            tag=environment.image_tag(plan, base_id, wanted.apt),
            bases=(str(wanted.base),),
            arch=target.arch,
        )
        return (yield from build(engine, recipe))


def _uv(target: MachineTarget, engine: Any) -> Generator[Progress, None, str]:
    """The name of an image of that engine with uv in it: 40 MB that do not travel with every build."""
    from launcher.engine.build import Recipe, build, find
    from launcher.engine.context import Context
    from launcher.tools import uv_binary

    uv = uv_binary("linux", target.arch)
    tag = environment.uv_tag(uv)
    if find(engine, tag) is None:
        files: dict[str, Any] = {"Dockerfile": environment.UV_DOCKERFILE, "uv": uv.path}
        context = Context(files, compress=target.host.far)
        yield from build(engine, Recipe(context, tag, arch=target.arch, sends="send uv"))
    return tag


def _shipped(
    target: MachineTarget, submission: Submission, plan: environment.EnvironmentPlan
) -> Generator[Progress, None, Made]:
    """Made by the engine here, then sent: for machines that cannot pull or build."""
    from launcher.engine.connection import connected
    from launcher.engine.ship import Shipment, ship

    wanted = submission.spec.environment
    here = target.here()
    if not here.probe().get("docker"):
        raise Refused("--image ship makes the image here, and no Docker answers here", "start Docker")
    if here.arch != target.arch:
        raise Refused(f"--image ship makes images for {here.arch}, {target.name} is {target.arch}")
    _, base = yield from _build(here, submission, plan)
    with connected(here.dial_docker) as engine:
        base_id = str(engine.inspect_image(wanted.base)["Id"])
        tag = environment.image_tag(plan, base_id, wanted.apt)
        shipment = Shipment(tag, target.config.home / "ships")
        return (yield from ship(engine, target.host.steward(), shipment)), base
