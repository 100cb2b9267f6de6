"""What a network has learnt, in pictures, after Zeiler and Fergus (2013): one page and its PNGs.

    python visualize.py                                 # EfficientNet-Lite0 and its ImageNet weights on photographs
    python visualize.py --model ../finetune/out         # a model that jobs/finetune made, on the pictures of its demo
    python visualize.py --model DIR --pictures DIR      # on yours: those that it was trained and tested with
    python visualize.py --arch squeezenet1_1 --weights FILE --size 224      # another pretrained network

1. First-layer filters: what the network looks for in the pixels themselves, before and after fine-tuning.
2. Layer by layer, for channels drawn by lot: the nine patches that excite the channel most, and beside them
   their projections, the paper's deconvnet: what in the patch it was that did it.
3. Class-activation maps of the worst errors: where it looked when it was wrong, and what spoke for the truth.
4. How far fine-tuning has moved each layer, |dW| / |W|: why low-level features transfer.

Writes to --out: report/index.html, its pictures, report.json, drift.csv. The same input and seed give the same
bytes on the same machine. Under `launcher` settings come from $LAUNCHER_PARAMS, the model and the pictures from
$LAUNCHER_DATA/model and /pictures, where they are. SIGTERM ends it with status 75: it starts anew when resumed.
"""

import argparse
import copy
import os
import sys
import time
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

sys.path.append(
    str(Path(__file__).resolve().parents[1])
)  # shared parts: one folder up by hand, beside this file in a bundle

import torch
from torch import fx, nn
from torchvision.models import ResNet18_Weights

import common
import networks
import report
import weights
from cams import Answer, answers, cam, worst
from deconv import Layer, averaged_maps, layers_of, rule, take_apart
from drift import State
from exhibits import Exhibit, Exhibition, drawn, exhibition, tensors
from mining import Excitement, Pool, alike, choose, excitements, peaks_of

POOL = 400  # pictures that are mined at most
JUDGED = 1000  # pictures whose answers are looked at, at most


def settings() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter, allow_abbrev=False)
    add = parser.add_argument
    add("--model", type=Path, default=common.given("model"), help="a folder that jobs/finetune left")
    add(
        "--pictures",
        type=Path,
        default=common.given("pictures"),
        help="a folder with a folder a class, a list",
    )
    add(
        "--before",
        type=Path,
        help="weights before fine-tuning: a file or a model's folder; else rebuilt by name",
    )
    add("--out", type=Path, default=os.environ.get("LAUNCHER_OUT", "out"))
    add("--layers", type=int, default=5, help="how many are shown")
    add("--channels", type=int, default=8, help="of each layer")
    add("--errors", type=int, default=20, help="the worst so many")
    add("--seed", type=int, default=0, help="draws the channels")
    add("--threads", type=int, default=1, help="on the CPU")
    add("--arch", default=networks.LITE0, help="without --model: the architecture")
    add("--weights", default="package", help="without --model: package, torchvision, none or a file")
    add("--size", type=int, default=224, help="without --model: side of the pictures in pixels")
    args = parser.parse_args(common.arguments())
    for name in ("layers", "channels", "errors", "threads"):
        if getattr(args, name) < 1:
            common.refuse(f"--{name} {getattr(args, name)}: 1 or more")
    return args


@dataclass(frozen=True)
class Subject:
    """The network that is looked into."""

    model: networks.Model
    before: State | None  # its weights before fine-tuning
    why_not: str  # where there are none

    @property
    def network(self) -> nn.Module:
        return self.model.network


def subject(args: argparse.Namespace) -> Subject:
    if args.model is None:
        if args.before:
            common.refuse("--before needs --model: the weights after fine-tuning")
        network = networks.build(args.arch, 1000, args.weights).eval()
        labels = ResNet18_Weights.DEFAULT.meta["categories"]  # ImageNet's, without a download
        look = networks.look_of(args.arch, args.weights, args.size)
        why_not = "This is the pretrained network itself: nothing has been fine-tuned."
        return Subject(networks.Model(network, labels, look, args.arch, args.weights), None, why_not)
    model = networks.load_model(args.model)
    origin = str(args.before) if args.before else model.weights
    if origin == "none":
        return Subject(model, None, "It was trained from random weights: there is nothing to compare with.")
    if not args.before and not at_hand(model.arch, origin):
        why_not = f"The weights before fine-tuning ({origin}) are not on this machine: name them by --before."
        return Subject(model, None, why_not)
    before = networks.build(model.arch, len(model.labels), origin).state_dict()
    head = networks.head_name(model.network)  # another one: for other classes, or for these but from scratch
    return Subject(model, {name: tensor for name, tensor in before.items() if not name.startswith(head)}, "")


