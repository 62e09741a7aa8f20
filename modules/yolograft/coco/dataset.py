"""Ultralytics' dataset, fed with COCO JSON."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ultralytics import __version__
from ultralytics.data.converter import merge_multi_segment
from ultralytics.data.dataset import YOLODataset
from ultralytics.data.utils import check_file_speeds
from ultralytics.utils import DEFAULT_CFG, LOCAL_RANK, LOGGER
from ultralytics.utils.ops import segments2boxes

from yolograft.coco import images, rle
from yolograft.coco.config import KEY, check_categories, line_up
from yolograft.coco.index import Index, Progress, open_index
from yolograft.coco.report import Report
from yolograft.errors import refuse

#: Whether this Ultralytics tells duplicates by their polygons, which also orders what is left.
BY_POLYGON = [*map(int, re.findall(r"\d+", __version__)[:3])] >= [8, 4, 180]

#: Pixels by which a box may stand out of its image before it is clipped: writers round.
SLACK = 0.05


@dataclass
class Sample:
    """One image of a split.

    Attributes:
        path: Image file.
        source: Which JSON of the split lists it.
        place: Its place in that JSON's index.
        id: Its id in that JSON.
        size: Width and height of the file.
        frame: Width and height that the JSON's pixels are counted in.
        turn: The EXIF orientation by which the JSON's frame becomes that of the file as it is
            read, 0 where they are one.
    """

    path: str
    source: int
    place: int
    id: int | str
    size: tuple[int, int] = (0, 0)
    frame: tuple[float, float] = (0.0, 0.0)
    turn: int = 0


class CocoDataset(YOLODataset):
    """Images and targets of one split, as COCO JSON has them.

    The targets are those that label files written at full precision would give: the same images in
    the same order, the same annotations in the same order, duplicates removed alike. Annotations
    that cannot be used are dropped one by one, and counted in one message.

    Attributes:
        samples: The images, in the order of the JSON-free dataset: by path.
        indexes: The split's JSON files.
        targets: The labels with the data's class numbers, all of them, where it validates.
        order: What :meth:`number_as` has returned last.
        report: What was dropped or changed.
    """

    order: dict[int, int] | None = None

    def __init__(self, *args, hyp: Any = DEFAULT_CFG, data: dict, task: str = "detect", **kwargs):
        if task not in ("detect", "segment", "pose"):
            refuse(f"task={task}: COCO JSON is read for detect, segment and pose")
        self.copy_paste = getattr(hyp, "copy_paste", 0.0)
        super().__init__(*args, hyp=hyp, data=data, task=task, **kwargs)

    @property
    def categories(self) -> list[int | str]:
        """The categories' ids in the order of the classes."""
        return list(self.data[KEY]["categories"])

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Return the image files of a split's JSON files, by path.

        Args:
            img_path: JSON file, or several.

        Raises:
            ConfigError: If a JSON or its images cannot be used.
        """
        folders = self.data[KEY]["images"]
        files = img_path if isinstance(img_path, list) else [img_path]
        self.report = Report()
        self.indexes: list[Index] = []
        self.samples: list[Sample] = []
        for number, file in enumerate(files):
            index = open_index(file)
            check_categories(index, self.data[KEY])
            if self.use_keypoints and index.poses.shape[1] != self.data["kpt_shape"][0]:
                refuse(
                    f"{index.file}: {index.poses.shape[1]} keypoints, not "
                    f"{self.data['kpt_shape'][0]}",
                    "pose needs a JSON with keypoints; leave `kpt_shape` out",
                )
            self.indexes.append(index)
            paths, other = images.paths(index, folders.get(str(file)))
            self.samples += [
                Sample(path, number, place, key)
                for place, (path, key) in enumerate(zip(paths, index.ids, strict=True))
            ]
            self.report.merge(index.report, self._name(index.file, files))
            self.report.add("notes", "images that bear their name in another spelling", other)
        self.samples.sort(key=lambda sample: sample.path)
        part = self.fraction
        whole = isinstance(part, float) or part == 1
        count = max(round(len(self.samples) * part), 1) if whole else int(part)
        self.samples = self.samples[:count]
        return [sample.path for sample in self.samples]

    @staticmethod
    def _name(file: Path, files: list[str]) -> str:
        """Return what tells a JSON from the others of the split."""
        alone = sum(Path(one).name == file.name for one in files) == 1
        return file.name if alone else str(file)

    def get_labels(self) -> list[dict[str, Any]]:
        """Return Ultralytics' label of each image that can be used.

        Raises:
            ConfigError: If too many images are missing, or nothing is left to train on.
        """
        self._look()
        self.im_files = [sample.path for sample in self.samples]
        check_file_speeds(self.im_files, prefix=self.prefix)  # it opens files, of any kind
        labels: list[dict[str, Any]] = [{} for _ in self.samples]
        for number, index in enumerate(self.indexes):
            own = [i for i, sample in enumerate(self.samples) if sample.source == number]
            for i, label in zip(own, self._labels(index, own), strict=True):
                labels[i] = label
        self._tell(labels)
        if not self.augment:
            self.targets = [dict(label) for label in labels]
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
        places = line_up(own, known, sorted(used), self._files())
        table = np.array(places, dtype=np.float32)
        self.labels = [dict(self.targets[label["sample"]]) for label in self.labels]
        for label in self.labels:
            label["cls"] = table[label["cls"].astype(int)]
        self.update_labels([places[i] for i in wanted])
        self.order = {place: i for i, place in enumerate(places) if place >= 0}
        return self.order

    def _look(self) -> None:
        """Keep the images that can be read, with their sizes."""
        state, size, turn = images.inspect(self.im_files, self.prefix)
        names = {i: f"{s.path}, image {s.id}" for i, s in enumerate(self.samples) if state[i]}
        missing = [names[i] for i in np.flatnonzero(state == images.MISSING)]
        share = len(missing) / len(state)
        if share > images.MISSING_SHARE and not self.data[KEY]["allow_missing"]:
            refuse(
                f"{self._files()}: {len(missing)} of {len(state)} images are missing: "
                f"{'; '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}",
                "correct `images:` in the data YAML, or go without them: `allow_missing: true` "
                "there, or --allow-missing of the yolograft command",
            )
        for code, reason in (
            (images.MISSING, "missing images"),
            (images.BROKEN, "files that are no image that Ultralytics reads"),
            (images.TINY, "images of less than 10 pixels, which Ultralytics refuses"),
        ):
            bad = np.flatnonzero(state == code)
            self.report.add("images", reason, (names[i] for i in bad))
            lost = [self.samples[i] for i in bad]
            count = sum(int(np.diff(self.indexes[s.source].first[s.place :][:2])[0]) for s in lost)
            if count:
                where = (f"{s.path}, image {s.id}" for s in lost)
                self.report.add("dropped", f"annotations of {reason}", where, count)
        cut = np.flatnonzero(state == images.CUT)
        self.report.add(
            "notes", "JPEG files without their end, read as they are", (names[i] for i in cut)
        )
        good = np.flatnonzero((state == images.GOOD) | (state == images.CUT))
        if not len(good):
            refuse(f"{self._files()}: no image is left", f"see why:\n{self.report}")
        self.samples = [self.samples[i] for i in good]
        self._frames(size[good], turn[good].tolist())

    def _frames(self, size: np.ndarray, turns: list[int]) -> None:
        """Settle the pixels that each image's boxes are counted in."""
        scaled, wrong, unsized, unknown = [], [], [], []
        for sample, (width, height), turn in zip(self.samples, size.tolist(), turns, strict=True):
            sample.size = sample.frame = (width, height)
            index = self.indexes[sample.source]
            w, h = index.sizes[sample.place].tolist()
            if turn and (turn not in images.TURNS or not w or not h):
                unknown.append(f"{sample.path}, image {sample.id}")
            if not w or not h:
                unsized.append(f"{sample.path}, image {sample.id}")
            elif (w, h) != (width, height):
                if turn in images.TURNS and _alike((w, h), (height, width)):
                    sample.turn, sample.frame = turn, (height, width)
                    width, height = height, width
                if (w, h) == (width, height):
                    continue
                where = f"{sample.path}, image {sample.id}: {w:g} x {h:g}, not {width} x {height}"
                rows = slice(*index.first[sample.place :][:2])
                edges = index.boxes[rows, :2] + index.boxes[rows, 2:]
                inside = (edges <= np.array([w, h]) * 1.01).all()
                if inside and _alike((w, h), (width, height)):
                    sample.frame = (w, h)
                    scaled.append(where)
                else:
                    wrong.append(where)
        self.report.add("notes", "images scaled against the JSON: boxes scale along", scaled)
        self.report.add("notes", "images whose size the JSON has wrong: the file's is used", wrong)
        self.report.add("notes", "images without a size in the JSON: the file's is used", unsized)
        reason = "images whose EXIF rotation the JSON's size does not show: read as they are shown"
        self.report.add("notes", reason, unknown)

    def _labels(self, index: Index, own: list[int]) -> list[dict[str, Any]]:
        """Return the labels of the samples that come from one JSON."""
        order = [self.samples[i].place for i in own]
        counts = np.diff(index.first)[order]
        rows = np.concatenate([np.arange(*index.first[p : p + 2]) for p in order] or [[]])
        rows = rows.astype(np.int64)
        sample = np.repeat(np.array(own, dtype=np.int64), counts)
        frame = np.array([s.frame for s in self.samples], dtype=np.float64)[sample].reshape(-1, 2)
        boxes, inside = self._clip(index, index.boxes[rows], frame, rows, sample)
        rows, sample, frame, boxes = rows[inside], sample[inside], frame[inside], boxes[inside]
        boxes[:, :2] += boxes[:, 2:] / 2
        boxes /= np.tile(frame, 2)
        numbers = np.array([self.categories.index(key) for key in index.categories])
        cls = numbers[index.cls[rows]].astype(np.float32)[:, None]
        boxes = boxes.astype(np.float32)
        segments = self._segments(index, rows, frame)
        if self.use_segments and len(segments):
            boxes = segments2boxes(segments).astype(np.float32)
        poses = index.poses[rows] if self.use_keypoints else None
        if poses is not None:
            poses = (poses / np.append(frame, np.ones((len(frame), 1)), 1)[:, None]).astype("f4")
        self._turn(sample, boxes, segments, poses)
        start = np.searchsorted(sample, own)
        end = np.searchsorted(sample, own, side="right")
        twins = self._twins(sample, cls, boxes)
        labels, twice = [], []
        for i, a, b in zip(own, start.tolist(), end.tolist(), strict=True):
            one = self.samples[i]
            label = {
                "im_file": one.path,
                "shape": one.size[::-1],
                "cls": cls[a:b],
                "bboxes": boxes[a:b],
                "segments": segments[a:b],
                "keypoints": None if poses is None else poses[a:b],
                "normalized": True,
                "bbox_format": "xywh",
            }
            if not self.augment:  # the COCO metrics ask which image a prediction is of
                label["sample"] = i
            if i in twins:
                kept = distinct(label)
                if len(kept) < b - a:
                    twice += [f"{one.path}, image {one.id}"] * (b - a - len(kept))
                    for key in ("cls", "bboxes", *(["keypoints"] if poses is not None else [])):
                        label[key] = label[key][kept]
                    label["segments"] = [label["segments"][k] for k in kept if segments]
            labels.append(label)
        self.report.add("dropped", "annotations twice in an image", twice)
        return labels

    def _turn(self, sample, boxes, segments, poses) -> None:
        """Bring what was drawn on a picture that is read in its other frame into that one."""
        turns = np.array([one.turn for one in self.samples], dtype=np.uint8)[sample]
        for i in np.flatnonzero(turns).tolist():
            boxes[i, :2] = images.turned(boxes[i, :2], turns[i])
            boxes[i, 2:] = boxes[i, :1:-1].copy()
            if segments:
                segments[i] = images.turned(segments[i], turns[i])
            if poses is not None:
                seen = poses[i, :, 2] > 0
                poses[i, seen] = images.turned(poses[i, seen], turns[i])

    def _clip(self, index, boxes, frame, rows, sample) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes within their images, and which of them are there at all."""
        low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
        out = (low < -SLACK).any(1) | (high > frame + SLACK).any(1)
        clipped = boxes.copy()
        clipped[out, :2] = np.clip(low[out], 0, frame[out])
        clipped[out, 2:] = np.clip(high[out], 0, frame[out]) - clipped[out, :2]
        inside = (clipped[:, 2:] > 0).all(1)

        def where(bad):
            for i in np.flatnonzero(bad)[:9].tolist():
                one = self.samples[sample[i]]
                place = f"{index.file.name}, annotation no. {index.annotations[rows[i]] + 1}"
                yield f"{place} of image {one.id} ({Path(one.path).name})"

        lost, cut = ~inside, out & inside
        self.report.add("dropped", "boxes outside their image", where(lost), int(lost.sum()))
        self.report.add("notes", "boxes clipped to their image", where(cut), int(cut.sum()))
        return clipped, inside

    def _segments(self, index: Index, rows: np.ndarray, frame: np.ndarray) -> list[np.ndarray]:
        """Return one outline per annotation where the task or copy-paste needs it."""
        # Without polygons, copy-paste leaves poses alone: it would swap no left and right.
        pastes = self.augment and self.copy_paste and not self.use_keypoints
        if not (self.use_segments or pastes):
            return []
        parts = np.concatenate(([0], np.cumsum(index.parts)))
        ends = np.concatenate(([0], np.cumsum(index.lengths)))
        segments, boxed, holed, other = [], [], [], []
        with Progress(f"{self.prefix}Reading masks of {index.file}", len(rows)) as bar:
            for row, size in zip(bar.over(rows.tolist()), frame, strict=True):
                shapes = [
                    index.points[ends[k] : ends[k + 1]] for k in range(parts[row], parts[row + 1])
                ]
                if (mask := index.mask(row)) is not None:
                    fits = mask["size"] == [round(v) for v in size[::-1].tolist()]
                    shapes, holes = rle.outlines(mask) if fits else ([], False)
                    if holes or not fits:
                        (holed if fits else other).append(row)
                if len(shapes) > 1:
                    outline = np.concatenate(merge_multi_segment(shapes), axis=0)
                elif shapes:
                    outline = shapes[0].reshape(-1, 2)
                else:
                    x, y, w, h = index.boxes[row]
                    outline = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
                    boxed.append(row)
                if (outline < -SLACK).any() or (outline > size + SLACK).any():
                    outline = np.clip(outline, 0, size)
                segments.append((outline / size).astype(np.float32))
        for reason, found in (
            ("annotations without a polygon: the box is used", boxed),
            ("masks with holes, which are filled", holed),
            ("masks of another size than their image: the box is used", other),
        ):
            where = (f"{index.file.name}, {self.place(index, row)}" for row in found[:9])
            self.report.add("notes", reason, where, len(found))
        return segments

    @staticmethod
    def place(index: Index, row: int) -> str:
        """Return what tells an annotation to a reader.

        Args:
            index: Index of its JSON.
            row: Its place there.
        """
        image = int(np.searchsorted(index.first, row, side="right")) - 1
        return f"annotation no. {index.annotations[row] + 1} of image {index.ids[image]}"

    @staticmethod
    def _twins(sample: np.ndarray, cls: np.ndarray, boxes: np.ndarray) -> set[int]:
        """Return the images that may hold an annotation twice."""
        mix = sample.astype(np.uint64)
        for column in np.concatenate((cls, boxes), 1).view(np.uint32).astype(np.uint64).T:
            mix = (mix ^ column) * np.uint64(0x9E3779B97F4A7C15)
            mix ^= mix >> np.uint64(29)
        order = np.argsort(mix, kind="stable")
        same = np.flatnonzero(mix[order][1:] == mix[order][:-1])
        return set(sample[order[same + 1]].tolist())

    def _files(self) -> str:
        return ", ".join(str(index.file) for index in self.indexes)

    def _tell(self, labels: list[dict[str, Any]]) -> None:
        """Say once what the split holds and what was left out."""
        boxes = sum(len(label["cls"]) for label in labels)
        empty = sum(not len(label["cls"]) for label in labels)
        crowds = sum(index.crowds for index in self.indexes)
        if LOCAL_RANK in {-1, 0}:
            LOGGER.info(
                f"{self.prefix}{self._files()}: {len(labels)} images, {empty} of them backgrounds, "
                f"{boxes} boxes; {crowds} crowd regions are kept for the COCO metrics only"
            )
            if self.report:
                LOGGER.warning(f"{self.prefix}{self._files()}\n{self.report}")
        if boxes:
            return
        if self.augment:
            refuse(
                f"{self._files()}: no annotation to train on",
                "see the counts above" if self.report else "name the JSON that has the boxes",
            )
        why = ""
        if not all(index.annotated for index in self.indexes):
            why = (
                " (there is no list of `annotations`, as in test sets): predictions.json is "
                "written, without COCO numbers"
            )
        if LOCAL_RANK in {-1, 0}:
            LOGGER.warning(f"{self.prefix}{self._files()}: no annotation to validate against{why}")


def _alike(one: tuple[float, float], two: tuple[float, float]) -> bool:
    """Tell whether two sizes are of one shape."""
    return abs(one[0] * two[1] - one[1] * two[0]) <= 0.01 * one[0] * two[1]


def distinct(label: dict[str, Any]) -> np.ndarray:
    """Return the rows of a label without duplicates, chosen and ordered as Ultralytics does.

    Args:
        label: A label; polygons that differ are no duplicates, whatever their boxes.
    """
    columns = [label["cls"], label["bboxes"]]
    if label["keypoints"] is not None:
        columns.append(label["keypoints"].reshape(len(label["cls"]), -1))
    rows = np.concatenate(columns, 1)
    _, kept = np.unique(rows, axis=0, return_index=True)
    if len(kept) < len(rows) and label["segments"]:
        pairs = zip(label["cls"][:, 0], label["segments"], strict=True)
        texts = np.array([c.tobytes() + s.tobytes() for c, s in pairs], dtype=object)
        _, apart = np.unique(texts, return_index=True)
        # Before 8.4.180, Ultralytics went by the boxes alone and lost polygons that share one.
        kept = apart if BY_POLYGON else np.append(kept, np.setdiff1d(apart, kept))
    return kept if len(kept) < len(rows) else np.arange(len(rows))
