"""The model that predicts: a run's folder, its checkpoint `best`, or a pretrained network with ImageNet's names."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchvision.models import ResNet18_Weights

import common
import networks

NEEDED = ("model.safetensors", "labels.json", "preprocess.json")


@dataclass(frozen=True)
class Trained:
    network: nn.Module
    labels: list[str]
    look: networks.Look
    words: str  # what it is, for people
    unlike: dict[str, torch.Tensor] | None = None  # of unlike.py; None: it cannot flag anything

    @property
    def threshold(self) -> float:
        return float(self.unlike["threshold"])


def trained(folder: Path | None) -> Trained:
    return pretrained() if folder is None else of_run(folder)


def pretrained() -> Trained:
    network = networks.build(networks.LITE0, 1000, "package").eval()
    labels = ResNet18_Weights.DEFAULT.meta["categories"]  # ImageNet's, without a download
    look = networks.look_of(networks.LITE0, "package", 224)
    return Trained(network, labels, look, f"{networks.LITE0} with ImageNet's 1000 classes")


def of_run(folder: Path) -> Trained:
    """What jobs/finetune left; a checkpoint has no labels of its own, they lie in the run's folder above it."""
    if not folder.is_dir():
        common.refuse(f"{folder}: no such folder; --model takes a run's folder")
    above = folder.parent.parent
    if (folder / "labels.json").exists() or not (above / "labels.json").exists():
        _whole(folder)
        return _loaded(folder, folder / "unlike.safetensors")
    with TemporaryDirectory() as joined:
        homes = {name: (folder if name == NEEDED[0] else above) / name for name in NEEDED}
        for name, path in homes.items():
            (Path(joined) / name).symlink_to(path.resolve())
        _whole(Path(joined))
        same = (folder / NEEDED[0]).read_bytes() == (above / NEEDED[0]).read_bytes()
        # Distances are those of one network's features: another one's checkpoint has none.
        return _loaded(Path(joined), above / "unlike.safetensors" if same else None)


def _whole(folder: Path) -> None:
    for name in NEEDED:
        if not (folder / name).exists():
            refused = f"{folder} holds no {name}: --model takes the folder of a finished jobs/finetune run"
            common.refuse(refused + (", or its checkpoints/best where it lies" if name != NEEDED[0] else ""))


def _loaded(folder: Path, distances: Path | None) -> Trained:
    model = networks.load_model(folder)
    words = f"{model.arch} with {len(model.labels)} classes"
    return Trained(model.network, model.labels, model.look, words, _distances(distances))


def _distances(path: Path | None) -> dict[str, torch.Tensor] | None:
    if path is None or not path.exists():
        return None
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        common.refuse(f"{path} cannot be read: {error}; without it nothing is flagged: fetch or remove it")
