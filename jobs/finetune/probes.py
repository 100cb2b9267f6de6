"""Linear probes: what logistic regression makes of raw pixels, of a random network, of the pretrained one.

They cost seconds, so they stand beside every result: where a cheap one is as good, transfer was not worth it.
A frozen network sees the same in each epoch, so it looks at each picture once, and what it saw is kept in a
file under a key of its weights, the scaling and the pictures.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from batches import Augment, Batches, normalised
from common import write_whole
from networks import build, check_size, features, head_name
from pictures import Picture
from weights import fingerprint

RAW_PX = 32  # side of the pictures that the raw-pixel probe sees
CURVE = (5, 10, 50, 100)  # labels of each class
DRAWS = 3  # of so few labels, a draw is luck
B = 64

Seen = dict[str, torch.Tensor]  # sha256 of a picture -> its features


def see(batches: Batches, look: Callable, device: torch.device, workers: int) -> torch.Tensor:
    """What `look` sees in each picture, (N, F)."""
    with torch.inference_mode():
        seen = [look(normalised(x, batches.look, device)).float().cpu() for x, _ in batches.plain(B, workers)]
    return torch.cat(seen).clone()  # inference tensors cannot be trained on


def see_once(pictures: Sequence[Picture], model: nn.Module, batches: Batches, args, device) -> Seen:
    """The features of all pictures, from the cache where they are."""
    own = sorted(pictures, key=lambda p: p.sha256)
    trunk = {n: t for n, t in model.state_dict().items() if not n.startswith(head_name(model) + ".")}
    how = (
        f"{fingerprint(trunk)} {asdict(batches.look)} {device.type} {args.channels_last} {torch.__version__}"
    )
    key = hashlib.sha256(how.encode())
    key.update(" ".join(p.sha256 for p in own).encode())
    path = args.cache / f"{key.hexdigest()[:32]}.safetensors"
    x = _cached(path, len(own))
    if x is None:
        every = Batches(own, batches.classes, batches.look, batches.augment)
        x = see(every, lambda x: features(model, x), device, args.workers)
        args.cache.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda to: save_file({"x": x}, to))
    return {p.sha256: row for p, row in zip(own, x, strict=True)}


def _cached(path: Path, n: int) -> torch.Tensor | None:
    try:
        x = load_file(path)["x"]
    except Exception:  # absent or damaged: both mean that it has to be computed
        return None
    return x if len(x) == n else None


def of(seen: Seen, pictures: Sequence[Picture]) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, F) and (N,)."""
    return torch.stack([seen[p.sha256] for p in pictures]), torch.tensor([p.label for p in pictures])


def raw_pixels(pictures: Sequence[Picture], batches: Batches, args) -> Seen:
    """Small, grey or coloured, and nothing else."""
    every = Batches(pictures, batches.classes, batches.look, batches.augment)
    look = lambda x: F.interpolate(x, (RAW_PX, RAW_PX), mode="area").flatten(1)  # noqa: E731
    x = see(every, look, torch.device("cpu"), args.workers)
    return {p.sha256: row for p, row in zip(pictures, x, strict=True)}


def random_network(train: Batches, args, device: torch.device) -> nn.Module:
    """A random network is a fair control only when its batch norms know these pictures."""
    torch.manual_seed(args.seed)
    network = build(args.arch, train.classes, "none").to(device).eval()
    check_size(network, args.arch, args.size)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for layer in norms:
        layer.train().momentum = None  # the mean over all batches
    if norms:
        see(train, lambda x: features(network, x), device, args.workers)
    return network.eval()


def fit_linear(
    x: torch.Tensor, y: torch.Tensor, C: int, weight_of: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logistic regression on standardised features; its weight and bias are given back for plain ones."""
    mean, std = x.mean(0), x.std(0, correction=0).clamp_min(1e-6)
    z = (x - mean) / std
    weight, bias = torch.zeros(C, x.shape[1], requires_grad=True), torch.zeros(C, requires_grad=True)
    lbfgs = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")  # no rate, no luck

    def loss() -> torch.Tensor:
        lbfgs.zero_grad()
        value = F.cross_entropy(z @ weight.T + bias, y, weight_of) + 0.01 * weight.square().sum()
        value.backward()
        return value

    lbfgs.step(loss)
    weight = weight.detach() / std
    return weight, bias.detach() - weight @ mean


def odds(seen: Seen, parts: dict[str, list[Picture]], C: int, weight_of: torch.Tensor | None) -> torch.Tensor:
    """Learnt from train, asked about test: (N, C)."""
    weight, bias = fit_linear(*of(seen, parts["train"]), C, weight_of)
    return (of(seen, parts["test"])[0] @ weight.T + bias).softmax(1)


def majority(parts: dict[str, list[Picture]], C: int) -> torch.Tensor:
    """How frequent the classes are, whatever the picture."""
    y = torch.tensor([p.label for p in parts["train"]])
    return (y.bincount(minlength=C) / len(y)).repeat(len(parts["test"]), 1)


def curve(seen: dict[str, Seen], parts: dict, C: int, seed: int) -> list[tuple[int, str, float]]:
    """(labels of each class, method, balanced accuracy): would more labels help?"""
    train, test = parts["train"], parts["test"]
    of_class = [[p for p in train if p.label == label] for label in range(C)]
    most = max(map(len, of_class))
    steps = [(k, draw) for k in CURVE if k < most for draw in range(DRAWS)] + [(most, 0)]
    points = []
    for k, draw in steps:
        shuffle = torch.Generator().manual_seed(seed * 100_003 + draw)
        chosen = [own[i] for own in of_class for i in torch.randperm(len(own), generator=shuffle)[:k]]
        for method, own in seen.items():
            p = odds(own, {"train": chosen, "test": test}, C, None)
            points.append((k, method, balanced_accuracy(p, torch.tensor([q.label for q in test]))))
    return points


def balanced_accuracy(p: torch.Tensor, y: torch.Tensor) -> float:
    """The mean over the classes of the share that is right."""
    right = (p.argmax(1) == y).double()
    return torch.stack([right[y == label].mean() for label in y.unique()]).mean().item()


def plain_batches(pictures: Sequence[Picture], like: Batches) -> Batches:
    return Batches(pictures, like.classes, like.look, Augment(0))
