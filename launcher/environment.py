"""Turns a spec and its lock into an environment: the script of a virtual one, and a Dockerfile (pure).

Both run the same shell functions (environment.sh) with the same uv, interpreter and hash-locked files, in two
layers: the heavy wheels, keyed by their pins alone, and the rest. Job code is in neither: a change of code
rebuilds nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from launcher.agent import records
from launcher.errors import SpecError
from launcher.job.spec import Environment
from launcher.lock import Interpreter, Lock, Pin
from launcher.tools import Tool

VERSION = 1  # part of every key: a change of how environments are built makes new ones
HEAVY = re.compile(  # wheels over 50 MB, beside those whose size the lock knows
    r"torch|torchvision|torchaudio|triton|pytorch-triton.*|nvidia-.*|cuda-toolkit|tensorflow.*|jaxlib|jax-cuda.*"
    r"|xformers|flash-attn|vllm|bitsandbytes|cupy.*|deepspeed|paddlepaddle.*|opencv-.*|pyspark|polars.*|ray"
)
OUR_IMAGES = "launcher/"  # names of images that only we make
IMAGES = f"{OUR_IMAGES}env"
IMAGE_ROOT = "/opt/launcher"
IMAGE_ENV = f"{IMAGE_ROOT}/env"
UV_IMAGES = f"{OUR_IMAGES}uv"
UV_DOCKERFILE = b"FROM scratch\nCOPY uv /uv\n"
SHELL_FILE, HEAVY_FILE, REST_FILE = "environment.sh", "heavy.txt", "rest.txt"
END = "END_OF_LAUNCHER_FILE"


@dataclass(frozen=True)
class EnvironmentPlan:
    """What to build on one kind of machine. Equal keys mean equal environments."""

    key: str
    heavy_key: str
    arch: str
    python: str | None  # 3.12.7, or 3.12 without a lock, or None: any Python 3
    locked: Mapping[str, str] | None  # name -> version; None: nothing is locked
    torch: str = "auto"
    files: Mapping[str, str] = field(
        default_factory=dict
    )  # what the script reads: python.json, heavy.txt, rest.txt

    @property
    def trivial(self) -> bool:
        """Any Python 3 that is there will do: nothing needs to be built without Docker."""
        return self.locked is None and self.python is None


@dataclass(frozen=True)
class VenvPaths:
    """Absolute paths on the machine: launcher's folder, and the uv that was sent."""

    root: str
    uv: str


def plan(environment: Environment, lock: Lock | None, arch: str, system: str = "linux") -> EnvironmentPlan:
    """SpecError when the lock is for another Python than the spec, or an index URL holds a password."""
    python = _python(environment, lock)
    interpreter = lock.interpreter_for(arch, system) if lock and lock.python else None
    pins = lock.pins_for(arch, python, system) if lock else ()
    heavy = [pin for pin in pins if HEAVY.fullmatch(pin.name) or (lock and pin.name in lock.heavy)]
    rest = [pin for pin in pins if pin not in heavy]
    options = _options(environment, lock)
    files = {HEAVY_FILE: _requirements(options, heavy), REST_FILE: _requirements(options, rest)}
    if interpreter and lock and lock.python:
        files["python.json"] = _downloads_json(lock.python, interpreter)
        files["python.sha256"] = interpreter.sha256[:16] + "\n"
    return EnvironmentPlan(
        key=_key([system, arch, python, interpreter and interpreter.sha256, [pin.text for pin in pins]]),
        heavy_key=_key([pin.text for pin in heavy]),
        arch=arch,
        python=python,
        locked={pin.name: pin.version for pin in pins} if lock else None,
        torch=lock.torch if lock else "auto",
        files={name: text for name, text in files.items() if text},
    )


def venv_script(plan: EnvironmentPlan, paths: VenvPaths) -> str:
    """POSIX sh that makes `<root>/envs/<key>` unless it is complete, and prints its `.ready` line.

    To be fed to `sh` on standard input while a lock on that environment is held. Everything is inside
    functions that the last line calls, so a script that arrives in part does nothing.
    """
    env = env_path(plan, paths.root)
    variables = {"VENV": env, "WORK": f"{env}.work", "PYTHONS": f"{paths.root}/python", "UV": paths.uv}
    lines = [
        "set -eu",
        _assignments(variables | {"KEY": plan.key, "PYTHON": plan.python or ""}, "\n"),
        'if [ -f "$VENV/.ready" ] && [ -x "$VENV/bin/python" ]; then cat "$VENV/.ready"; return; fi',
        'rm -rf "$VENV" "$WORK"; mkdir -p "$WORK" "$PYTHONS"',
        *(f"cat >\"$WORK/{name}\" <<'{END}'\n{text}{END}" for name, text in sorted(plan.files.items())),
        "build_interpreter",
        *_torch_backend(plan),
        f"build_packages {HEAVY_FILE} {REST_FILE}",
        "build_done",
        'rm -rf "$WORK"',
    ]
    body = "\n".join(lines)
    return f"umask 022\n{shell_functions()}\nmain() {{\n{body}\n}}\nmain\n"


def env_path(plan: EnvironmentPlan, root: str) -> str:
    """Where the script puts the virtual environment: its programs are in `bin/` below."""
    return f"{root}/envs/{plan.key}"


