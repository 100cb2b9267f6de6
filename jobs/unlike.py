"""Is a picture unlike anything the network was trained on? A distance in the space of its features, and a threshold.

A classifier has to answer with one of its classes, and is often sure about what it has never seen. So beside
its probabilities stands the Mahalanobis distance to the nearest class: features are rooted and brought to
length 1, which tames the few that are large; the spread inside the classes is told apart in at most 32
directions and is one number for all others (probabilistic PCA), which ten pictures of each class are enough for.

The threshold comes from pictures that were held out of the fit: about 2 % of pictures that are like the
training ones are flagged by mistake. Pictures that look like a class but are none of it are often not flagged.
"""

import math

import torch

FALSE_ALARMS = 0.02
DIRECTIONS = 32
FOLDS = 10
MOST = 5000  # pictures that are looked at: more change nothing and cost minutes
ENOUGH = 250  # held-out scores from which a quantile is read off; fewer are extrapolated
LEAST = 10  # held-out pictures below which those of the training set serve

Fitted = dict[str, torch.Tensor]


def fit(x: torch.Tensor, y: torch.Tensor, held_out: torch.Tensor | None = None) -> Fitted:
    """`x` (N, F) features of the training pictures, `y` (N,) their classes: the same in, the same out.

    Without `held_out`, (M, F), each tenth of the training pictures is scored by a fit of the others. That is too
    kind to a network which has learnt these very pictures by heart: then give pictures that it has not learnt.
    """
    keep = _spread(y, MOST)
    x, y = x[keep].detach().cpu().double(), y[keep].cpu()
    fitted = _fit(x, y)
    enough = held_out is not None and len(held_out) >= LEAST
    scores = score(fitted, held_out) if enough else _cross_fitted(x, y)
    fitted["threshold"] = torch.tensor(_threshold(scores.double()))
    return {name: tensor.float().contiguous() for name, tensor in fitted.items()}


def score(fitted: Fitted, x: torch.Tensor) -> torch.Tensor:
    """(N, F) -> (N,): the distance to the nearest class. Above fitted["threshold"] it is unlike all of them."""
    own = {name: t.double() for name, t in fitted.items()}
    z = (_tamed(x.detach().cpu().double()) - own["mean"]) / own["std"]
    nearest = torch.full((len(z),), torch.inf, dtype=torch.float64)
    for center in own["centers"]:
        away = z - center
        along = away @ own["basis"].T
        beside = (away.square().sum(1) - along.square().sum(1)).clamp_min(0)
        nearest = nearest.minimum((along.square() / own["spread"]).sum(1) + beside / own["rest"])
    return nearest.sqrt().float()


def _fit(x: torch.Tensor, y: torch.Tensor) -> Fitted:
    z = _tamed(x)
    mean, std = z.mean(0), z.std(0, correction=0)
    std = std.clamp_min(0.5 * std.median()).clamp_min(1e-6)  # a feature that never moved is no alarm bell
    z = (z - mean) / std
    classes, own = y.unique(return_inverse=True)
    centers = torch.stack([z[own == k].mean(0) for k in range(len(classes))])
    inside = z - centers[own]
    F, free = inside.shape[1], max(len(z) - len(classes), 1)
    variances, basis = _directions(inside, min(DIRECTIONS, max(free // 2, 1)))
    variances = variances / free
    rest = (inside.square().sum() / free - variances.sum()) / max(F - len(variances), 1)
    spread = 0.9 * variances + 0.1 * variances.mean()  # shrunk: few pictures overstate the differences
    floor = 1e-3
    return {"mean": mean, "std": std, "centers": centers, "basis": basis,
            "spread": spread.clamp_min(floor), "rest": rest.clamp_min(floor)}  # fmt: skip


def _directions(inside: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The k largest sums of squares and their directions (k, F), out of the smaller of the two Gram matrices."""
    N, F = inside.shape
    if N >= F:
        values, vectors = torch.linalg.eigh(inside.T @ inside)
        return values[-k:].clamp_min(0), vectors[:, -k:].T
    values, vectors = torch.linalg.eigh(inside @ inside.T)
    values = values[-k:].clamp_min(0)
    basis = (vectors[:, -k:].T @ inside) / values.sqrt().clamp_min(1e-9)[:, None]
    return values, basis


def _tamed(x: torch.Tensor) -> torch.Tensor:
    rooted = x.sign() * x.abs().sqrt()
    return rooted / rooted.norm(dim=1, keepdim=True).clamp_min(1e-9)


def _cross_fitted(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    fold = torch.empty_like(y)
    fold[y.argsort(stable=True)] = torch.arange(len(y)) % FOLDS  # each class goes into as many as it can
    scores = torch.zeros(len(y))
    for k in range(FOLDS):
        out = fold == k
        if out.any() and not out.all():
            scores[out] = score(_fit(x[~out], y[~out]), x[out])
    return scores


def _threshold(scores: torch.Tensor) -> float:
    """Where 1 - FALSE_ALARMS of new pictures stay below."""
    n = len(scores)
    if n >= ENOUGH:
        return torch.quantile(scores, 1 - FALSE_ALARMS).item()
    if n < 2:
        return torch.finfo(torch.float32).max  # nothing is known: nothing is flagged
    return (scores.mean() + _student(n - 1) * scores.std() * math.sqrt(1 + 1 / n)).item()


def _student(free: int) -> float:
    """The quantile of Student's t, by its expansion (Abramowitz and Stegun 26.7.5): a few pictures know less."""
    z = torch.special.ndtri(torch.tensor(1 - FALSE_ALARMS, dtype=torch.float64)).item()
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)


def _spread(y: torch.Tensor, most: int) -> torch.Tensor:
    """At most `most` places, evenly from all classes."""
    step = max(math.ceil(len(y) / most), 1)
    return y.cpu().argsort(stable=True)[::step].sort().values
