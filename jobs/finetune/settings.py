"""The settings of train.py: flags, their defaults, and which of them may change when a run is resumed."""

import argparse
import os
from pathlib import Path

import common

ENOUGH = 5  # validation pictures of a class, from which on they may choose an epoch

# Where and how a run computes: it may go on with others. All the rest makes another run.
PLACE = (
    "data",
    "test",
    "weights",
    "out",
    "resume",
    "every",
    "cache",
    "threads",
    "workers",
    "micro_batch",
    "processes",
)


def settings(about: str) -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "train.py", description=about, formatter_class=formatter, allow_abbrev=False
    )
    _data(parser.add_argument_group("pictures"))
    _network(parser.add_argument_group("network"))
    _training(parser.add_argument_group("training"))
    _place(parser.add_argument_group("place: free to change on a resume"))
    args = parser.parse_args(common.arguments())
    _check(args)
    return args


def number(text: str) -> float | str:
    return text if text == "auto" else float(text)


def whole_number(text: str) -> int | str:
    return text if text == "auto" else int(text)


def fill(args: argparse.Namespace, smallest: int) -> None:
    """Each "auto" becomes a number, now that the pictures are known; `smallest` is the size of the smallest class."""
    ours = str(args.data) == "lfw"
    enough = round(smallest * 0.2) >= ENOUGH
    chosen = {
        "size": 64 if ours and not args.arch.startswith(("vit_", "maxvit_")) else 224,
        "batch": 4 if ours else 16,
        "test_share": 0.9 if ours else 0.2,
        "val_share": 0.0 if ours or not enough else 0.2,
    }
    for name, value in chosen.items():
        if getattr(args, name) == "auto":
            setattr(args, name, value)


def _data(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--data", default=common.given("train") or "lfw", help="DIR/<class>/*.jpg, a CSV, Label Studio, lfw")
    add("--test", default=common.given("test"), help="a second source, only tested on")
    add("--val-share", type=number, default="auto",
        help="of each class: chooses the epoch; auto: 0.2 where that is 5 pictures or more, else 0")  # fmt: skip
    add("--test-share", type=number, default="auto",
        help="of each class: looked at once, at the end; auto: 0.2, of lfw 0.9")  # fmt: skip
    add("--seed", type=int, default=0)
    add(
        "--size",
        type=whole_number,
        default="auto",
        help="side of the pictures in pixels; auto: 224, of lfw 64",
    )
    add("--resize", choices=["squash", "crop"], default="squash", help="to a square: all, or the middle")
    add("--flip", type=truth, default=True, help="yes or no: mirror half of the pictures")
    add("--scale", type=float, default=0.8, help="the window's least side; 1: the whole picture")
    add("--mixup", type=float, default=0.0, help="alpha; 0: off")
    add("--cutmix", type=float, default=0.0, help="alpha; 0: off; with both, one of them by lot")
    add("--balance", choices=["auto", "weights", "sampling", "off"], default="auto",
        help="rare classes; auto: weights when one is 3 times as large as another")  # fmt: skip


def _network(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--arch", default="efficientnet_lite0", help="or any of torchvision's: resnet18, vit_b_16, …")
    add("--weights", default="package", help="package, torchvision (downloads), none, or a file")
    add("--bn", choices=["auto", "frozen", "train"], default="auto",
        help="batch norms; auto: frozen below 1000 pictures to learn from")  # fmt: skip


def _training(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--stage", choices=["probe", "finetune"], default="finetune", help="where to end")
    add("--epochs", type=int, default=10)
    add("--batch", type=whole_number, default="auto",
        help="pictures a step, over all processes; auto: 16, of lfw 4")  # fmt: skip
    add("--lr", type=float, default=1e-3, help="of the head at its peak")
    add("--trunk-lr", type=float, default=0.1, help="of the trunk, as a share of the head's")
    add("--weight-decay", type=float, default=0.01)
    add("--warmup", type=float, default=0.1, help="share of the steps")
    add("--clip", type=float, default=1.0, help="largest norm of the gradient; 0: off")
    add("--label-smoothing", type=float, default=0.0)
    add("--ema", type=float, default=0.0, help="decay of the averaged weights, say 0.999; 0: off")
    add("--patience", type=int, default=5, help="epochs without a better validation score; 0: never stop")
    add("--amp", choices=["auto", "off", "bf16", "fp16"], default="auto", help="auto: off on a CPU")
    add(
        "--channels-last", type=truth, default=True, help="yes or no: memory format, the faster one as a rule"
    )


def _place(group: argparse._ArgumentGroup) -> None:
    add, env = group.add_argument, os.environ
    add("--out", type=Path, default=env.get("LAUNCHER_OUT", "out"))
    add("--resume", type=Path, default=env.get("LAUNCHER_RESUME"), help="the checkpoint to go on from")
    add("--every", type=float, default=env.get("LAUNCHER_CHECKPOINT_EVERY", "600"),
        help="seconds between checkpoints")  # fmt: skip
    add("--cache", type=Path, help="folder of computed features; OUT/features, or scratch under launcher")
    add("--processes", type=whole_number, default="auto", help="on this machine; auto: one for each GPU")
    add("--micro-batch", type=int, default=0, help="pictures at once; 0: a batch, less when memory runs out")
    add("--threads", type=int, default=1, help="on a CPU; another number rounds otherwise")
    add("--workers", type=int, default=0, help="processes that read pictures; any number: the same model")


def _check(args: argparse.Namespace) -> None:
    limits = {
        "epochs": (1, 10**6), "batch": (1, 10**6), "size": (8, 4096), "workers": (0, 256), "threads": (1, 256),
        "lr": (1e-12, float("inf")), "val_share": (0, 0.9), "test_share": (0, 0.99), "scale": (0.05, 1),
        "label_smoothing": (0, 0.9), "ema": (0, 1), "warmup": (0, 1), "clip": (0, float("inf")),
        "processes": (1, 1024), "mixup": (0, 100), "cutmix": (0, 100), "patience": (0, 10**6),
        "micro_batch": (0, 10**6),
    }  # fmt: skip
    for name, (least, most) in limits.items():
        if getattr(args, name) != "auto" and not least <= getattr(args, name) <= most:
            flag = name.replace("_", "-")
            common.refuse(f"--{flag} {getattr(args, name)}: from {least} to {most}")
    if args.test_share == 0 and not args.test:
        common.refuse("--test-share 0 leaves nothing to test on: give --test SOURCE")
    if args.cache is None:
        scratch = Path.home() / ".cache" / "finetune" if "LAUNCHER_OUT" in os.environ else args.out
        args.cache = scratch / "features"


def truth(said: str) -> bool:
    if said.lower() not in ("yes", "true", "1", "no", "false", "0"):
        raise argparse.ArgumentTypeError(f"{said!r}: yes or no")
    return said.lower() in ("yes", "true", "1")


def config(args: argparse.Namespace) -> dict[str, object]:
    """What makes a run this one."""
    return {name: value for name, value in vars(args).items() if name not in PLACE}
