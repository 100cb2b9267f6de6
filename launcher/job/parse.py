"""job.yaml -> LoadedJob, strictly: every mistake is one line with its place and what to write instead."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from launcher.errors import SpecError
from launcher.job import command, yaml
from launcher.job.foreign import answer
from launcher.job.keys import JOB, Section
from launcher.job.kinds import kind_of
from launcher.job.spec import JobSpec, LoadedJob, RequirementsSource
from launcher.job.units import shown
from launcher.job.yaml import Node

FILE = "job.yaml"
LOCK, LOCK_SOURCE = "requirements.lock", "requirements.in"


def load(job: str | os.PathLike[str] = ".") -> LoadedJob:
    """A directory with a job.yaml, the path of one, or a Python script (then the spec is inferred)."""
    path = Path(job)
    if path.suffix in (".py", ".pyw") and path.is_file():
        from launcher.job.infer import infer

        return infer(path)
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise _missing(path)
    spec = parse(_bytes(file), _printable(file))
    root = file.parent.resolve()
    spec = _with_lock_beside(spec, root)
    wanted = spec.environment.requirements
    source = RequirementsSource("lock", root / wanted) if wanted else RequirementsSource()
    return LoadedJob(spec, root, root / file.name, requirements_source=source)


def parse(data: bytes | str, source: str = FILE) -> JobSpec:
    """The spec in the text of a job.yaml; raises nothing but SpecError."""
    node = yaml.read(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data, source)
    spec: JobSpec = read_section(JOB, node)
    run = node.value["run"]
    try:
        command.render(spec.run, spec.params)
    except SpecError as e:
        raise run.error(e.message, e.hint) from e
    return spec


def read_section(section: Section, node: Node) -> Any:
    """The dataclass of a mapping. A key without a value (`env:`) means its default."""
    if not isinstance(node.value, dict):
        keys = ", ".join(list(section.keys)[:3])
        raise node.error(
            f"must be a mapping, not {kind_of(node)}", f"write `key: value`, one a line: {keys}, …"
        )
    for name in node.value:
        if name not in section.keys:
            raise _unknown(section, node, name)
    for name in section.required:
        if name not in node.value or node.value[name].value is None:
            raise node.error(f"{name!r} is missing", f"add `{name}: …` ({section.keys[name].doc})")
    given = {}
    for name, child in node.value.items():
        key = section.keys[name]
        if child.value is not None:
            value = read_section(key.kind, child) if isinstance(key.kind, Section) else key.kind.read(child)
            given[key.field or name] = value
    return section.make(**section.finish(node, given))


def _unknown(section: Section, node: Node, name: str) -> SpecError:
    said, hint = answer(name, section, node.path)
    place = f" in {node.path}" if node.path else ""
    return SpecError(f"{node.source}:{node.key_lines[name]}: unknown key {shown(name)}{place}{said}", hint)


def _with_lock_beside(spec: JobSpec, root: Path) -> JobSpec:
    """`requirements` that is not given means the lock beside job.yaml, if there is one or what makes one."""
    environment = spec.environment
    own = environment.requirements or environment.image or environment.dockerfile
    if own or not any((root / name).is_file() for name in (LOCK, LOCK_SOURCE)):
        return spec
    return dataclasses.replace(spec, environment=dataclasses.replace(environment, requirements=LOCK))


def _missing(path: Path) -> SpecError:
    shown_path = _printable(path)
    if path.is_dir():
        if (path / "job.yml").is_file():
            return SpecError(f"no {FILE} in {shown_path}, but a job.yml", f"rename it to {FILE}")
        scripts = sorted(p.name for p in path.glob("*.py"))[:1]
        other = f", or run a script: `launcher run {_printable(path / scripts[0])}`" if scripts else ""
        return SpecError(f"no {FILE} in {shown_path}", f"write one with `launcher init {shown_path}`{other}")
    hint = "give a folder with a job.yaml, a job.yaml, or a Python script"
    return SpecError(
        f"{shown_path}: " + ("not a regular file" if path.exists() else "no such file or folder"), hint
    )


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(yaml.MAX_BYTES + 1)
    except OSError as e:
        raise SpecError(f"{_printable(file)}: {e.strerror}", "the file must be readable") from e


def _printable(path: Path) -> str:
    text = str(path)
    return text if text.isprintable() else shown(text)
