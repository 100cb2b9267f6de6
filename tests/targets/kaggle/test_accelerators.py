"""Which accelerator a job gets on Kaggle, and what a refusal says."""

from __future__ import annotations

import pytest

from launcher.errors import Refused
from launcher.job.gpu import Gpu
from launcher.job.spec import Resources
from launcher.targets.kaggle.accelerators import KNOWN, RETIRED, choose, notes
from launcher.targets.kaggle.status import Seen, judge
from tests.emulators.kaggle import machine

ANY = Gpu(memory_bytes=1)


def name(gpu: Gpu | None, count: int = 1, asked: str = "") -> str:
    chosen = choose(Resources(gpu=gpu, count=count), asked)
    return chosen.name if chosen else ""


def refusal(gpu: Gpu | None, count: int = 1, asked: str = "") -> str:
    with pytest.raises(Refused) as caught:
        choose(Resources(gpu=gpu, count=count), asked)
    assert "\n" not in caught.value.message
    return f"{caught.value.message}; {caught.value.hint}"


@pytest.mark.parametrize(
    ("gpu", "count"),
    [
        (Gpu(models=("T4",)), 1),
        (Gpu(models=("T4",)), 2),
        (Gpu(memory_bytes=16 * 10**9), 1),
        (Gpu(models=("A100", "T4")), 1),
        (ANY, 1),
    ],
)
def test_a_job_that_two_t4_would_do_for_gets_them(gpu: Gpu, count: int) -> None:
    assert name(gpu, count) == "NvidiaTeslaT4"


def test_a_job_without_a_gpu_gets_none_whatever_the_target_says() -> None:
    assert name(None) == ""
    assert name(None, asked="NvidiaTeslaT4") == ""


def test_one_gpu_asked_for_is_two_given_and_that_is_said() -> None:
    chosen = choose(Resources(gpu=Gpu(models=("T4",))))
    assert any("always 2 GPUs" in note for note in notes(chosen, Resources(gpu=Gpu(models=("T4",)))))
    assert not any("always" in note for note in notes(chosen, Resources(gpu=Gpu(models=("T4",)), count=2)))


def test_what_the_two_t4_cannot_do_is_refused_with_what_could() -> None:
    assert "NvidiaL4" in refusal(Gpu(models=("L4",)))
    assert "NvidiaTeslaA100" in refusal(Gpu(memory_bytes=40 * 10**9))
    assert "another target" in refusal(Gpu(models=("H200",)))
    assert "3 x T4" in refusal(Gpu(models=("T4",)), 3)
    assert "if your account may use it" in refusal(ANY, 4)


def test_an_accelerator_that_the_target_names_is_taken_if_it_does_for_the_job() -> None:
    assert name(ANY, 4, "NvidiaL4") == "NvidiaL4"
    assert "set the target's accelerator to NvidiaTeslaT4" in refusal(ANY, 2, "NvidiaL4X1")
    chosen = choose(Resources(gpu=ANY), "NvidiaH100")
    assert any("not for every account" in note for note in notes(chosen, Resources(gpu=ANY)))


@pytest.mark.parametrize("retired", RETIRED)
def test_a_retired_accelerator_is_refused_with_its_successor(retired: str) -> None:
    said = refusal(ANY, asked=retired)
    assert "retired" in said
    assert RETIRED[retired] in said


def test_an_unknown_accelerator_is_refused_with_the_nearest_and_all_known_ones() -> None:
    said = refusal(ANY, asked="NvidiaTeslaT5")
    assert "did you mean NvidiaTeslaT4?" in said
    assert all(one in said for one in KNOWN)
    assert "no accelerator" in refusal(None, asked="nonsense")


def test_a_tpu_is_taken_only_for_a_job_that_asks_for_no_gpu() -> None:
    assert name(None, asked="TpuV5E8") == "TpuV5E8"
    assert "no GPU" in refusal(ANY, asked="TpuV5E8")


def test_the_table_is_the_emulators() -> None:
    for given, gpu in machine.GPUS.items():
        mine = KNOWN[given]
        assert (mine.count, mine.memory_mb, mine.capability) == (gpu.count, gpu.memory_mb, gpu.compute_cap)
    assert set(RETIRED) == set(machine.RETIRED)


@pytest.mark.parametrize(
    ("seen", "state", "reason"),
    [
        (Seen(""), "lost", "no longer on Kaggle"),
        (Seen("QUEUED"), "running", ""),
        (Seen("RUNNING"), "running", ""),
        (Seen("CANCEL_REQUESTED"), "running", ""),
        (Seen("A_NEW_WORD"), "running", ""),
        (Seen("CANCEL_ACKNOWLEDGED"), "cancelled", "stopped on Kaggle"),
        (Seen("ERROR", "No machine is free.", began=False), "failed", "No machine is free."),
        (
            Seen(
                "ERROR", "Your notebook was stopped because it exceeded the max allowed execution duration."
            ),
            "preempted",
            "session",
        ),
        (Seen("ERROR", "tried to allocate more memory"), "preempted", "more memory"),
        (Seen("COMPLETE"), "preempted", "ended the session"),
        (Seen("ERROR", "too much disk space", saved=False), "failed", "did not save its outputs: too much"),
        (Seen("ERROR", ran=False, words="uv said no"), "failed", "uv said no"),
        (Seen("ERROR", "two\nlines " + "x" * 999), "preempted", "two lines xxx"),
    ],
)
def test_kaggles_word_about_a_session_has_one_meaning(seen: Seen, state: str, reason: str) -> None:
    status = judge(seen)
    assert status.state.value == state
    assert reason in status.reason
    assert "\n" not in status.reason
    assert len(status.reason) < 300
