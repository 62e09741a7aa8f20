"""The dataset of RT-DETR, fed with COCO JSON."""

from __future__ import annotations

from ultralytics.models.rtdetr.val import RTDETRDataset

from yolograft.coco.dataset import CocoDataset


class CocoRTDETRDataset(CocoDataset, RTDETRDataset):
    """Images and targets of one split, in the squares that RT-DETR wants."""
