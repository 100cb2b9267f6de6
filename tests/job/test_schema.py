"""The JSON Schema: twin of the example, and of one mind with the parser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from launcher.errors import SpecError
from launcher.job import keys, yaml
from launcher.job.parse import parse, read_section
from launcher.job.schema import schema
from tests.job.mistakes import BAD
from tests.job.test_parse import EXAMPLE, VALUES, WORDS

SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def plain(text: str) -> Any:
    return yaml.read(text.encode(), "job.yaml").plain()


def paths(section: keys.Section = keys.JOB, prefix: str = "") -> set[str]:
    found = set()
    for name, key in section.keys.items():
        found.add(prefix + name)
        if isinstance(key.kind, keys.Section):
            found |= paths(key.kind, f"{prefix}{name}.")
    return found


def schema_paths(part: dict[str, Any], prefix: str = "") -> set[str]:
    found = set()
    for name, inner in part.get("properties", {}).items():
        found.add(prefix + name)
        for one in inner.get("anyOf", [inner]):
            found |= schema_paths(one, f"{prefix}{name}.")
    return found


def test_the_schema_is_a_valid_schema_of_plain_json():
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_the_schema_has_every_key_and_a_description_of_each():
    assert schema_paths(SCHEMA) == paths()
    assert all(key.doc for key in keys.JOB.keys.values())


def test_the_example_is_valid_and_shows_every_key():
    text = EXAMPLE.read_text()
    VALIDATOR.validate(plain(text))
    shown = re.sub(r"(?m)^  # (image|dockerfile): .*", r"  \1: x", text)
    assert set(_keys_of(plain(shown))) == paths()


def test_an_alternative_that_the_example_shows_as_a_comment_is_valid_too():
    for key in ("image", "dockerfile"):
        value = re.search(rf"(?m)^  # {key}: (\S+)", EXAMPLE.read_text())
        assert value
        written = value[1].replace("0f1e…", "0f1e" * 16)
        parse(f"name: a\nrun: x\nenvironment: {{{key}: {written}}}\n")


def _keys_of(value: dict[str, Any]):
    sections = {name for name, key in keys.JOB.keys.items() if isinstance(key.kind, keys.Section)}
    for name, inner in value.items():
        yield name
        if name in sections:
            yield from (f"{name}.{key}" for key in inner)


def test_the_defaults_of_the_table_are_those_of_the_spec():
    written: dict[str, Any] = {}
    for name, key in keys.JOB.keys.items():
        if isinstance(key.kind, keys.Section):
            written[name] = {n: plain(k.default) for n, k in key.kind.keys.items() if k.default}
        elif key.default:
            written[name] = plain(key.default)
    text = json.dumps({"name": "a", "run": "x", **written})
    assert parse(text) == parse("name: a\nrun: x\n")
    assert written["limits"]["time"] == "6h"


def test_what_is_not_in_the_table_has_no_default():
    for section in [keys.JOB, *(k.kind for k in keys.JOB.keys.values() if isinstance(k.kind, keys.Section))]:
        made = read_section(section, yaml.read(b"{name: a, run: x}" if section is keys.JOB else b"{}", "x"))
        for name, key in section.keys.items():
            if not key.default and name not in section.required and not isinstance(key.kind, keys.Section):
                assert getattr(made, key.field or name) is None


@pytest.mark.parametrize("name", BAD)
def test_what_the_parser_refuses_the_schema_refuses_too(name):
    assert not VALIDATOR.is_valid(plain(BAD[name][0]))


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(WORDS, VALUES | WORDS, max_size=3))
def test_what_the_parser_accepts_the_schema_accepts(values):
    text = json.dumps({"name": "a", "run": "b", **values})
    try:
        parse(text)
    except SpecError:
        return
    VALIDATOR.validate(plain(text))


def test_the_manual_names_every_key_and_its_default():
    rows = re.findall(
        r"(?m)^\| `([a-z.]+)` \|.*", (Path(__file__).parents[2] / "docs" / "spec.md").read_text()
    )
    assert set(rows) == paths()
    assert len(rows) == len(set(rows))
