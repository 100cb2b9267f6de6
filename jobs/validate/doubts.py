"""Labels to doubt and pictures to label next, by what a pretrained network sees in them.

Each picture goes once through the frozen network. Five times logistic regression learns from four fifths of
the labelled ones and judges the last fifth; near duplicates stay in one fifth, or they would vouch for each
other. A label is doubted where the judge is as sure of another class as it usually is of that class's own
pictures. The pictures whose two best classes are closest teach most when they are labelled.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from networks import Look, build, features, look_of, to_tensor
from pictures import Picture, group_duplicates

FOLDS = 5
BATCH = 32
WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Doubt:
    picture: Picture
    other: int  # the class that the judge would say
    own_odds: float
    other_odds: float


@dataclass(frozen=True)
class Next:
    picture: Picture
    best: int
    second: int
    margin: float  # between the odds of the two


@dataclass(frozen=True)
class Seen:
    """Pictures and what the network saw in them, (N, F)."""

    pictures: list[Picture]
    x: torch.Tensor


def see(pictures: Sequence[Picture], arch: str, size: int, progress: Callable[[int], None]) -> Seen:
    torch.set_num_threads(1)  # the same sums on every machine
    model, look = build(arch, 2, "package").eval(), look_of(arch, "package", size)
    rows = []
    with torch.no_grad():
        for start in range(0, len(pictures), BATCH):
            rows.append(features(model, _batch(pictures[start : start + BATCH], look)).float())
            progress(start + len(rows[-1]))
    return Seen(list(pictures), torch.cat(rows))


def judged(seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
    """The odds (N, C) of each labelled picture by a judge who has not seen it; which rows have some."""
    y = torch.tensor([-1 if p.label is None else p.label for p in seen.pictures])
    C, odds, has = (
        int(y.max()) + 1,
        torch.zeros(len(y), int(y.max()) + 1),
        torch.zeros(len(y), dtype=torch.bool),
    )
    fold = torch.tensor(_folds(seen.pictures))
    for k in range(FOLDS):
        train, test = (y >= 0) & (fold != k) & (fold >= 0), (y >= 0) & (fold == k)
        if test.any() and len(y[train].unique()) > 1:
            odds[test] = _judge(seen.x[train], y[train], C)(seen.x[test])
            has |= test
    return odds, has


def doubts(seen: Seen, odds: torch.Tensor, has: torch.Tensor) -> list[Doubt]:
    """Those whose own label the judge finds least likely come first."""
    rows = has.nonzero().flatten()
    y = torch.tensor([seen.pictures[i].label for i in rows.tolist()])
    p = odds[rows]
    own = p[torch.arange(len(y)), y]
    usual = torch.tensor([float(own[y == k].mean()) if (y == k).any() else 2.0 for k in range(p.shape[1])])
    best, other = torch.where(p >= usual, p, torch.zeros(())).max(1)
    found = ((best > 0) & (other != y)).nonzero().flatten()
    order = found[own[found].argsort(stable=True)].tolist()
    return [Doubt(seen.pictures[rows[i]], int(other[i]), float(own[i]), float(best[i])) for i in order]


def label_next(seen: Seen, odds: torch.Tensor, has: torch.Tensor) -> list[Next]:
    """The unlabelled pictures, or, where there are none, the labelled ones; the least certain first."""
    y = torch.tensor([-1 if p.label is None else p.label for p in seen.pictures])
    rows = has.nonzero().flatten()
    if (y < 0).any():
        rows = (y < 0).nonzero().flatten()
        odds = odds.clone()
        odds[rows] = _judge(seen.x[y >= 0], y[y >= 0], odds.shape[1])(seen.x[rows])
    best, which = odds[rows].topk(2, dim=1)
    margin = best[:, 0] - best[:, 1]
    first_of_group = _first_of_groups([seen.pictures[i] for i in rows.tolist()], margin)
    order = [i for i in margin.argsort(stable=True).tolist() if i in first_of_group]
    return [Next(seen.pictures[rows[i]], *which[i].tolist(), float(margin[i])) for i in order]


def _first_of_groups(pictures: list[Picture], margin: torch.Tensor) -> set[int]:
    """Of near duplicates the least certain: the others would teach the same."""
    first: dict[int, int] = {}
    for i, group in enumerate(group_duplicates(pictures)):
        if group not in first or margin[i] < margin[first[group]]:
            first[group] = i
    return set(first.values())


def _batch(pictures: Sequence[Picture], look: Look) -> torch.Tensor:
    return torch.stack([to_tensor(p.open(), look) for p in pictures])


def _folds(pictures: list[Picture]) -> list[int]:
    """A fold for each labelled picture, -1 for the others; of each class as many in each, groups whole."""
    members: dict[int, list[int]] = {}
    for i, group in enumerate(group_duplicates(pictures)):
        if pictures[i].label is not None:
            members.setdefault(group, []).append(i)
    order = sorted(
        members.values(), key=lambda own: hashlib.sha256(pictures[own[0]].sha256.encode()).digest()
    )
    fold, filled = [-1] * len(pictures), {}
    for own in order:
        label = Counter(pictures[i].label for i in own).most_common(1)[0][0]
        load = filled.setdefault(label, [0] * FOLDS)
        k = int(np.argmin(load))
        load[k] += len(own)
        for i in own:
            fold[i] = k
    return fold


def _judge(x: torch.Tensor, y: torch.Tensor, C: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logistic regression on standardised features: new features -> odds."""
    mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
    z = (x - mean) / std
    weight, bias = torch.zeros(C, z.shape[1], requires_grad=True), torch.zeros(C, requires_grad=True)
    lbfgs = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        lbfgs.zero_grad()
        value = F.cross_entropy(z @ weight.T + bias, y) + WEIGHT_DECAY * weight.square().sum()
        value.backward()
        return value

    lbfgs.step(loss)
    return lambda new: ((new - mean) / std @ weight.T + bias).detach().softmax(1)
