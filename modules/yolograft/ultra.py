"""What we call in Ultralytics. Our own code calls Ultralytics' own builders, never our hooks."""

from __future__ import annotations

from types import FunctionType
from typing import Any


class Misfit(Exception):
    """A host function that no longer looks as the wrap expects it."""


def with_globals(function: FunctionType, **others: Any) -> FunctionType:
    """Return a copy of a function that sees other objects under some of its global names.

    Args:
        function: Of the host, which stays as it is.
        **others: The names and what they are to mean.

    Raises:
        Misfit: If the function does not use a name.
    """
    for name in others:
        if name not in function.__code__.co_names:
            msg = f"{function.__qualname__} does not use {name}"
            raise Misfit(msg)
    copy = FunctionType(
        function.__code__,
        {**function.__globals__, **others},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
