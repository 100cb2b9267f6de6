"""What the verbs say and do about free platforms: quota, terms, limits, and what is given back by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulators.colab.emulator import Colab
from tests.emulators.colab.settings import Settings
from tests.emulators.kaggle.emulator import Kaggle
from tests.laptop import Laptop

FINE = "a notebook that you open yourself is always fine"


@pytest.fixture(scope="module")
def kaggle() -> Iterator[Kaggle]:
    with Kaggle() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def colab() -> Iterator[Colab]:
    with Colab(Settings(speed=60)) as emulator:
        yield emulator


@pytest.fixture
def laptop(tmp_path: Path, kaggle: Kaggle, colab: Colab) -> Iterator[Laptop]:
    made = Laptop(tmp_path / "laptop", {**kaggle.environment, **colab.environment})
    made.ok("target", "add", "here", "local", "--docker", "never")
    made.job("flowers", "print('trained')")
    yield made
    made.launcher("release", "--all", "--force")
    made.close()


def test_quota_asks_all_who_are_signed_in(laptop: Laptop) -> None:
    table = laptop.ok("quota").out
    heads, *rows = table.splitlines()
    assert heads.split()[:4] == ["TARGET", "WHAT", "LEFT", "USED"]
    assert {row.split()[0] for row in rows} == {"kaggle", "colab"}
    assert "30.0" in table
    value = laptop.ok("quota", "--json").json
    assert value["errors"] == []
    gpu = next(one for one in value["quotas"] if (one["target"], one["what"]) == ("kaggle", "GPU"))
    assert (gpu["left"], gpu["total"], gpu["unit"]) == (30.0, 30.0, "hours")


def test_one_account_that_is_not_signed_in_is_no_error_of_the_others(laptop: Laptop) -> None:
    del laptop.env["LAUNCHER_COLAB_TOKEN"]
    done = laptop.ok("quota")
    assert "colab" not in done.out + done.err
    laptop.ok("target", "add", "mine", "colab", "--set", "accelerator=T4")
    done = laptop.ok("quota")
    assert "kaggle" in done.out
    assert done.err.splitlines()[0].startswith("mine: ")
    named = laptop.launcher("quota", "mine", "--json")
    assert (named.code, [one["code"] for one in named.json["errors"]]) == (125, ["auth"])


def test_with_no_account_at_all_quota_says_how_to_sign_in(laptop: Laptop) -> None:
    del laptop.env["LAUNCHER_COLAB_TOKEN"], laptop.env["KAGGLE_API_TOKEN"]
    done = laptop.launcher("quota")
    assert (done.code, done.out) == (125, "")
    said = [line for line in done.err.splitlines() if not line.startswith("hint:")]
    assert [line.split(":")[0] for line in said] == ["kaggle", "colab"]


def test_a_machine_counts_nothing_and_an_unknown_target_is_2(laptop: Laptop) -> None:
    assert "counts nothing" in laptop.ok("quota", "here").out
    assert laptop.launcher("quota", "nosuch").code == 2


def test_a_plan_tells_the_session_its_setup_and_what_must_be_known(laptop: Laptop) -> None:
    laptop.job("long", "pass", limits={"time": "30h"}, resources={"gpu": "T4"})
    rows = laptop.ok("plan", "long", "--on", "kaggle", "--on", "colab", "--on", "here", "--json").json[
        "targets"
    ]
    kaggle, colab, here = rows
    assert (kaggle["limits"], kaggle["fits"]) == ({"time": "30 h", "session": "12 h"}, True)
    assert kaggle["setup_s"] > 0
    notes = "\n".join(kaggle["notes"])
    assert "min of GPU quota" in notes
    assert "its sessions end after 12 h: `launcher resume` goes on" in notes
    assert "checkpoints come home when its session has ended" in notes
    assert any("needs this laptop" in note for note in colab["notes"])
    assert any(FINE in note for note in colab["notes"])
    assert (here["limits"], here["setup_s"]) == ({"time": "30 h"}, None)


def test_the_terms_are_said_at_first_use_and_a_runtime_is_given_back(laptop: Laptop, colab: Colab) -> None:
    first = laptop.ok("-v", "run", "flowers", "--on", "colab")
    assert first.out == "trained\n"
    assert FINE in first.err
    assert "needs this laptop" in first.err
    assert "all is home: gave back the runtime on colab" in first.err
    assert colab.endpoints == []
    second = laptop.ok("run", "flowers", "--on", "colab")
    assert FINE not in second.err
    assert "needs this laptop" in second.err
    assert laptop.ok("ps", "-a").err == ""  # nothing costs any more
    laptop.ok("release", "last")


def test_a_runtime_that_was_taken_back_ends_its_segment_at_the_next_pull(
    laptop: Laptop, colab: Colab
) -> None:
    laptop.job("long", "import time; print('begun', flush=True); time.sleep(600)")
    laptop.ok("run", "long", "--on", "colab", "-d")
    laptop.wait_for(lambda: "begun" in laptop.ok("logs", "last").out, "the first line at home")
    colab.reclaim()
    laptop.ok("pull", "last")
    status = laptop.status()
    assert (status["state"], status["exit_code"]) == ("preempted", None)
    assert laptop.launcher("wait", "last").code == 124
    laptop.ok("release", "last")


def test_what_kaggle_says_before_the_agent_is_progress(laptop: Laptop) -> None:
    laptop.ok("run", "flowers", "--on", "kaggle", "-d")
    refused = laptop.launcher("exec", "last", "--", "ls")
    assert refused.code == 126
    found = laptop.ok("--json", "attach", "last").objects
    said = [one["detail"] for one in found if one["type"] == "progress" and one["phase"] == "place"]
    assert any("segment 0" in text for text in said)
    assert laptop.ok("logs", "last").out == "trained\n"


def test_settings_of_a_platform_are_kept_and_judged(laptop: Laptop) -> None:
    words = ["--set", "accelerator=NvidiaTeslaT4", "--set", "internet=off", "--set", "environment=dataset"]
    laptop.ok("target", "add", "kag", "kaggle", *words)
    listed = laptop.ok("target", "ls", "--json").json["targets"][-1]
    assert listed == {
        "name": "kag",
        "type": "kaggle",
        "accelerator": "NvidiaTeslaT4",
        "internet": "off",
        "environment": "dataset",
    }
    laptop.ok("target", "add", "col", "colab", "--set", "client=client.json")
    client = laptop.ok("target", "ls", "--json").json["targets"][-1]["client"]
    assert client == str(laptop.work / "client.json")
    for wrong in ("internet=perhaps", "colour=red", "internet", "=on"):
        assert laptop.launcher("target", "add", "bad", "kaggle", "--set", wrong).code == 2
