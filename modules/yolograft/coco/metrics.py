"""The official COCO numbers, by faster-coco-eval: the same that pycocotools computes."""

from __future__ import annotations

from typing import Any

import numpy as np

#: The file of a run that holds the numbers.
FILE = "coco_metrics.json"

_BOX = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
_POSE = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")

#: Names of the official numbers of each kind, in COCO's order.
NAMES = {"bbox": _BOX, "segm": _BOX, "keypoints": _POSE}

#: What is evaluated for each task, with the letter that Ultralytics gives it.
KINDS = {
    "detect": {"bbox": "B"},
    "segment": {"bbox": "B", "segm": "M"},
    "pose": {"bbox": "B", "keypoints": "P"},
}


def evaluate(
    truth: Any,
    rows: list[dict[str, Any]],
    kind: str,
    images: list[int],
    classes: list[int] | None = None,
    agnostic: bool = False,
    sigmas: list[float] | None = None,
) -> dict[str, float]:
    """Return the official numbers; -1 where there is nothing to find, as COCO has it.

    Args:
        truth: ``faster_coco_eval.COCO`` of the ground truth.
        rows: Predictions in COCO's results format.
        kind: ``bbox``, ``segm`` or ``keypoints``.
        images: Ids of the images that count.
        classes: Ids of the categories that count; all when ``None``.
        agnostic: Whether categories are ignored.
        sigmas: Of the keypoints.
    """
    return numbers(run(truth, rows, kind, images, classes, agnostic, sigmas), kind)


def run(
    truth: Any,
    rows: list[dict[str, Any]],
    kind: str,
    images: list[int],
    classes: list[int] | None,
    agnostic: bool,
    sigmas: list[float] | None,
) -> Any:
    """Return the evaluation as ``faster_coco_eval`` has it; for arguments see :func:`evaluate`."""
    from faster_coco_eval import COCO, COCOeval_faster

    kept, categories = truth.dataset["annotations"], truth.dataset["categories"]
    if kind == "keypoints":  # COCO does not use a pose without them
        kept = [row for row in kept if "keypoints" in row]
    if agnostic:  # one category; faster-coco-eval compares no poses with `useCats` off
        kept = [row for row in kept if classes is None or row["category_id"] in classes]
        kept, rows = ([{**row, "category_id": 1} for row in some] for some in (kept, rows))
        categories, classes = [{"id": 1, "name": "any"}], None
    if kind == "keypoints" or agnostic:
        truth = COCO({**truth.dataset, "annotations": kept, "categories": categories})
    if rows:
        found = truth.loadRes([dict(row) for row in rows])
    else:
        found = COCO({**truth.dataset, "annotations": []})
    extra = {"kpt_oks_sigmas": sigmas} if kind == "keypoints" and sigmas is not None else {}
    evaluation = COCOeval_faster(
        truth, found, iouType=kind, print_function=lambda *_: None, **extra
    )
    evaluation.params.imgIds = images
    if classes is None:  # faster-coco-eval leaves out categories that have no pose
        classes = [row["id"] for row in categories]
    evaluation.params.catIds = classes or [0]  # an empty list would stand for all
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def numbers(evaluation: Any, kind: str) -> dict[str, float]:
    """Return the official numbers of an evaluation by name.

    Args:
        evaluation: From :func:`run`.
        kind: ``bbox``, ``segm`` or ``keypoints``.
    """
    names = NAMES[kind]
    return dict(zip(names, map(float, evaluation.all_stats[: len(names)]), strict=True))


def per_class(evaluation: Any) -> list[dict[str, float | None]]:
    """Return AP and AP50 of each category, ``None`` where there is nothing to find.

    Args:
        evaluation: From :func:`run`.
    """
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return [
        {"AP": float(one.mean()), "AP50": float(one[0].mean())}
        if (one > -1).any()
        else {"AP": None, "AP50": None}
        for one in np.moveaxis(precision, 2, 0)  # IoU x recall each
    ]


def table(numbers: dict[str, dict[str, float]]) -> str:
    """Return the numbers as rows under Ultralytics' own table, in its format.

    Args:
        numbers: From :meth:`yolograft.coco.recorder.Recorder.evaluate`.
    """
    lines = []
    for kind, values in numbers.items():
        lines.append(f"{'COCO ' + kind:>22}" + "".join(f"{name:>8}" for name in values))
        lines.append(" " * 22 + "".join(f"{value:>8.3g}" for value in values.values()))
    return "\n".join(lines)
