"""Notebooks made to be opened by hand: in JupyterLab without a warning, on both platforms to the end, and home."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.plain import PlainClient, Runtime
from tests.emulators.kaggle.emulator import Kaggle
from tests.emulators.kaggle.plain import Plain
from tests.free_tiers import jupyterlab
from tests.free_tiers.browser import browser, page
from tests.free_tiers.jupyterlab import Lab
from tests.free_tiers.traps import TRAIN
from tests.laptop import Laptop
from tests.servers import interpreter
from tests.servers.interpreter import Served

PLATFORMS = ("kaggle", "colab")
EXECUTE = """
import subprocess, sys
code = '''
import nbformat
from nbclient import NotebookClient
notebook = nbformat.read("/content/made.ipynb", as_version=4)
NotebookClient(notebook, timeout=250, kernel_name="python3", resources={"metadata": {"path": "/content"}}).execute()
nbformat.write(notebook, "/content/done.ipynb")
'''
done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
print(done.returncode, done.stderr[-3000:])
"""


@dataclass(frozen=True)
class Made:
    """One job as a run here and as a notebook for each platform; `runs` and `files` go by platform."""

    laptop: Laptop
    home: Path  # of the run here
    runs: dict[str, str]
    files: dict[str, Path]

    def notebook(self, platform: str) -> nbformat.NotebookNode:
        return nbformat.read(self.files[platform], as_version=nbformat.NO_CONVERT)


@pytest.fixture(scope="module")
def made(served_python: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    variables = {"UV_PYTHON_DOWNLOADS_JSON_URL": str(served_python.table)}
    laptop = Laptop(tmp_path_factory.mktemp("notebooks") / "laptop", variables)
    try:
        laptop.ok("target", "add", "here", "local", "--docker", "never")
        environment = {"python": interpreter.MINOR, "requirements": "requirements.lock"}
        job = laptop.job("by-hand", TRAIN, environment=environment)
        (job / "requirements.in").write_text("six\nclick\n")
        laptop.ok("lock", str(job))
        laptop.ok("run", str(job), "--on", "here")
        home = laptop.work / "runs" / laptop.status()["id"]
        runs, files = {}, {}
        for platform in PLATFORMS:
            files[platform] = laptop.work / f"{platform}.ipynb"
            laptop.ok("notebook", str(job), "--for", platform, "-o", str(files[platform]), "-y")
            runs[platform] = laptop.status()["id"]
        yield Made(laptop, home, runs, files)
    finally:
        laptop.launcher("release", "--all", "--force")
        laptop.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with jupyterlab.running() as started:
        yield started


@pytest.fixture(scope="module")
def devtools() -> Iterator[str]:
    with browser() as address:
        yield address


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_notebook_is_valid_and_names_its_run(made: Made, platform: str) -> None:
    notebook = made.notebook(platform)

    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert made.runs[platform] in made.files[platform].read_text()
    assert all(not cell.outputs for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_notebook_opens_in_jupyterlab_without_a_warning(
    made: Made, lab: Lab, devtools: str, platform: str
) -> None:
    notebook = made.notebook(platform)
    (lab.folder / f"{platform}.ipynb").write_bytes(made.files[platform].read_bytes())
    before = len(lab.complaints())

    with page(devtools) as tab:
        shown = lab.open(tab, f"{platform}.ipynb", len(notebook.cells))

        assert tab.complaints == []
    assert (shown.asked, shown.noted, shown.broken) == ([], [], [])
    assert lab.complaints()[before:] == []
    assert len(shown.cells) == len(notebook.cells)
    assert "by-hand" in shown.titles[0]


def test_a_notebook_with_a_mistake_would_be_seen(made: Made, lab: Lab, devtools: str) -> None:
    whole = json.loads(made.files["kaggle"].read_text())
    whole["cells"][-1]["surplus"] = 1
    (lab.folder / "mistake.ipynb").write_text(json.dumps(whole))
    before = len(lab.complaints())

    with page(devtools) as tab:
        lab.open(tab, "mistake.ipynb", len(whole["cells"]))

        tab.ask("console.warn('of the page')")
        assert "warning: of the page" in tab.complaints
    assert any("surplus" in line for line in lab.complaints()[before:])


def test_on_kaggle_it_runs_to_the_end_and_comes_home(made: Made, kaggle: Kaggle) -> None:
    Plain(kaggle).save("opened-by-hand", made.files["kaggle"].read_text(), kernelType="notebook")
    session = kaggle.sessions[-1]
    kaggle.wait("COMPLETE", session, timeout_s=200)
    assert session.outputs

    came_home(made, "kaggle", session.outputs)


def test_on_colab_it_runs_to_the_end_and_comes_home(made: Made, colab: Colab) -> None:
    client = PlainClient.of(colab)
    runtime = client.runtime()
    try:
        put(runtime, "content/made.ipynb", made.files["colab"].read_bytes())
        said = runtime.execute(EXECUTE).printed()
        assert said.startswith("0 "), said

        came_home(made, "colab", colab.disk(runtime.endpoint) / "content")
    finally:
        client.unassign(runtime.endpoint)


def came_home(made: Made, platform: str, downloaded: Path) -> None:
    """`pull --from-folder` takes what was downloaded, twice; the weights are those of the run here."""
    run = made.runs[platform]
    for _ in range(2):
        made.laptop.ok("pull", run, "--from-folder", str(downloaded))
    home = made.laptop.work / "runs" / run
    assert (home / "final.bin").read_bytes() == (made.home / "final.bin").read_bytes()
    assert made.laptop.status(run)["state"] == "succeeded"
    found = made.laptop.launcher("--json", "diff", made.home.name, run)
    assert found.code == 0, found.out


def put(runtime: Runtime, path: str, data: bytes) -> None:
    for number, text in ((1, data[: len(data) // 2]), (-1, data[len(data) // 2 :])):
        assert runtime.put_chunk(path, number, text) in (200, 201)
