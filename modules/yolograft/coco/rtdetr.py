"""The dataset of RT-DETR, fed with COCO JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ultralytics.models.rtdetr.val import RTDETRDataset

from yolograft.coco.dataset import CocoDataset
from yolograft.ultra import with_globals


class CocoRTDETRDataset(CocoDataset, RTDETRDataset):
    """Images and targets of one split, in the squares that RT-DETR needs."""


def build(stock: Callable, owner: Any, *args: Any, **kwargs: Any) -> CocoRTDETRDataset:
    """Return the dataset of a split, built by the stock function with its own arguments.

    Args:
        stock: ``build_dataset`` of RT-DETR's trainer or validator.
        owner: The trainer or validator.
        *args: As for that function.
        **kwargs: As for that function.
    """
    return with_globals(stock, RTDETRDataset=CocoRTDETRDataset)(owner, *args, **kwargs)
