"""What goes wrong on Kaggle: one clear line, the right exit code, and nothing left that eats quota."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from launcher.errors import RemoteError
from launcher.notebook.payload import PayloadFile
from launcher.targets.kaggle import datasets
from tests.emulators.kaggle.plain import Plain
from tests.emulators.kaggle.settings import Answer
from tests.laptop import Done, kill, sha256
from tests.servers.fake_gpu import FakeGPU, nvidia_smi
from tests.targets.kaggle.place import Place, target_of
from tests.targets.kaggle.place import kaggle as kaggle
from tests.targets.kaggle.place import place as place

GPU = {"resources": {"gpu": "T4"}, "limits": {"time": "1h"}}


def said(done: Done) -> str:
    """The one line on stderr that says what is wrong, and no traceback."""
    assert "Traceback" not in done.err, done.err
    return done.err


def never_began(place: Place) -> None:
    place.nothing_left()
    assert place.sessions == []


def test_without_credentials_nothing_happens_and_the_way_to_some_is_said(place: Place) -> None:
    del place.laptop.env["KAGGLE_API_TOKEN"]
    done = place.laptop.launcher("run", place.counter(), "--on", "kaggle")
    assert done.code == 125
    assert "kaggle.com/settings" in said(done)
    assert place.laptop.launcher("status", "last").code == 2
    assert "kaggle.com/settings" in place.laptop.launcher("check", "kaggle").out


def test_a_token_that_has_expired_is_said(place: Place) -> None:
    place.account.expire()
    done = place.laptop.launcher("run", place.counter(), "--on", "kaggle")
    assert done.code == 125
    assert "token" in said(done)
    never_began(place)


def test_a_quota_that_would_not_last_is_refused_with_when_there_is_more(place: Place) -> None:
    laptop = place.laptop
    place.account.gpu_used_s = place.account.gpu_allowed_s - 3000
    job = place.counter(**GPU)
    done = laptop.launcher("run", job, "--on", "kaggle")
    assert done.code == 126
    assert "0.8 h of GPU quota are left, more on 20" in said(done)
    assert "--timeout 40m" in done.err
    never_began(place)
    assert laptop.ok("run", job, "--on", "kaggle", "--timeout", "30m", "-d")
    laptop.ok("release", "last", "--force")
    place.nothing_left()


def test_where_the_quota_does_not_suffice_the_ladder_goes_on(place: Place) -> None:
    place.account.gpu_used_s = place.account.gpu_allowed_s
    laptop = place.laptop
    program = laptop.folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(nvidia_smi(FakeGPU("FAKE Tesla T4", compute_cap="7.5")))
    program.chmod(0o755)
    laptop.env["PATH"] = f"{program.parent}:{laptop.env['PATH']}"
    laptop.ok("target", "add", "here", "local", "--docker", "never")
    done = laptop.ok("run", place.counter(**GPU), "--on", "kaggle", "--on", "here")
    assert "skipped kaggle: 0.0 h of GPU quota are left" in said(done)
    assert laptop.status()["target"] == "here"
    never_began(place)


@pytest.mark.parametrize(
    ("accelerator", "words"),
    [("NvidiaTeslaP100", "retired"), ("NvidiaTeslaT5", "did you mean NvidiaTeslaT4?")],
)
def test_an_accelerator_that_is_not_to_be_had_is_refused(place: Place, accelerator: str, words: str) -> None:
    place.laptop.ok("target", "add", "mine", "kaggle", "--set", f"accelerator={accelerator}")
    done = place.laptop.launcher("run", place.counter(**GPU), "--on", "mine")
    assert done.code == 126
    assert words in said(done)
    never_began(place)


def test_another_accelerator_than_the_one_asked_for_is_not_paid_for(place: Place) -> None:
    place.laptop.ok("target", "add", "mine", "kaggle", "--set", "accelerator=NvidiaH100")
    job = place.counter(resources={"gpu": "80GB"}, limits={"time": "1h"})
    done = place.laptop.launcher("run", job, "--on", "mine")
    assert done.code == 126
    assert "gives this account NvidiaTeslaT4 in place of NvidiaH100" in said(done)
    place.nothing_left()


def test_an_image_that_is_none_of_kaggles_is_refused_in_its_words(place: Place) -> None:
    place.laptop.ok("target", "add", "mine", "kaggle", "--set", "image=ubuntu:22.04")
    done = place.laptop.launcher("run", place.counter(), "--on", "mine")
    assert done.code == 126
    assert "docker image" in said(done)
    never_began(place)


def test_a_session_in_the_queue_cannot_be_cancelled_but_removed(place: Place) -> None:
    place.kaggle.settings.queue_wall_s = 60.0
    laptop = place.laptop
    laptop.ok("run", place.counter(), "--on", "kaggle", "-d")
    done = laptop.launcher("cancel", "last")
    assert done.code == 125
    assert "queued" in said(done)
    laptop.ok("release", "last", "--force")
    place.nothing_left()


def test_a_job_that_needs_docker_is_refused(place: Place) -> None:
    job = place.laptop.job("apt", "print(1)", environment={"python": "3.11", "apt": ["git"]})
    done = place.laptop.launcher("plan", str(job), "--on", "kaggle")
    assert "Kaggle has none" in done.out
    never_began(place)


def test_a_secret_that_kaggle_does_not_have_is_refused(place: Place) -> None:
    job = place.laptop.job("secret", "print(1)", environment={}, secrets=["TOKEN"])
    done = place.laptop.launcher("run", str(job), "--on", "kaggle")
    assert done.code == 126
    assert "TOKEN" in said(done)
    place.laptop.ok("release", "last")
    place.nothing_left()


def test_a_session_that_kaggle_does_not_start_has_failed_with_its_words(place: Place) -> None:
    place.kaggle.faults.start_refused = "No machine is free."
    done = place.laptop.launcher("run", place.counter(), "--on", "kaggle")
    assert done.code == 125
    assert place.laptop.status()["state"] == "failed"
    assert "No machine is free." in place.laptop.status()["reason"]
    place.laptop.ok("release", "last")
    place.nothing_left()


def test_anothers_credentials_do_not_make_a_run_lost(place: Place) -> None:
    laptop = place.laptop
    laptop.ok("run", place.counter(steps=2), "--on", "kaggle", "-d")
    mine, other = laptop.env["KAGGLE_API_TOKEN"], place.kaggle.account(place.account.name + "x")
    laptop.env["KAGGLE_API_TOKEN"] = other.token()
    done = laptop.launcher("attach", "last")
    assert done.code == 125
    assert f"runs as {place.account.name} on Kaggle" in said(done)
    assert laptop.status()["state"] == "running"
    laptop.env["KAGGLE_API_TOKEN"] = mine
    laptop.ok("attach", "last")


def test_a_notebook_that_the_user_deleted_is_a_run_that_is_lost(place: Place) -> None:
    laptop = place.laptop
    laptop.ok("run", place.counter(steps=9, hold=2), "--on", "kaggle", "-d")
    (slug,) = place.kernels
    named = dict(zip(("userName", "kernelSlug"), slug.split("/"), strict=True))
    Plain(place.kaggle, laptop.env["KAGGLE_API_TOKEN"]).call("DeleteKernel", **named)
    done = laptop.launcher("attach", "last")
    assert done.code == 125, done.err
    assert "no longer on Kaggle" in laptop.status()["reason"]
    assert laptop.status()["state"] == "lost"
    laptop.ok("release", "last")
    place.nothing_left()


def test_a_kernel_that_is_killed_loses_no_more_than_the_last_step(place: Place) -> None:
    laptop = place.laptop
    follower = laptop.start("run", place.counter(steps=9, hold=5), "--on", "kaggle")
    laptop.wait_for(lambda: place.said("step 5"), "it counts")
    place.sessions[0].kill_kernel()
    _, err = follower.communicate(timeout=120)
    assert follower.returncode == 124, err.decode()
    status = laptop.status()
    assert status["state"] == "preempted"
    assert "more memory" in status["reason"]
    assert len(list((place.home() / "checkpoints").iterdir())) >= 4


def test_outputs_beyond_kaggles_limit_are_a_failure_that_says_so(place: Place) -> None:
    place.kaggle.settings.output_limit_bytes = 100_000
    code = "import os, pathlib; pathlib.Path(os.environ['LAUNCHER_OUT'], 'big').write_bytes(b'x' * 200_000)"
    job = place.laptop.job("large", code + "; print('done')", environment={})
    done = place.laptop.launcher("run", str(job), "--on", "kaggle")
    assert done.code == 125
    assert "done\n" in done.out
    status = place.laptop.status()
    assert (status["state"], "more disk space" in status["reason"]) == ("failed", True)


def test_a_dataset_that_kaggle_cannot_process_is_said_and_can_be_tried_again(place: Place) -> None:
    laptop, faults = place.laptop, place.kaggle.faults
    faults.dataset_failed = True
    done = laptop.launcher("run", place.counter(), "--on", "kaggle")
    assert done.code == 125
    assert "could not process the dataset" in said(done)
    assert place.sessions == []
    faults.dataset_failed = False
    assert "step 3" in laptop.ok("attach", "last").out
    laptop.ok("release", "last")
    place.nothing_left()


def test_a_dataset_that_never_becomes_ready_is_waited_for_and_given_up(place: Place, tmp_path: Path) -> None:
    place.kaggle.faults.dataset_stuck = True
    path = tmp_path / "a.bin"
    path.write_bytes(b"x")
    api = target_of(place).api
    wanted = datasets.Wanted(
        f"{api.user()}/some-dataset", [PayloadFile("a.bin", path, 1, sha256(path))], "upload", patience_s=1.0
    )
    with pytest.raises(RemoteError, match=r"does not make the dataset .* ready"):
        list(datasets.bring(api, wanted))


def test_a_user_who_is_tired_of_waiting_for_a_dataset_can_undo_it(place: Place) -> None:
    laptop = place.laptop
    place.kaggle.faults.dataset_stuck = True
    waiting = laptop.start("run", place.counter(), "--on", "kaggle")
    laptop.wait_for(lambda: place.datasets, "the dataset is there")
    time.sleep(0.5)
    waiting.send_signal(signal.SIGTERM)
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130, err.decode()
    laptop.ok("release", "last")
    never_began(place)


def test_a_name_that_is_taken_is_refused_and_what_is_there_stays(place: Place) -> None:
    laptop = place.laptop
    place.kaggle.faults.dataset_stuck = True
    waiting = laptop.start("run", place.counter(), "--on", "kaggle")
    laptop.wait_for(lambda: place.datasets, "the dataset is there")
    kill(waiting)
    place.kaggle.faults.dataset_stuck = False
    slug = place.datasets[0].removesuffix("-0")
    api = Plain(place.kaggle, laptop.env["KAGGLE_API_TOKEN"])
    named = {"slug": slug, "newTitle": slug.partition("/")[2], "text": "1", "language": "python"}
    api.call("SaveKernel", **named, kernelType="script", kernelExecutionType="QUICK_SAVE")
    done = laptop.launcher("attach", "last")
    assert done.code == 126
    assert "is not this run's" in said(done)
    assert place.datasets == []
    assert place.kernels == [slug]


@pytest.mark.parametrize("call", ["StartBlobUpload", "CreateDataset", "SaveKernel"])
def test_the_answer_to_something_created_is_lost_and_it_is_found_again(place: Place, call: str) -> None:
    laptop = place.laptop
    place.kaggle.faults.answers.append(Answer(call))
    done = laptop.launcher("run", place.counter(steps=2), "--on", "kaggle")
    if done.code:
        assert "attach" in said(done)
        done = laptop.launcher("attach", "last")
    assert done.code == 0, done.err
    assert len(place.sessions) == 1
    assert len(place.datasets) == 1
    laptop.ok("release", "last")
    place.nothing_left()


@pytest.mark.parametrize("call", ["StartBlobUpload", "CreateDataset", "GetDatasetStatus", "SaveKernel"])
def test_a_laptop_that_dies_at_a_save_point_finishes_once_or_undoes_all(place: Place, call: str) -> None:
    laptop = place.laptop
    place.kaggle.faults.answers.append(Answer(call))
    before = len(place.kaggle.asked)

    def asked() -> bool:
        return any(one == call for one, _ in place.kaggle.asked[before:])

    dying = laptop.start("run", place.counter(steps=2), "--on", "kaggle", "-d")
    laptop.wait_for(asked, f"it asks {call}")
    kill(dying)
    place.kaggle.faults.answers.clear()
    done = laptop.launcher("attach", "last")
    assert done.code == 0, done.err
    assert len(place.sessions) == 1
    laptop.ok("release", "last")
    place.nothing_left()


def test_a_crash_before_the_push_can_be_undone(place: Place) -> None:
    laptop = place.laptop
    place.kaggle.settings.dataset_wall_s = 60.0
    dying = laptop.start("run", place.counter(), "--on", "kaggle")
    laptop.wait_for(lambda: place.datasets, "the dataset is there")
    kill(dying)
    laptop.ok("release", "last")
    never_began(place)
    assert not list((laptop.folder / "state").rglob("payload.json"))


def test_an_earlier_segment_is_released_without_the_notebook_that_a_later_one_lives_in(place: Place) -> None:
    laptop = place.laptop
    place.kaggle.faults.start_refused = "No machine is free."
    assert laptop.launcher("run", place.counter(steps=2), "--on", "kaggle").code == 125
    place.kaggle.faults.start_refused = ""
    place.kaggle.settings.queue_wall_s = 60.0
    laptop.ok("resume", "last", "-d")
    done = laptop.launcher("release", "last")
    assert done.code == 126
    assert "still running" in said(done)
    assert len(place.kernels) == 1
    assert not place.sessions[-1].over
    laptop.ok("release", "last", "--force")
    place.nothing_left()


def test_a_later_segment_whose_push_got_no_answer_is_found_and_not_the_earlier_one(place: Place) -> None:
    laptop = place.laptop
    place.kaggle.faults.start_refused = "No machine is free."
    assert laptop.launcher("run", place.counter(steps=2), "--on", "kaggle").code == 125
    place.kaggle.faults.start_refused = ""
    place.kaggle.faults.answers.append(Answer("SaveKernel"))
    laptop.ok("resume", "last")
    assert len(place.sessions) == 2
    laptop.ok("release", "last")
    place.nothing_left()


def test_two_sessions_with_gpus_are_the_most_and_the_third_waits_its_turn(place: Place) -> None:
    place.kaggle.settings.gpu_sessions = 0
    done = place.laptop.launcher("run", place.counter(**GPU), "--on", "kaggle")
    assert done.code in (125, 126)
    assert "session count" in said(done)
    place.nothing_left()
