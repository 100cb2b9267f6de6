"""Teaches a small neural network to tell two spirals apart: standard library only, and it also runs by hand.

    python train.py --epochs 12 --lr 0.02

What makes it resumable: a checkpoint after every epoch holds all that the next one depends on (weights,
momentum, the epoch's number), is written under a name ending in .tmp and renamed when complete, and
$LAUNCHER_RESUME names the newest. The order of the samples depends on the epoch alone. So a killed run that
goes on ends with the very same weights as one that nothing disturbed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
from typing import Any

SAMPLES = 1800  # points on the two spirals
HIDDEN = 32  # neurons
MOMENTUM = 0.9
BATCH = 10
OUT = os.environ.get("LAUNCHER_OUT", "out")

Model = dict[str, Any]  # epoch, weights, velocity
Sample = tuple[tuple[float, ...], int]  # features, label
stopping: list[int] = []  # SIGTERM: save after this epoch, and stop


def main(args: argparse.Namespace) -> None:
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    os.makedirs(OUT, exist_ok=True)
    data = spirals(SAMPLES)
    model = load(os.environ.get("LAUNCHER_RESUME")) or new_model()
    if model["epoch"]:
        print(f"going on after epoch {model['epoch']}", flush=True)
    while model["epoch"] < args.epochs:
        loss = train_one_epoch(model, data, args.lr)
        model["epoch"] += 1
        acc1 = evaluate(model, data)
        print(f"epoch {model['epoch']:2}  loss {loss:.4f}  acc {acc1:.3f}", flush=True)
        with open(os.path.join(OUT, "metrics.jsonl"), "a") as file:
            file.write(json.dumps({"step": model["epoch"], "loss": loss, "acc1": acc1}) + "\n")
        save(model, f"checkpoints/epoch-{model['epoch']:02}.json")
        if stopping:
            sys.exit(75)  # saved; wants to be resumed
    save(model, "model.json")


def train_one_epoch(model: Model, data: list[Sample], lr: float) -> float:
    order = list(range(len(data)))
    random.Random(model["epoch"]).shuffle(order)
    weights, velocity, loss = model["weights"], model["velocity"], 0.0
    for start in range(0, len(order), BATCH):
        gradient = [0.0] * len(weights)
        for index in order[start : start + BATCH]:
            loss += add_gradient(weights, data[index], gradient)
        for i, g in enumerate(gradient):
            velocity[i] = MOMENTUM * velocity[i] - lr * g / BATCH
            weights[i] += velocity[i]
    return loss / len(data)


def add_gradient(weights: list[float], sample: Sample, gradient: list[float]) -> float:
    """Cross entropy of one sample; its gradient is added to `gradient`."""
    features, label = sample
    hidden, p = forward(weights, features)
    error, n = p - label, len(features)
    for j, h in enumerate(hidden):
        base = j * (n + 2)
        gradient[base + n + 1] += error * h
        back = error * weights[base + n + 1] * (1.0 - h * h)
        gradient[base + n] += back
        for i, x in enumerate(features):
            gradient[base + i] += back * x
    gradient[-1] += error
    return -math.log(max(p if label else 1.0 - p, 1e-12))


def forward(weights: list[float], features: tuple[float, ...]) -> tuple[list[float], float]:
    """The hidden layer, and the probability of class 1. Each neuron's weights lie together."""
    n = len(features)
    hidden, logit = [], weights[-1]
    for base in range(0, len(weights) - 1, n + 2):
        z = weights[base + n]
        for i, x in enumerate(features):
            z += weights[base + i] * x
        h = math.tanh(z)
        hidden.append(h)
        logit += weights[base + n + 1] * h
    return hidden, 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))


def evaluate(model: Model, data: list[Sample]) -> float:
    right = sum((forward(model["weights"], x)[1] > 0.5) == bool(label) for x, label in data)
    return right / len(data)


def spirals(count: int) -> list[Sample]:
    """Points on two noisy spirals; the same in every run."""
    rng = random.Random(0)
    data: list[Sample] = []
    for k in range(count):
        label, t = k % 2, (k // 2) / (count / 2)
        angle, radius = 1.25 * math.tau * t + math.pi * label, 0.1 + 0.9 * t
        x = radius * math.cos(angle) + rng.gauss(0, 0.02)
        y = radius * math.sin(angle) + rng.gauss(0, 0.02)
        data.append(((x, y, math.sin(3 * x), math.sin(3 * y), x * x + y * y), label))
    return data


def new_model() -> Model:
    rng = random.Random(1)
    weights = [rng.gauss(0, 0.7) for _ in range(HIDDEN * 7 + 1)]
    return {"epoch": 0, "weights": weights, "velocity": [0.0] * len(weights)}


def load(path: str | None) -> Model | None:
    if not path:
        return None
    with open(path) as file:
        model: Model = json.load(file)
        return model


def save(model: Model, name: str) -> None:
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w") as file:
        json.dump(model, file)
    os.replace(path + ".tmp", path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Teaches a small neural network to tell two spirals apart.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.02)
    main(parser.parse_args())
