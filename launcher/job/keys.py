"""Every key of job.yaml, once: its kind, its default, and what it means.

The parser reads by this table; the JSON Schema and a test of the manual are made from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from launcher.job import kinds, names, places, spec, values
from launcher.job.kinds import Kind
from launcher.job.yaml import Node

Given = dict[str, Any]  # the values of the keys that are there, by the names of the dataclass


@dataclass(frozen=True)
class Key:
    """One key: `field` is its name in the dataclass where that carries a unit."""

    kind: Kind | Section
    doc: str
    default: str = ""  # as it would be written in job.yaml
    field: str = ""


@dataclass(frozen=True)
class Section:
    """A mapping with known keys that becomes a dataclass. `finish` sees what belongs to several keys."""

    make: Callable[..., Any]
    keys: Mapping[str, Key]
    finish: Callable[[Node, Given], Given] = lambda node, given: given
    required: tuple[str, ...] = ()
    rules: Mapping[str, Any] | None = None  # what JSON Schema can say of `finish`


def _python(node: Node) -> str:
    """As it is written: YAML reads 3.10 as the number 3.1."""
    text = kinds.scalar_text(node)
    if not re.fullmatch(r"3\.[0-9]{1,2}(\.[0-9]{1,2})?", text) or int(text.split(".")[1]) < 8:
        raise node.error(
            f"{kinds.written(node)} is not a Python version", 'write "3.12" or "3.12.7" (3.8 or newer)'
        )
    return text


def _one_base(node: Node, given: Given) -> Given:
    chosen = [key for key in ("base", "image", "dockerfile") if given.get(key)]
    if len(chosen) > 1:
        hint = f"keep one: {chosen[0]} or {chosen[1]}"
        raise node.at(chosen[1]).error(f"{' and '.join(chosen)} exclude each other", hint)
    return {**given, "base": None} if chosen and chosen[0] != "base" else given


def _count_needs_gpu(node: Node, given: Given) -> Given:
    if given.get("count", 1) > 1 and given.get("gpu") is None:
        hint = 'add gpu: a model, or a memory such as "16GB+"'
        raise node.at("count").error(f"count {given['count']} without a gpu", hint)
    return given


def _no_double_names(node: Node, given: Given) -> Given:
    for name in given.get("secrets", ()):
        if name in given.get("env", {}):
            raise node.value["env"].at(name).error(f"{name} is in env and in secrets", "keep it in secrets")
    return given


PYTHON = Kind(
    _python,
    {
        "anyOf": [
            {"type": "string", "pattern": r"^3\.([89]|[1-9][0-9])(\.[0-9]{1,2})?$"},
            {"type": "number", "minimum": 3.1, "exclusiveMaximum": 4},
        ]
    },
    "Python version: 3.12 or 3.12.7",
)
NAME = kinds.parsed(names.job_name, names.NAME, "lower-case name")
ENV = kinds.map_of(names.env_name, names.ENV_NAME, values.TEXT)
SECRET = kinds.parsed(names.env_name, names.ENV_NAME, "name of a variable")
PARAMS = kinds.map_of(names.identifier, names.IDENTIFIER, values.PARAM)
DATA = kinds.map_of(places.data_key, places.DATA_KEY, places.DATA)
TARGETS = kinds.list_of(places.TARGET, least=1)
PATTERNS = kinds.list_of(places.PATTERN, unique=False)

FILES = Section(
    spec.Files,
    {
        "include": Key(PATTERNS, "which files travel, as in .gitignore", '["**"]'),
        "exclude": Key(PATTERNS, "which of them stay here, on top of .gitignore and .launcherignore", "[]"),
        "also": Key(
            kinds.list_of(places.OUTSIDE),
            "files and folders outside this folder that travel beside the rest, under their own names",
            "[]",
        ),
    },
)
ENVIRONMENT = Section(
    spec.Environment,
    {
        "python": Key(PYTHON, "the interpreter; the lock records the exact patch version"),
        "requirements": Key(places.PATH, "the lock with hashes; absent: standard library only"),
        "base": Key(places.BASE, "the Docker image to build on", spec.BASE),
        "image": Key(places.IMAGE, "a Docker image to use as it is; needs python3 3.8 or newer in it"),
        "dockerfile": Key(places.DOCKERFILE, "a Dockerfile to build"),
        "apt": Key(kinds.list_of(places.APT), "Debian packages to add; needs Docker", "[]"),
        "torch": Key(places.TORCH, "which build of torch `launcher lock` takes", "auto"),
        "index": Key(kinds.list_of(places.INDEX), "extra package indexes", "[]"),
    },
    _one_base,
    rules={
        "not": {
            "anyOf": [
                {"required": pair}
                for pair in (["base", "image"], ["base", "dockerfile"], ["image", "dockerfile"])
            ]
        }
    },
)
RESOURCES = Section(
    spec.Resources,
    {
        "gpu": Key(
            values.GPU, "the GPU: a model, a list of models, at least so much memory, or none", "none"
        ),
        "count": Key(kinds.integer(1, 64), "how many of them", "1"),
        "cpu": Key(kinds.integer(1, 1024), "CPU cores, at least"),
        "memory": Key(values.MEMORY, "main memory, at least", field="memory_bytes"),
        "disk": Key(values.MEMORY, "free disk, at least", field="disk_bytes"),
        "spot": Key(values.BOOLEAN, "whether a machine that may be taken away will do", "false"),
        "nodes": Key(kinds.integer(1, 1024), "machines; more than 1 is refused until a target has it", "1"),
    },
    _count_needs_gpu,
)
CHECKPOINTS = Section(
    spec.Checkpoints,
    {
        "every": Key(
            values.PERIOD,
            "how often the job should save: a hint, in LAUNCHER_CHECKPOINT_EVERY",
            "10m",
            "every_s",
        ),
        "keep": Key(
            values.KEEP, "what stays at home and in the store: all, or the newest N (and best)", "all"
        ),
    },
)
LIMITS = Section(
    spec.Limits,
    {
        "time": Key(values.PERIOD, "how long the job may run, over all segments", "6h", "time_s"),
        "cost": Key(
            values.COST, "the most it may cost, in the account's currency; without it nothing paid is used"
        ),
        "idle": Key(
            values.TIME,
            "how long a rented machine may wait for its outputs to be fetched",
            "15m",
            "idle_s",
        ),
        "stall": Key(values.STALL, "end the job after so long without a sign of life", "off", "stall_s"),
    },
)
RETRY = Section(
    spec.Retry,
    {
        "max": Key(kinds.integer(0, 1000), "further segments in a row that bring nothing new", "3"),
        "on": Key(
            kinds.list_of(kinds.one_of(*spec.RETRY_ON, hint="a job that fails is never run again by itself")),
            "which ends are tried again",
            "[preempted, lost, time]",
        ),
    },
)
JOB = Section(
    spec.JobSpec,
    {
        "name": Key(NAME, "what runs are called after"),
        "run": Key(values.RUN, "the command; {param} is replaced, {{ and }} are braces"),
        "params": Key(
            PARAMS, "values for {placeholders}; `-p key=value` changes them; JSON in LAUNCHER_PARAMS", "{}"
        ),
        "files": Key(FILES, "what travels from this folder"),
        "environment": Key(ENVIRONMENT, "the same behind every door"),
        "env": Key(ENV, "environment variables; `-e KEY=VALUE` adds to them", "{}"),
        "secrets": Key(
            kinds.list_of(SECRET), "names only; values from the environment or `launcher secret`", "[]"
        ),
        "data": Key(DATA, "what appears as $LAUNCHER_DATA/<key>, read-only", "{}"),
        "resources": Key(RESOURCES, "what one machine must have"),
        "checkpoints": Key(CHECKPOINTS, "when the job saves, and what is kept"),
        "limits": Key(LIMITS, "bounds of the whole run"),
        "retry": Key(RETRY, "when a run goes on by itself"),
        "targets": Key(TARGETS, "where to run, in order of preference, when --on is not given", "[local]"),
        "store": Key(places.STORE, "a bucket for places that cannot be reached while they run"),
    },
    _no_double_names,
    required=("name", "run"),
)
