"""A run's state as a folder of safetensors, a JSON and tensors that torch.load(weights_only=True) accepts.

checkpoints/step-000123/: model, ema and best.safetensors, optimizer.pt, state.json (step, config, split,
place, best), split.csv. Nothing of a checkpoint is ever unpickled. No random state is in it: there is none.
"""

import csv
import io
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from common import keep_newest, mend, refuse, write_folder

KEEP = 2
NAMES = ("model", "ema", "best")


def write(path: Path, tensors: dict[str, dict], state: dict, split_csv: str, optimizer: dict) -> None:
    def fill(folder: Path) -> None:
        for name, own in tensors.items():
            (folder / f"{name}.safetensors").write_bytes(save(at_home(own)))
        (folder / "optimizer.pt").write_bytes(saved(optimizer))
        (folder / "split.csv").write_text(split_csv)
        (folder / "state.json").write_text(json.dumps(state, indent=1))

    path.parent.mkdir(parents=True, exist_ok=True)
    write_folder(path, fill)
    keep_newest(path.parent, "step-" + "[0-9]" * 6, KEEP)


def write_best(path: Path, tensors: dict, state: dict) -> None:
    def fill(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(save(at_home(tensors)))
        (folder / "state.json").write_text(json.dumps(state, indent=1))

    path.parent.mkdir(parents=True, exist_ok=True)
    write_folder(path, fill)


def saved(optimizer: dict) -> bytes:
    """By way of memory: on a full disk torch.save raises what is no OSError."""
    held = io.BytesIO()
    torch.save(optimizer, held)
    return held.getvalue()


def at_home(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def read(path: Path) -> tuple[dict, dict[str, dict], dict]:
    """(state, tensors, optimizer); a checkpoint that is damaged or of another kind is refused."""
    if not (path / "state.json").is_file():
        refuse(f"cannot resume {path}: not a checkpoint of this job, it holds no state.json")
    try:
        state = json.loads((path / "state.json").read_text())
        files = {name: path / f"{name}.safetensors" for name in NAMES}
        tensors = {name: load(file.read_bytes()) for name, file in files.items() if file.exists()}
        optimizer = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        for key in ("step", "config", "split", "place", "best"):
            state[key]
        tensors["model"], optimizer["optimizer"]
    except Exception as error:  # a damaged file makes its reader raise anything
        said = str(error) if isinstance(error, (OSError, SafetensorError)) else type(error).__name__
        refuse(f"cannot resume {path}: it is damaged or not of this job ({said}); take another checkpoint")
    return state, tensors, optimizer


def refuse_another_run(path: Path, state: dict, now: dict, split_csv: str) -> None:
    why = differences(state["config"], now["config"])
    if state["split"] != now["split"]:
        why += split_differences((path / "split.csv").read_text(), split_csv)
    if why:
        why = [*why[:5], f"and {len(why) - 5} more"] if len(why) > 5 else why
        refuse(f"cannot resume {path.name}, it is of another run: {'; '.join(why)}")


def differences(then: dict, now: dict) -> list[str]:
    keys = [k for k in sorted(then.keys() | now.keys()) if then.get(k) != now.get(k)]
    return [f"{k} was {then.get(k, 'absent')}, is {now.get(k, 'absent')}" for k in keys]


def split_differences(then: str, now: str) -> list[str]:
    """Picture by picture."""
    was, is_ = ({row[0]: row[1:] for row in csv.reader(io.StringIO(text))} for text in (then, now))
    said = []
    for name in sorted(was.keys() | is_.keys()):
        a, b = was.get(name), is_.get(name)
        if a is None or b is None:
            said.append(f"{name} is {'new' if a is None else 'gone'}")
        elif a != b:
            fields = [("part", 0), ("label", 1), ("content", 2), ("group of duplicates", 3)]
            what = next((f for f in fields if a[f[1]] != b[f[1]]), None)
            said.append(f"{name}: {what[0]} was {a[what[1]][:12]}, is {b[what[1]][:12]}")
    return said or ["the split is another one"]


def tidy(folder: Path) -> None:
    """What a kill left of unfinished ones."""
    for unfinished in sorted(folder.glob("*.tmp")):
        mend(unfinished.with_name(unfinished.name.removesuffix(".tmp").removesuffix(".old")))


def load_into(module: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        refuse(f"cannot resume {path}: it is damaged: {str(error).splitlines()[1].strip()}")
