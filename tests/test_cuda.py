"""Whether a lock's torch would see a GPU: drivers, architectures, and the build that would."""

from __future__ import annotations

import pytest

from launcher.cuda import architecture_in, cuda_of, driver_runs, suggestion, trouble
from launcher.lock import Lock, parse_lock

HASH = " --hash=sha256:" + "a" * 64 + "\n"


def locked(*pins: str, torch: str = "auto") -> Lock:
    return parse_lock((f"# torch: {torch}\n" + "".join(pin + HASH for pin in pins)).encode())


CU130 = locked("torch==2.9.0", "nvidia-cuda-runtime==13.0.48")
CU128 = locked("torch==2.9.0+cu128", torch="cu128")
CPU = locked("torch==2.9.0+cpu", torch="cpu")


@pytest.mark.parametrize(
    ("lock", "cuda"),
    [
        (CU130, "13.0"),
        (CU128, "12.8"),
        (CPU, None),
        (locked("torch==2.6.0", "nvidia-cuda-runtime-cu12==12.4.127"), "12.4"),
        (locked("torch==2.15.0", "cuda-toolkit==13.2.2"), "13.2"),
        (locked("torch==2.0+cu118"), "11.8"),
        (locked("six==1.0"), None),
    ],
)
def test_the_cuda_of_a_lock_is_read_from_its_pins(lock: Lock, cuda: str | None) -> None:
    assert cuda_of(lock) == cuda


@pytest.mark.parametrize(
    ("driver", "cuda", "runs"),
    [("13.0", "12.8", True), ("12.2", "12.8", True), ("12.8", "13.0", False), (None, "13.0", True)],
)
def test_a_driver_runs_all_of_its_major_version_and_before(driver: str | None, cuda: str, runs: bool) -> None:
    assert driver_runs(driver, cuda) is runs


@pytest.mark.parametrize(
    ("capability", "cuda", "inside"),
    [
        ("6.0", "12.6", True),  # P100
        ("6.1", "12.6", True),
        ("6.0", "12.8", False),
        ("7.0", "13.0", False),  # V100
        ("7.5", "13.0", True),  # T4
        ("8.9", "13.2", True),  # L4, from sm_86
        ("10.0", "12.6", False),  # B200
        ("12.1", "13.0", True),
        ("15.0", "13.0", True),  # not known, so nothing is claimed
        ("8.0", "99.0", True),
        ("odd", "13.0", True),
    ],
)
def test_a_build_has_code_for_the_architectures_in_the_table(
    capability: str, cuda: str, inside: bool
) -> None:
    assert architecture_in(capability, cuda) is inside


@pytest.mark.parametrize(
    ("lock", "driver", "capabilities", "works"),
    [
        (CU130, "13.0", ["7.5"], None),
        (CU130, "12.8", ["7.5"], "cu128"),
        (CU130, "12.4", ["6.0"], "cu126"),
        (CU130, "13.0", ["6.0", "7.5"], "cu126"),
        (CU128, "13.1", ["6.0"], "cu126"),
        (CU130, "11.8", ["8.0"], "cpu"),
        (CPU, "13.0", ["8.0"], "cu130"),
        (CU130, None, [None], None),
        (locked("six==1.0"), "11.0", ["3.5"], None),
        (locked("torch==2.9.0"), "11.0", ["3.5"], None),
    ],
)
def test_trouble_names_the_build_that_would_work(
    lock: Lock, driver: str | None, capabilities: list[str | None], works: str | None
) -> None:
    found = trouble(lock, driver, capabilities)
    assert (found.torch if found else None) == works
    if found:
        assert f"torch: {works}" in found.hint


def test_trouble_is_said_with_both_versions() -> None:
    found = trouble(CU130, "12.4", ["8.0"])
    assert found is not None
    assert found.message == "torch 2.9.0 of the lock needs CUDA 13.0, the driver there has 12.4"


def test_a_machine_without_a_usable_gpu_is_sent_to_the_cpu_build() -> None:
    assert suggestion("11.4", ["8.0"]) == "cpu"
