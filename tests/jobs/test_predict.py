"""The predicting job, run as it runs anywhere: good pictures, bad ones, labelled ones, and models that are none."""

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.inside import Inside, Refused, inside

JOBS = Path(__file__).parents[2] / "jobs"

pytestmark = pytest.mark.timeout(900)  # the first test may have to fetch torch

# A model that knows bright from dark pictures for sure: its head looks at the mean of what its trunk sees.
MODEL = """
import sys, torch, networks, unlike
from pathlib import Path
from safetensors.torch import save_file
import numpy as np
from PIL import Image
torch.set_num_threads(1)
torch.manual_seed(0)
labels, look = ["bright", "dark"], networks.look_of("squeezenet1_1", "none", 32)
network = networks.build("squeezenet1_1", 2, "none").eval()
rng = np.random.default_rng(0)
def paint(dark):
    return Image.fromarray((rng.integers(180, 255, (40, 30, 3)) // (6 if dark else 1)).astype(np.uint8))
def see(images):
    with torch.inference_mode():
        return torch.cat([networks.features(network, networks.to_tensor(i, look)[None]) for i in images]).clone()
y = torch.tensor([0, 1] * 20)
x = see([paint(dark) for dark in y.tolist()])
centers = torch.stack([x[y == k].mean(0) for k in (0, 1)])
away = centers[0] - centers[1]
weight = 20 * torch.stack([away, -away]) / away.square().sum()
networks.set_head(network, weight, -weight @ centers.mean(0))
out = Path(out)
out.mkdir()
networks.save_model(out, network, labels, look, "squeezenet1_1", "none")
save_file(unlike.fit(x, y), out / "unlike.safetensors")
for place, dark in (("bright/2.png", 0), ("bright/10.png", 0), ("dark/1.png", 1)):
    path = Path(new, place)
    path.parent.mkdir(parents=True, exist_ok=True)
    paint(dark).save(path)
Image.fromarray(np.tile(np.eye(40, dtype=np.uint8)[:, :30, None] * 255, 3)).save(Path(new, "bright", "strange.png"))
"""


NAMES = ["=cmd|' !A0.png", "@sum.png", "<b onload=x>.png", "two\nlines.png"]
ORDER = ["bright/2.png", "bright/10.png", "bright/strange.png", "bright/Yes.png", "dark/1.png"]
ORDER += [
    "dark/<b onload=x>.png",
    "dark/=cmd|' !A0.png",
    "dark/@sum.png",
    "dark/broken.png",
    "dark/empty.jpg",
]
ORDER += ["dark/two\\nlines.png", "zebra/z.png"]


