"""Placeholders in `run`, and params given on the command line: pure text to text.

A value appears in a command as it would in JSON, a text without its quotes: `true`, `null`, `5`, `0.001`,
`1e-05`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence

from launcher.errors import SpecError
from launcher.job.scalars import resolve
from launcher.job.spec import Scalar
from launcher.job.units import shown

Run = str | tuple[str, ...]

_TOKEN = re.compile(r"\$\{(?!\{)|\{\{|\}\}|(?<!\$)\{([A-Za-z_][A-Za-z0-9_]*)\}|\}")


def render(run: Run, params: Mapping[str, Scalar], args: Sequence[str] = ()) -> Run:
    """Placeholders replaced and `args` appended: shell-quoted in a string, as they are in a list."""
    values = {name: show(value) for name, value in params.items()}
    if isinstance(run, tuple):
        return (*(_fill(part, values) for part in run), *args)
    for name, value in values.items():
        if value != shlex.quote(value):
            _refuse_quoted(run, name)
    text = _fill(run, {name: shlex.quote(value) for name, value in values.items()})
    return " ".join([text.rstrip("\n"), *map(shlex.quote, args)]) if args else text


def show(value: Scalar) -> str:
    """A param as it stands in a command."""
    return value if isinstance(value, str) else json.dumps(value)


def override(params: Mapping[str, Scalar], given: Iterable[str]) -> dict[str, Scalar]:
    """`params` with each `key=value` of `given` put in; the value must be of the default's type."""
    result = dict(params)
    for text in given:
        name, sep, value = text.partition("=")
        if not sep:
            raise SpecError(f"-p {shown(text)}: no value", f"write -p {name or 'key'}=value")
        if name not in params:
            raise _unknown("param", name, params)
        result[name] = _like(params[name], name, value)
    return result


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Left to right. Inside `${…}` a brace belongs to the shell, so that `${A:-${B}}` stays whole."""
    result, end, depth = [], 0, 0
    position = 0
    while found := _TOKEN.search(text, position):
        token, position = found[0], found.end()
        result.append(text[end : found.start()])
        if token == "${":
            depth += 1
        elif token.startswith("}") and depth:
            depth, token, position = depth - 1, "}", found.start() + 1
        elif token in ("{{", "}}"):
            token = token[0]
        elif name := found[1]:
            if name not in values:
                raise _unknown("placeholder", name, values)
            token = values[name]
        result.append(token)
        end = position
    return "".join(result) + text[end:]


def _unknown(what: str, name: str, known: Iterable[str]) -> SpecError:
    import difflib  # 6 ms, for mistakes only

    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    said = f"; did you mean {near[0]!r}?" if near else ""
    hint = f"the params are {', '.join(names)}" if names else "the job has no params"
    if what == "placeholder":
        hint += "; braces that mean themselves are doubled: {{ }}"
    return SpecError(f"unknown {what} {shown(name)}{said}", hint)


def _like(default: Scalar, name: str, text: str) -> Scalar:
    """`text` as a YAML scalar of the default's type."""
    if isinstance(default, str):
        return _unquoted(text)
    value, odd = resolve(text.strip())
    kinds: tuple[type, ...] = (type(default),)
    if isinstance(default, float):
        kinds = (float, int)
    if default is None:
        kinds = (str, int, float, bool, type(None))
    finite = not isinstance(value, float) or abs(value) < float("inf")
    if odd or type(value) not in kinds or not finite:
        raise SpecError(
            f"-p {name}: {shown(text)} is not {_words(default)}", f"the default is {show(default)}"
        )
    return float(value) if isinstance(default, float) and isinstance(value, int) else value


def _unquoted(text: str) -> str:
    """A text for a text stands as it is, `# a: b` too; only quotes around the whole of it are YAML's."""
    if re.fullmatch(r"'([^']|'')*'", text):
        return text[1:-1].replace("''", "'")
    return text[1:-1] if re.fullmatch(r'"[^"\\]*"', text) else text


def _words(default: Scalar) -> str:
    if isinstance(default, bool):
        return "true or false"
    return {int: "a whole number", float: "a number"}.get(type(default), "a value that YAML reads in one way")


def _refuse_quoted(run: str, name: str) -> None:
    """A quoted value inside quotes would lose its quotes, and its `$(…)` would run."""
    for found in re.finditer(rf"(?<![${{])\{{{name}\}}", run):
        if _in_quotes(run[: found.start()]):
            hint = f"remove the quotes around {{{name}}}: launcher quotes the value itself"
            raise SpecError(f"the placeholder {{{name}}} stands inside quotes", hint)


def _in_quotes(before: str) -> bool:
    """Whether a shell that has read `before` is inside '…' or "…"."""
    parts = r"""\\.|'[^']*'|"(\\.|[^"\\])*"|(?<![^\s;&|(])\#[^\n]*|[^'"\\]"""
    rest = re.sub(parts, "", before, flags=re.DOTALL)
    return rest[:1] in ("'", '"')
