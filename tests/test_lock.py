"""Reading locks: what is pinned, for which machine, and what is said of a lock that is none."""

from __future__ import annotations

import pytest

from launcher.errors import SpecError
from launcher.lock import Interpreter, parse_lock

A, B = "a" * 64, "b" * 64
GOOD = f"""\
# launcher-lock: 1
# python: cpython 3.12.16
# interpreter: linux x86_64 https://example.org/cpython.tar.gz sha256:{A}
# interpreter: linux aarch64 https://example.org/arm.tar.gz sha256:{B}
# torch: cu128
# heavy: torch
# source: sha256:{A}
# Made by `launcher lock` from requirements.in; change that, not this.
--extra-index-url https://example.org/simple
colorama==0.4.6 ; sys_platform == 'win32' \\
    --hash=sha256:{A}
    # via click
Flask_Thing[extra]==2.0 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
numpy==1.26.4 ; python_full_version < '3.12' \\
    --hash=sha256:{A}
numpy==2.1.0 ; python_full_version >= '3.12' \\
    --hash=sha256:{B}
torch==2.9.0+cu128 ; platform_machine == 'x86_64'  --hash=sha256:{A} # the big one
wheel-from-url @ https://example.org/wheel_from_url-1.5-py3-none-any.whl \\
    --hash=sha256:{A}
""".encode()


def test_a_lock_tells_its_python_its_interpreters_and_its_pins() -> None:
    lock = parse_lock(GOOD)
    assert lock.python == "3.12.16"
    assert lock.interpreter_for("aarch64") == Interpreter(
        "linux", "aarch64", "https://example.org/arm.tar.gz", B
    )
    assert lock.interpreter_for("x86_64", "darwin") is None
    assert (lock.torch, lock.heavy, lock.source) == ("cu128", {"torch"}, f"sha256:{A}")
    assert lock.options == ("--extra-index-url https://example.org/simple",)
    assert lock.pins["flask-thing"] == "2.0"


@pytest.mark.parametrize(
    ("arch", "python", "system", "expected"),
    [
        ("x86_64", None, "linux", {"numpy": "2.1.0", "torch": "2.9.0+cu128"}),
        ("aarch64", None, "linux", {"numpy": "2.1.0"}),
        ("x86_64", "3.11", "linux", {"numpy": "1.26.4", "torch": "2.9.0+cu128"}),
        ("AMD64", None, "windows", {"numpy": "2.1.0", "colorama": "0.4.6"}),
    ],
)
def test_markers_are_evaluated_for_the_machine_not_for_this_one(
    arch: str, python: str | None, system: str, expected: dict[str, str]
) -> None:
    everywhere = {"flask-thing": "2.0", "wheel-from-url": "1.5"}
    assert parse_lock(GOOD).locked_for(arch, python, system) == everywhere | expected


def test_the_text_of_a_pin_does_not_depend_on_how_the_lock_was_written() -> None:
    one = parse_lock(f"six==1.0 --hash=sha256:{B} --hash=sha256:{A}\n".encode()).all[0]
    other = parse_lock(
        f"# x\nSix == 1.0 \\\n  --hash=sha256:{A} \\\n  --hash=sha256:{B}\n    # via y\n".encode()
    ).all[0]
    assert one.text == other.text == f"six==1.0 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}"


def test_a_lock_of_another_tool_has_no_python() -> None:
    assert parse_lock(f"six==1.17.0 --hash=sha256:{A}\r\n".encode()).python is None


def test_a_lock_of_nothing_but_an_interpreter_is_good() -> None:
    lock = parse_lock(b"# launcher-lock: 1\n# python: cpython 3.12.16\n")
    assert (lock.python, lock.pins) == ("3.12.16", {})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n# only a comment\n", "is empty"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"PK\x03\x04 garbage", "line 1 of the lock is not a locked package"),
        (b"six==1.17.0\n", "six has no hash"),
        (b"six==1.17.0 --hash=sha256:abc\n", "not a locked package"),
        (b"six==1.17.0 --hash=md5:" + b"a" * 32, "not a locked package"),
        (f"six>=1 --hash=sha256:{A}".encode(), "six is not pinned to one version"),
        (f"six==1.* --hash=sha256:{A}".encode(), "six is not pinned to one version"),
        (f"six --hash=sha256:{A}".encode(), "six is not pinned to one version"),
        (b"-r other.txt\n", "not a locked package"),
        (b"-e .\n", "not a locked package"),
        (b"./local\n", "not a locked package"),
        (f"x @ git+https://example.org/x --hash=sha256:{A}".encode(), "names no version"),
        (f"six==1.17.0 --hash=sha256:{A} \\\n".encode(), "ends in the middle of a line"),
        (b"version = 1\n[[package]]\n", "not a locked package"),
        (b"# launcher-lock: 2\n", "has format 2"),
        (b"# python: cpython 3.12\n", "line 1 of the lock is damaged"),
        (b"# interpreter: linux x86_64 ftp://x sha256:0\n", "line 1 of the lock is damaged"),
        (b"# torch: cpu; rm -rf /\n", "line 1 of the lock is damaged"),
    ],
)
def test_what_is_no_lock_is_refused_and_the_way_out_named(data: bytes, said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        parse_lock(data)
    assert caught.value.exit_code == 2
    assert "lock" in caught.value.hint


def test_a_package_pinned_twice_for_one_machine_is_refused() -> None:
    lock = parse_lock(f"six==1.0 --hash=sha256:{A}\nsix==2.0 --hash=sha256:{B}\n".encode())
    with pytest.raises(SpecError, match="pins six twice"):
        lock.locked_for("x86_64")
