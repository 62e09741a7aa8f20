"""Wrap ``build_yolo_dataset``: a data YAML that names COCO JSON gets the dataset that reads it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType

from yolograft.errors import refuse
from yolograft.ultra import with_globals


def make(build: ModuleType, original: Callable) -> Callable:
    """Return a ``build_yolo_dataset`` that knows COCO JSON.

    Args:
        build: ``ultralytics.data.build``.
        original: The function to wrap.
    """

    def build_yolo_dataset(cfg, img_path, batch, data, *args, **kwargs):
        from yolograft.coco.config import KEY

        if KEY not in data:
            return original(cfg, img_path, batch, data, *args, **kwargs)
        from yolograft.coco.dataset import CocoDataset

        if kwargs.get("multi_modal") or cfg.task not in ("detect", "segment", "pose"):
            refuse(
                f"{data[KEY]['yaml']}: COCO JSON is read for detect, segment and pose, not for "
                f"{'text prompts' if kwargs.get('multi_modal') else cfg.task}",
                "use label files for that task",
            )
        build_ours = with_globals(inspect.unwrap(original), YOLODataset=CocoDataset)
        return build_ours(cfg, img_path, batch, data, *args, **kwargs)  # with the host's defaults

    return build_yolo_dataset
