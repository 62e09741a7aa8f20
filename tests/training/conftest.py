"""A data YAML, its dataset, and a cache folder of each test's own."""

from coco_sets import build, cache, coco

__all__ = ["build", "cache", "coco"]
