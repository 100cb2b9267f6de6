"""Targets, secrets, init, schema, completion: the small commands, from outside."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.cli.conftest import Laptop

KEY = "SHA256:" + "a" * 43


def test_a_target_is_added_listed_and_removed(launcher: Laptop) -> None:
    words = ["--host-key", KEY, "--key", "~/.ssh/k", "--docker", "always"]
    added = launcher("target", "add", "box", "ssh://me@host:2222", *words)
    assert added.code == 0, added.err
    listed = launcher("target", "ls", "--json").json
    assert listed == {
        "schema": 1,
        "targets": [
            {
                "name": "box",
                "type": "ssh",
                "host": "host",
                "user": "me",
                "port": 2222,
                "host_key": KEY,
                "key": "~/.ssh/k",
                "docker": "always",
            }
        ],
    }
    assert "ssh://me@host:2222" in launcher("target", "ls").out
    assert launcher("target", "add", "box", "local").code == 2
    assert launcher("target", "add", "box", "local", "--replace").code == 0
    assert launcher("target", "rm", "box").code == 0
    assert launcher("target", "rm", "box").code == 2
    assert launcher("target", "ls").out == ""


@pytest.mark.parametrize(
    "words",
    [["box", "me@host"], ["box", "ssh://u:p@host"], ["Box", "local"], ["box", "local", "--host-key", "x"]],
)
def test_a_wrong_target_is_2_and_not_kept(launcher: Laptop, words: list[str]) -> None:
    assert launcher("target", "add", *words).code == 2
    assert launcher("target", "ls").out == ""


def test_a_command_for_a_secret_is_kept_and_never_its_value(launcher: Laptop) -> None:
    assert launcher("secret", "set", "HF_TOKEN", "--command", "echo hidden").code == 0
    listed = launcher("secret", "ls")
    assert listed.out.splitlines()[1].split() == ["HF_TOKEN", "command:", "echo", "hidden"]
    assert launcher("secret", "rm", "HF_TOKEN").code == 0
    assert launcher("secret", "ls").out == ""


def test_a_value_without_a_keyring_is_refused_and_appears_nowhere(launcher: Laptop) -> None:
    null = {"PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    done = launcher("secret", "set", "HF_TOKEN", stdin="very-secret\n", **null)
    assert done.code == 125
    assert "--command" in done.err
    assert "very-secret" not in done.out + done.err
    kept = [path.read_bytes() for path in launcher.folder.rglob("*") if path.is_file()]
    assert not any(b"very-secret" in data for data in kept)


def test_an_empty_value_is_a_usage_error(launcher: Laptop) -> None:
    assert launcher("secret", "set", "HF_TOKEN").code == 2


def test_init_writes_a_job_that_can_be_planned(launcher: Laptop) -> None:
    (launcher.folder / "train.py").write_text("print(1)\n")
    done = launcher("init")
    assert (done.code, done.out) == (0, "job.yaml\n")
    assert launcher("plan", "--on", "local").code == 0
    assert launcher("init").code == 126


def test_the_schema_is_one_json_document(launcher: Laptop) -> None:
    schema = launcher("schema").json
    assert "properties" in schema


@pytest.mark.parametrize(("shell", "word"), [("bash", "complete"), ("zsh", "compdef"), ("fish", "complete")])
def test_completion_scripts_are_printed(launcher: Laptop, shell: str, word: str) -> None:
    done = launcher("completion", shell)
    assert done.code == 0
    assert word in done.out
    assert launcher("completion", shell, "--json").json["shell"] == shell


def test_bash_completes_commands(launcher: Laptop) -> None:
    script = launcher("completion", "bash").out
    line = "COMP_WORDS=(launcher re); COMP_CWORD=1; _launcher_completion launcher; echo ${COMPREPLY[@]}"
    (launcher.folder / "launcher").write_text(
        f'#!/bin/sh\nexec {__import__("sys").executable} -m launcher "$@"\n'
    )
    (launcher.folder / "launcher").chmod(0o755)
    environ = {**launcher.environ, "PATH": f"{launcher.folder}:{launcher.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", f"{script}\n{line}"],
        env=environ,
        cwd=launcher.folder,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stdout.split() == ["release", "resume", "rerun"], done.stderr


def test_the_version_is_the_same_every_way(launcher: Laptop) -> None:
    assert launcher("--version").out == launcher("version").out == launcher("-v", "--version").out
    assert json.loads(launcher("version", "--json").out)["version"] in launcher("version").out


def test_what_things_cost_is_told_of_no_runs_too(launcher: Laptop) -> None:
    assert launcher("cost", "--json").json["cost_usd"] == 0
    assert launcher("cost", "--since", "x").code == 2


def test_check_ends_with_0_where_all_is_well(machine: Laptop) -> None:
    done = machine("check", "local")
    assert done.code == 0, done.out
    assert done.out.startswith("ok     local reachable")
    assert machine("check", "local", "--json").json["ok"] is True


def test_check_ends_with_1_where_something_is_wrong(launcher: Laptop) -> None:
    done = launcher("check", "ssh://127.0.0.1:1")
    assert done.code == 1
    assert "WRONG" in done.out
