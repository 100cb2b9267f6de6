"""Fine-tune EfficientNet-Lite0 and its ImageNet weights on labelled pictures, beside what is cheaper.

    python train.py                                # 200 patches out of scikit-image: faces or not
    python train.py --test-share 0.9 --epochs 10 --batch 4    # the same, learning from 10 of each class
    python train.py --data DIR --size 224          # your pictures: DIR/<class>/*.jpg
    python train.py --stage probe                  # only a linear classifier on frozen features: seconds
    python train.py --resume out/checkpoints/epoch-3.pt

First a linear probe: the frozen network looks at each picture once, and logistic regression is fitted to
what it saw. Then fine-tuning: the probe becomes the head, and all weights learn, the trunk ten times slower
than the head. Probes of raw pixels and of a random network say whether transfer was worth it.

Writes to --out: checkpoints/, metrics.jsonl, split.csv, model.safetensors, labels.json. A run that is killed
at any moment and resumed ends with the same model, byte for byte, as one left alone (same machine and
--threads; any number of --workers): order, augmentation, dropout and learning rate are functions of seed and
step, so no random state can get lost.

Under `launcher` settings come from $LAUNCHER_PARAMS and pictures from $LAUNCHER_DATA/train, if it is there.
SIGTERM, or the coming of $LAUNCHER_DEADLINE, saves a checkpoint and ends with status 75: "resume me".
"""

import argparse
import csv
import hashlib
import json
import math
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import contract
from baselines import METHODS, acc1, probe, verdict
from contract import Stop
from data import Batches, load, split
from weights import MEAN, STD, lite0


def settings() -> argparse.Namespace:
    env = os.environ
    given = Path(env.get("LAUNCHER_DATA", "/nowhere")) / "train"
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter, allow_abbrev=False)
    add = parser.add_argument
    add("--data", default=given if given.is_dir() else "lfw", help="a folder with a folder a class, or lfw")
    add("--out", type=Path, default=env.get("LAUNCHER_OUT", "out"))
    add("--resume", type=Path, default=env.get("LAUNCHER_RESUME"), help="the checkpoint to go on from")
    add(
        "--every",
        type=float,
        default=env.get("LAUNCHER_CHECKPOINT_EVERY", "600"),
        help="seconds a checkpoint",
    )
    add("--stage", choices=["probe", "finetune"], default="finetune", help="where to end")
    add("--epochs", type=int, default=5)
    add("--batch", type=int, default=8, help="pictures a step")
    add("--lr", type=float, default=1e-3, help="of the head at its peak; the trunk has a tenth")
    add("--size", type=int, default=64, help="side of the pictures in pixels")
    add("--test-share", type=float, default=0.2, help="of each class, never learnt from")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1, help="on the CPU; another number rounds otherwise: another model")
    add("--workers", type=int, default=0, help="processes that read pictures; any number: the same model")
    return parser.parse_args(contract.arguments())


@dataclass
class Run:
    args: argparse.Namespace
    device: torch.device
    amp: torch.dtype | None  # what a GPU computes in; None: float32
    labels: list[str]
    train: Batches
    test: Batches
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    right: dict[str, torch.Tensor] = field(default_factory=dict)  # method -> the test pictures it gets right
    step: int = 0  # steps done
    saved_at: float = field(default_factory=time.monotonic)

    @property
    def steps_an_epoch(self) -> int:
        return math.ceil(len(self.train.pictures) / self.args.batch)

    @property
    def steps(self) -> int:
        return self.steps_an_epoch * self.args.epochs if self.args.stage == "finetune" else 0

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)

    def config(self) -> dict[str, object]:
        """What a resumed run must share, else it would be another run."""
        names = ("stage", "epochs", "batch", "lr", "size", "test_share", "seed")
        return {name: getattr(self.args, name) for name in names} | {"classes": ", ".join(self.labels)}

    def split(self) -> dict[str, str]:
        """Picture -> its part, its class, its hash."""
        parts = (("train", self.train), ("test", self.test))
        return {p.name: f"{part} {p.label} {p.sha256}" for part, batches in parts for p in batches.pictures}

    def place(self) -> dict[str, object]:
        """What decides the last bits of a sum."""
        gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else None
        return {"torch": str(torch.__version__), "device": gpu or "cpu", "threads": self.args.threads}


