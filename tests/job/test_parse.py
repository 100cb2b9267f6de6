"""job.yaml -> spec: defaults, every kind of mistake, and where a job may lie."""

from __future__ import annotations

import dataclasses
import json
import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from launcher.errors import SpecError
from launcher.job.gpu import Gpu
from launcher.job.parse import load, parse
from launcher.job.spec import Environment, JobSpec, Limits, Retry
from tests.job.mistakes import MISTAKES

SMALL = "name: flowers\nrun: python train.py\n"
EXAMPLE = Path(__file__).parents[2] / "launcher" / "job.example.yaml"


def refused(text: str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse(text)
    return caught.value


def test_a_name_and_a_command_are_enough_and_the_rest_has_defaults():
    spec = parse(SMALL)
    assert spec == JobSpec(name="flowers", run="python train.py")
    assert spec.limits == Limits(time_s=21600, cost=None, idle_s=900, stall_s=None)
    assert spec.retry == Retry(max=3, on=("preempted", "lost", "time"))
    assert spec.targets == ("local",)
    assert spec.environment == Environment(python=None, base="ubuntu:22.04", torch="auto")
    assert (spec.resources.gpu, spec.resources.gpus) == (None, 0)


def test_the_example_says_what_it_shows():
    spec = load(EXAMPLE).spec
    assert spec.params == {"epochs": 5, "lr": 0.001}
    assert spec.resources.gpu == Gpu(memory_bytes=16 * 10**9)
    assert spec.resources.gpus == 1
    assert spec.limits.cost == Decimal("5.00")
    assert spec.limits.stall_s == 1800
    assert spec.targets == ("kaggle", "colab", "verda")
    assert spec.env == {"TOKENIZERS_PARALLELISM": "false"}


def test_a_key_without_a_value_means_its_default():
    empty = "params:\nfiles:\nenv:\nresources: {gpu: , memory: ~}\nlimits:\n  cost:\ntargets:\nstore:\n"
    assert parse(SMALL + empty) == parse(SMALL)


def test_an_image_or_a_dockerfile_replaces_the_base():
    image = "me/train@sha256:" + "0" * 64
    assert parse(SMALL + f"environment: {{image: {image}}}").environment == Environment(
        base=None, image=image
    )
    assert parse(SMALL + "environment: {dockerfile: a/Dockerfile}").environment.base is None


def test_values_of_env_stay_as_they_are_written():
    spec = parse(SMALL + "env: {A: NO, B: 010, C: 1:30, D: false, E: 3.10, F: '', G: 1_000, H: on}")
    assert spec.env == dict(A="NO", B="010", C="1:30", D="false", E="3.10", F="", G="1_000", H="on")  # noqa: C408


def test_python_3_10_is_not_3_1():
    assert parse(SMALL + "environment: {python: 3.10}").environment.python == "3.10"
    assert parse(SMALL + 'environment: {python: "3.12.7"}').environment.python == "3.12.7"


def test_a_list_is_argv_with_its_items_as_they_are_written():
    spec = parse("name: a\nrun: [python, train.py, --epochs, 5, -x, 1e-3, --flag, true]\n")
    assert spec.run == ("python", "train.py", "--epochs", "5", "-x", "1e-3", "--flag", "true")


def test_a_command_may_have_several_lines():
    assert parse("name: a\nrun: |\n  set -e\n  python a.py\n").run == "set -e\npython a.py"


@pytest.mark.parametrize(
    ("gpu", "wanted"),
    [("T4", Gpu(models=("T4",))), ("[T4, L4]", Gpu(models=("T4", "L4"))),
     ("16GB+", Gpu(memory_bytes=16 * 10**9)), ("none", None),
     ("null", None), ("16GiB", Gpu(memory_bytes=2**34))],
)  # fmt: skip
def test_the_forms_of_gpu(gpu, wanted):
    assert parse(SMALL + f"resources: {{gpu: {gpu}}}").resources.gpu == wanted


def test_every_form_of_target_store_and_data():
    hexes = "A" * 64
    spec = parse(
        SMALL
        + "targets: [local, 'ssh://me@host.example:2222', 'ssh://[::1]:22', verda, kaggle, colab, my-box]\n"
        + f"store: s3://bucket/\ndata: {{a: ../x y, b: s3://bucket/p/, c: 'https://h/x#sha256={hexes}',"
        + f" d: 'http://127.0.0.1:8000/x#sha256={hexes}', e: /abs, f.bin: ~/w}}"
    )
    assert spec.targets[1] == "ssh://me@host.example:2222"
    assert spec.store == "s3://bucket"
    assert spec.data["c"] == "https://h/x#sha256=" + "a" * 64
    assert spec.data["b"] == "s3://bucket/p"


def test_stall_can_be_switched_off_and_the_order_of_retry_on_is_free():
    spec = parse(
        SMALL + "limits: {stall: off}\nretry: {on: [time], max: 0}\ncheckpoints: {keep: 3, every: 90s}"
    )
    assert (spec.limits.stall_s, spec.retry.on, spec.retry.max) == (None, ("time",), 0)
    assert (spec.checkpoints.keep, spec.checkpoints.every_s) == (3, 90)


@pytest.mark.parametrize(("text", "said", "hint"), MISTAKES)
def test_a_mistake_is_one_line_with_its_place_and_a_hint(text, said, hint):
    error = refused(text)
    assert said in error.message
    assert hint in error.hint
    assert error.hint
    assert error.message.startswith("job.yaml:")
    assert error.message.isprintable()
    assert error.exit_code == 2


def test_the_line_is_that_of_the_key_that_is_wrong():
    text = "name: a\nrun: x\nlimits:\n  time: 6h\n  tine: 7h\n"
    assert refused(text).message == "job.yaml:5: unknown key 'tine' in limits; did you mean 'time'?"


def test_names_of_other_tools_are_answered_with_ours():
    answers = {
        "envs": "env", "accelerators": "resources.gpu", "file_mounts": "data", "num_nodes": "resources.nodes",
        "commands": "run", "setup": "environment", "workdir": "files", "image_id": "environment.image",
        "max_price": "limits.cost", "autostop": "limits.idle", "use_spot": "resources.spot",
    }  # fmt: skip
    for theirs, ours in answers.items():
        error = refused(SMALL + f"{theirs}: x\n")
        assert error.message == f"job.yaml:3: unknown key {theirs!r}; here it is {ours!r}"
        assert error.hint


def test_a_key_of_another_section_is_sent_there():
    assert "it belongs under 'limits'" in refused(SMALL + "time: 6h\n").message
    assert "it belongs under 'the top level'" in refused(SMALL + "limits: {secrets: [A]}\n").message


KEYS = (
    "name run params files environment resources limits retry targets store data env secrets gpu cost on time"
)
SIGNS = ": - [ ] { } , & * ! | > ' \" # % @ ` ? << ~ {a} ${ }} {{ \\"
SCALARS = "null true 5 1e3 010 0o7 1:2 6h 16GB+ s3:// b https:// ssh:// sha256 é python image include"
WORDS = st.sampled_from(
    [*f"{KEYS} {SIGNS} {SCALARS}".split(), "\n", "\n  ", "\t", "\x00", "\ud800", "\u2028"]
)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(), st.lists(WORDS, max_size=30).map(" ".join), st.lists(WORDS, max_size=30).map("".join)
    )
)
@example("name: a\nrun: '{a'\n")
@example("- 1")
@example("name: &a x\n? [b]: c")
def test_arbitrary_text_gives_a_spec_or_a_spec_error(text):
    _only_spec_errors(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(WORDS, VALUES, max_size=5))
