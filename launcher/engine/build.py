"""Builds a job's image on the engine that will run it, and says what it stands on.

Nothing secret enters a build: there are no build arguments, and the registry credentials of the person at
home stay there (the SDK's own build() would send all of them to the engine; a pull sends its registry's).
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import IO, Any

from docker.errors import APIError, ImageNotFound

from launcher.engine.connection import Engine, stream
from launcher.engine.context import Context, packed, size_of
from launcher.engine.names import digest
from launcher.engine.sending import Upload, sending
from launcher.errors import RemoteError
from launcher.events import Progress

Built = tuple[str, str]  # (image id, digest of what it was built from)

PHASE = "image"
NOT_PULLED = "not-pulled"  # the code of that RemoteError
TAIL_LINES = 12
NOISE = (" --->", "Removing intermediate container", '{"v":')  # the last is the environment's own record
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # the classic builder paints what a step wrote to stderr
STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")
PLATFORMS = {
    "x86_64": "linux/amd64",
    "amd64": "linux/amd64",
    "aarch64": "linux/arm64",
    "arm64": "linux/arm64",
}


@dataclass(frozen=True)
class Recipe:
    """What to build. `bases` are the images that it starts from, `tag` its name, `arch` the machine's."""

    context: Context
    tag: str
    bases: tuple[str, ...] = ()
    arch: str = "x86_64"
    dockerfile: str = "Dockerfile"  # path in the context
    sends: str = "send the build context"  # what people are told while it travels
    labels: Mapping[str, str] = field(default_factory=dict)


def find(engine: Engine, name: str) -> str | None:
    """The id of an image that the engine has, or None."""
    try:
        return str(engine.inspect_image(name)["Id"])
    except ImageNotFound:
        return None


def build(engine: Engine, recipe: Recipe) -> Generator[Progress, None, Built]:
    """The image of a recipe. Bases that the engine lacks are pulled; its cache makes a second build short."""
    digests = []
    for base in recipe.bases:
        digests.append((yield from have(engine, base, recipe.arch)))
    with packed(recipe.context) as archive:
        answers = yield from _sent(engine, recipe, archive)
        image = yield from _follow(answers)
    return image or str(engine.inspect_image(recipe.tag)["Id"]), digests[-1] if digests else ""


def have(engine: Engine, name: str, arch: str) -> Generator[Progress, None, str]:
    """The digest of an image that the engine has or, failing that, pulls. `arch` is the machine's."""
    try:
        found = engine.inspect_image(name)
    except ImageNotFound:
        yield from _pull(engine, name, arch)
        found = engine.inspect_image(name)
    wanted = _platform(arch).rpartition("/")[2]
    if found.get("Architecture", wanted) != wanted:
        raise RemoteError(
            f"the image {name} is for {found['Architecture']} and the machine is {wanted}",
            "name an image that was made for both, or remove that one there",
        )
    return digest(name, found)


def _sent(
    engine: Engine, recipe: Recipe, archive: IO[bytes]
) -> Generator[Progress, None, Iterator[Mapping[str, Any]]]:
    """Sends the context; returns the builder's answers, of which the first has come."""
    upload, size = Upload(archive), size_of(archive)
    headers = {"Content-Type": "application/x-tar"}  # it sees by itself whether that is compressed
    request = {"params": _parameters(recipe), "headers": headers, "data": upload.chunks()}
    answers = stream(engine, "/build", **request)
    yield Progress(PHASE, recipe.sends, 0, size)
    first = yield from sending(
        upload, lambda: list(islice(answers, 1)), lambda at: Progress(PHASE, recipe.sends, at, size)
    )
    return chain(first, answers)


def _parameters(recipe: Recipe) -> dict[str, str]:
    return {
        "t": recipe.tag,
        "dockerfile": recipe.dockerfile,
        "labels": json.dumps(dict(recipe.labels)),
        "platform": _platform(recipe.arch),
        "rm": "1",
        "forcerm": "1",
    }


def _platform(arch: str) -> str:
    return PLATFORMS.get(arch, f"linux/{arch}")


