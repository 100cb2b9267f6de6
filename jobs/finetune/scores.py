"""Numbers out of predictions: scores for each class, intervals, calibration, the sign test. Pure numpy.

A number that nobody can know (the recall of a class without test pictures) is None, never 0 and never nan.
"""

import math
from dataclasses import dataclass

import numpy as np

BINS = 10  # of the reliability diagram
Z_95 = 1.959963984540054
LEAST = 6  # pictures must tell two methods apart before any sign test is below 5 %: 2 / 2**6 is 0.031


@dataclass(frozen=True)
class ClassScore:
    label: str
    support: int  # test pictures of this class
    predicted: int  # test pictures that were called so
    right: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class Bin:
    """Test pictures about which the model was about as sure."""

    low: float
    high: float
    count: int
    confidence: float | None  # the mean of what it said
    accuracy: float | None  # and how often it was right


@dataclass(frozen=True)
class SignTest:
    won: int  # pictures that only the first method gets right
    lost: int  # only the second
    p: float  # two-sided


def confusion_matrix(y: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """(C, C) counts: rows are the true classes, columns the predicted ones."""
    return np.bincount(y * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def class_scores(matrix: np.ndarray, labels: list[str]) -> list[ClassScore]:
    scores = []
    for k, label in enumerate(labels):
        right, support, predicted = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        f1 = _ratio(2 * right, support + predicted) if support else None
        precision, recall = _ratio(right, predicted), _ratio(right, support)
        scores.append(ClassScore(label, support, predicted, right, precision, recall, f1))
    return scores


def balanced_accuracy(scores: list[ClassScore]) -> float:
    """The mean recall of the classes that have test pictures."""
    recalls = [score.recall for score in scores if score.recall is not None]
    return sum(recalls) / len(recalls)


def macro_f1(scores: list[ClassScore]) -> float:
    values = [score.f1 for score in scores if score.f1 is not None]
    return sum(values) / len(values)


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share, sound for small n and for shares near 0 and 1."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = right / n, Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def reliability(odds: np.ndarray, y: np.ndarray) -> list[Bin]:
    """How sure the model was against how often it was right, in bins of equal width."""
    confidence, right = odds.max(1), odds.argmax(1) == y
    which = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = []
    for k in range(BINS):
        own = which == k
        known = (float(confidence[own].mean()), float(right[own].mean())) if own.any() else (None, None)
        bins.append(Bin(k / BINS, (k + 1) / BINS, int(own.sum()), *known))
    return bins


def calibration_error(bins: list[Bin]) -> float:
    """ECE: the mean distance between confidence and accuracy over the pictures of all bins."""
    n = sum(b.count for b in bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in bins if b.count) / n


def sign_test(first: np.ndarray, second: np.ndarray) -> SignTest:
    """Two methods on the same pictures (N,) bool: only the pictures count on which they differ."""
    won, lost = int((first & ~second).sum()), int((second & ~first).sum())
    n, k = won + lost, max(won, lost)
    tail = term = math.comb(n, k)
    while k < n:  # each binomial out of the one before: exact, and fast for thousands of pictures
        term = term * (n - k) // (k + 1)
        tail, k = tail + term, k + 1
    return SignTest(won, lost, min(1.0, 2 * tail / 2**n))


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