def set_up(args: argparse.Namespace) -> Run:
    torch.set_num_threads(args.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(args.seed)  # for the random network beside ours
    device, amp = torch.device("cpu"), None
    if torch.cuda.is_available():
        device = torch.device("cuda")
        amp = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    pictures, labels = load(args.data)
    parts = split(pictures, args.test_share, args.seed)
    train, test = (Batches(part, args.size, args.seed, device) for part in parts)
    model = lite0(len(labels), pretrained=True).to(device).eval()
    # Both groups exist from the first step on: groups added later break the resuming of the optimizer.
    groups = [{"params": list(part.parameters())} for part in (model.features, model.classifier)]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    scaler = torch.amp.GradScaler(device.type, enabled=amp is torch.float16)
    return Run(args, device, amp, labels, train, test, model, optimizer, scaler)


def train_one_epoch(run: Run, epoch: int, stop: Stop) -> None:
    run.model.train()
    for layer in run.model.modules():  # a few pictures' statistics would be worse than ImageNet's
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    done = run.step % run.steps_an_epoch
    with stop.held():
        for x, y in run.train.shuffled(epoch, done, run.args.batch, run.args.workers):
            loss, lr = train_step(run, x, y), learning_rate(run)
            contract.log(run.args.out, run.step, loss=loss, lr=lr)
            run.step += 1
            ended = run.step % run.steps_an_epoch == 0
            if ended or stop.asked or time.monotonic() - run.saved_at > run.args.every:
                save(run, f"epoch-{epoch + 1}.pt" if ended else f"step-{run.step}.pt")
            if stop.asked:
                break


def train_step(run: Run, x: torch.Tensor, y: torch.Tensor) -> float:
    torch.manual_seed(run.args.seed * 100_003 + run.step)  # dropout too is a function of the step
    trunk, head = run.optimizer.param_groups
    trunk["lr"], head["lr"] = 0.1 * learning_rate(run), learning_rate(run)
    with run.autocast():
        loss = F.cross_entropy(run.model(x), y)
    run.optimizer.zero_grad()
    run.scaler.scale(loss).backward()
    run.scaler.unscale_(run.optimizer)
    nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.scaler.step(run.optimizer)
    run.scaler.update()
    return loss.item()


def learning_rate(run: Run) -> float:
    """Of the head: up over the first tenth of the steps, then half a cosine down."""
    warm = max(run.steps // 10, 1)
    if run.step < warm:
        return run.args.lr * (run.step + 1) / warm
    return run.args.lr * 0.5 * (1 + math.cos(math.pi * (run.step - warm) / (run.steps - warm)))


@torch.no_grad()
def evaluate(run: Run) -> torch.Tensor:
    run.model.eval()
    with run.autocast():
        right = [run.model(x).argmax(1) == y for x, y in run.test.plain(64, run.args.workers)]
    return torch.cat(right).cpu()


def save(run: Run, name: str) -> None:
    state = {"step": run.step, "config": run.config(), "split": run.split(), "place": run.place()}
    state |= {part: getattr(run, part).state_dict() for part in ("model", "optimizer", "scaler")}
    folder = run.args.out / "checkpoints"
    contract.write_whole(folder / name, lambda path: torch.save(state | {"right": run.right}, path))
    contract.keep_newest(folder, "*.pt", 2)
    run.saved_at = time.monotonic()


def resume(run: Run) -> None:
    path = run.args.resume
    state = torch.load(path, map_location="cpu", weights_only=True)
    if why := differences(state["config"], run.config()) + differences(state["split"], run.split()):
        why = [*why[:5], f"and {len(why) - 5} more"] if len(why) > 5 else why
        sys.exit(f"cannot resume {path.name}, it is of another run: {'; '.join(why)}")
    for change in differences(state["place"], run.place()):
        print(f"{change}: the model will be as good, but not the same to the last bit")
    for part in ("model", "optimizer", "scaler"):
        getattr(run, part).load_state_dict(state[part])
    run.step, run.right = state["step"], state["right"]
    print(f"goes on after step {run.step} of {run.steps}", flush=True)


def differences(then: dict, now: dict) -> list[str]:
    keys = [k for k in sorted(then.keys() | now.keys()) if then.get(k) != now.get(k)]
    return [f"{k} was {then.get(k, 'absent')}, is {now.get(k, 'absent')}" for k in keys]


def open_out(run: Run) -> None:
    checkpoints = run.args.out / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)
    for unfinished in checkpoints.glob("*.tmp"):
        unfinished.unlink()
    if not run.args.resume and any(checkpoints.glob("*.pt")):
        sys.exit(f"{checkpoints} holds those of another run: --resume one of them, or name another --out")
    contract.forget_after(run.args.out, run.step)
    with open(run.args.out / "split.csv", "w", newline="") as file:
        rows = ([name, *where.split()] for name, where in run.split().items())
        csv.writer(file).writerows([["picture", "part", "label", "sha256"], *rows])


def write_model(run: Run) -> str:
    look = {"network": "efficientnet_lite0", "size": run.args.size, "mean": MEAN, "std": STD}
    (run.args.out / "labels.json").write_text(json.dumps({"labels": run.labels} | look, indent=1) + "\n")
    path = run.args.out / "model.safetensors"
    tensors = {name: tensor.cpu() for name, tensor in run.model.state_dict().items()}
    contract.write_whole(path, lambda to: save_file(tensors, to))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def finetune(run: Run, stop: Stop) -> None:
    while True:
        epoch, begun = divmod(run.step, run.steps_an_epoch)
        if epoch and not begun:  # at each epoch's end, also when a resumed run starts there
            run.right["finetune"] = evaluate(run)
            contract.log(run.args.out, run.step, acc1=acc1(run.right["finetune"]))
            print(f"epoch {epoch}/{run.args.epochs}: test acc1 {acc1(run.right['finetune']):.3f}", flush=True)
        if run.step == run.steps:
            return
        train_one_epoch(run, epoch, stop)


def main(args: argparse.Namespace) -> None:
    stop, run = Stop(), set_up(args)
    n, m, C = len(run.train.pictures), len(run.test.pictures), len(run.labels)
    print(f"{n} pictures to learn from, {m} to test on, {C} classes, on {run.place()['device']}", flush=True)
    if args.resume:
        resume(run)
    open_out(run)
    if not args.resume:
        run.right = probe(run.model, run.train, run.test, args.workers)
        with stop.held():
            save(run, "epoch-0.pt")
    scores = {f"acc1_{method}": acc1(right) for method, right in run.right.items() if method != "finetune"}
    contract.log(run.args.out, run.step, **scores)
    finetune(run, stop)
    for method, right in run.right.items():
        print(f"  {METHODS[method]:32} test acc1 {acc1(right):.3f}")
    print(verdict(run.right))
    print(f"model.safetensors sha256 {write_model(run)}")


if __name__ == "__main__":
    main(settings())
