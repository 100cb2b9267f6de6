"""A Python script as a job: the spec that its name, its header and its folder imply."""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
import unicodedata
from pathlib import Path

from launcher.errors import SpecError
from launcher.job import places
from launcher.job.header import Wanted, choose_python, project, script_header
from launcher.job.spec import Environment, Files, JobSpec, LoadedJob, RequirementsSource
from launcher.job.units import shown

LOCK = "requirements.lock"
MAX_SCRIPT_BYTES = 16 << 20


def infer(script: Path) -> LoadedJob:
    """The job of `script`, run by `python SCRIPT` in a copy of its folder.

    Packages come from its PEP 723 header, else from requirements.lock, requirements.txt or pyproject.toml
    beside it, in this order. `environment.requirements` names the lock: `<script>.lock` for a header, which
    is the script's own, else requirements.lock.
    """
    root = script.parent.resolve()
    source, wanted = _requirements(root / script.name)
    requires = wanted.requires_python
    environment = Environment(
        python=choose_python(requires, sys.version_info.minor) if requires else None,
        requirements=_lock_name(source, script.stem),
        index=tuple(places.index(url) for url in wanted.index),
    )
    spec = JobSpec(
        name=slug(script.stem),
        run="python " + shlex.quote(script.name).replace("{", "{{").replace("}", "}}"),
        files=Files(include=(_literal(script.name),)) if crowded(root) else Files(),
        environment=environment,
    )
    return LoadedJob(spec, root, None, inferred=True, requirements_source=source)


def slug(text: str) -> str:
    """A valid name from any text: `Train_Flowers v2` -> `train-flowers-v2`."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:41].rstrip("-")
    return "last-job" if name == "last" else name or "job"


def crowded(folder: Path, home: Path | None = None) -> bool:
    """Whether the folder holds far more than a job: the home, one above it, or the temporary folder."""
    if home is None:
        try:
            home = Path.home()
        except RuntimeError:  # no such user
            home = Path(folder.anchor)
    home = home.resolve()
    return folder == home or folder in home.parents or folder == Path(tempfile.gettempdir()).resolve()


def _requirements(script: Path) -> tuple[RequirementsSource, Wanted]:
    root = script.parent
    if header := script_header(_text(script), script.name):
        return RequirementsSource("header", script, header.dependencies, header.requires_python), header
    pyproject = root / "pyproject.toml"
    wanted = (project(_text(pyproject), pyproject.name) if pyproject.is_file() else None) or Wanted()
    if (root / LOCK).is_file():
        return RequirementsSource("lock", root / LOCK, (), wanted.requires_python), wanted
    if (root / "requirements.txt").is_file():
        return RequirementsSource(
            "requirements", root / "requirements.txt", (), wanted.requires_python
        ), wanted
    if wanted.dependencies:
        return RequirementsSource("pyproject", pyproject, wanted.dependencies, wanted.requires_python), wanted
    return RequirementsSource(), wanted


def _lock_name(source: RequirementsSource, stem: str) -> str | None:
    if source.kind == "header":
        return f"{stem}.lock" if source.dependencies else None
    return None if source.kind == "none" else LOCK


def _literal(name: str) -> str:
    """A file name as a pattern that matches only it, beside the script and not below."""
    return "/" + re.sub(r"([\\*?\[\]!# ])", r"\\\1", name)


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_SCRIPT_BYTES:
            raise SpecError(
                f"{shown(str(path))} is larger than 16 MiB", "a script is a text of a few kilobytes"
            )
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as e:
        raise SpecError(f"{shown(str(path))} is not UTF-8", "save it as UTF-8") from e
    except OSError as e:
        raise SpecError(f"{shown(str(path))}: {e.strerror}", "the file must be readable") from e
