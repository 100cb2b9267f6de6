"""What a model says about new pictures: its classes with probabilities, and whether it should say anything at all.

    python predict.py                                      # ImageNet's classes on photographs out of scikit-image
    python predict.py --model ../../runs/finetune-…        # a model that jobs/finetune made, on the same photographs
    python predict.py --model DIR --pictures cat.jpg       # or a folder, or a .csv, or Label Studio's .json
    python predict.py --model DIR --pictures DIR --top 5

A model answers with one of its classes whatever it is shown; pictures that are unlike all that it was trained on
are flagged. A picture that cannot be read is named, stays in the table, and stops nothing. Where the pictures
have labels (a folder for each class, or a column), the accuracy is printed too.

Writes to --out: predictions.csv, predictions.json and predictions.html, a contact sheet. The same pictures give
the same files on the same machine. Under `launcher` settings come from $LAUNCHER_PARAMS, the model and the
pictures from $LAUNCHER_DATA/model and /pictures. SIGTERM ends it with status 75: it starts anew when resumed.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

sys.path.append(
    str(Path(__file__).resolve().parents[1])
)  # shared parts: one folder up by hand, here in a bundle

import torch
from PIL import Image

import common
import networks
import outputs
import unlike
from listed import Entry, entries
from opening import BadPicture, open_picture
from outputs import Answer
from trained import Trained, trained

PHOTOGRAPHS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
)
PHOTOGRAPHS += ("motorcycle_left.png", "rocket.jpg")
THUMBNAIL_PX = 176


def settings() -> argparse.Namespace:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter, allow_abbrev=False)
    add = parser.add_argument
    add("--model", type=Path, default=common.given("model"), help="a run's folder; else ImageNet's classes")
    add(
        "--pictures", type=Path, default=common.given("pictures"), help="a picture, a folder, a .csv or .json"
    )
    add("--top", type=int, default=3, help="how many classes are shown")
    add("--out", type=Path, default=os.environ.get("LAUNCHER_OUT", "out"))
    add("--batch", type=int, default=32, help="pictures at once")
    add("--threads", type=int, default=1, help="on the CPU")
    add("--sheet", type=int, default=300, help="the first so many pictures go into predictions.html")
    args = parser.parse_args(common.arguments())
    for name in ("top", "batch", "threads"):
        if getattr(args, name) < 1:
            common.refuse(f"--{name} {getattr(args, name)}: 1 or more")
    return args


def main(args: argparse.Namespace) -> None:
    common.Stop()
    torch.set_num_threads(args.threads)
    model, found = trained(args.model), in_natural_order(pictures(args.pictures))
    if not found:
        common.refuse(f"{args.pictures}: no pictures in it")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.network.to(device)
    print(f"{model.words}, {outputs.count(len(found), 'picture')}, on {device.type}", flush=True)

    answers = [answer for batch in batches(found, args.batch) for answer in predict(model, batch, args)]
    for number, answer in enumerate(answers):
        if number >= args.sheet:
            answers[number] = replace(answer, thumbnail=b"")
    args.out.mkdir(parents=True, exist_ok=True)
    outputs.write(args.out, model, answers, args.top)
    print(outputs.table(answers, args.top))
    print(outputs.summary(model, answers))
    if all(answer.why_not for answer in answers):
        common.refuse(f"none of {outputs.count(len(answers), 'picture')} can be read: {answers[0].why_not}")


def pictures(source: Path | None) -> list[Entry]:
    if source is None:
        folder = Path(find_spec("skimage").submodule_search_locations[0]) / "data"
        return [Entry(name, folder / name, None) for name in PHOTOGRAPHS]
    return [entry for entry in entries(source) if not entry.why_not.startswith("not a picture")]


def in_natural_order(found: list[Entry]) -> list[Entry]:
    """2.jpg before 10.jpg, b.jpg before C.jpg."""
    pieces = {e.name: [_piece(p) for p in re.split("([0-9]+)", e.name.casefold())] for e in found}
    return sorted(found, key=lambda entry: (pieces[entry.name], entry.name))


def _piece(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (-1, text)


def batches(found: list[Entry], B: int) -> Iterator[list[Entry]]:
    for start in range(0, len(found), B):
        yield found[start : start + B]


def predict(model: Trained, batch: list[Entry], args: argparse.Namespace) -> list[Answer]:
    opened = [opening(entry) for entry in batch]
    images = [image for image in opened if isinstance(image, Image.Image)]
    odds, distance = look(model, images)
    answers, row = [], 0
    for entry, image in zip(batch, opened, strict=True):
        if isinstance(image, str):
            answers.append(Answer(entry.name, entry.label, why_not=image))
            continue
        best = odds[row].topk(min(args.top, len(model.labels)))
        top = [(model.labels[k], round(p, 6)) for p, k in zip(*(t.tolist() for t in best), strict=True)]
        answer = Answer(entry.name, entry.label, top, thumbnail=outputs.thumbnail(image, THUMBNAIL_PX))
        if distance is not None:
            far = round(distance[row].item(), 4)
            answer = replace(answer, distance=far, unlike=far > model.threshold)
        answers.append(answer)
        row += 1
    return answers


def opening(entry: Entry) -> Image.Image | str:
    """The picture, or why there is none."""
    if entry.source is None:
        return entry.why_not
    try:
        return open_picture(entry.source)
    except BadPicture as error:
        return str(error)
    except OSError as error:
        return error.strerror or "cannot be read"


@torch.inference_mode()
def look(model: Trained, images: list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(B, C) probabilities, and (B,) distances from what it was trained on."""
    if not images:
        return torch.zeros(0, len(model.labels)), None
    x = torch.stack([networks.to_tensor(image, model.look) for image in images])
    x = x.to(next(model.network.parameters()).device)
    seen: list[torch.Tensor] = []
    hook = networks.head(model.network).register_forward_pre_hook(
        lambda layer, inputs: seen.append(inputs[0])
    )
    odds = model.network(x).float().softmax(1).cpu()
    hook.remove()
    if not odds.isfinite().all():
        common.refuse(f"the probabilities of {model.words} are no numbers: its weights are damaged")
    if model.unlike is None:
        return odds, None
    features = seen[0].mean((2, 3)) if seen[0].dim() == 4 else seen[0].flatten(1)
    return odds, unlike.score(model.unlike, features.float())


if __name__ == "__main__":
    main(settings())
