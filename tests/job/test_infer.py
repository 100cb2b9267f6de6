"""A Python script as a job."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import SpecError
from launcher.job.command import render
from launcher.job.infer import crowded, slug
from launcher.job.parse import load, parse
from launcher.job.spec import Files, JobSpec

HEADER = '# /// script\n# requires-python = "==3.12.*"\n# dependencies = ["numpy"]\n# ///\n'


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "Train_flowers.py"
    path.write_text("print('hello')\n")
    return path


def test_a_bare_script_needs_the_standard_library_only(script):
    job = load(script)
    assert job.spec == JobSpec("train-flowers", "python Train_flowers.py")
    assert (job.root, job.source, job.inferred) == (script.parent.resolve(), None, True)
    assert job.requirements_source.kind == "none"


def test_a_header_brings_its_packages_its_python_and_a_lock_of_its_own(script):
    script.write_text(HEADER)
    (script.parent / "requirements.txt").write_text("other\n")
    job = load(script)
    assert job.spec.environment.python == "3.12"
    assert job.spec.environment.requirements == "Train_flowers.lock"
    source = job.requirements_source
    assert (source.kind, source.path) == ("header", script.resolve())
    assert (source.dependencies, source.requires_python) == (("numpy",), "==3.12.*")


def test_a_header_without_packages_asks_for_no_lock(script):
    script.write_text("# /// script\n# dependencies = []\n# ///\n")
    job = load(script)
    assert job.spec.environment.requirements is None
    assert job.requirements_source.kind == "header"


@pytest.mark.parametrize(
    ("files", "kind", "source"),
    [
        (["requirements.lock", "requirements.txt", "pyproject.toml"], "lock", "requirements.lock"),
        (["requirements.txt", "pyproject.toml"], "requirements", "requirements.txt"),
        (["pyproject.toml"], "pyproject", "pyproject.toml"),
    ],
)
def test_files_beside_the_script_are_taken_in_order(script, files, kind, source):
    for name in files:
        project = '[project]\nname = "x"\nrequires-python = "==3.11.9"\ndependencies = ["numpy"]\n'
        (script.parent / name).write_text(project if name.endswith("toml") else "numpy\n")
    job = load(script)
    assert (job.requirements_source.kind, job.requirements_source.path) == (
        kind,
        script.parent.resolve() / source,
    )
    assert job.spec.environment.requirements == "requirements.lock"
    assert job.spec.environment.python == ("3.11.9" if "pyproject.toml" in files else None)


def test_a_pyproject_of_tools_only_says_nothing_about_packages(script):
    (script.parent / "pyproject.toml").write_text("[tool.ruff]\nline-length = 100\n")
    assert load(script).requirements_source.kind == "none"


def test_a_damaged_pyproject_is_named(script):
    (script.parent / "pyproject.toml").write_text("[project\n")
    with pytest.raises(SpecError, match=r"pyproject\.toml is not valid TOML"):
        load(script)


@pytest.mark.parametrize("name", ["my train.py", "a{epochs}b.py", "it's.py", "$(x).py", "é.py"])
def test_the_command_runs_the_script_whatever_it_is_called(tmp_path, name):
    (tmp_path / name).write_text("import sys; print('ran', sys.argv[1:])\n")
    command = render(load(tmp_path / name).spec.run, {}, ("a b",))
    assert isinstance(command, str)
    command = command.replace("python ", f"{sys.executable} ", 1)
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "ran ['a b']\n"


def test_the_folder_travels_unless_it_holds_far_more_than_a_job(script, tmp_path):
    assert load(script).spec.files == Files()
    assert not crowded(tmp_path / "work", home=tmp_path)
    assert crowded(tmp_path.resolve(), home=tmp_path)
    assert crowded(tmp_path.parent.resolve(), home=tmp_path)
    assert crowded(Path("/"), home=tmp_path)


def test_from_the_home_directory_only_the_script_travels(script, tmp_path):
    code = f"from launcher.job.parse import load; print(load({str(script)!r}).spec.files.include)"
    env = {"HOME": str(tmp_path), "PYTHONPATH": ":".join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "('/Train_flowers.py',)\n"


def test_what_is_not_text_is_refused(script):
    script.write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match="is not UTF-8"):
        load(script)


def test_a_linked_script_belongs_to_the_folder_of_the_link(script, tmp_path):
    (tmp_path / "here").mkdir()
    link = tmp_path / "here" / "go.py"
    link.symlink_to(script)
    assert load(link).root == link.parent.resolve()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Train_Flowers v2", "train-flowers-v2"),
        ("last", "last-job"),
        ("__", "job"),
        ("é-tude", "e-tude"),
        ("日本", "job"),
    ],
)
def test_names_are_made_from_any_text(text, name):
    assert slug(text) == name


@given(st.text())
def test_a_slug_is_always_a_valid_name(text):
    assert parse(f'name: "{slug(text)}"\nrun: x\n').name == slug(text)
