"""Placeholders in commands, and params from the command line."""

from __future__ import annotations

import contextlib
import shlex
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import SpecError
from launcher.job.command import override, render, show

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)


def test_a_placeholder_is_replaced():
    assert render("train --lr {lr} -e {epochs}", {"lr": 0.001, "epochs": 5}) == "train --lr 0.001 -e 5"


def test_in_a_string_the_value_is_quoted_for_the_shell_and_in_a_list_left_alone():
    params = {"text": "it's; rm -rf /"}
    assert render("echo {text}", params) == "echo 'it'\"'\"'s; rm -rf /'"
    assert render(("echo", "x={text}"), params) == ("echo", "x=it's; rm -rf /")


@pytest.mark.parametrize(
    ("run", "result"),
    [
        ("${epochs} $HOME ${HOME}", "${epochs} $HOME ${HOME}"),
        ("{{epochs}}", "{epochs}"),
        ("{{{epochs}}}", "{5}"),
        ("${A:-${B}} {epochs}", "${A:-${B}} 5"),
        ("${A:-{epochs}}", "${A:-5}"),
        ("${{epochs}}", "${epochs}"),
        ("awk '{{print $1}}'", "awk '{print $1}'"),
        ("awk '{print $1}' a{b,c} {}", "awk '{print $1}' a{b,c} {}"),
        ("$${epochs}", "$${epochs}"),
        ("{epochs}{epochs}", "55"),
        ("x}} }", "x} }"),
    ],
)
def test_braces(run, result):
    assert render(run, {"epochs": 5}) == result


def test_braces_follow_the_same_rules_in_a_list():
    assert render(("a{{b}}", "${c}", "{d}"), {"d": 1}) == ("a{b}", "${c}", "1")


def test_an_unknown_placeholder_names_the_nearest_param():
    with pytest.raises(SpecError) as caught:
        render("train {epoch}", {"epochs": 5, "lr": 1})
    assert caught.value.message == "unknown placeholder 'epoch'; did you mean 'epochs'?"
    assert "epochs, lr" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (False, "false"), (None, "null"), (5, "5"), (5.0, "5.0"), (0.001, "0.001"),
     (1e22, "1e+22"), (1e-5, "1e-05"), (-3, "-3"), ("as it is", "as it is"),
     ("", ""), (10**19, "10000000000000000000")],
)  # fmt: skip
def test_a_value_is_shown_as_in_json_and_a_text_without_quotes(value, text):
    assert show(value) == text


def test_arguments_are_appended_quoted_to_a_string_and_as_they_are_to_a_list():
    assert render("python a.py\n", {}, ("--x", "a b", "{y}")) == "python a.py --x 'a b' '{y}'"
    assert render(("python",), {}, ("a b", "{y}")) == ("python", "a b", "{y}")


@pytest.mark.parametrize("run", ['echo "{x}"', "echo '{x}'", 'echo "a $(b) {x}"', "a # don't\necho '{x}'"])
def test_a_value_that_needs_quotes_is_refused_inside_quotes(run):
    with pytest.raises(SpecError, match=r"\{x\} stands inside quotes"):
        render(run, {"x": "$(touch /tmp/never)"})


@pytest.mark.parametrize("run", ['echo "{x}"', "python -c 'print({x})'"])
def test_a_value_that_needs_no_quotes_may_stand_inside_them(run):
    assert render(run, {"x": 5}) == run.replace("{x}", "5")


@pytest.mark.parametrize(
    "run", ["echo \"a\" {x} 'b'", 'echo \\" {x}', "# don't\necho {x}", "echo it\\'s {x}"]
)
def test_closed_quotes_escapes_and_comments_are_understood(run):
    assert shlex.quote("a b") in render(run, {"x": "a b"})


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20))
def test_the_shell_gives_the_job_exactly_the_value(value):
    command = render("printf %s {x}", {"x": value})
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=True).stdout == value.encode()


@given(st.text(), st.dictionaries(st.from_regex("[a-z_]{1,3}", fullmatch=True), scalars))
def test_render_ends_with_a_text_or_a_spec_error(run, params):
    with contextlib.suppress(SpecError):
        assert isinstance(render(run, params), str)


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [(5, "10", 10), (5, "-1", -1), (0.1, "1e-4", 1e-4), (0.1, "2", 2.0),
     (True, "false", False), ("a", "123", "123"),
     ("a", "", ""), ("a", "# x: y", "# x: y"), ("a", "true", "true"), ("a", "k=v", "k=v"),
     (None, "5", 5), (None, "", None),
     (None, "text", "text"), ("a", "NO", "NO"), ("a", "'quoted'", "quoted"), ("a", '"a b" c', '"a b" c')],
)  # fmt: skip
def test_an_override_is_of_the_default_s_type(default, text, value):
    result = override({"k": default}, [f"k={text}"])["k"]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("default", "text"),
    [(5, "1.5"), (5, "x"), (5, ""), (5, "true"), (5, "010"), (5, "1_000"), (0.1, "nope"),
     (0.1, ".inf"), (0.1, ".nan"),
     (0.1, "1e999"), (True, "yes"), (True, "1"), (None, "0o17"), (5, "null")],
)  # fmt: skip
def test_an_override_of_another_type_is_refused(default, text):
    with pytest.raises(SpecError, match="-p k: "):
        override({"k": default}, [f"k={text}"])


def test_an_unknown_param_names_the_nearest():
    with pytest.raises(SpecError, match="unknown param 'epoch'; did you mean 'epochs'"):
        override({"epochs": 5}, ["epoch=3"])


def test_an_override_needs_a_value():
    with pytest.raises(SpecError, match="no value"):
        override({"epochs": 5}, ["epochs"])


def test_the_last_override_wins_and_the_spec_s_params_stay():
    params = {"a": 1, "b": 2}
    assert override(params, ["a=3", "a=4"]) == {"a": 4, "b": 2}
    assert params == {"a": 1, "b": 2}