def _follow(answers: Iterable[Mapping[str, Any]]) -> Generator[Progress, None, str]:
    """The builder's own words as progress; RemoteError with the failing step's last lines."""
    step, tail, image, rest = "", [""], "", ""
    for answer in answers:
        if "error" in answer:
            raise _failed(step, [*tail, _plain(rest)], str(answer["error"]))
        image = str((answer.get("aux") or {}).get("ID", image))
        *lines, rest = (rest + str(answer.get("stream", ""))).replace("\r", "\n").split("\n")
        for line in map(_plain, lines):
            if match := STEP.fullmatch(line):
                step, tail = match[3], [""]
                yield Progress(PHASE, f"step {match[1]}/{match[2]}: {_shown(step)}")
            elif line and not line.startswith(NOISE):
                tail = [*tail, line][-TAIL_LINES:]
                yield Progress(PHASE, line)
    return image


def _plain(line: str) -> str:
    return COLOURS.sub("", line).rstrip()


def _failed(step: str, tail: list[str], said: str) -> RemoteError:
    lines = [line for line in tail if line]
    code = re.search(r"non-zero code: (\d+)", said)
    why = f"exit code {code[1]}" if code else said.strip()
    message = f"the image could not be built: `{_shown(step)}` failed ({why})" if step else f"no image: {why}"
    return RemoteError(
        "\n".join([message, *(f"  {line}" for line in lines)]), _hint(" ".join([*lines, said]))
    )


def _hint(said: str) -> str:
    hints = {
        "no space left": "free some space there: `docker system df` shows what takes it",
        "hash": "the lock and the packages disagree: `launcher lock` writes it anew",
        "resolv|connection|network|timed out": "that machine cannot reach the network that the build needs",
        "unable to locate package": "look at `apt` in job.yaml: the base has no such package",
        "not found": "look at the command above: the base may lack it",
    }
    found = (hint for words, hint in hints.items() if re.search(words, said, re.IGNORECASE))
    return next(found, "the lines above are the build's own; `-v` shows all of them")


def _shown(step: str) -> str:
    """One line of a Dockerfile, short enough to read; of our own, what it does and not how."""
    own = re.search(r"; (build_\w+[^;]*)(?:;.*)?$", step)
    text = f"RUN … {own[1]}" if own else step
    return text if len(text) <= 100 else text[:99] + "…"


def _pull(engine: Engine, name: str, arch: str) -> Generator[Progress, None, None]:
    repository, tag = name, None
    if "@" not in name:
        repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    layers: dict[str, tuple[int, int]] = {}
    try:
        answers = engine.pull(repository, tag=tag, stream=True, decode=True, platform=_platform(arch))
        for answer in answers:
            if "error" in answer:
                raise _not_pulled(name, str(answer["error"]))
            yield _pull_progress(name, layers, answer)
    except APIError as e:
        raise _not_pulled(name, str(e.explanation or e)) from e
    yield Progress(PHASE, f"pulled {name}", finished=True)


def _pull_progress(name: str, layers: dict[str, tuple[int, int]], answer: Mapping[str, Any]) -> Progress:
    numbers = answer.get("progressDetail") or {}
    if answer.get("status") == "Downloading" and "total" in numbers:
        layers[str(answer["id"])] = int(numbers["current"]), int(numbers["total"])
    elif answer.get("status") == "Download complete" and answer.get("id") in layers:
        total = layers[str(answer["id"])][1]
        layers[str(answer["id"])] = total, total
    done, totals = (sum(part) for part in zip((0, 0), *layers.values(), strict=True))
    return Progress(PHASE, f"pull {name}", done, totals or None)


def _not_pulled(name: str, said: str) -> RemoteError:
    absent = re.search(r"not found|unknown|does not exist|denied", said, re.IGNORECASE)
    why = "its registry has no such image, or wants a login" if absent else said.strip()
    error = RemoteError(
        f"the machine's Docker has no image {name} and cannot pull it: {why}",
        "check the name; `docker login` here if it is private; or bring an image made here: --image ship",
    )
    error.code = NOT_PULLED
    return error
