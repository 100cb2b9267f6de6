"""Writes a commented job.yaml for a folder, after looking at what is there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from launcher.errors import LauncherError, Refused, SpecError
from launcher.job.infer import slug
from launcher.job.look import Found, look
from launcher.job.parse import FILE
from launcher.job.scalars import resolve


def init(directory: str | Path = ".") -> str:
    """Writes `<directory>/job.yaml` and returns its path. Never writes over one that is there."""
    folder = Path(directory)
    if not folder.is_dir():
        raise SpecError(
            f"{folder}: not a folder", "make it first, or run `launcher init` inside the job's folder"
        )
    for name in (FILE, "job.yml"):
        if (folder / name).exists() or (folder / name).is_symlink():
            raise Refused(f"{folder / name} is there already", "edit it, or remove it first")
    text = render(look(folder))
    try:
        with open(folder / FILE, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError as e:
        raise Refused(f"{folder / FILE} is there already", "edit it, or remove it first") from e
    except OSError as e:
        raise LauncherError(
            f"cannot write {folder / FILE}: {e.strerror}", "the folder must be writable"
        ) from e
    return str(folder / FILE)


def render(found: Found) -> str:
    """The text of a job.yaml that says what was found, and shows what could be added."""
    parts = [_head(found), _environment(found), _data(found), _resources(found), _checkpoints(found), _REST]
    return "\n".join(part for part in parts if part)


def _head(found: Found) -> str:
    params = {name.replace("-", "_"): (name, value) for name, value in found.params}
    options = "".join(f" --{name} {{{key}}}" for key, (name, _) in params.items())
    script = shlex.quote(found.script or "train.py").replace("{", "{{").replace("}", "}}")
    note = "" if found.script else _without_script(found)
    if found.others:
        note = f"# also here: {_comment(', '.join(found.others))}\n"
    text = (
        "# What to run, with what, where. Every key: `launcher schema`; what would happen: `launcher plan`\n"
        f"name: {_quoted(found.name)}\n\n{note}run: {_quoted(f'python {script}{options}')}\n"
    )
    if params:
        values = "".join(f"  {key}: {_quoted(value)}\n" for key, (_, value) in params.items())
        return text + f"params:                    # `launcher run -p KEY=VALUE` changes them\n{values}"
    return text + "# params: {epochs: 5}      # for {epochs} in run; `-p epochs=10` changes it\n"


def _without_script(found: Found) -> str:
    if not found.classes:
        return "# no Python script was found here: say what to run\n"
    return (
        f"# no Python script was found here, but pictures in {len(found.classes)} folders, one for each class. To\n"
        "# fine-tune a network on them no job.yaml is needed here; with jobs/ of launcher's repository:\n"
        f"#   launcher run jobs/finetune --data train={_comment(shlex.quote(found.folder))}\n"
    )


def _environment(found: Found) -> str:
    lines = []
    if found.python:
        lines.append(f'  python: "{found.python}"')
    if found.lock:
        source = (
            f"  # `launcher lock` writes it from {_comment(found.lock_source)}" if found.lock_source else ""
        )
        lines.append(f"  requirements: {_quoted(found.lock)}{source}")
    if not lines:
        return (
            "# environment:             # no requirements were found: the standard library only\n"
            '#   python: "3.12"\n#   requirements: requirements.lock\n'
        )
    return "environment:               # the same behind every door\n" + "\n".join(lines) + "\n"


def _data(found: Found) -> str:
    if not found.large:
        return "# data: {train: ./data}    # appears as $LAUNCHER_DATA/train, read-only\n"
    keys: dict[str, str] = {}
    for name in found.large:
        keys.setdefault(slug(name), name)
    lines = "".join(f"  {_quoted(key)}: {_quoted('./' + name)}\n" for key, name in keys.items())
    return (
        "data:                      # over 50 MB each; they appear as $LAUNCHER_DATA/<key>, read-only\n"
        + lines
    )


def _resources(found: Found) -> str:
    why = (
        f"{_comment(found.script)} uses torch: uncomment to ask for a GPU"
        if found.torch
        else "a model or a memory"
    )
    return f'# resources:\n#   gpu: "16GB+"           # {why}\n'


def _checkpoints(found: Found) -> str:
    lines = []
    if found.saves and not found.knows_out:
        lines.append(
            f"# {_comment(found.script)} calls {found.saves}: only what is below $LAUNCHER_OUT comes home;"
        )
        lines.append("# write checkpoints to $LAUNCHER_OUT/checkpoints/NAME.tmp, then rename them to NAME.")
    if found.saves and not found.knows_resume:
        lines.append("# To go on after an interruption, load the path in $LAUNCHER_RESUME when it is set.")
    if found.knows_out:
        lines.append("checkpoints: {every: 10m, keep: all}")
    return "".join(f"{line}\n" for line in lines)


def _comment(text: str | None) -> str:
    """Text that stays within one comment."""
    return "".join(c if c.isprintable() else "?" for c in text or "")


def _quoted(value: object) -> str:
    """A scalar of YAML; quoted where it could be read as something else."""
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9 _./{}-]*[A-Za-z0-9_/}]|[a-z]", value) and isinstance(
        resolve(value)[0], str
    ):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


_REST = """\
limits:
  time: 6h                 # of running, over all segments
  # cost: 5.00             # without a cost nothing paid is ever used

# targets: [local]         # local, ssh://user@host, kaggle, colab, verda; tried in this order
# secrets: [HF_TOKEN]      # names only; `launcher secret set HF_TOKEN`
"""
