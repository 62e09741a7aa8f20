"""A progress bar for what takes longer than a moment."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Ultralytics' progress bar, shown after half a second, by the first process alone.

    Args:
        desc: What is being done.
        total: How much there is to do.
        unit: ``"it"``, or ``"B"`` for bytes.
    """

    def __init__(self, desc: str, total: int, unit: str = "it"):
        self._options = {"desc": desc, "total": total, "unit": unit}
        self._began, self._done, self._bar = time.monotonic(), 0, None

    def update(self, count: int = 1) -> None:
        """Add to what is done.

        Args:
            count: How much.
        """
        from ultralytics.utils import LOCAL_RANK, TQDM

        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif LOCAL_RANK < 1 and time.monotonic() - self._began > 0.5:
            self._bar = TQDM(**self._options, initial=self._done)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error) -> None:
        if self._bar is not None:
            self._bar.close()


def over(items: Iterable[T], desc: str, total: int, step: int = 256) -> Iterator[T]:
    """Yield items under a progress bar.

    Args:
        items: What to yield.
        desc: What is being done.
        total: How many items there are.
        step: Items between two updates of the bar.
    """
    with Progress(desc, total) as bar:
        for i, item in enumerate(items, 1):
            yield item
            if i % step == 0:
                bar.update(step)
        bar.update(total % step)
