"""The notebook as a file: valid, the same each time, readable, and without anything secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from launcher.job.gpu import Gpu
from launcher.job.spec import Resources
from launcher.notebook.ipynb import EMBED_BYTES, Options, embedded, notebook
from launcher.notebook.payload import Payload, Platform, write
from tests.notebook.runs import Wish, submission

SECRET = "a-value-of-some-length"
KAGGLE = Platform("kaggle", "/kaggle/tmp/launcher", "/kaggle/working", 43200.0, "kaggle")
COLAB = Platform("colab", "/content/launcher", "/content/launcher/runs", 43200.0, "colab")


def made(folder: Path, platform: Platform = KAGGLE, **wishes: Any) -> Payload:
    return write(submission(folder, Wish(run_id="count-aaaaaaaa", **wishes)), folder / "payload", platform)


def cells(text: str) -> dict[str, str]:
    """id -> source; the notebook is valid."""
    nbformat.validate(json.loads(text), version=4, version_minor=5, relax_add_props=False)
    return {cell["id"]: "".join(cell["source"]) for cell in json.loads(text)["cells"]}


@pytest.mark.parametrize("platform", [KAGGLE, COLAB], ids=lambda platform: platform.name)
@pytest.mark.parametrize("embed", [True, False])
def test_a_notebook_is_valid_and_every_cell_is_python(
    tmp_path: Path, platform: Platform, embed: bool
) -> None:
    payload = made(tmp_path, platform, secrets=("HF_TOKEN",), values={"HF_TOKEN": SECRET})
    text = notebook(payload, Options("count", "Counts to five.", embed=embed, packed="count.bin"))
    found = cells(text)
    assert found["title"].startswith("# count\n")
    for name, source in found.items():
        if name != "title":
            compile(source, name, "exec")
    assert SECRET not in text
    value = json.loads(text)
    assert all(not cell["outputs"] for cell in value["cells"] if cell["cell_type"] == "code")


def test_the_same_payload_gives_the_same_notebook(tmp_path: Path) -> None:
    payload = made(tmp_path)
    assert notebook(payload, Options("count")) == notebook(payload, Options("count"))


def test_each_step_has_a_cell_and_a_step_that_is_not_needed_has_none(tmp_path: Path) -> None:
    steps = ["title", "settings", "files", "load", "build", "run"]
    assert list(cells(notebook(made(tmp_path), Options("count")))) == steps
    with_secrets = made(tmp_path / "b", COLAB, secrets=("HF_TOKEN",))
    wanted = ["title", "settings", "files", "load", "build", "secrets", "run", "download"]
    assert list(cells(notebook(with_secrets, Options("count")))) == wanted
    assert list(cells(notebook(made(tmp_path / "c"), Options("count", readable=False))))[-1] == "run"


def test_the_reader_learns_what_to_click_and_how_the_results_come_home(tmp_path: Path) -> None:
    gpu = Resources(gpu=Gpu(models=("T4",)))
    title = cells(notebook(made(tmp_path, resources=gpu, secrets=("HF_TOKEN",)), Options("count")))["title"]
    for words in ("Settings > Accelerator", "Save & Run All", "Add-ons > Secrets", "`HF_TOKEN`"):
        assert words in title
    assert "launcher pull count-aaaaaaaa --from-folder" in title
    assert "/kaggle/working/count-aaaaaaaa/0" in title
    on_colab = notebook(made(tmp_path / "b", COLAB, resources=gpu), Options("count", accelerator="T4"))
    assert "Change runtime type" in cells(on_colab)["title"]
    assert json.loads(on_colab)["metadata"]["accelerator"] == "GPU"
    assert json.loads(on_colab)["metadata"]["colab"]["gpuType"] == "T4"


def test_a_large_payload_is_not_embedded(tmp_path: Path) -> None:
    large = made(tmp_path, files={"large.txt": "x" * EMBED_BYTES})
    assert not embedded(large)
    text = notebook(large, Options("count"))
    assert len(text) < 10_000
    assert "Add Input" in cells(text)["title"]
    assert embedded(made(tmp_path / "b"))


def test_embedded_text_comes_in_short_lines_and_is_folded_away(tmp_path: Path) -> None:
    text = notebook(made(tmp_path), Options("count"))
    assert max(map(len, cells(text)["files"].splitlines())) <= 100
    files = next(cell for cell in json.loads(text)["cells"] if cell["id"] == "files")
    assert files["metadata"]["jupyter"] == {"source_hidden": True}
