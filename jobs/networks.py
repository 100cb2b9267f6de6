"""Torchvision's architectures with real weights, their heads, what goes into these, and saved models.

Names and modules stay torchvision's, so that a saved model.safetensors loads into plain torchvision too
(EfficientNet-Lite0, which torchvision has not, is its efficientnet_b0 changed by `lite0` below).
"""

import difflib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.ops import SqueezeExcitation

import weights as weight_files
from common import refuse

LITE0 = "efficientnet_lite0"
ODD_SCALES = {  # of pixel values 0..255, where they are not torchvision's usual ones
    LITE0: ((127.0,) * 3, (128.0,) * 3),
    "inception_v3": ((127.5,) * 3, (127.5,) * 3),
    "googlenet": ((127.5,) * 3, (127.5,) * 3),
    ("mobilenet_v2", "package"): ((127.5,) * 3, (127.5,) * 3),
    ("vgg16", "package"): ((122.67892, 116.66877, 104.00699), (1.0,) * 3),
}
USUAL_SCALE = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
FIXED_SIZES = {"vit_": 224, "maxvit_t": 224}  # their positions are counted for one size only
SHIFT = 64.0  # see save_model


@dataclass(frozen=True)
class Look:
    """How a picture becomes numbers: (pixel values 0..255 - mean) / std, H = W = size."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: str = "squash"  # or "crop": its middle square

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what is seen."""
        if self.resize == "squash":
            return 0.0, 0.0, float(width), float(height)
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side


@dataclass(frozen=True)
class Model:
    network: nn.Module
    labels: list[str]
    look: Look
    arch: str
    weights: str


def build(arch: str, classes: int, weights: str) -> nn.Module:
    """`weights`: "package" (an installed one), "torchvision" (downloads), "none", or a file of weights.

    The head is new where the weights' own has another number of classes.
    """
    check_arch(arch)
    if weights == "none":
        return skeleton(arch, classes, fresh=True)
    if weights == "torchvision":
        return with_head(torchvision_own(arch), arch, classes)
    state = weight_files.read(arch, weights)
    name = head_name(skeleton(arch, 2))
    own_head = state.get(f"{name}.weight")
    model = skeleton(arch, classes if own_head is None else len(own_head), fresh=own_head is None)
    if arch == "vgg16" and not any(name.startswith("classifier.") for name in state):
        state |= {k: v for k, v in model.state_dict().items() if k.startswith("classifier.")}  # a trunk alone
    fill(model, state, f"{weights}: not weights of {arch}")
    return with_head(model, arch, classes)


def fill(model: nn.Module, state: dict[str, torch.Tensor], otherwise: str) -> None:
    """All of it or nothing."""
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        refuse(f"{otherwise}: {str(error).splitlines()[1].strip()}")


def check_arch(arch: str) -> None:
    known = [LITE0, *models.list_models(module=models)]
    if arch not in known:
        near = ", ".join(difflib.get_close_matches(arch, known)) or "resnet18"
        refuse(f"no classification architecture {arch!r} in torchvision: did you mean {near}?")


def skeleton(arch: str, classes: int, fresh: bool = False) -> nn.Module:
    """The architecture; random weights are worth their time only where they stay (`fresh`)."""
    more = {"aux_logits": False, "init_weights": fresh} if arch in ("inception_v3", "googlenet") else {}
    name = "efficientnet_b0" if arch == LITE0 else arch
    return _uniform(models.get_model(name, weights=None, num_classes=classes, **more), arch)


def torchvision_own(arch: str) -> nn.Module:
    if arch == LITE0:
        refuse(f"{LITE0} is not torchvision's own: --weights package or none")
    try:
        return _uniform(models.get_model(arch, weights="DEFAULT"), arch)
    except OSError as error:
        refuse(f"torchvision could not fetch the weights of {arch}: {error}; --weights package, none or FILE")


def _uniform(model: nn.Module, arch: str) -> nn.Module:
    """One way in, one way out: no second classifier, no second scaling, logits that may be negative."""
    if arch in ("inception_v3", "googlenet"):
        model.aux_logits = model.transform_input = False
        for name in ("AuxLogits", "aux1", "aux2"):
            if hasattr(model, name):
                setattr(model, name, None)
    if arch.startswith("squeezenet"):
        model.classifier[2] = nn.Identity()  # a ReLU behind the head: a linear probe could not become it
    if arch == LITE0:
        lite0(model)
    return model


