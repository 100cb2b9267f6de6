"""The same environment has the same fingerprint, whoever installed it; another one has another."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.agent import fingerprint, gpus

RECORD = """tiny/__init__.py,sha256=abc,3
"tiny/a,b.py",sha256=def,4
tiny/__pycache__/a.cpython-312.pyc,sha256=pyc,9
../../../bin/tiny,sha256=script,200
tiny-1.0.dist-info/METADATA,sha256=meta,30
tiny-1.0.dist-info/INSTALLER,sha256=pip,4
tiny-1.0.dist-info/REQUESTED,sha256=e3b,0
tiny-1.0.dist-info/direct_url.json,sha256=url,9
tiny-1.0.dist-info/uv_cache.json,sha256=uv,9
tiny-1.0.dist-info/RECORD,,
"""


def install(site: Path, name: str, version: str, record: str = "x.py,sha256=a,1\n") -> Path:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: 9\n")
    (info / "RECORD").write_text(record)
    return info


def test_a_record_is_compared_without_what_installers_add(tmp_path: Path) -> None:
    by_pip = install(tmp_path / "pip", "tiny", "1.0", RECORD)
    lines = [line for line in RECORD.splitlines() if line.split("sha256=")[-1][:3] in ("abc", "def", "met")]
    by_uv = install(tmp_path / "uv", "tiny", "1.0", "\r\n".join(reversed(lines)) + "\r\n")
    digest = fingerprint.record_digest(str(by_pip / "RECORD"))
    assert digest == fingerprint.record_digest(str(by_uv / "RECORD"))
    (by_uv / "RECORD").write_text(RECORD.replace("def", "deg"))
    assert digest != fingerprint.record_digest(str(by_uv / "RECORD"))


def test_names_are_normalised_and_pip_is_left_out(tmp_path: Path) -> None:
    install(tmp_path, "Tiny_Pkg.x", "1.0")
    install(tmp_path, "pip", "25.0")
    assert list(fingerprint.packages([str(tmp_path)])) == ["tiny-pkg-x==1.0"]


def test_an_earlier_folder_hides_a_later_one(tmp_path: Path) -> None:
    install(tmp_path / "a", "tiny", "2.0")
    install(tmp_path / "b", "tiny", "1.0")
    assert list(fingerprint.packages([str(tmp_path / "a"), str(tmp_path / "b")])) == ["tiny==2.0"]


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n", "13.0"),
        ("cuda = '12.6'\n", "12.6"),
        ("cuda: Optional[str] = None\nhip = '6.2'\n", None),
        ("__version__ = '2.0'\n", None),
    ],
)
def test_the_cuda_of_torch_is_read_from_its_text(tmp_path: Path, text: str, cuda: str | None) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "version.py").write_text(text)
    assert fingerprint.torch_cuda(["/nowhere", str(tmp_path)]) == cuda


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    install(next(path.glob("lib/python*/site-packages")), "tiny", "1.0", RECORD)
    return path


def test_the_fingerprint_is_of_the_jobs_interpreter_not_of_ours(venv: Path) -> None:
    order = {"lock_sha256": "f" * 64, "form": "plain", "image": None}
    taken = fingerprint.take(order, str(venv / "bin"))
    assert set(taken["portable"]) == {
        *("implementation", "python", "machine", "torch_cuda", "lock_sha256", "packages"),
    }
    assert list(taken["portable"]["packages"]) == ["tiny==1.0"]
    assert taken["shown"]["prefix"] == str(venv)
    assert fingerprint.headline(taken).endswith(" · 1 package")
    assert taken["portable_sha256"] == fingerprint.take(order, str(venv / "bin"))["portable_sha256"]


def test_an_interpreter_looks_the_same_from_inside_and_from_outside(venv: Path) -> None:
    code = "import json; from launcher.agent import fingerprint; print(json.dumps(fingerprint.take({}, %r)))"
    root = Path(__file__).parents[2]
    inside = subprocess.run(
        [venv / "bin" / "python", "-c", code % str(venv / "bin")], cwd=root, check=True, capture_output=True
    )
    assert json.loads(inside.stdout)["portable"] == fingerprint.take({}, str(venv / "bin"))["portable"]


def test_an_interpreter_that_does_not_start_is_said(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(fingerprint.NoInterpreter):
        fingerprint.take({}, str(tmp_path))


def differences(locked: dict[str, str] | None, *installed: str, **more: Any) -> list[str]:
    found = {"portable": {"packages": dict.fromkeys(installed, ""), "python": "3.12.7"}}
    return list(fingerprint.differences({"locked": locked, **more}, found))


def test_versions_that_mean_the_same_are_the_same() -> None:
    locked = {"certifi": "2023.7.22", "a": "1.0", "torch": "2.14.1+cu130", "b": "1.0.0rc1"}
    assert differences(locked, "certifi==2023.07.22", "a==1.0.0", "torch==2.14.1+cu130", "b==1.0rc1") == []


def test_exactly_the_locked_packages_are_installed() -> None:
    assert differences(None, "anything==1.0") == []
    assert differences({}, "a==1.0") == ["a 1.0 is installed but not locked"]
    assert differences({"a": "1.0"}) == ["a 1.0 is locked but not installed"]
    assert differences({"torch": "2.14.1"}, "torch==2.14.1+cpu") == ["torch is 2.14.1+cpu, locked is 2.14.1"]
    assert differences({"a": "1.10"}, "a==1.1") == ["a is 1.1, locked is 1.10"]


def test_another_patch_version_of_python_will_do_and_another_minor_one_will_not() -> None:
    assert differences({}, python="3.12.1") == []
    assert differences({}, python="3.12") == []
    assert differences({}, python="3.13") == ["python is 3.12.7, locked is 3.13"]
    assert differences(None, python="3.13") == []


def test_a_record_of_twelve_thousand_lines_has_one_digest(tmp_path: Path) -> None:
    record = "".join(
        f"torch/include/some/where/deep/header_{n}.h,sha256={n:043d},{n}\n" for n in range(12_000)
    )
    install(tmp_path, "torch", "2.14.1", record)
    found = fingerprint.packages([str(tmp_path)])
    assert list(found) == ["torch==2.14.1"]
    assert found == fingerprint.packages([str(tmp_path)])


def found(driver_cuda: str | None, *caps: str) -> dict[str, Any]:
    cards = [{"name": "Card", "memory_mb": 1, "driver": "1", "compute_cap": cap} for cap in caps]
    return {"gpus": cards, "driver_cuda": driver_cuda}


@pytest.mark.parametrize(
    ("cuda", "there", "said"),
    [
        ("13.0", found("13.0", "9.0"), ""),
        ("12.8", found("13.0", "7.5"), ""),
        ("12.8", found("12.4", "7.5"), ""),  # within a major version any driver will do
        ("13.0", found("12.8", "9.0"), "the driver reaches 12.8; `torch: cu128` would work"),
        ("13.0", found("12.4", "9.0"), "`torch: cu126` would work"),
        ("12.8", found("12.9", "6.0"), "no code for a Card (sm_60); `torch: cu126` would work"),
        ("13.0", found("13.0", "7.0"), "no code for a Card (sm_70); `torch: cu128` would work"),
        (None, found("13.0", "7.5"), "without CUDA; `torch: cu130` would work"),
        ("13.0", found("13.0"), "nvidia-smi shows none"),
    ],
)
def test_a_torch_that_would_not_see_the_gpu_is_told_what_would(
    cuda: str | None, there: dict[str, Any], said: str
) -> None:
    why = gpus.why_blind({"torch_cuda": cuda, "packages": {"torch==2.14.1": ""}}, there)
    assert why.endswith(said)
    assert bool(why) == bool(said)


def test_where_nothing_can_be_told_nothing_is_refused() -> None:
    assert gpus.why_blind({"torch_cuda": None, "packages": {}}, found("12.0", "5.0")) == ""
    assert gpus.why_blind({"torch_cuda": None, "packages": {"torch==2.14.1": ""}}, None) == ""
