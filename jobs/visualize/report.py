"""The page: what each picture shows, in words for someone who has not read the paper."""

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from torch import nn

import page
import sheets
from cams import Answer
from deconv import Layer
from drift import State, by_block, drift, new_layers, say
from exhibits import Exhibition
from mining import Excitement
from networks import Model

RULES = {
    "deconvnet": (
        "This network is the paper's case, convolutions, rectifiers and max-pooling: the projections are those of "
        "its deconvnet (unpool to where the maximum was, rectify, convolve with the transposed filters)."
    ),
    "adapted": (
        "The projections are those of the paper's deconvnet (unpool to where the maximum was, rectify, convolve with "
        "the transposed filters); what this network has beyond the paper's, as its norms, is passed by its gradient."
    ),
    "guided": (
        "The paper's deconvnet knows the picture only by the places of the maxima under max-pooling. This network "
        "shrinks its maps by strides or averages instead, or adds maps up, so it is projected by the successor, guided "
        "backpropagation (Springenberg and others, 2014), which also stops at units that were silent. Rectifiers that "
        "cut at 6 are taken for plain ones."
    ),
    "gradient": (
        "This network's activations are smooth (SiLU, GELU and the like), for which the paper has no rule: what "
        "is shown instead of its projections are plain gradients, which are noisier."
    ),
}
DEPTHS = (
    "Expect edges, corners and spots of one colour: the same in any photograph.",
    "Expect textures and simple patterns: stripes, grids, arcs.",
    "Expect parts of things and whole things, rather alike within a block however different their pixels.",
)
KEPT = (
    "Whatever the optimizer: do the layers still answer to the same pictures? For each channel its peaks in all mined "
    "pictures were correlated with those before fine-tuning; 1 means that the layer serves the new classes as it was."
)


@dataclass(frozen=True)
class Judged:
    answers: list[Answer]
    picked: list[int]  # the worst answers
    pictures: np.ndarray  # (n, H, W, 3) of these
    maps: list[np.ndarray]  # what spoke for the answer, for the truth: (n, H, W) each; or nothing


@dataclass(frozen=True)
class Story:
    model: Model
    before: State | None
    why_not: str
    shown: Exhibition
    pool: list[str]  # names of what was mined
    layers: list[Layer]
    found: dict[str, list[Excitement]]
    kept: dict[str, float]  # how much a layer still answers to the same pictures
    judged: Judged
    rule: str

    @property
    def after(self) -> State:
        return self.model.network.state_dict()


