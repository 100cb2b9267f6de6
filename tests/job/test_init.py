"""The job.yaml that `init` writes after looking at a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import Refused, SpecError
from launcher.job.init import init, render
from launcher.job.look import LARGE_BYTES, Found
from launcher.job.parse import load, parse

TRAIN = """
import argparse
import torch

parser = argparse.ArgumentParser()
parser.add_argument("-e", "--epochs", type=int, default=5)
parser.add_argument("--learning-rate", type=float, default=1e-3)
parser.add_argument("--out", default="out")
parser.add_argument("--amp", action="store_true", default=False)
torch.save({}, "model.pt")
"""


def written(folder: Path) -> str:
    return Path(init(folder)).read_text()


def test_an_empty_folder_gets_a_job_that_parses(tmp_path):
    path = init(tmp_path)
    text = Path(path).read_text()
    assert path == str(tmp_path / "job.yaml")
    assert load(tmp_path).spec.run == "python train.py"
    assert "no Python script was found" in text


def test_the_likeliest_script_is_taken_and_the_others_are_named(tmp_path):
    for name in ("data.py", "test_train.py", "train.py", "conftest.py"):
        (tmp_path / name).write_text("")
    text = written(tmp_path)
    assert load(tmp_path).spec.run == "python train.py"
    assert "# also here: data.py" in text


def test_numbers_of_argparse_become_params_with_their_defaults(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    init(tmp_path)
    spec = load(tmp_path).spec
    assert spec.run == "python train.py --epochs {epochs} --learning-rate {learning_rate}"
    assert spec.params == {"epochs": 5, "learning_rate": 0.001}


def test_torch_brings_a_hint_about_gpus_and_saving_one_about_checkpoints(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    text = written(tmp_path)
    assert "train.py uses torch: uncomment to ask for a GPU" in text
    assert "train.py calls torch.save: only what is below $LAUNCHER_OUT comes home" in text
    assert "LAUNCHER_RESUME" in text
    assert load(tmp_path).spec.resources.gpu is None


def test_a_script_that_knows_the_contract_needs_no_such_hints(tmp_path):
    (tmp_path / "train.py").write_text(
        "import os\nos.environ['LAUNCHER_OUT']; LAUNCHER_RESUME; torch.save(1)\n"
    )
    text = written(tmp_path)
    assert "comes home" not in text
    assert "checkpoints: {every: 10m, keep: all}" in text


@pytest.mark.parametrize(
    ("files", "lock", "note"),
    [
        ({"requirements.lock": ""}, "requirements.lock", None),
        ({"requirements.txt": "numpy"}, "requirements.lock", "from requirements.txt"),
        ({"requirements.in": "numpy"}, "requirements.lock", "from requirements.in"),
        (
            {"pyproject.toml": "[project]\nname='x'\ndependencies=['numpy']"},
            "requirements.lock",
            "from pyproject",
        ),
        ({"pyproject.toml": "[tool.ruff]"}, None, None),
        ({"pyproject.toml": "[broken"}, None, None),
        ({"train.py": "# /// script\n# dependencies = ['numpy']\n# ///\n"}, "train.lock", "from train.py"),
    ],
)
def test_requirements_are_found(tmp_path, files, lock, note):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    text = written(tmp_path)
    assert load(tmp_path).spec.environment.requirements == lock
    assert ("`launcher lock` writes it" in text) == bool(note)
    assert note is None or note in text


def test_requires_python_becomes_the_python(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project]\nname='x'\nrequires-python='==3.12.*'\n")
    init(tmp_path)
    assert load(tmp_path).spec.environment.python == "3.12"


def test_large_folders_become_data_and_small_and_hidden_ones_do_not(tmp_path):
    for name in ("Flower Data", "small", ".cache", "runs", "venv"):
        (tmp_path / name / "deep").mkdir(parents=True)
        with open(tmp_path / name / "deep" / "file", "wb") as file:
            file.truncate(10 if name == "small" else LARGE_BYTES + 1)
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    (tmp_path / "linked").symlink_to(tmp_path / "Flower Data")
    init(tmp_path)
    assert load(tmp_path).spec.data == {"flower-data": "./Flower Data"}


def test_nothing_is_ever_written_over(tmp_path):
    (tmp_path / "job.yaml").write_text("mine")
    with pytest.raises(Refused, match="is there already"):
        init(tmp_path)
    assert (tmp_path / "job.yaml").read_text() == "mine"


def test_a_dangling_link_and_a_job_yml_count_as_there(tmp_path):
    (tmp_path / "job.yml").symlink_to("nowhere")
    with pytest.raises(Refused):
        init(tmp_path)


def test_a_folder_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(SpecError, match="not a folder"):
        init(tmp_path / "nothing")


@pytest.mark.parametrize("script", ["def (:\n", "x = '\\d'\n", "\x00", "(" * 10_000, "é" * 10])
def test_a_script_that_python_cannot_read_only_gives_fewer_hints(tmp_path, script):
    (tmp_path / "train.py").write_text(script)
    init(tmp_path)
    assert load(tmp_path).spec.run == "python train.py"


printable = st.text(min_size=1, max_size=12).filter(lambda s: s.isprintable() and s.strip() and "/" not in s)
options = st.from_regex("[A-Za-z_][A-Za-z0-9_-]{0,6}", fullmatch=True)
numbers = st.integers(-(10**14), 10**14) | st.floats(-1e14, 1e14)


@given(
    printable, st.lists(st.tuples(options, numbers), max_size=4), st.lists(printable, max_size=3), printable
)
def test_whatever_was_found_the_text_is_a_valid_job(script, params, large, other):
    found = Found(
        "x", f"{script}.py", (other,), tuple(params), large=tuple(large), torch=True, saves="torch.save"
    )
    spec = parse(render(found))
    assert set(spec.params.values()) <= {value for _, value in params}
    assert set(spec.data.values()) <= {f"./{name}" for name in large}
    assert spec.run.startswith("python ")
    parse(render(Found("x", classes=(other, script), folder=f"/{other}/{script}")))


def test_names_that_are_not_text_are_left_alone(tmp_path: Path):
    os.mkdir(os.fsencode(tmp_path) + b"/\xff")
    (tmp_path / "a\nb.py").write_text("")
    init(tmp_path)
    assert load(tmp_path).spec.run == "python train.py"


def test_a_folder_of_pictures_is_told_of_the_job_that_learns_from_them(tmp_path):
    folder = tmp_path / "my pictures"
    for name in ("cats/1.JPG", "dogs/2.png", "notes/readme.txt", ".hidden/3.png", "runs/4.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    text = written(folder)
    assert "pictures in 2 folders" in text
    assert f"#   launcher run jobs/finetune --data train='{folder}'\n" in text
    assert load(folder).spec.name == "my-pictures"


def test_one_folder_of_pictures_is_no_data_set_and_a_script_comes_first(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "1.png").write_bytes(b"x")
    assert "jobs/finetune" not in written(tmp_path)
    (tmp_path / "job.yaml").unlink()
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "2.png").write_bytes(b"x")
    (tmp_path / "train.py").write_text("")
    assert "jobs/finetune" not in written(tmp_path)
