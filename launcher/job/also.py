"""`files.also`: each entry is a file or folder that is there, outside the job's folder, and no link."""

from __future__ import annotations

import difflib
import os
from functools import partial
from pathlib import Path

from launcher.errors import SpecError
from launcher.job import yaml
from launcher.job.kinds import placed
from launcher.job.places import INSIDE_HINT
from launcher.job.spec import LoadedJob


def check_also(loaded: LoadedJob) -> None:
    """Tries every entry; a mistake is told with its line in job.yaml, which is read again for that."""
    if loaded.spec.files.also and loaded.source:
        job = yaml.read(loaded.source.read_bytes(), str(loaded.source))
        for node in job.value["files"].value["also"].value:
            placed(node, partial(outside, loaded.root, node.text))


def outside(root: Path, text: str) -> Path:
    """Where an entry lies, absolute."""
    base = Path(os.path.realpath(root))
    path = Path(os.path.normpath(base / text))
    if path.is_relative_to(base):
        raise SpecError(f"{text} lies inside the job's folder", INSIDE_HINT)
    if not os.path.lexists(path):
        raise SpecError(f"{text}: no such file or folder", _near(path, text))
    if base.is_relative_to(path):
        raise SpecError(f"{text} holds the job's own folder", "name the files or folders in it that you need")
    if os.path.realpath(path) != str(path):
        raise SpecError(f"{text} is a symbolic link, or behind one", "links do not travel: name what it is")
    if not (path.is_file() or path.is_dir()):
        raise SpecError(f"{text} is neither a file nor a folder", "remove it")
    if path.name == "job.yaml":
        raise SpecError(f"{text} is the spec of another job", "name the files that you need")
    return path


def _near(path: Path, text: str) -> str:
    try:
        names = os.listdir(path.parent)
    except OSError:
        names = []
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        return f"did you mean {text.rstrip('/').removesuffix(path.name)}{near[0]}?"
    return "write it relative to the folder of job.yaml, like ../common.py"
