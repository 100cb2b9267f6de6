"""Frozen dataclasses to plain JSON values and back, checked by their own type hints."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from launcher.errors import IntegrityError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Dicts, lists, strings, numbers, booleans and None; a Decimal becomes its text."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Decimal) else value


def from_plain(cls: type[T], plain: Any, where: str) -> T:
    """The dataclass again. A missing key (an older record) has its default; an unknown one is refused."""
    if not isinstance(plain, Mapping):
        raise _bad(where, "is not an object")
    hints = typing.get_type_hints(cls)
    unknown = sorted(str(key) for key in plain if key not in hints)
    if unknown:
        raise IntegrityError(
            f"{where}: unknown key {unknown[0]!r} in the record",
            "it was written by a newer launcher: upgrade this one",
        )
    try:
        return cls(**{key: _typed(hints[key], item, f"{where}.{key}") for key, item in plain.items()})
    except TypeError as e:  # a key without default is missing
        raise _bad(where, "lacks a required key") from e


def _typed(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if is_dataclass(hint):
        return from_plain(typing.cast(type, hint), value, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _one_of(args, value, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_typed(args[0], item, where) for item in value)
    if origin is typing.Literal and value in args:
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {key: _typed(args[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(hint, value, where)


def _one_of(hints: tuple[Any, ...], value: Any, where: str) -> Any:
    problem = _bad(where, "has a wrong type")
    for hint in hints:
        try:
            return _typed(hint, value, where)
        except IntegrityError as e:
            problem = e
    raise problem


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Decimal and isinstance(value, str):
        try:
            return Decimal(value)
        except InvalidOperation as e:
            raise _bad(where, "is not a number") from e
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:  # exact: True is no int here
        return value
    raise _bad(where, "has a wrong type")


def _bad(where: str, what: str) -> IntegrityError:
    return IntegrityError(f"{where} {what}", "the record is damaged, or was not written by launcher")
