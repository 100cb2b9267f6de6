"""Architectures, their heads and features, saved models, and weights that come from elsewhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.inside import Inside, Refused, inside

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch
ARCHS = [
    "efficientnet_lite0",
    "squeezenet1_1",
    "resnet18",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "densenet121",
]
MORE = ["shufflenet_v2_x0_5", "googlenet", "regnet_x_400mf", "swin_t", "vit_b_16"]
SETUP = """
import torch, networks
from pathlib import Path
from PIL import Image
torch.set_num_threads(1)
torch.manual_seed(0)
"""


@pytest.fixture(scope="module")
def run(finetune_python: Path) -> Iterator[Inside]:
    with inside(finetune_python) as python:
        yield python


@pytest.mark.parametrize("arch", ARCHS + MORE)
def test_the_head_makes_of_the_features_what_the_network_makes_of_the_picture(run: Inside, arch: str) -> None:
    code = """
model, x = networks.build(arch, 3, "none").eval(), torch.randn(2, 3, 224, 224)
with torch.inference_mode():
    f, head = networks.features(model, x), networks.head(model)
    logits = head(f[:, :, None, None]).flatten(1) if f.shape[1:] != head.weight.shape[1:] else head(f)
    result = [(logits - model(x)).abs().max().item(), list(logits.shape)]
heads, trunk = networks.head_parameters(model), networks.trunk_parameters(model)
result.append(len(heads) + len(trunk) == len(list(model.parameters())))
"""
    apart, shape, complete = run(SETUP + code, arch=arch)
    assert apart < 1e-4
    assert shape == [2, 3]
    assert complete


@pytest.mark.parametrize("arch", ["squeezenet1_1", "mobilenet_v2"])
def test_a_saved_model_is_the_same_when_loaded_here_and_in_plain_torchvision(
    run: Inside, arch: str, tmp_path: Path
) -> None:
    code = """
from torchvision import models
from safetensors.torch import load_file
model, x = networks.build(arch, 3, "none").eval(), torch.randn(2, 3, 64, 64)
look = networks.look_of(arch, "none", 64)
networks.save_model(Path(folder), model, ["a", "b", "c"], look, arch, "none")
again, plain = networks.load_model(Path(folder)), models.get_model(arch, num_classes=3).eval()
plain.load_state_dict(load_file(Path(folder, "model.safetensors")), strict=True)
with torch.inference_mode():
    odds = [m(x).softmax(1) for m in (model, again.network, plain)]
result = [max((odds[0] - o).abs().max().item() for o in odds), again.labels, again.look == look]
"""
    apart, labels, same_look = run(SETUP + code, arch=arch, folder=tmp_path)
    assert apart < 1e-5
    assert labels == ["a", "b", "c"]
    assert same_look


def test_the_packages_weights_know_a_cat_when_they_see_one(run: Inside) -> None:
    code = """
from skimage.data import chelsea
look = networks.look_of("efficientnet_lite0", "package", 224)
x = networks.to_tensor(Image.fromarray(chelsea()[:, 75:375]), look)[None]
with torch.inference_mode():
    result = networks.build("efficientnet_lite0", 1000, "package").eval()(x).argmax().item()
"""
    assert 281 <= run(SETUP + code) <= 285  # ImageNet's five cats


def test_what_is_no_model_is_refused_by_what_is_missing(run: Inside, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"holds no model: model\.safetensors is missing"):
        run(SETUP + "networks.load_model(Path(folder))", folder=tmp_path)


def test_weights_of_another_architecture_are_refused(run: Inside, tmp_path: Path) -> None:
    code = """
torch.save(networks.build("squeezenet1_0", 5, "none").state_dict(), file)
networks.build("squeezenet1_1", 5, file)
"""
    with pytest.raises(Refused, match="not weights of squeezenet1_1"):
        run(SETUP + code, file=tmp_path / "w.pth")


def test_weights_of_more_classes_bring_all_but_the_head(run: Inside, tmp_path: Path) -> None:
    code = """
theirs = networks.build("resnet18", 7, "none")
torch.save({"state_dict": {"module." + k: v for k, v in theirs.state_dict().items()}}, file)
ours = networks.build("resnet18", 3, file)
result = [bool((ours.conv1.weight == theirs.conv1.weight).all()), ours.fc.out_features]
"""
    assert run(SETUP + code, file=tmp_path / "w.pth") == [True, 3]


def test_caffe_weights_are_turned_round(run: Inside, tmp_path: Path) -> None:
    """A random network written as those packages write theirs answers as before."""
    code = """
import pickle, numpy as np, weights
model, x = networks.build("squeezenet1_1", 5, "none").eval(), torch.rand(1, 3, 64, 64)
places = dict(zip((3, 4, 6, 7, 9, 10, 11, 12), range(2, 10)))
theirs = {}
for name, layer in model.named_modules():
    if isinstance(layer, torch.nn.Conv2d):
        part = name.split(".")
        own = {"features.0": "conv1", "classifier.1": "conv10"}.get(name)
        if own is None:
            kind = {"squeeze": "squeeze1x1", "expand1x1": "expand1x1", "expand3x3": "expand3x3"}[part[2]]
            own = f"fire{places[int(part[1])]}/{kind}"
        kernel = layer.weight.detach().permute(2, 3, 1, 0).contiguous().numpy()
        theirs[own] = [kernel, layer.bias.detach().numpy()]
Path(file).write_bytes(pickle.dumps(theirs, protocol=4))
mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
caffe = x.flip(1) * 255 - torch.tensor([104.0, 117.0, 123.0]).view(3, 1, 1)
with torch.inference_mode():
    ours = networks.build("squeezenet1_1", 5, file).eval()((x - mean) / std)
    result = ((ours - model(caffe)).abs().max() / ours.abs().max()).item()
"""
    assert run(SETUP + code, file=tmp_path / "w.pkl") < 1e-4
