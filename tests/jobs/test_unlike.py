"""Pictures unlike the training ones: which are flagged, how often by mistake, and with how little."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.inside import Inside, inside

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch

SEEN = """
import sys, torch, unlike
torch.set_num_threads(1)

def drawn(seed, n, C=2, F=1280):
    '''n pictures of each class as a network sees them: not negative, classes apart, spread uneven.'''
    same, own = torch.Generator().manual_seed(0), torch.Generator().manual_seed(seed)
    centers, spread = torch.rand(C, F, generator=same), 0.1 + torch.rand(F, generator=same)
    y = torch.arange(C).repeat_interleave(n)
    return (centers[y] + 0.5 * spread * torch.randn(C * n, F, generator=own)).clamp_min(0), y
"""


@pytest.fixture(scope="module")
def run(finetune_python: Path) -> Iterator[Inside]:
    with inside(finetune_python) as python:
        yield python


@pytest.mark.parametrize("n", [10, 150])
def test_new_pictures_of_the_same_kind_are_rarely_flagged(run: Inside, n: int) -> None:
    code = SEEN + (
        "rates = []\n"
        "for seed in range(5):\n"
        "    fitted = unlike.fit(*drawn(seed + 1, n))\n"
        "    new, _ = drawn(seed + 100, 500)\n"
        "    rates.append((unlike.score(fitted, new) > fitted['threshold']).double().mean().item())\n"
        "result = sum(rates) / len(rates)\n"
    )
    assert run(code, n=n) < 0.05


def test_what_lies_between_two_classes_is_farther_away_than_either(run: Inside) -> None:
    code = SEEN + (
        "fitted = unlike.fit(*drawn(1, 50))\n"
        "new, y = drawn(2, 50)\n"
        "means = torch.stack([new[y == k].mean(0) for k in (0, 1)])\n"
        "between = (new - means[y] + means.mean(0)).clamp_min(0)\n"
        "usual = unlike.score(fitted, new).quantile(0.9)\n"
        "result = (unlike.score(fitted, between) > usual).double().mean().item()\n"
    )
    assert run(code) > 0.9


def test_of_a_network_that_knows_faces_most_photographs_are_flagged(run: Inside) -> None:
    """Faces and other patches, forty of each, against photographs, with real weights."""
    code = SEEN + (
        "import networks; from pathlib import Path; import skimage\n"
        "data = pictures.read('lfw')\n"
        "network = networks.build('efficientnet_lite0', 2, 'package').eval()\n"
        "look = networks.look_of('efficientnet_lite0', 'package', 64)\n"
        "seen = lambda image: networks.features(network, networks.to_tensor(image, look)[None])\n"
        "see = lambda images: torch.cat([seen(image) for image in images])\n"
        "with torch.inference_mode():\n"
        "    faces, others = ([p for p in data.pictures if p.label == k][:60] for k in (0, 1))\n"
        "    x = see([p.open() for p in faces + others]).clone()\n"
        "    photographs = 'astronaut chelsea coffee rocket motorcycle_left coins brick retina page horse'.split()\n"
        "    files = [f for f in sorted((Path(skimage.__file__).parent / 'data').iterdir()) if f.stem in photographs]\n"
        "    away = see([pictures.open_picture(f) for f in files]).clone()\n"
        "learnt = torch.tensor([i % 60 < 40 for i in range(120)])\n"
        "y = torch.arange(2).repeat_interleave(40)\n"
        "fitted = unlike.fit(x[learnt], y)\n"
        "flagged = lambda z: (unlike.score(fitted, z) > fitted['threshold']).double().mean().item()\n"
        "result = [flagged(x[~learnt]), flagged(away), len(away)]\n"
    )
    mistaken, found, n = run(code)
    assert n == 10
    assert mistaken <= 0.05
    assert found >= 0.5


def test_the_same_pictures_give_the_same_numbers(run: Inside) -> None:
    code = SEEN + (
        "one, two = (unlike.fit(*drawn(1, 20)) for _ in range(2))\n"
        "result = all(torch.equal(one[k], two[k]) and one[k].dtype == torch.float32 for k in one | two)\n"
    )
    assert run(code)


def test_a_saved_fit_scores_as_before_and_is_small(run: Inside, tmp_path: Path) -> None:
    code = SEEN + (
        "from safetensors.torch import load_file, save_file; import os\n"
        "x, y = drawn(1, 10)\n"
        "fitted = unlike.fit(x, y)\n"
        "save_file(fitted, file)\n"
        "same = torch.equal(unlike.score(load_file(file), x), unlike.score(fitted, x))\n"
        "result = [same, os.path.getsize(file)]\n"
    )
    same, size = run(code, file=tmp_path / "unlike.safetensors")
    assert same
    assert size < 300_000


def test_held_out_pictures_set_the_threshold_where_they_are_given(run: Inside) -> None:
    """A network that has learnt its pictures by heart sees them closer together than new ones."""
    code = SEEN + (
        "x, y = drawn(1, 50)\n"
        "new, _ = drawn(2, 200)\n"
        "by_heart = x * 0.2 + torch.stack([x[y == k].mean(0) for k in (0, 1)])[y] * 0.8\n"
        "rate = lambda fitted: (unlike.score(fitted, new) > fitted['threshold']).double().mean().item()\n"
        "held_out, _ = drawn(3, 50)\n"
        "result = [rate(unlike.fit(by_heart, y)), rate(unlike.fit(by_heart, y, held_out))]\n"
    )
    without, with_held_out = run(code)
    assert without > 0.5
    assert with_held_out < 0.05


@pytest.mark.parametrize("counts", [[1, 1], [1, 9], [2, 2], [3]])
def test_a_handful_of_pictures_gives_finite_scores(run: Inside, counts: list[int]) -> None:
    code = SEEN + (
        "y = torch.tensor([k for k, n in enumerate(counts) for _ in range(n)])\n"
        "x = drawn(1, 10, C=1)[0][: len(y)]\n"
        "fitted = unlike.fit(x, y)\n"
        "result = [unlike.score(fitted, drawn(5, 3)[0]).isfinite().all().item(), bool(fitted['threshold'] > 0)]\n"
    )
    assert run(code, counts=counts) == [True, True]
