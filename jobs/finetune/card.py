"""The model card: what the model was made of, what it can and cannot do, how to use it, how to make it again."""

import re

from report_page import between, few

LISTED = 20  # pictures that were left out; report.json has all

IMPORTS = """\
import json

import torch
from PIL import Image
from safetensors.torch import load_file
from torchvision.models import get_model
from torchvision.transforms.functional import pil_to_tensor
"""
LITE0_IMPORTS = """\
import json
import math

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model
from torchvision.ops import SqueezeExcitation
from torchvision.transforms.functional import pil_to_tensor
"""
LITE0 = '''

def lite0(module):
    """EfficientNet-B0 becomes Lite0: no squeeze-and-excitation, ReLU6, TensorFlow's padding."""
    for name, child in module.named_children():
        if isinstance(child, SqueezeExcitation):
            setattr(module, name, nn.Identity())
        elif isinstance(child, nn.SiLU):
            setattr(module, name, nn.ReLU6())
        elif isinstance(child, nn.BatchNorm2d):
            child.eps = 1e-3
        elif isinstance(child, nn.Conv2d) and child.stride == (2, 2):
            child.padding = (0, 0)
            child.register_forward_pre_hook(same)
        else:
            lite0(child)


def same(conv, args):
    k = conv.kernel_size[0]
    w, h = (max((math.ceil(n / 2) - 1) * 2 + k - n, 0) for n in args[0].shape[:1:-1])
    return F.pad(args[0], (w // 2, w - w // 2, h // 2, h - h // 2))

'''
PREDICT = """
labels, look = json.load(open("labels.json"))["labels"], json.load(open("preprocess.json"))
model = {model}
model.load_state_dict(load_file("model.safetensors"))
mean, std = (torch.tensor(look[key]).view(3, 1, 1) for key in ("mean", "std"))
image = Image.open("picture.jpg").convert("RGB").resize((look["size"],) * 2, Image.Resampling.BILINEAR)
with torch.inference_mode():
    odds = model.eval()(((pil_to_tensor(image).float() - mean) / std)[None]).softmax(1)[0]
print({{label: round(p, 3) for label, p in zip(labels, odds.tolist())}})"""


def build(numbers: dict) -> str:
    labels = numbers["labels"]
    title = ", ".join(labels) if len(labels) <= 5 else f"{len(labels)} classes"
    sections = [
        f"# Model card: {plain(title)}",
        _can(numbers),
        "## Scores",
        _scores(numbers),
        "## Trained on",
        _trained_on(numbers),
        "## Limits",
        _limits(numbers),
        "## Use",
        _use(numbers),
        "## Make it again",
        _again(numbers),
    ]
    return "\n\n".join(sections) + "\n"


def _can(numbers: dict) -> str:
    labels, facts = numbers["labels"], numbers["facts"]
    return (
        f"An image classifier: `{_arch(numbers)}`, {_made(numbers)}. It knows {len(labels)} classes and answers with "
        f"one of them **whatever it is shown**: {plain(few(labels, 40))}.\n\n"
        "`unlike.safetensors` holds what `jobs/predict` needs to flag pictures that are unlike all it was trained on; "
        "the flag misses pictures that look like a class and are none of it.\n\n"
        f"{_weights(facts)}"
    )


def _weights(facts: dict) -> str:
    if facts.get("weights") == "none":
        return "It started from random weights, not from pretrained ones."
    licence = plain(facts.get("weights_licence", "not recorded"))
    return (
        f"Pretrained weights: {plain(facts.get('weights', 'not recorded'))}. Their licence: {licence}. Weights of "
        "ImageNet come from pictures that have terms of their own (non-commercial research)."
    )


def _made(numbers: dict) -> str:
    if numbers["method"] == "finetune":
        return "all of whose weights were fine-tuned"
    return "frozen, with a linear classifier on its features"


