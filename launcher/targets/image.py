"""The Docker form of a job's environment: built beside the GPU, made here and shipped, or the job's own image."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from launcher import environment
from launcher.bundle import member
from launcher.engine.names import bases_of, digest
from launcher.engine.run import SECRETS_PATH
from launcher.environment import OUR_IMAGES, EnvironmentPlan
from launcher.errors import Refused, SpecError
from launcher.events import Progress
from launcher.job.spec import Environment
from launcher.run import State
from launcher.target import Step, Submission
from launcher.targets.ready import Ready
from launcher.targets.turn import turn

if TYPE_CHECKING:
    from launcher.targets.machine import MachineTarget


@dataclass(frozen=True)
class Wish:
    """What image a job needs. `maker` is the machine whose engine makes or pulls it: the target, or this one."""

    submission: Submission
    maker: MachineTarget
    plan: EnvironmentPlan | None  # None: the job brings its own image
    base: str  # what it starts from; of an own image, itself
    dockerfile: str | None = None  # its text, where the job has one

    @property
    def spec(self) -> Environment:
        wanted: Environment = self.submission.spec.environment
        return wanted


@dataclass(frozen=True)
class Made:
    """An image on some engine."""

    tag: str
    id: str
    base: str  # digest of what it was made from


def provision_image(target: MachineTarget, submission: Submission) -> Generator[Step, None, Ready]:
    """The image is on the engine there; nothing is built or sent when it was already."""
    maker = _maker(target, submission)
    wish = _wish(target, maker, submission)
    made = _known(target, wish)
    if made is None:
        made = yield from _steps(_brought(target, wish))
    return _ready(made, wish.plan)


def _maker(target: MachineTarget, submission: Submission) -> MachineTarget:
    if submission.image != "ship":
        return target
    here = target.here()
    if not here.probe().get("docker"):
        raise Refused("--image ship makes the image here, and no Docker answers here", "start Docker")
    if here.arch != target.arch:
        raise Refused(f"--image ship makes images for {here.arch}, {target.name} is {target.arch}")
    return here


def _wish(target: MachineTarget, maker: MachineTarget, submission: Submission) -> Wish:
    wanted: Environment = submission.spec.environment
    if wanted.image:
        return Wish(submission, maker, None, wanted.image)
    if wanted.dockerfile:
        data = member(submission.bundle.path, f"files/{wanted.dockerfile}")
        if data is None:
            what = f"environment.dockerfile: {wanted.dockerfile} is not among the job's files"
            raise SpecError(what, "is it ignored?")
        text = data.decode(errors="replace")
        return Wish(submission, maker, None, (bases_of(text) or ("",))[-1], text)
    plan = environment.plan(wanted, submission.lock, target.arch)
    return Wish(submission, maker, plan, str(wanted.base))


def _known(target: MachineTarget, wish: Wish) -> Made | None:
    """The image as it is there already."""
    base = wish.maker.image(wish.base) if wish.base else None
    for tag in _tags(wish, str(base["Id"]) if base else ""):
        if found := target.image(tag):
            return Made(tag, str(found["Id"]), _base_digest(wish, base))
    return None


def _base_digest(wish: Wish, base: Any) -> str:
    return wish.base.partition("@")[2] or (digest(wish.base, base) if base else "")


def _tags(wish: Wish, base_id: str) -> list[str]:
    """The names that the image has where it is; none while its base is not known."""
    if wish.dockerfile is not None:
        return [f"{OUR_IMAGES}job:{wish.submission.bundle.digest[:16]}"]
    if wish.plan is None:
        return [wish.base, _own_tag(wish.base)]
    return [environment.image_tag(wish.plan, base_id, wish.spec.apt)] if base_id else []


def _own_tag(name: str) -> str:
    """A name for an image that its author names by a digest: a digest does not travel, a tag does."""
    return f"{OUR_IMAGES}own:{name.rpartition(':')[2][:16]}"


def _brought(target: MachineTarget, wish: Wish) -> Generator[Progress, None, Made]:
    """Made or pulled by the maker's engine, then sent if that is another one."""
    from launcher.engine.build import PHASE
    from launcher.engine.connection import connected

    # of several at once one builds, and the others find its layers: the engine alone would make all of them
    with turn(wish.maker.host.steward(), f"envs/image-{_key(wish)}.lock") as mine:
        yield from mine.taken(PHASE)
        with connected(wish.maker.dial_docker) as engine:
            made = yield from _made(engine, wish)
            return made if wish.maker is target else (yield from _shipped(engine, target, made))


