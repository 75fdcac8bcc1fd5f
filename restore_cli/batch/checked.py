"""Checks of JSON values from files that anybody may have written.

A check returns the value or raises ValueError. Values are bounded in kind, size and count.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[object], Any]


def parse(text: str, longest: int) -> object:
    """Parse JSON of at most `longest` characters, without NaN and infinity. Raises ValueError."""
    if len(text) > longest:
        raise ValueError(f"it has {len(text):,} characters, at most {longest:,} are read")
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def fields(row: object, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return the fields of an object, each by its check; a field that is missing counts as null.

    Raises ValueError, also for a field that has no check.
    """
    if not isinstance(row, dict):
        raise ValueError("an object is missing")
    if unknown := row.keys() - checks.keys():
        raise ValueError(f"unknown field {min(unknown)[:40]!r}")
    checked = {}
    for name, check in checks.items():
        try:
            checked[name] = check(row.get(name))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return checked


def text(longest: int) -> Check:
    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > longest:
            raise ValueError(f"expected a text of at most {longest} characters")
        return value

    return check


def matching(pattern: str) -> Check:
    def check(value: object) -> str:
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise ValueError(f"expected a text like {pattern}")
        return value

    return check


def integer(minimum: int, maximum: int) -> Check:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            raise ValueError(f"expected a whole number from {minimum} to {maximum}")
        return value

    return check


def number(minimum: float, maximum: float) -> Check:
    def check(value: object) -> float:
        if (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and minimum <= value <= maximum
        ):
            return value
        raise ValueError(f"expected a number from {minimum:g} to {maximum:g}")

    return check


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def one_of(*words: str) -> Check:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError(f"expected one of {', '.join(words)}")
        return value

    return check


def any_of(first: Check, second: Check) -> Check:
    def check(value: object) -> Any:
        try:
            return first(value)
        except ValueError:
            return second(value)

    return check


def optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def list_of(check: Check, minimum: int, maximum: int) -> Check:
    def check_list(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list) or not minimum <= len(value) <= maximum:
            raise ValueError(f"expected a list of {minimum} to {maximum}")
        return tuple(map(check, value))

    return check_list