def _scores(numbers: dict) -> str:
    ours, N = numbers["methods"][numbers["method"]], sum(score["support"] for score in numbers["per_class"])
    methods = [
        [m["name"], m["acc1"], between(m["acc1_low"], m["acc1_high"]), m["balanced_accuracy"], m["ece"]]
        for m in numbers["methods"].values()
    ]
    classes = [
        [
            s["label"],
            s["support"],
            s["precision"],
            s["recall"],
            between(s["recall_low"], s["recall_high"]),
            s["f1"],
        ]
        for s in numbers["per_class"]
    ]
    return "\n\n".join(
        [
            f"On {N} test {'picture' if N == 1 else 'pictures'} that nothing was learnt from or chosen by: accuracy "
            f"{ours['acc1']:.3f} (95 % interval {between(ours['acc1_low'], ours['acc1_high'])}).",
            f"**{plain(numbers['verdict']['sentence'])}**",
            table(["method", "accuracy", "95 % interval", "balanced accuracy", "calibration error"], methods),
            table(["class", "test pictures", "precision", "recall", "95 % interval", "F1"], classes),
        ]
    )


def _trained_on(numbers: dict) -> str:
    counts, left = numbers["counts"], numbers["left_out"]
    rows = [[label, *(own[k] for own in counts.values())] for k, label in enumerate(numbers["labels"])]
    rows.append(["all", *(sum(own) for own in counts.values())])
    text = table(["class", *counts], rows) + "\n\nEach picture with its part and its SHA-256: `split.csv`."
    if left:
        lines = [f"- {plain(item['picture'])}: {plain(item['why'])}" for item in left[:LISTED]]
        if len(left) > LISTED:
            lines.append(f"- and {len(left) - LISTED} more: `report/report.json`")
        text += f"\n\nLeft out ({len(left)}):\n\n" + "\n".join(lines)
    return text


def _limits(numbers: dict) -> str:
    lines = [
        "- It was tested on pictures of the same source as it was trained on; others can be much harder."
    ]
    untested = [s["label"] for s in numbers["per_class"] if not s["support"]]
    scarce = [s["label"] for s in numbers["per_class"] if 0 < s["support"] < 20]
    if untested:
        lines.append(f"- Not tested at all, for want of test pictures: {plain(few(untested))}.")
    if scarce:
        lines.append(
            f"- Fewer than 20 test pictures, so little is known of: {plain(few(scarce))}. See the intervals."
        )
    if numbers["verdict"]["answer"] != "helped":
        lines.append(
            f"- It was not shown to be better than '{_against(numbers)}', which needs no pretrained network."
        )
    lines.append(
        "- Its probabilities are as good as the calibration error above says; `report/reliability.png`."
    )
    lines.append("- Not for decisions about people without tests of your own.")
    return "\n".join(lines)


def _against(numbers: dict) -> str:
    return numbers["methods"][numbers["verdict"]["against"]]["name"]


def _use(numbers: dict) -> str:
    return (
        "On new pictures, on a laptop or anywhere else (`RUN` is this folder):\n\n"
        "    launcher run jobs/predict --data model=RUN --data pictures=DIR\n\n"
        f"Or without `launcher`, in this folder:\n\n```python\n{code(_arch(numbers))}\n```"
    )


def code(arch: str) -> str:
    """A script of plain torchvision that loads the model and predicts."""
    if arch == "efficientnet_lite0":
        made = 'get_model("efficientnet_b0", num_classes=len(labels))\nlite0(model)'
        return LITE0_IMPORTS + LITE0 + PREDICT.format(model=made)
    options = ", aux_logits=False, init_weights=False" if arch in ("inception_v3", "googlenet") else ""
    return IMPORTS + PREDICT.format(model=f'get_model("{arch}", num_classes=len(labels){options})')


def _again(numbers: dict) -> str:
    facts = [[name.replace("_", " "), str(value)] for name, value in numbers["facts"].items()]
    return (
        "Same settings, seed and pictures, and the same machine, thread count and versions give the same bytes; "
        "`launcher rerun RUN` repeats it, `launcher diff` compares.\n\n" + table(["", ""], facts)
    )


def _arch(numbers: dict) -> str:
    return str(numbers["facts"].get("arch", "efficientnet_lite0")).replace("`", "")


def table(head: list[str], rows: list[list[object]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else plain(value)


def plain(value: object) -> str:
    """A name as Markdown that means just this name, on one line."""
    return re.sub(r"([\\`*_\[\]<>#|~$&])", r"\\\1", " ".join(str(value).split()))