class Made:
    """A model, new pictures, and predict.py in a segment's surroundings."""

    def __init__(self, python: Path, folder: Path, run: Inside) -> None:
        self.python, self.folder, self.run = python, folder, run
        self.model, self.new = folder / "model", folder / "new"
        run(MODEL, out=self.model, new=self.new)
        one, dark = self.new / "dark" / "1.png", self.new / "dark"
        for name in NAMES:
            shutil.copy(one, dark / name)
        (dark / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
        (dark / "empty.jpg").touch()
        (self.new / "zebra").mkdir()
        shutil.copy(one, self.new / "zebra" / "z.png")
        shutil.copy(one, self.new / "bright" / "Yes.png")

    def predict(self, out: str, *flags: str | Path, data: Path | None = None, **params: Any) -> "Ended":
        env = {
            "PATH": os.environ["PATH"],
            "OMP_NUM_THREADS": "1",
            "LANG": "C.UTF-8",
            "LAUNCHER_OUT": str(self.folder / out),
            "LAUNCHER_PARAMS": json.dumps(params),
            "LAUNCHER_DATA": str(data or "/nowhere"),
        }
        command = [self.python, JOBS / "predict" / "predict.py", *flags]
        return Ended(subprocess.run(command, env=env, capture_output=True, text=True), self.folder / out)

    def load(self, model: Path) -> Any:
        """trained.py's answer to a folder: its classes, and whether it can flag anything."""
        code = (
            "import sys; sys.path.insert(1, job); import trained; from pathlib import Path\n"
            "found = trained.trained(Path(model)); result = [found.labels, found.unlike is not None]\n"
        )
        return self.run(code, job=JOBS / "predict", model=model)


class Ended:
    def __init__(self, process: "subprocess.CompletedProcess[str]", out: Path) -> None:
        self.status, self.stdout, self.stderr, self.out = (
            process.returncode,
            process.stdout,
            process.stderr,
            out,
        )

    @property
    def rows(self) -> dict[str, dict[str, str]]:
        assert self.status == 0, self.stdout + self.stderr
        with open(self.out / "predictions.csv", newline="", encoding="utf-8") as file:
            return {row["picture"]: row for row in csv.DictReader(file)}

    @property
    def json(self) -> dict[str, Any]:
        return json.loads((self.out / "predictions.json").read_text())

    @property
    def page(self) -> str:
        return (self.out / "predictions.html").read_text()


@pytest.fixture(scope="module")
def made(finetune_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("predict")
    with inside(finetune_python) as run:
        yield Made(finetune_python, folder, run)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def usual(made: Made) -> Ended:
    """All pictures, the model and they from the data of a segment."""
    data = made.folder / "data"
    data.mkdir()
    (data / "model").symlink_to(made.model)
    (data / "pictures").symlink_to(made.new)
    return made.predict("usual", data=data)


def test_each_picture_gets_its_classes_in_natural_order_of_names(usual: Ended) -> None:
    assert list(usual.rows) == ORDER
    assert [p["picture"] for p in usual.json["pictures"]] == ORDER
    row = usual.rows["dark/1.png"]
    assert [row["class_1"], row["class_2"]] == ["dark", "bright"]
    assert float(row["probability_1"]) > 0.9
    assert "\ndark/1.png  " in usual.stdout


def test_a_picture_unlike_all_others_is_flagged_and_the_usual_ones_are_not(usual: Ended) -> None:
    assert {name for name, row in usual.rows.items() if row["unlike"] == "yes"} == {"bright/strange.png"}
    assert "1 flagged as unlike anything it was trained on" in usual.stdout
    assert usual.page.count('<div class="flag">unlike anything') == 1


def test_labels_give_an_accuracy_and_one_never_seen_is_named(usual: Ended) -> None:
    accuracy = usual.json["accuracy"]
    assert accuracy["labelled"] == 9  # of twelve: two are unreadable, one is a zebra
    assert accuracy["labelled"] - accuracy["right"] in (1, 2)  # the wrong one, perhaps the strange one
    assert f"{accuracy['right']} of 9 labelled pictures right" in usual.stdout
    assert "labels never seen in training, left out of the accuracy: 'zebra' (1)" in usual.stdout
    assert usual.rows["bright/Yes.png"]["right"] == "no"


def test_bad_pictures_are_named_and_stop_nothing(usual: Ended) -> None:
    assert usual.rows["dark/broken.png"]["unreadable"]
    assert usual.rows["dark/broken.png"]["class_1"] == ""
    assert "10 pictures read, 2 unreadable" in usual.stdout
    line = next(line for line in usual.stdout.splitlines() if line.startswith("dark/empty.jpg"))
    assert "unreadable: not a picture that can be read" in line
    assert "dark/empty.jpg" in usual.page


def test_names_cannot_become_formulas_in_a_spreadsheet_or_tags_in_the_page(made: Made, usual: Ended) -> None:
    assert "<b onload" not in usual.page
    code = "import page; result = page.csv_text([[name, -0.5] for name in names])"
    lines = made.run(code, names=["=1+1", "+1", "-1", "@sum", "\t=1", "plain"]).splitlines()
    assert lines == ["'=1+1,-0.5", "'+1,-0.5", "'-1,-0.5", "'@sum,-0.5", "'\t=1,-0.5", "plain,-0.5"]


def test_the_same_pictures_give_the_same_files(made: Made, usual: Ended) -> None:
    again = made.predict("again", "--model", made.model, "--pictures", made.new)
    for file in usual.out.iterdir():
        assert file.read_bytes() == (again.out / file.name).read_bytes(), file.name


def test_a_csv_gives_labels_and_missing_files_in_batches_of_any_size(made: Made, usual: Ended) -> None:
    listed = made.new.parent / "list.csv"
    listed.write_text("path,label\nnew/dark/1.png,dark\nnew/bright/2.png,bright\nnew/no.png,dark\n")
    ended = made.predict("listed", "--model", made.model, "--pictures", listed, batch=1, top=1)
    assert ended.rows["new/no.png"]["unreadable"] == "no such file"
    assert "2 of 2 labelled pictures right: accuracy 1.000" in ended.stdout
    row, before = ended.rows["new/dark/1.png"], usual.rows["dark/1.png"]
    assert "class_2" not in row
    assert float(row["probability_1"]) == pytest.approx(float(before["probability_1"]), abs=1e-4)


def test_it_is_an_error_only_when_none_can_be_read(made: Made) -> None:
    broken = made.new / "dark" / "broken.png"
    ended = made.predict("none", "--model", made.model, "--pictures", broken)
    assert ended.status == 2
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("none of 1 picture can be read: ")


def test_without_a_model_imagenets_classes_name_what_is_on_the_photographs(made: Made) -> None:
    ended = made.predict("imagenet")
    assert ended.rows["chelsea.png"]["class_1"] == "Egyptian cat"
    assert ended.rows["coffee.png"]["class_1"] == "espresso"
    assert "this model came without unlike.safetensors" in ended.stdout


def test_a_checkpoint_takes_its_labels_from_the_run_above_it(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.model, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best"
    best.mkdir(parents=True)
    shutil.copy(made.model / "model.safetensors", best)
    assert made.load(best) == [["bright", "dark"], True]


def test_a_checkpoint_of_other_weights_has_no_distances(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.model, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best"
    best.mkdir(parents=True)
    other = (
        "from safetensors.torch import load_file, save_file\n"
        "save_file({name: tensor + 1 for name, tensor in load_file(a).items()}, b)"
    )
    made.run(other, a=made.model / "model.safetensors", b=best / "model.safetensors")
    assert made.load(best) == [["bright", "dark"], False]


@pytest.mark.parametrize("missing", ["model.safetensors", "labels.json", "preprocess.json"])
def test_a_folder_that_holds_no_model_is_refused_in_one_line(
    made: Made, tmp_path: Path, missing: str
) -> None:
    shutil.copytree(made.model, tmp_path / "run")
    (tmp_path / "run" / missing).unlink()
    with pytest.raises(Refused, match=f"^[^\n]* holds no {missing}: --model takes the folder of [^\n]*\n$"):
        made.load(tmp_path / "run")


def test_damaged_distances_are_refused_and_absent_ones_are_not(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.model, tmp_path / "run")
    (tmp_path / "run" / "unlike.safetensors").write_bytes(b"torn")
    with pytest.raises(Refused, match=r"unlike\.safetensors cannot be read"):
        made.load(tmp_path / "run")
    (tmp_path / "run" / "unlike.safetensors").unlink()
    assert made.load(tmp_path / "run") == [["bright", "dark"], False]


def test_its_environment_is_the_one_of_all_jobs() -> None:
    for name in ("requirements.in", "requirements.lock"):
        assert (JOBS / "predict" / name).read_bytes() == (JOBS / "finetune" / name).read_bytes()
