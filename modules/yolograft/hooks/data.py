"""Wrap ``check_file`` and ``check_det_dataset``, by which Ultralytics looks up a data YAML.

The pack's own data YAMLs are found by bare name, and a data YAML can name COCO JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def make(utils: ModuleType, original: Callable) -> Callable:
    """Return a ``check_file`` that looks into the pack's ``cfg/data`` too.

    Args:
        utils: ``ultralytics.data.utils``.
        original: The function to wrap.
    """

    def check_file(file, *args, **kwargs):
        from yolograft.coco.config import shipped

        ours = shipped(str(file))
        return str(ours) if ours else original(file, *args, **kwargs)

    return check_file


def make_check(utils: ModuleType, original: Callable) -> Callable:
    """Return a ``check_det_dataset`` that takes names and more from COCO JSON.

    Args:
        utils: ``ultralytics.data.utils``.
        original: The function to wrap.
    """

    def check_det_dataset(dataset, autodownload=True, *args, **kwargs):
        from yolograft.coco.config import check_data

        return check_data(dataset, autodownload, *args, stock=original, **kwargs)

    return check_det_dataset