def dockerfile(plan: EnvironmentPlan, base: str, uv: str, apt: Sequence[str] = ()) -> str:
    """For the classic builder; layers from lasting to quick: interpreter, heavy wheels, apt, rest.

    `uv` is the image that uv is taken from (UV_DOCKERFILE): it travels once and not with every build.
    """
    variables = {"UV": f"{IMAGE_ROOT}/uv", "PYTHONS": f"{IMAGE_ROOT}/python", "WORK": IMAGE_ROOT}
    start = _assignments(variables | {"VENV": IMAGE_ENV, "PYTHON": plan.python or ""}, " ")
    run = f"RUN set -eu; {start}; . {IMAGE_ROOT}/environment.sh; "
    install = run + "".join(f"{line}; " for line in ("export UV_NO_CACHE=1", *_torch_backend(plan)))
    heavy = HEAVY_FILE in plan.files
    lines = [
        f"FROM {base}",
        "USER root",
        f"COPY --from={uv} /uv {IMAGE_ROOT}/",
        *_copy(plan, SHELL_FILE, "python.json", "python.sha256"),
        f"{run}build_interpreter",
        *([*_copy(plan, HEAVY_FILE), f"{install}build_packages {HEAVY_FILE}"] if heavy else []),
        *_apt(apt),
        *_copy(plan, REST_FILE),
        f"{install}build_packages {REST_FILE}; KEY={plan.key}; build_done",
        f"ENV PATH={IMAGE_ENV}/bin:$PATH",
        f"LABEL launcher.environment={plan.key}",
    ]
    return "\n".join(lines) + "\n"


def context_files(plan: EnvironmentPlan, base: str, uv: str, apt: Sequence[str] = ()) -> dict[str, bytes]:
    """The Docker build context: a few kilobytes of text."""
    texts = {"Dockerfile": dockerfile(plan, base, uv, apt), SHELL_FILE: shell_functions(), **plan.files}
    return {name: text.encode() for name, text in sorted(texts.items())}


def image_tag(plan: EnvironmentPlan, base_digest: str, apt: Sequence[str] = ()) -> str:
    """Names the image by what is in it: the base by its digest, the packages by theirs."""
    return f"{IMAGES}:" + _key([plan.key, base_digest, list(apt)])


def uv_tag(uv: Tool) -> str:
    """The image that holds this uv and nothing else."""
    return f"{UV_IMAGES}:{uv.version}-{uv.sha256[:12]}"


def shell_functions() -> str:
    """The text of environment.sh."""
    return (resources.files("launcher") / "environment.sh").read_text(encoding="utf-8")


def _python(environment: Environment, lock: Lock | None) -> str | None:
    if lock is None or lock.python is None:
        return environment.python
    wanted = environment.python
    if wanted and lock.python != wanted and not lock.python.startswith(wanted + "."):
        raise SpecError(
            f"the lock is for Python {lock.python}, the spec wants {wanted}", "run `launcher lock`"
        )
    return lock.python


def _key(value: Any) -> str:
    return hashlib.sha256(records.canonical([VERSION, value])).hexdigest()[:16]


def _options(environment: Environment, lock: Lock | None) -> list[str]:
    """Lines in front of both requirement files: where else packages may be found."""
    lines = [*(f"--extra-index-url {url}" for url in environment.index), *(lock.options if lock else ())]
    for line in lines:
        for word in line.split():
            if urlsplit(word).password or "@" in urlsplit(word).netloc:
                raise SpecError(
                    "an index URL holds a user or password, which would travel with the environment",
                    "give it without one; ~/.netrc on the machine is asked for it",
                )
    return lines


def _requirements(options: Sequence[str], pins: Sequence[Pin]) -> str:
    return "".join(f"{line}\n" for line in (*options, *(pin.text for pin in pins))) if pins else ""


def _downloads_json(version: str, interpreter: Interpreter) -> str:
    """uv's table of interpreters with one entry, for `uv python install --python-downloads-json-url`."""
    major, minor, patch = (int(part) for part in version.split("."))
    entry = {
        "name": "cpython",
        "arch": {"family": interpreter.arch, "variant": None},
        "os": interpreter.system,
        "libc": "gnu",
        "major": major,
        "minor": minor,
        "patch": patch,
        "prerelease": "",
        "url": interpreter.url,
        "sha256": interpreter.sha256,
        "variant": None,
        "build": None,
    }
    key = f"cpython-{version}-{interpreter.system}-{interpreter.arch}-gnu"
    return json.dumps({key: entry}) + "\n"


def _assignments(variables: Mapping[str, str], between: str) -> str:
    return between.join(f"{name}={shlex.quote(value)}" for name, value in variables.items())


def _torch_backend(plan: EnvironmentPlan) -> list[str]:
    """Which of PyTorch's indexes has the locked build."""
    return [] if plan.torch == "auto" else [f"export UV_TORCH_BACKEND={plan.torch}"]


def _copy(plan: EnvironmentPlan, *names: str) -> list[str]:
    there = [name for name in names if name in plan.files or name == SHELL_FILE]
    return [f"COPY {' '.join(there)} {IMAGE_ROOT}/"] if there else []


def _apt(packages: Sequence[str]) -> list[str]:
    if not packages:
        return []
    names = " ".join(shlex.quote(package) for package in packages)
    install = f"DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {names}"
    return [f"RUN apt-get update && {install} && rm -rf /var/lib/apt/lists/*"]