def test_arbitrary_values_give_a_spec_or_a_spec_error(values):
    _only_spec_errors(json.dumps({"name": "a", "run": "b", **values}))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_give_a_spec_or_a_spec_error(data):
    _only_spec_errors(data)


def _only_spec_errors(text: str | bytes) -> None:
    try:
        spec = parse(text)
    except SpecError as e:
        problem: SpecError | None = e
    else:
        problem = None
        assert JobSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    if problem:
        assert problem.message.startswith("job.yaml:")
        assert problem.message.isprintable()
        assert len(problem.message) < 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.yaml").write_text(SMALL)
    return tmp_path


def test_a_folder_or_its_job_yaml_is_a_job(folder):
    by_folder, by_file = load(folder), load(folder / "job.yaml")
    assert by_folder == by_file
    assert by_folder.root == folder.resolve()
    assert by_folder.source == folder.resolve() / "job.yaml"
    assert not by_folder.inferred
    assert by_folder.requirements_source.kind == "none"


def test_the_lock_that_job_yaml_names_is_the_source_of_requirements(folder):
    (folder / "job.yaml").write_text(SMALL + "environment: {requirements: requirements.lock}\n")
    source = load(folder).requirements_source
    assert (source.kind, source.path) == ("lock", folder.resolve() / "requirements.lock")


def test_a_job_yaml_of_another_name_is_named_in_messages(folder):
    other = folder / "other.yaml"
    other.write_text("name: a\n")
    with pytest.raises(SpecError, match=r"other\.yaml:1: 'run' is missing"):
        load(other)


def test_a_linked_job_yaml_belongs_to_the_folder_of_the_link(tmp_path, folder):
    here = tmp_path / "here"
    here.mkdir()
    (here / "job.yaml").symlink_to(folder / "job.yaml")
    assert load(here / "job.yaml").root == here.resolve()


def test_a_folder_without_job_yaml_is_sent_to_init(tmp_path):
    with pytest.raises(SpecError, match=r"no job\.yaml in") as caught:
        load(tmp_path)
    assert "launcher init" in caught.value.hint
    (tmp_path / "train.py").write_text("")
    with pytest.raises(SpecError) as caught:
        load(tmp_path)
    assert f"launcher run {tmp_path / 'train.py'}" in caught.value.hint


def test_job_yml_is_answered_with_the_right_name(tmp_path):
    (tmp_path / "job.yml").write_text(SMALL)
    with pytest.raises(SpecError) as caught:
        load(tmp_path)
    assert caught.value.hint == "rename it to job.yaml"


def test_what_is_not_there_or_no_file_is_said_so(tmp_path):
    with pytest.raises(SpecError, match="no such file or folder"):
        load(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpecError, match="not a regular file"):
        load(tmp_path / "pipe.yaml")


def test_every_field_of_the_spec_can_be_set_in_yaml():
    spec = load(EXAMPLE).spec
    default = JobSpec("x", "y")
    same = {f.name for f in dataclasses.fields(spec) if getattr(spec, f.name) == getattr(default, f.name)}
    assert same == {"checkpoints", "retry"}  # the example shows its defaults