class SameConv2d(nn.Conv2d):
    """TensorFlow's padding "SAME": where it cannot be even, one more on the right and at the bottom."""

    def forward(self, x):
        pad = []
        for size, k, s in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((math.ceil(size / s) - 1) * s + k - size, 0)
            pad += [total // 2, total - total // 2]
        return self._conv_forward(F.pad(x, pad), self.weight, self.bias)


def lite0(module: nn.Module) -> None:
    """EfficientNet-B0 becomes Lite0: no squeeze-and-excitation, ReLU6, TensorFlow's padding."""
    for name, child in module.named_children():
        if isinstance(child, SqueezeExcitation):
            setattr(module, name, nn.Identity())
        elif isinstance(child, nn.SiLU):
            setattr(module, name, nn.ReLU6(inplace=True))
        elif isinstance(child, nn.Conv2d) and child.stride == (2, 2):
            child.__class__, child.padding = SameConv2d, (0, 0)  # same parameters, other forward
        elif isinstance(child, nn.BatchNorm2d):
            child.eps = 1e-3
        else:
            lite0(child)


def head_name(model: nn.Module) -> str:
    """The last linear layer; SqueezeNet's is a 1 x 1 convolution."""
    kinds = nn.Conv2d if isinstance(model, models.SqueezeNet) else nn.Linear
    return [name for name, layer in model.named_modules() if isinstance(layer, kinds)][-1]


def head(model: nn.Module) -> nn.Module:
    return model.get_submodule(head_name(model))


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    return list(head(model).parameters())


def trunk_parameters(model: nn.Module) -> list[nn.Parameter]:
    own = {id(p) for p in head_parameters(model)}
    return [p for p in model.parameters() if id(p) not in own]


def with_head(model: nn.Module, arch: str, classes: int) -> nn.Module:
    """A new head, but where the present one already has as many classes."""
    old, (parent, _, last) = head(model), head_name(model).rpartition(".")
    if old.weight.shape[0] != classes:
        if isinstance(old, nn.Conv2d):
            new = nn.Conv2d(old.in_channels, classes, 1)
        else:
            new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
        setattr(model.get_submodule(parent), last, new)
    return model


def features(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What goes into the head: (B, 3, H, W) -> (B, F)."""
    seen: list[torch.Tensor] = []
    hook = head(model).register_forward_pre_hook(lambda layer, args: seen.append(args[0]))
    try:
        model(x)
    finally:
        hook.remove()
    return seen[0].mean((2, 3)) if seen[0].dim() == 4 else seen[0].flatten(1)


def set_head(model: nn.Module, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """A linear classifier of `features` becomes the head."""
    layer = head(model)
    with torch.no_grad():
        layer.weight.copy_(weight.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.copy_(bias)


def look_of(arch: str, weights: str, size: int, resize: str = "squash") -> Look:
    for start, only in FIXED_SIZES.items():
        if arch.startswith(start) and size != only:
            refuse(f"{arch} takes pictures of {only} pixels only: --size {only}")
    saved = Path(weights) / "preprocess.json"
    if saved.is_file():  # a trained model's folder
        how = json.loads(saved.read_text())
        return Look(size, tuple(how["mean"]), tuple(how["std"]), resize)
    origin = "package" if weights.endswith(".h5") else weights
    return Look(size, *(ODD_SCALES.get((arch, origin)) or ODD_SCALES.get(arch, USUAL_SCALE)), resize)


def check_size(model: nn.Module, arch: str, size: int) -> None:
    """Some networks halve a picture so often that nothing is left of a small one."""
    was = model.training
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, size, size, device=next(model.parameters()).device))
    except RuntimeError as error:
        refuse(f"{arch} cannot see pictures of {size} pixels ({str(error).splitlines()[0]}): --size 224")
    model.train(was)


def to_tensor(image: Image.Image, look: Look) -> torch.Tensor:
    """An RGB picture as (3, H, W)."""
    return scaled(
        image.resize((look.size, look.size), Image.Resampling.BILINEAR, look.box(*image.size)), look
    )


def scaled(image: Image.Image, look: Look) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (look.mean, look.std))
    return (pixels - mean) / std


def save_model(
    folder: Path, model: nn.Module, labels: list[str], look: Look, arch: str, weights: str
) -> None:
    """model.safetensors, labels.json, preprocess.json.

    Plain torchvision has a ReLU behind SqueezeNet's head. Odds do not change when all logits grow by as much,
    so they are saved large enough to pass it as they are.
    """
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in model.state_dict().items()}
    if arch.startswith("squeezenet"):
        state[f"{head_name(model)}.bias"] += SHIFT
    save_file(state, folder / "model.safetensors")
    (folder / "labels.json").write_text(json.dumps({"labels": labels}, indent=1, ensure_ascii=False) + "\n")
    how = asdict(look) | {"arch": arch, "weights": weights}
    (folder / "preprocess.json").write_text(json.dumps(how, indent=1) + "\n")


def load_model(folder: Path) -> Model:
    """What `save_model` wrote, ready to predict."""
    for name in ("model.safetensors", "labels.json", "preprocess.json"):
        if not (folder / name).is_file():
            refuse(f"{folder} holds no model: {name} is missing; name the folder that a training left")
    try:
        state = load_file(folder / "model.safetensors")
        labels = json.loads((folder / "labels.json").read_text())["labels"]
        how = json.loads((folder / "preprocess.json").read_text())
        arch, origin = how.pop("arch"), how.pop("weights")
        look = Look(how["size"], tuple(how["mean"]), tuple(how["std"]), how["resize"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        refuse(f"{folder} holds no model that can be read: {error}")
    check_arch(arch)
    network = skeleton(arch, len(labels))
    fill(network, state, f"{folder}/model.safetensors is not a {arch}")
    return Model(network.eval(), labels, look, arch, origin)
