"""A job sees the variables of its contract and no others."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

from launcher.agent import environment
from tests.agent.segment import SegmentFolder

ALWAYS = {
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "PYTHONUNBUFFERED"),
    *("LAUNCHER_OUT", "LAUNCHER_DATA", "LAUNCHER_PARAMS", "LAUNCHER_CHECKPOINT_EVERY", "LAUNCHER_RUN"),
    *("LAUNCHER_SEGMENT", "LAUNCHER_NODES", "LAUNCHER_NODE_RANK", "LAUNCHER_GPUS"),
    *("LAUNCHER_MASTER_ADDR", "LAUNCHER_MASTER_PORT"),
}


def seen(segment: SegmentFolder) -> dict[str, str]:
    lines = segment.said("stdout").split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def test_a_job_sees_the_variables_of_its_contract_and_no_others(segment: SegmentFolder) -> None:
    order = {"env": {"TOKENIZERS_PARALLELISM": "false"}, "params": {"lr": 0.001, "name": "ü"}, "time_s": None}
    segment.run(["env", "-0"], **order, environment={"PYTHONPATH": "/nowhere", "SECRET_OF_THE_USER": "x"})
    variables = seen(segment)
    assert set(variables) == ALWAYS | {"TOKENIZERS_PARALLELISM"}
    assert json.loads(variables["LAUNCHER_PARAMS"]) == order["params"]
    assert variables["HOME"] == str(segment.path / "home")
    assert variables["LANG"] == "C.UTF-8"
    assert variables["USER"] == variables["LOGNAME"] == pwd.getpwuid(os.getuid()).pw_name
    assert variables["LAUNCHER_CHECKPOINT_EVERY"] == "600"
    for name in ("HOME", "LAUNCHER_OUT", "LAUNCHER_DATA"):
        assert Path(variables[name]).is_dir()
        assert list(Path(variables[name]).iterdir()) == []


def test_every_optional_variable_comes_with_its_cause(segment: SegmentFolder, tmp_path: Path) -> None:
    (segment.path / "resume").mkdir()
    (segment.path / "resume" / "a.pt").write_bytes(b"")
    gpu = {name: f"value of {name}" for name in environment.GPU_VARIABLES if name != "LD_LIBRARY_PATH"}
    segment.run(
        ["env", "-0"],
        values={"HF_TOKEN": "a-value-of-some-length"},
        environment={**gpu, "LD_LIBRARY_PATH": "/usr/lib64-nvidia"},
        resume="resume/a.pt",
        data_dir=str(tmp_path),
        bin="/opt/env/bin",
        time_s=1000.0,
    )
    variables = seen(segment)
    more = {"HF_TOKEN", "LAUNCHER_SECRETS", "LAUNCHER_RESUME", "LAUNCHER_DEADLINE"}
    assert set(variables) == ALWAYS | set(environment.GPU_VARIABLES) | more
    assert variables["LAUNCHER_RESUME"] == str(segment.path / "resume" / "a.pt")
    assert variables["LAUNCHER_DATA"] == str(tmp_path)
    assert variables["PATH"] == "/opt/env/bin:" + os.environ["PATH"]
    assert variables["LAUNCHER_DEADLINE"].isdigit()


def test_a_job_cannot_take_our_names_and_keeps_its_locked_python_first(segment: SegmentFolder) -> None:
    segment.run(
        ["/usr/bin/env", "-0"], env={"LAUNCHER_OUT": "/elsewhere", "PATH": "/mine"}, bin="/opt/env/bin"
    )
    variables = seen(segment)
    assert variables["LAUNCHER_OUT"] == str(segment.path / "out")
    assert variables["PATH"] == "/opt/env/bin:/mine"


def test_whole_seconds_are_written_whole() -> None:
    assert [environment.number(value) for value in (600.0, 600, 0.5)] == ["600", "600", "0.5"]
