"""One kind of error for what a user can correct: a fact, then a hint."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NoReturn


class ConfigError(ValueError):
    """A model or data YAML, COCO JSON, or a registered block that cannot be used as it is."""


def refuse(fact: str, hint: str = "", error: type[ConfigError] = ConfigError) -> NoReturn:
    """Raise a :class:`ConfigError` that says what is wrong, then what to do.

    Args:
        fact: File, row, block and value.
        hint: The remedy.
        error: The class to raise.

    Raises:
        ConfigError: Always.
    """
    msg = f"{fact}\n\nHint: {hint}" if hint else fact
    raise error(msg)


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return ``did you mean X?`` for the nearest candidate, or an empty string."""
    by_lower = {c.lower(): c for c in candidates}
    match = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return f"did you mean {by_lower[match[0]]}?" if match else ""
