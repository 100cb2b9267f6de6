"""Which GPU a job asks for, and whether one fits."""

from __future__ import annotations

import pytest

from launcher.errors import SpecError
from launcher.job.gpu import Gpu, fits, model, one_gpu


def test_a_model_a_memory_or_none():
    assert one_gpu("T4") == Gpu(models=("T4",))
    assert one_gpu("A100-80GB") == Gpu(models=("A100-80GB",))
    assert one_gpu("16GB+") == one_gpu("16GB") == Gpu(memory_bytes=16 * 10**9)
    assert one_gpu("none") is None


@pytest.mark.parametrize("text", ["", "any", "auto", "4090", "T4!", "yes", "T4, L4", "24GB..80GB", "a\nb"])
def test_what_is_no_gpu_is_refused(text):
    with pytest.raises(SpecError, match="not a GPU model"):
        one_gpu(text)


def test_a_count_behind_the_model_is_answered_with_the_key():
    with pytest.raises(SpecError) as caught:
        model("A100:8")
    assert caught.value.hint == "write gpu: A100 and count: 8"


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("T4", "Tesla T4"), ("RTX4090", "NVIDIA GeForce RTX 4090"), ("RTX 4090", "NVIDIA GeForce RTX 4090"),
     ("A100", "NVIDIA A100-SXM4-80GB"), ("A100-80GB", "NVIDIA A100 80GB PCIe"), ("h100", "1x H100 SXM5 80GB"),
     ("P100", "Tesla P100-PCIE-16GB"), ("L40S", "NVIDIA L40S"), ("RTXA6000", "NVIDIA RTX A6000")],
)  # fmt: skip
def test_a_model_is_known_by_any_of_its_names(wanted, name):
    assert fits(Gpu(models=(wanted,)), name, None)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("A10", "NVIDIA A100-SXM4-80GB"), ("L4", "NVIDIA L40S"), ("L40", "NVIDIA L40S"),
     ("T4", "NVIDIA RTX 4000"), ("A100-80GB", "NVIDIA A100-PCIE-40GB"), ("V100", "")],
)  # fmt: skip
def test_a_similar_name_is_another_model(wanted, name):
    assert not fits(Gpu(models=(wanted,)), name, None)


def test_memory_is_a_minimum_that_allows_for_what_the_driver_keeps():
    need = Gpu(memory_bytes=16 * 10**9)
    assert fits(need, "Tesla T4", 15_640_000_000)  # what torch reports for its 16 GB
    assert fits(need, "anything", 80 * 10**9)
    assert not fits(need, "anything", 12 * 10**9)
    assert not fits(need, "anything", None)


def test_any_of_several_models_will_do():
    need = Gpu(models=("T4", "L4"))
    assert fits(need, "NVIDIA L4", None)
    assert not fits(need, "NVIDIA A10", None)
