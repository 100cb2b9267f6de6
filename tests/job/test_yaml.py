"""The small and strict part of YAML that job.yaml uses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import SpecError
from launcher.job.yaml import MAX_BYTES, read


def value_of(text: str):
    return read(f"x: {text}\n".encode(), "job.yaml").value["x"]


def refused(data: bytes | str) -> SpecError:
    with pytest.raises(SpecError) as caught:
        read(data.encode() if isinstance(data, str) else data, "job.yaml")
    assert caught.value.hint
    assert caught.value.message.isprintable()
    return caught.value


@pytest.mark.parametrize(
    ("text", "value"),
    [("NO", "NO"), ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("y", "y"), ("1:30", "1:30"),
     ("2024-01-01", "2024-01-01"), ("=", "="), ("1.2.3", "1.2.3"), ("1e-3", 1e-3), ("1e3", 1000.0),
     (".5", 0.5), ("5", 5), ("-5", -5), ("0", 0), ("0x1F", 31), ("5.0", 5.0), ("true", True),
     ("False", False), ("null", None), ("~", None), ("", None), ('"5"', "5"), ("'true'", "true"), ('""', ""),
     ("a b", "a b"), ("é", "é")],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text, value):
    node = value_of(text)
    assert node.value == value
    assert type(node.value) is type(value)
    assert not node.odd


@pytest.mark.parametrize("text", ["010", "0o17", "0b11", "1_000", "-017", "0x_1", "9" * 5000, "1_0.5"])
def test_numbers_on_which_yaml_versions_disagree_are_kept_as_text_and_marked(text):
    node = value_of(text)
    assert (node.value, node.odd) == (text, True)


def test_quoted_text_is_never_odd():
    assert not value_of("'010'").odd


def test_nodes_know_their_lines_and_paths():
    node = read(b"# c\na:\n  b: 1\n  c:\n    - x\n    - y\n", "job.yaml")
    assert node.key_lines == {"a": 2}
    inner = node.value["a"].value["c"].value[1]
    assert (inner.line, inner.path) == (6, "a.c[1]")
    assert node.value["a"].at("c").line == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "job.yaml:2: duplicate key 'a' (first on line 1)"),
        ("a: 1\n'a': 2\n", "job.yaml:2: duplicate key 'a'"),
        ("a: &x 1\n", "job.yaml:1: the anchor &x is not allowed"),
        ("a: 1\nb: *x\n", "job.yaml:2: the alias *x is not allowed"),
        ("a: !!str 1\n", "job.yaml:1: the tag 'tag:yaml.org,2002:str' is not allowed"),
        ("a: !!python/object:os.system x\n", "is not allowed"),
        ("a: ! x\n", "job.yaml:1: the tag '!' is not allowed"),
        ("a: 1\n---\nb: 2\n", "job.yaml:2: a second document"),
        ("", "job.yaml:1: the file is empty"),
        ("# only a comment\n", "the file is empty"),
        ("a: [1, 2\n", "not valid YAML"),
        ("a: b: c\n", "job.yaml:1: not valid YAML: mapping values are not allowed"),
        ("a:\n\tb: 1\n", "job.yaml:2: not valid YAML"),
        ("? [a]\n: 1\n", "a key must be a word"),
        ("? {a: 1}\n: 1\n", "a key must be a word"),
        ('a: "\\0"\n', "job.yaml:1: a character"),
        ('a: "\\ud800"\n', "job.yaml:1: a character"),
        ('a: "\\UFFFFFFFF"\n', "a bad escape"),
        ("a: 1\nb: \x07\n", "job.yaml:2: the character 0x7 is not allowed"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("- " * 100_000, "nested too deeply"),
        ("? " * 100_000, "nested too deeply"),
    ],
)
def test_what_is_not_allowed_is_named_with_its_line(text, said):
    assert said in refused(text).message


def test_tabs_are_named_in_the_hint():
    assert "spaces" in refused("a:\n\tb: 1\n").hint


def test_the_file_must_be_utf_8():
    assert refused(b"a: 1\nb: \xff\n").message == "job.yaml:2: not UTF-8"
    assert refused("a: 1\n".encode("utf-16")).message.startswith("job.yaml:1: ")


def test_a_byte_order_mark_and_windows_line_ends_are_fine():
    assert read(b"\xef\xbb\xbfa: 1\r\nb: two\r\n", "job.yaml").plain() == {"a": 1, "b": "two"}


def test_more_than_one_mebibyte_is_refused():
    assert "1 MiB" in refused(b"#" * (MAX_BYTES + 1)).message


finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=8)
words = st.from_regex("[a-z]{1,5}", fullmatch=True)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | finite | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner),
    max_leaves=8,
)


@given(st.dictionaries(words, values, max_size=3))
def test_json_reads_as_itself(value):
    assert read(json.dumps(value, ensure_ascii=False).encode(), "job.yaml").plain() == value
