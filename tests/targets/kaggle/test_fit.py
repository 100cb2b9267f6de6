"""Whether Kaggle would do for a job, judged from spec, lock, options and quota alone."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.errors import Refused
from launcher.job.gpu import Gpu
from launcher.job.spec import Environment, JobSpec, Limits, Resources
from launcher.lock import Lock, Pin
from launcher.run import Segment
from launcher.target import Need, Quota
from launcher.targets.kaggle import datasets, fit

HASH = ("sha256:" + "0" * 64,)
T4 = Resources(gpu=Gpu(models=("T4",)))


def need(time_s: float = 3600.0, packages: dict[str, str] | None = None, **spec: Any) -> Need:
    pins = tuple(Pin(name, version, HASH) for name, version in (packages or {}).items())
    lock = Lock("0" * 64, pins, "3.12.1") if packages else None
    return Need(JobSpec("job", "true", **{"limits": Limits(time_s=time_s), **spec}), lock)


def left(hours: float, what: str = "GPU") -> list[Quota]:
    return [Quota("kaggle", what, "hours", 0, 30, hours, "2026-11-28T00:00:00.000Z")]


def refusal(wanted: Need, **options: str) -> str:
    with pytest.raises(Refused) as caught:
        fit.settings(wanted, options)
    return f"{caught.value.message}; {caught.value.hint}"


def test_the_quota_must_last_for_the_job_and_its_setup_but_no_longer_than_a_session() -> None:
    settings = fit.settings(need(resources=T4), {})
    assert fit.afford(need(resources=T4), settings, left(1.5))
    with pytest.raises(Refused, match=r"more on 2026-11-28 00:00 UTC; this run may take 1.0 h"):
        fit.afford(need(resources=T4), settings, left(0.9))
    assert fit.afford(need(100 * 3600, resources=T4), settings, left(12.5))
    with pytest.raises(Refused) as caught:
        fit.afford(need(resources=T4), settings, left(0.0))
    assert "--timeout" not in caught.value.hint


def test_no_quota_is_asked_for_without_an_accelerator_or_where_kaggle_tells_none() -> None:
    assert fit.afford(need(), fit.settings(need(), {}), left(0.0)) == []
    assert fit.afford(need(resources=T4), fit.settings(need(resources=T4), {}), []) == []


def test_a_tpu_is_paid_from_its_own_quota() -> None:
    settings = fit.settings(need(), {"accelerator": "TpuV5E8"})
    assert fit.afford(need(), settings, left(5.0, "TPU"))
    with pytest.raises(Refused, match="TPU quota"):
        fit.afford(need(), settings, left(0.1, "TPU"))


def test_a_torch_that_would_not_see_the_gpu_is_refused_with_the_build_that_would() -> None:
    said = refusal(need(packages={"torch": "2.9.0+cpu"}, resources=T4))
    assert "build for CPUs" in said
    assert "torch: cu130" in said
    assert fit.settings(need(packages={"torch": "2.9.0+cpu"}), {}).accelerator == ""
    assert fit.settings(need(packages={"torch": "2.9.0+cu128"}, resources=T4), {}).accelerator


def test_without_internet_nothing_may_come_from_it() -> None:
    locked = need(packages={"six": "1.17.0"})
    assert "environment: dataset" in refusal(locked, internet="off")
    both = {"internet": "off", "environment": "dataset"}
    assert not fit.settings(locked, both).internet
    download = need(packages={"six": "1.17.0"}, data={"train": "https://host/a#sha256=" + "0" * 64})
    assert "data train is a download" in refusal(download, **both)
    assert not fit.settings(need(), {"internet": "off"}).internet


def test_docker_is_refused() -> None:
    assert "Kaggle has none" in refusal(need(environment=Environment(apt=("git",))))


def test_setup_takes_minutes_with_torch_and_less_from_a_dataset() -> None:
    cuda = {f"nvidia-part-{number}": "1.0" for number in range(15)}
    torch = need(packages={"torch": "2.9.0", "triton": "3.5.0", "six": "1.17.0", **cuda})
    assert 120 < fit.setup_s(torch, house=False) < 360
    assert fit.setup_s(torch, house=True) < fit.setup_s(torch, house=False) / 2
    assert fit.setup_s(need(), house=False) == fit.START_S


def test_how_secrets_get_there_is_said() -> None:
    secret = need(secrets=("HF_TOKEN",))
    assert any(
        "HF_TOKEN from Kaggle Secrets" in one for one in fit.notes(secret, fit.settings(secret, {}), False)
    )
    sent = fit.settings(secret, {"secrets": "private-dataset"})
    assert any("whoever can use your account" in one for one in fit.notes(secret, sent, False))


@pytest.mark.parametrize(
    ("run_id", "name"),
    [
        ("flowers-abcdefgh", "flowers-abcdefgh-run-3"),
        ("a-abcdefgh", "a-abcdefgh-run-3"),
        ("a--b--abcdefgh", "a-b-abcdefgh-run-3"),
        ("x" * 41 + "-abcdefgh", "x" * 35 + "-abcdefgh-run-3"),
        ("x" * 34 + "-yy-abcdefgh", "x" * 34 + "-abcdefgh-run-3"),
    ],
)
def test_names_are_cut_for_kaggle_and_keep_the_nonce(run_id: str, name: str) -> None:
    segment = Segment(run_id, 3, "kaggle")
    for one in (datasets.dataset_name(segment), datasets.notebook_name(segment)):
        assert 6 <= len(one) <= 50
        assert datasets.nonce_of(f"user/{one}") == "abcdefgh"
    assert datasets.dataset_name(segment) == name


def test_names_of_others_are_not_ours() -> None:
    assert datasets.nonce_of("user/my-notebook") is None
    assert datasets.nonce_of("user/some-pictures-2") is None
    assert datasets.nonce_of("user/launcher-env-0123456789abcdef") is None
