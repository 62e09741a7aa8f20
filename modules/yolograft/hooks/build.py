"""Wrap ``build_yolo_dataset``: a data YAML that names COCO JSON gets the dataset that reads it."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType


def make(build: ModuleType, original: Callable) -> Callable:
    """Return a ``build_yolo_dataset`` that reads COCO JSON too.

    Args:
        build: ``ultralytics.data.build``.
        original: The function to wrap.
    """

    def build_yolo_dataset(cfg, img_path, batch, data, *args, **kwargs):
        from yolograft.coco.config import KEY

        if KEY not in data:
            return original(cfg, img_path, batch, data, *args, **kwargs)
        from yolograft.coco import dataset

        return dataset.build(original, cfg, img_path, batch, data, *args, **kwargs)

    return build_yolo_dataset
