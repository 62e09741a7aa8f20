"""Ultralytics' dataset, fed with COCO JSON."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_file_speeds
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER

from yolograft.coco import images, scan
from yolograft.coco.arrays import Index
from yolograft.coco.categories import check_categories, line_up
from yolograft.coco.config import KEY
from yolograft.coco.index import open_index
from yolograft.coco.labels import make_labels
from yolograft.coco.report import Report
from yolograft.coco.sample import Sample
from yolograft.errors import refuse
from yolograft.ultra import with_globals

#: Shares of missing images above which a data set is refused.
MISSING_SHARE = 0.05

_LOST = {
    scan.MISSING: "missing images",
    scan.BROKEN: "files that Ultralytics cannot read as images",
    scan.TINY: "images of less than 10 pixels, which Ultralytics refuses",
}


def build(stock: Callable, cfg: Any, img_path: Any, batch: int, data: dict, *args, **kwargs) -> Any:
    """Return the dataset of a split, built by the stock function with its own defaults.

    Args:
        stock: Ultralytics' ``build_yolo_dataset``.
        cfg: As for that function, like the rest.
        img_path: JSON file, or several.
        batch: Batch size.
        data: Data dictionary of a YAML that names COCO JSON.
        *args: More of that function.
        **kwargs: More of that function.

    Raises:
        ConfigError: If the task cannot be trained on COCO JSON.
    """
    task = "text prompts" if kwargs.get("multi_modal") else cfg.task
    if task not in ("detect", "segment", "pose"):
        refuse(
            f"{data[KEY]['yaml']}: COCO JSON is read for detect, segment and pose, not for {task}",
            "use label files for that task",
        )
    build_ours = with_globals(inspect.unwrap(stock), YOLODataset=CocoDataset)
    return build_ours(cfg, img_path, batch, data, *args, **kwargs)


class CocoDataset(YOLODataset):
    """Images and targets of one split, as COCO JSON has them.

    The targets are those that label files written at full precision would give: the same images in
    the same order, the same annotations in the same order, duplicates removed alike. Annotations
    that cannot be used are dropped one by one, and counted in one message.

    Attributes:
        samples: The images, by path.
        indexes: The split's JSON files.
        targets: The labels with the data's class numbers, all of them, where it validates.
        order: What :meth:`number_as` has returned last.
        report: What was dropped or changed.
    """

    order: dict[int, int] | None = None

    def __init__(self, *args, hyp: Any = DEFAULT_CFG, **kwargs):
        self.copy_paste = getattr(hyp, "copy_paste", 0.0)
        super().__init__(*args, hyp=hyp, **kwargs)

    @property
    def categories(self) -> list[int | str]:
        """The categories' ids in the order of the classes."""
        return list(self.data[KEY]["categories"])

    @property
    def files(self) -> str:
        """The JSON files, for messages."""
        return ", ".join(str(index.file) for index in self.indexes)

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Return the image files of a split's JSON files, by path.

        Args:
            img_path: JSON file, or several.

        Raises:
            ConfigError: If a JSON or its images cannot be used.
        """
        files = [Path(one) for one in (img_path if isinstance(img_path, list) else [img_path])]
        self.report = Report()
        self.indexes: list[Index] = []
        self.samples: list[Sample] = []
        for number, file in enumerate(files):
            index = open_index(file)
            check_categories(index, self.data[KEY])
            if self.use_keypoints and index.poses.shape[1] != self.data["kpt_shape"][0]:
                refuse(
                    f"{file}: {index.poses.shape[1]} keypoints, not {self.data['kpt_shape'][0]}",
                    "pose needs a JSON with keypoints; leave `kpt_shape` out",
                )
            self.indexes.append(index)
            paths, other = images.paths(index, self.data[KEY]["images"].get(str(file)))
            self.samples += [
                Sample(path, number, place, key)
                for place, (path, key) in enumerate(zip(paths, index.ids, strict=True))
            ]
            alone = sum(one.name == file.name for one in files) == 1
            self.report.merge(index.report, file.name if alone else str(file))
            self.report.add("notes", "images found under another spelling of their name", other)
        self.samples.sort(key=lambda sample: sample.path)
        part = self.fraction
        whole = isinstance(part, float) or part == 1
        self.samples = self.samples[: max(round(len(self.samples) * part), 1) if whole else part]
        return [sample.path for sample in self.samples]

    def get_labels(self) -> list[dict[str, Any]]:
        """Return Ultralytics' label of each image that can be used.

        Raises:
            ConfigError: If too many images are missing, or nothing is left to train on.
        """
        self._look()
        self.im_files = [sample.path for sample in self.samples]
        check_file_speeds(self.im_files, prefix=self.prefix)  # it opens files, of any kind
        labels = self.make_labels(
            self.report,
            # Without polygons, copy-paste leaves poses alone: it would not swap left and right.
            outlines=self.use_segments
            or bool(self.augment and self.copy_paste and not self.use_keypoints),
            tight=self.use_segments,
            poses=self.use_keypoints,
            prefix=self.prefix,
        )
        self._announce(labels)
        if not self.augment:
            for i, label in enumerate(labels):
                label["sample"] = i  # the COCO metrics ask which image a prediction is of
            self.targets = [dict(label) for label in labels]
        return labels

    def make_labels(self, report: Report, **options) -> list[dict[str, Any]]:
        """Return the label of each sample.

        Args:
            report: Where issues are counted.
            **options: See :func:`yolograft.coco.labels.make_labels`.
        """
        labels: list[dict[str, Any]] = [{} for _ in self.samples]
        places = {key: i for i, key in enumerate(self.categories)}
        for number, index in enumerate(self.indexes):
            own = [i for i, sample in enumerate(self.samples) if sample.source == number]
            samples, numbers = [self.samples[i] for i in own], [places[k] for k in index.categories]
            made = make_labels(index, samples, numbers, report, **options)
            for i, label in zip(own, made, strict=True):
                labels[i] = label
        return labels

    def number_as(
        self, names: dict[int, str] | list[str], classes: list[int] | None
    ) -> dict[int, int]:
        """Give the targets the class numbers of a model, which are found by name.

        Args:
            names: Class names of the model, by number.
            classes: The data's classes that count; all when ``None``.

        Returns:
            The model's number of each class -> the data's.

        Raises:
            ConfigError: If the model lacks a class that has targets.
        """
        wanted = range(len(self.categories)) if classes is None else classes
        used = {int(c) for label in self.targets for c in label["cls"].ravel()} & {*wanted}
        own = list(map(str, self.data["names"].values()))
        known = [str(n) for n in (names.values() if isinstance(names, dict) else names)]
        places = line_up(own, known, sorted(used), self.files)
        table = np.array(places, dtype=np.float32)
        self.labels = [dict(self.targets[label["sample"]]) for label in self.labels]
        for label in self.labels:
            label["cls"] = table[label["cls"].astype(int)]
        self.update_labels([places[i] for i in wanted])
        self.order = {place: i for i, place in enumerate(places) if place >= 0}
        return self.order

    def _look(self) -> None:
        """Keep the images that can be read, with their sizes."""
        state, size, turn = scan.inspect(self.im_files, self.prefix)
        lost = {code: [self.samples[i] for i in np.flatnonzero(state == code)] for code in _LOST}
        missing, count = lost[scan.MISSING], len(state)
        if len(missing) > MISSING_SHARE * count and not self.data[KEY]["allow_missing"]:
            refuse(
                f"{self.files}: {len(missing)} of {count} images are missing: "
                f"{'; '.join(map(str, missing[:5]))}{', ...' if len(missing) > 5 else ''}",
                "correct `images:` in the data YAML, or leave them out: `allow_missing: true` "
                "there, or --allow-missing of the yolograft command",
            )
        for code, reason in _LOST.items():
            self.report.add("images", reason, map(str, lost[code]))
            rows = [self.indexes[one.source].rows(one.place) for one in lost[code]]
            count = sum(one.stop - one.start for one in rows)
            self.report.add("dropped", f"annotations of {reason}", map(str, lost[code]), count)
        cut = [str(self.samples[i]) for i in np.flatnonzero(state == scan.CUT)]
        self.report.add("notes", "JPEG files that end early: read as they are", cut)
        good = np.flatnonzero((state == scan.GOOD) | (state == scan.CUT)).tolist()
        if not good:
            refuse(f"{self.files}: no image is left", f"see why:\n{self.report}")
        for i in good:
            one = self.samples[i]
            index = self.indexes[one.source]
            one.settle(tuple(size[i].tolist()), int(turn[i]), index, self.report)
        self.samples = [self.samples[i] for i in good]

    def _announce(self, labels: list[dict[str, Any]]) -> None:
        """Report once what the split holds and what was left out."""
        counts = [len(label["cls"]) for label in labels]
        crowds = sum(index.crowds for index in self.indexes)
        log = LOCAL_RANK in {-1, 0}
        if log:
            LOGGER.info(
                f"{self.prefix}{self.files}: {len(counts)} images, {counts.count(0)} of them "
                f"backgrounds, {sum(counts)} boxes; {crowds} crowd regions are kept for the COCO "
                "metrics only"
            )
        if log and self.report:
            LOGGER.warning(f"{self.prefix}{self.files}\n{self.report}")
        if any(counts):
            return
        if self.augment:
            refuse(
                f"{self.files}: no annotation to train on",
                "see the counts above" if self.report else "name the JSON that has the boxes",
            )
        if log:
            why = " (there is no list of `annotations`, as in test sets): predictions.json is "
            why += "written, without COCO numbers"
            why = "" if all(index.annotated for index in self.indexes) else why
            LOGGER.warning(f"{self.prefix}{self.files}: no annotation to validate against{why}")