def _key(wish: Wish) -> str:
    if wish.plan is not None:
        return wish.plan.key
    return wish.submission.bundle.digest[:16] if wish.dockerfile is not None else _own_tag(wish.base)[-16:]


def _made(engine: Any, wish: Wish) -> Generator[Progress, None, Made]:
    if wish.plan is not None:
        return (yield from _environment(engine, wish, wish.plan))
    if wish.dockerfile is not None:
        return (yield from _own_dockerfile(engine, wish))
    return (yield from _own_image(engine, wish))


def _shipped(engine: Any, target: MachineTarget, made: Made) -> Generator[Progress, None, Made]:
    from launcher.engine.ship import Shipment, ship

    tag = _own_tag(made.tag) if "@" in made.tag else made.tag
    if tag != made.tag:
        engine.tag(made.tag, *tag.split(":"))
    shipment = Shipment(tag, target.config.home / "ships")
    return Made(tag, (yield from ship(engine, target.host.steward(), shipment)), made.base)


def _own_image(engine: Any, wish: Wish) -> Generator[Progress, None, Made]:
    from launcher.engine.build import have

    base = yield from have(engine, wish.base, wish.maker.arch)
    return Made(wish.base, str(engine.inspect_image(wish.base)["Id"]), base)


def _own_dockerfile(engine: Any, wish: Wish) -> Generator[Progress, None, Made]:
    from launcher.engine.build import Recipe, build
    from launcher.engine.context import Context

    (tag,) = _tags(wish, "")
    recipe = Recipe(
        context=Context(bundle=wish.submission.bundle.path, compress=wish.maker.host.far),
        tag=tag,
        bases=bases_of(wish.dockerfile or ""),
        arch=wish.maker.arch,
        dockerfile=str(wish.spec.dockerfile),
    )
    image, base = yield from build(engine, recipe)
    return Made(tag, image, base)


def _environment(engine: Any, wish: Wish, plan: EnvironmentPlan) -> Generator[Progress, None, Made]:
    from launcher.engine.build import Recipe, build, have
    from launcher.engine.context import Context

    yield from have(engine, wish.base, wish.maker.arch)
    (tag,) = _tags(wish, str(engine.inspect_image(wish.base)["Id"]))
    uv = yield from _uv(engine, wish.maker)
    recipe = Recipe(
        context=Context(environment.context_files(plan, wish.base, uv, wish.spec.apt)),
        tag=tag,
        bases=(wish.base,),
        arch=wish.maker.arch,
    )
    image, base = yield from build(engine, recipe)
    return Made(tag, image, base)


def _uv(engine: Any, maker: MachineTarget) -> Generator[Progress, None, str]:
    """The name of an image of that engine with uv in it: 40 MB that do not travel with every build."""
    from launcher.engine.build import Recipe, build, find
    from launcher.engine.context import Context
    from launcher.tools import uv_binary

    uv = uv_binary("linux", maker.arch)
    tag = environment.uv_tag(uv)
    if find(engine, tag) is None:
        files: dict[str, Any] = {"Dockerfile": environment.UV_DOCKERFILE, "uv": uv.path}
        context = Context(files, compress=maker.host.far)
        yield from build(engine, Recipe(context, tag, arch=maker.arch, sends="send uv"))
    return tag


def _steps(progress: Generator[Progress, None, Made]) -> Generator[Step, None, Made]:
    while True:
        try:
            seen = next(progress)
        except StopIteration as end:
            made: Made = end.value
            return made
        yield Step(State.BUILDING, seen.phase, seen.detail, seen.done_bytes, seen.total_bytes)


def _ready(made: Made, plan: EnvironmentPlan | None) -> Ready:
    order = {
        "form": "docker",
        "image": made.id,
        "locked": plan.locked if plan else None,
        "bin": f"{environment.IMAGE_ENV}/bin" if plan else None,
        "secrets_dir": SECRETS_PATH,
    }
    handle = {"image": made.id, "base": made.base, "environment": plan.key if plan else None}
    return Ready(f"{environment.IMAGE_ENV}/bin/python" if plan else "python3", order, made.id, handle)