def write(folder: Path, story: Story) -> None:
    parts = [*_opening(story), *_filters(folder, story), *_layers(folder, story)]
    parts += [*_answers(folder, story), *_drift(folder, story), *_notes(story)]
    (folder / "index.html").write_text(page.page("What this network sees", parts), encoding="utf-8")
    facts = json.dumps(_facts(story), indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(facts + "\n", encoding="utf-8")


def verdict(story: Story) -> str:
    if story.before is None:
        return story.why_not
    answers = list(story.kept.values())
    return (
        f"{say(by_block(story.before, story.after))} What the first of the layers below answers to the pictures "
        f"correlates {answers[0]:.3f} with what it answered before, for the last one that is {answers[-1]:.3f}."
    )


def _opening(story: Story) -> list[str]:
    model = story.model
    about = (
        f"{model.arch}, weights: {model.weights}, {len(model.labels)} classes, pictures of {model.look.size} x "
        f"{model.look.size} pixels. {len(story.pool)} pictures were mined for what excites its channels."
    )
    return [page.paragraph(about, "dim"), page.paragraph(verdict(story), "say")]


def _filters(folder: Path, story: Story) -> list[str]:
    name = next(name for name, layer in story.model.network.named_modules() if isinstance(layer, nn.Conv2d))
    weights = story.after[f"{name}.weight"].cpu().numpy()
    named = [("before fine-tuning", story.before[f"{name}.weight"].cpu().numpy())] if story.before else []
    named.append(("after fine-tuning" if story.before else name, weights))
    sheets.filters(folder / "filters.png", named)
    words = (
        f"The {len(weights)} filters of the first layer ({name}), {weights.shape[2]} x {weights.shape[3]} pixels "
        "each. Grey is no weight; a filter answers most to a patch of pixels that looks like it: an edge of its "
        "direction, a spot of its colour. Nearly every network trained on photographs has such filters here."
    )
    if story.before:
        share = drift(
            {"w.weight": story.before[f"{name}.weight"]}, {"w.weight": story.after[f"{name}.weight"]}
        )
        words += f" Fine-tuning has moved them by {share[0].share:.2%} of their length."
    return [page.heading("1. The first layer's filters"), page.figure(folder / "filters.png", words=words)]


def _layers(folder: Path, story: Story) -> list[str]:
    parts = [page.heading("2. What excites each layer"), page.paragraph(RULES[story.rule])]
    parts.append(
        page.paragraph(
            "Each block is one channel, drawn by lot. On its right the nine pictures that excite it most, cut to "
            "what the unit can see; on its left what in them did it, projected back to pixels: grey is nothing, the "
            "rest made the channel fire. Where nine different pictures have the same structure on the left, that "
            "structure is what the channel has learnt to find, and what varies on the right is what it ignores."
        )
    )
    for i, layer in enumerate(story.layers):
        file, (H, W) = folder / f"layer-{i + 1}.png", layer.side
        found = story.found[layer.name]
        parts.append(f"<h3>{page.text(f'Layer {i + 1} of {len(story.layers)}: {layer.name}')}</h3>")
        if not found:
            parts.append(page.paragraph("No channel was excited by nine of the pictures."))
            continue
        sheets.top_nine(file, found)
        words = f"{layer.channels} channels of {H} x {W} units; {_sees(story, layer)}."
        parts.append(page.figure(file, words=f"{words} {DEPTHS[min(3 * i // len(story.layers), 2)]}"))
    return parts


def _sees(story: Story, layer: Layer) -> str:
    field, side = layer.field, story.model.look.size
    if field is None or min(field.rows[0], field.columns[0]) >= side:
        return "a unit sees all of the picture"
    return f"a unit sees {field.rows[0]} x {field.columns[0]} pixels of the picture's {side} x {side}"


def _answers(folder: Path, story: Story) -> list[str]:
    judged, known = story.judged, any(a.truth is not None for a in story.judged.answers)
    wrong = sum(a.wrong for a in judged.answers)
    sheets.cases(folder / "answers.png", [_case(story, place) for place in range(len(judged.picked))])
    words = "Left the picture. "
    if judged.maps:
        words += "Beside it, bright, what spoke for the answer that was given"
        words += "; right what spoke for the true class. " if known else ". "
        words += (
            "Each map is scaled by its own maximum: it says where, not how much; a grey one found nothing."
        )
    else:
        words += "This network keeps no maps up to its head (it mixes the picture as a whole): there is no map to show."
    rows = []
    for number, i in enumerate(judged.picked, 1):
        a = judged.answers[i]
        truth = (
            [] if not known else [_label(story, a.truth), None if a.truth is None else a.odds[a.truth].item()]
        )
        rows.append([number, a.name, _label(story, a.said), a.odds[a.said].item(), *truth])
    if not known:
        title, intro = (
            "3. Where it looks",
            f"Judged were {story.shown.tested}; so these are no errors, only answers.",
        )
    elif not wrong:
        title, intro = (
            "3. Where it looked",
            f"Of {story.shown.tested} none was misjudged. These were the closest calls.",
        )
    else:
        title, intro = "3. Its worst errors", f"Judged were {story.shown.tested}: {wrong} answers are wrong."
        intro += " First come those in which it most believed the wrong class."
        if wrong < len(judged.picked):
            intro += " The last ones are right, but were the closest calls."
    head = ["", "picture", "said", "believed", *(["is", "believed"] if known else [])]
    table = page.folded("The pictures' names and the odds", page.table(head, rows))
    figure = page.figure(folder / "answers.png", words=words)
    return [page.heading(title), page.paragraph(intro), figure, table]


def _case(story: Story, place: int) -> sheets.Case:
    judged = story.judged
    answer = judged.answers[judged.picked[place]]
    said, truth = ((_label(story, k), k) for k in (answer.said, answer.truth))
    heats = [maps[place] for maps in judged.maps] or [None, None]
    is_what = f"is {truth[0]} ({answer.odds[answer.truth].item():.0%})" if answer.wrong else "which is right"
    return sheets.Case(
        judged.pictures[place],
        heats[0],
        heats[1] if answer.wrong else None,
        f"{said[0]} ({answer.odds[answer.said].item():.0%})",
        "" if answer.truth is None else is_what,
    )


def _drift(folder: Path, story: Story) -> list[str]:
    heading = page.heading("4. How far fine-tuning has moved each layer")
    if story.before is None:
        how = (
            "Train one with jobs/finetune and give its folder: python visualize.py --model FOLDER, or "
            "launcher run jobs/visualize --data model=RUN-FOLDER."
        )
        return [heading, page.paragraph(f"{story.why_not} {how}")]
    with open(folder / "drift.csv", "w", newline="", encoding="utf-8") as file:
        rows = [[m.layer, m.weights, f"{m.share:.6g}"] for m in drift(story.before, story.after)]
        csv.writer(file).writerows([["layer", "weights", "moved"], *rows])
    blocks = by_block(story.before, story.after)
    sheets.moved(folder / "drift.png", blocks)
    sheets.moved(folder / "drift-dark.png", blocks, sheets.DARK)
    words = (
        "The first layers are on top. A bar is the length of the change of a block's weights, as a share of their "
        "length before. To be read with care: optimizers of Adam's kind take steps of about one size in every "
        "weight, so that layers with many small weights, mostly the late ones, always move further in this measure."
    )
    if fresh := new_layers(story.before, story.after):
        words += f" Left out is what started anew: {', '.join(fresh)}."
    figure = page.figure(folder / "drift.png", folder / "drift-dark.png", words)
    table = page.table(["layer", "correlation of its answers with those before"], story.kept.items())
    return [heading, page.paragraph(verdict(story)), figure, page.paragraph(KEPT), table]


def _notes(story: Story) -> list[str]:
    parts = [
        page.heading("More"),
        page.paragraph(
            "After M. D. Zeiler and R. Fergus, Visualizing and Understanding Convolutional Networks (2013). "
            "report.json has the channels, pictures and activations of all blocks."
        ),
    ]
    if left_out := story.shown.left_out:
        table = page.table(["picture", "why"], left_out[:100])
        parts.append(page.folded(f"{len(left_out)} pictures were left out", table))
    return parts


def _facts(story: Story) -> dict[str, object]:
    model, judged = story.model, story.judged
    return {
        "schema": 1,
        "arch": model.arch,
        "weights": model.weights,
        "rule": story.rule,
        "verdict": verdict(story),
        "layers": [
            {
                "name": layer.name,
                "channels": layer.channels,
                "side": layer.side,
                "field": asdict(layer.field) if layer.field else None,
                "top": {
                    one.channel: list(zip(one.names, one.heights, strict=True))
                    for one in story.found[layer.name]
                },
            }
            for layer in story.layers
        ],
        "judged": len(judged.answers),
        "wrong": sum(a.wrong for a in judged.answers),
        "worst": [
            {
                "picture": a.name,
                "said": _label(story, a.said),
                "is": _label(story, a.truth),
                "excess": a.excess,
            }
            for a in (judged.answers[i] for i in judged.picked)
        ],
        "moved": [asdict(m) for m in drift(story.before, story.after)] if story.before else None,
        "kept": story.kept,
        "left_out": story.shown.left_out,
    }


def _label(story: Story, k: int | None) -> str | None:
    return None if k is None else " ".join(story.model.labels[k].split())
