"""Linear probes: what logistic regression makes of raw pixels, of a random network, of the pretrained one.

They cost seconds, so they stand beside every result: where a cheap one is as good, transfer was not worth it.
"""

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from data import Batches
from weights import features, lite0

METHODS = {
    "majority": "always the largest class",
    "raw": "raw pixels, linear",
    "random": "random network, linear",
    "probe": "pretrained network, linear",
    "finetune": "pretrained network, fine-tuned",
}
CHEAP = ("majority", "raw", "random")
RAW_PX = 32  # side of the pictures that the raw-pixel probe sees


def probe(model: nn.Module, train: Batches, test: Batches, workers: int) -> dict[str, torch.Tensor]:
    """For each method which test pictures it gets right. The probe of `model` becomes its head."""
    control = calibrated(lite0(model.classifier[1].out_features, pretrained=False), train, workers)
    looks = {
        "raw": lambda x: F.interpolate(x, (RAW_PX, RAW_PX), mode="area").flatten(1),
        "random": lambda x: features(control, x),
        "probe": lambda x: features(model, x),
    }
    right = {}
    for method, look in looks.items():
        (x, y), (x_test, y_test) = see(train, look, workers), see(test, look, workers)
        weight, bias = fit_linear(x, y)
        right["majority"] = y_test == y.bincount().argmax()
        right[method] = (x_test @ weight.T + bias).argmax(1) == y_test
    model.classifier[1].load_state_dict({"weight": weight, "bias": bias})
    return right


def see(batches: Batches, look: Callable, workers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What `look` sees in each picture, (N, features), and its label. A frozen network has no more to see."""
    with torch.no_grad():
        seen = [(look(x).float(), y) for x, y in batches.plain(64, workers)]
    return torch.cat([x for x, _ in seen]).cpu(), torch.cat([y for _, y in seen]).cpu()


def fit_linear(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logistic regression on standardised features; its weight and bias are given back for plain ones."""
    C, mean, std = int(y.max()) + 1, x.mean(0), x.std(0).clamp_min(1e-6)
    z = (x - mean) / std
    weight, bias = torch.zeros(C, x.shape[1], requires_grad=True), torch.zeros(C, requires_grad=True)
    lbfgs = torch.optim.LBFGS(
        [weight, bias], max_iter=200, line_search_fn="strong_wolfe"
    )  # no rate, no chance

    def loss() -> torch.Tensor:
        lbfgs.zero_grad()
        value = F.cross_entropy(z @ weight.T + bias, y) + 0.01 * weight.square().sum()
        value.backward()
        return value

    lbfgs.step(loss)
    weight = weight.detach() / std
    return weight, bias.detach() - weight @ mean


def calibrated(network: nn.Module, train: Batches, workers: int) -> nn.Module:
    """A random network is a fair control only when its batch norms know these pictures."""
    network = network.to(train.device).eval()
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms:
        layer.train().momentum = None  # the mean over all batches
    see(train, lambda x: features(network, x), workers)
    return network.eval()


def acc1(right: torch.Tensor) -> float:
    return right.double().mean().item()


def verdict(right: dict[str, torch.Tensor]) -> str:
    """Transfer against the best cheap method, picture by picture: a two-sided sign test at 5 %."""
    ours, cheap = right.get("finetune", right["probe"]), max(CHEAP, key=lambda method: acc1(right[method]))
    won, lost = int((ours & ~right[cheap]).sum()), int((right[cheap] & ~ours).sum())
    n = won + lost
    p = min(1.0, 2 * sum(math.comb(n, k) for k in range(max(won, lost), n + 1)) / 2**n)
    said = "made no clear difference" if p > 0.05 else "helped" if won > lost else "did harm"
    return (
        f"Transfer {said}: of {len(ours)} test pictures {won} are right only with it, "
        f"{lost} only with '{METHODS[cheap]}' (sign test p = {p:.2g})."
    )