def at_hand(arch: str, origin: str) -> bool:
    """torchvision would fetch its own over the network: that is for the user to ask for."""
    if origin == "package":
        return arch in weights.PACKAGES and find_spec(weights.PACKAGES[arch][0]) is not None
    return origin != "torchvision" and Path(origin).exists()


def main(args: argparse.Namespace) -> None:
    common.Stop()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)  # of a new head among the weights before
    began = time.monotonic()
    said = lambda words: print(f"{time.monotonic() - began:5.1f} s  {words}", flush=True)  # noqa: E731
    seen = subject(args)
    model, side = seen.model, seen.model.look.size
    networks.check_size(model.network, model.arch, side)
    model.network.to("cuda" if torch.cuda.is_available() else "cpu")
    shown = exhibition(args.pictures, model, args.model, side)
    said(
        f"{model.arch}, {len(shown.pool)} pictures to mine, {len(shown.judged)} to judge, {side} x {side} pixels"
    )

    pieces, layers = apart(model, args.layers)
    pool = mined(pieces, layers, drawn(shown.pool, POOL, args.seed), model.look)
    kept = answers_kept(seen, args.layers, pool)
    said(f"{len(layers)} layers, mined {len(pool.x)} pictures")
    found = {layer.name: excited(pieces, layer, pool, args) for layer in layers}
    said(f"projected the top nine of {sum(map(len, found.values()))} channels")
    cases = judge(pieces, shown, seen, args)
    said(f"judged {len(cases.answers)} answers; {sum(a.wrong for a in cases.answers)} are known to be wrong")

    told = report.Story(
        model=model,
        before=seen.before,
        why_not=seen.why_not,
        shown=shown,
        pool=pool.names,
        layers=layers,
        found=found,
        kept=kept,
        judged=cases,
        rule=rule(pieces),
    )
    args.out.mkdir(parents=True, exist_ok=True)
    common.write_folder(args.out / "report", lambda folder: report.write(folder, told))
    print(report.verdict(told))
    print(f"open {common.at_home(args.out, 'report/index.html')}")


def apart(model: networks.Model, n: int) -> tuple[fx.GraphModule, list[Layer]]:
    device = next(model.network.parameters()).device
    pieces = take_apart(model.network, torch.zeros(1, 3, model.look.size, model.look.size, device=device))
    return pieces, layers_of(pieces, networks.head_name(model.network), n)


def mined(pieces: fx.GraphModule, layers: list[Layer], exhibits: list[Exhibit], look: networks.Look) -> Pool:
    x = torch.cat(list(tensors(exhibits, look)))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (look.mean, look.std))
    return Pool([e.name for e in exhibits], x, mean, std, peaks_of(pieces, layers, x))


def excited(pieces: fx.GraphModule, layer: Layer, pool: Pool, args: argparse.Namespace) -> list[Excitement]:
    channels = choose(pool.peaks[layer.name], args.channels, args.seed)
    return list(excitements(pieces, layer, pool, channels))


def answers_kept(seen: Subject, n: int, pool: Pool) -> dict[str, float]:
    """For each layer how much it still answers to the same pictures as before fine-tuning."""
    if seen.before is None:
        return {}
    was = copy.deepcopy(seen.network)
    was.load_state_dict(seen.before, strict=False)
    pieces, layers = apart(replace(seen.model, network=was), n)
    before = peaks_of(pieces, layers, pool.x)
    return {layer.name: alike(before[layer.name], pool.peaks[layer.name]) for layer in layers}


def judge(
    pieces: fx.GraphModule, shown: Exhibition, seen: Subject, args: argparse.Namespace
) -> report.Judged:
    """All answers, and the worst of them with what spoke for them."""
    exhibits = drawn(shown.judged, JUDGED, args.seed)
    look, device = seen.model.look, next(pieces.parameters()).device
    given: list[Answer] = answers(seen.network, exhibits, look)
    picked = worst(given, args.errors)
    x = torch.cat(list(tensors([exhibits[i] for i in picked], look)))
    last = averaged_maps(pieces, networks.head_name(seen.network))
    maps: list = []
    if last:
        said, truth = ([given[i].said for i in picked], [given[i].truth or 0 for i in picked])
        maps = [cam(pieces, last, x.to(device), classes) for classes in (said, truth)]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (look.mean, look.std))
    return report.Judged(
        given, picked, ((x * std + mean) / 255).clamp(0, 1).permute(0, 2, 3, 1).numpy(), maps
    )


if __name__ == "__main__":
    main(settings())
