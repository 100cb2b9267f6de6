"""Recorded specs: to plain JSON and back."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent import records
from launcher.errors import IntegrityError
from launcher.job.gpu import Gpu
from launcher.job.parse import load, parse
from launcher.job.spec import Environment, JobSpec, Limits, Resources
from tests.job.test_parse import EXAMPLE

SPEC = JobSpec("a", "b")


def again(spec: JobSpec) -> JobSpec:
    return JobSpec.from_json(json.loads(json.dumps(spec.to_json())))


def test_a_recorded_spec_has_every_key_with_units_in_the_names():
    plain = load(EXAMPLE).spec.to_json()
    assert set(plain) == {f.name for f in dataclasses.fields(JobSpec)}
    assert plain["limits"] == {"time_s": 21600.0, "cost": "5.00", "idle_s": 900.0, "stall_s": 1800.0}
    assert plain["resources"]["gpu"] == {"models": [], "memory_bytes": 16 * 10**9}
    assert plain["targets"] == ["kaggle", "colab", "verda"]


def test_a_spec_comes_back_from_its_record():
    spec = load(EXAMPLE).spec
    assert again(spec) == spec
    assert again(SPEC) == SPEC


names = st.from_regex("[a-z]{1,6}", fullmatch=True)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)


@given(
    run=st.text(min_size=1) | st.lists(st.text(), min_size=1).map(tuple),
    params=st.dictionaries(names, scalars),
    cost=st.none() | st.decimals(0, 1000, places=2),
    models=st.lists(names, min_size=1).map(tuple),
    env=st.dictionaries(names, st.text()),
)
def test_any_spec_comes_back_with_the_types_it_had(run, params, cost, models, env):
    spec = JobSpec(
        "a", run, params, env=env, limits=Limits(cost=cost), resources=Resources(gpu=Gpu(models), count=2)
    )
    back = again(spec)
    assert back == spec
    assert {k: type(v) for k, v in back.params.items()} == {k: type(v) for k, v in params.items()}
    assert isinstance(back.limits.cost, Decimal | None)


def test_an_older_record_without_a_key_has_its_default():
    plain = SPEC.to_json()
    del plain["store"], plain["limits"]["stall_s"], plain["retry"]
    assert JobSpec.from_json(plain) == SPEC


def changed(*path_and_value):
    *path, value = path_and_value
    plain = inner = SPEC.to_json()
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return plain


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (changed("tomorrow", 1), "spec: unknown key 'tomorrow'"),
        (changed("limits", "watts", 1), "spec.limits: unknown key 'watts'"),
        (changed("limits", "time_s", "6h"), "spec.limits.time_s has a wrong type"),
        (changed("limits", "time_s", True), "spec.limits.time_s has a wrong type"),
        (changed("limits", "cost", "much"), "wrong type"),
        (changed("limits", "cost", 5.0), "wrong type"),
        (changed("retry", "max", 3.0), "spec.retry.max has a wrong type"),
        (changed("retry", "on", "time"), "spec.retry.on has a wrong type"),
        (changed("name", None), "spec.name has a wrong type"),
        (changed("run", [1]), "wrong type"),
        (changed("env", {"A": 1}), "spec.env.A has a wrong type"),
        (changed("params", {"a": [1]}), "wrong type"),
        (changed("files", []), "spec.files is not an object"),
        (changed("checkpoints", "keep", "some"), "wrong type"),
        ({"name": "a"}, "spec lacks a required key"),
        ([], "spec is not an object"),
    ],
)
def test_a_record_that_this_version_cannot_have_written_is_refused(plain, said):
    with pytest.raises(IntegrityError, match=said) as caught:
        JobSpec.from_json(plain)
    assert caught.value.hint
    assert caught.value.exit_code == 125


def test_equal_environments_have_equal_canonical_forms_whether_defaults_are_written_or_not():
    written = "environment: {torch: auto, base: 'ubuntu:22.04', apt: [], index: [], python: }"
    plain = parse("name: a\nrun: b\n" + written).environment.canonical()
    assert records.canonical(plain) == records.canonical(Environment().canonical())
    assert set(plain) == {f.name for f in dataclasses.fields(Environment)}


def test_gpus_are_counted_only_when_one_is_asked_for():
    assert Resources(count=4).gpus == 0
    assert Resources(gpu=Gpu(("T4",)), count=4).gpus == 4


def test_image_dockerfile_and_apt_need_docker():
    assert not Environment().needs_docker
    assert Environment(apt=("git",)).needs_docker
    assert Environment(base=None, image="x").needs_docker
    assert Environment(base=None, dockerfile="x").needs_docker
