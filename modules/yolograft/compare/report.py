"""What a comparison has found: a page, Markdown, CSV, LaTeX and figures, from the records."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import math
import shlex
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any

from yolograft import files
from yolograft.compare import figures, statistics
from yolograft.compare.evaluate import NAMES
from yolograft.compare.plan import decimals
from yolograft.compare.probe import duration

#: Longest side of an example image on the page, in pixels.
_SIDE = 420
_CLASS_COLORS = ("#ffd400", "#00e5ff", "#ff5d8f", "#7cff4f", "#ff9a3c", "#c29bff", "#ffffff")


def write(project: Path) -> str:
    """Write all files of the report; return a few lines about it.

    Args:
        project: Folder of the comparison.
    """
    plan = json.loads((project / "plan.json").read_text(encoding="utf-8"))
    rows, failures = read(project, plan)
    figures.save(rows, project / "figures")
    for name, text in (
        ("report.html", _page(project, plan, rows, failures)),
        ("report.md", markdown(plan, rows, failures)),
        ("results.csv", table_csv(rows)),
        ("table.tex", latex(plan, rows)),
    ):
        files.write(project / name, text)
    lines = [f"{row['name']}: {_difference(row)}" for row in rows if row["paired"]]
    lines += filter(None, (plan.get("unequal"), _nothing(rows)))
    return "\n".join([*lines, f"Report: {project / 'report.html'}"])


# ----------------------------------------------------------------------------------------- reading


def read(project: Path, plan: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return a row for each variant, and the records of failed runs.

    Args:
        project: Folder of the comparison.
        plan: Content of its ``plan.json``.

    Returns:
        Rows with what the plan says, ``runs``, ``total`` (a summary for each measure), ``reach`` of
        the interval of the mean AP, ``paired`` (``None`` for the base) and ``speed``.
    """
    runs: dict[str, list[dict[str, Any]]] = {one["name"]: [] for one in plan["variants"]}
    failures = []
    for name, key in plan["keys"].items():
        file = project / "records" / f"{name}.json"
        record = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        if record.get("key") != key:
            continue
        if record["status"] == "finished":
            runs[record["variant"]].append(record)
        else:
            failures.append(record)
    file = project / "records" / "speed.json"
    speed = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    base = plan["variants"][0]["name"]
    values = {
        name: {r["seed"]: r["metrics"]["AP"] for r in some if r["metrics"]["AP"] is not None}
        for name, some in runs.items()
    }
    paired = statistics.compare(
        values[base], {name: one for name, one in values.items() if name != base}
    )
    rows = []
    for one in plan["variants"]:
        some = runs[one["name"]]
        measured = {
            name: [r["metrics"][name] for r in some if r["metrics"][name] is not None]
            for name in (*NAMES, "ultralytics_AP")
        }
        measured |= {
            "seconds": [r["seconds"] for r in some],
            "memory": [r["peak_memory"]["bytes"] for r in some],
            "best_epoch": [r["best_epoch"] for r in some],
        }
        total = {name: statistics.summarize(v) for name, v in measured.items()}
        rows.append(
            {
                **one,
                "runs": some,
                "total": total,
                "reach": _reach(total["AP"]),
                "paired": paired.get(one["name"]),
                "speed": speed.get("models", {}).get(one["name"]),
                "precision": speed.get("precision", ""),
                "timed_on": speed.get("environment", {}).get("device", ""),
            }
        )
    return rows, failures


def _reach(total: statistics.Summary) -> float:
    if total.n < 2:
        return math.nan
    from scipy import stats

    quantile = float(stats.t.ppf(1 - statistics.ALPHA / 2, total.n - 1))
    return quantile * total.sd / math.sqrt(total.n)


# ------------------------------------------------------------------------------------------- words


def _plus_minus(total: statistics.Summary, sign: str = "±") -> str:
    if not total.n:
        return ""
    return f"{total.mean:.3f}" + ("" if math.isnan(total.sd) else f" {sign} {total.sd:.3f}")


def _difference(row: dict[str, Any]) -> str:
    pair = row["paired"]
    if pair is None:
        return ""
    if not pair.differences:
        return pair.verdict
    text = f"AP {pair.mean:+.4f}"
    if not math.isnan(pair.low):
        text += f" (95 % interval {pair.low:+.4f} to {pair.high:+.4f})"
    return f"{text}: {pair.verdict}"


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'s' * (n != 1)}"


def _title(plan: dict[str, Any]) -> str:
    base = plan["variants"][0]["name"]
    tested = [one["name"] for one in plan["variants"][1:] if one["kind"] != "control"]
    names = ", ".join(tested[:6]) + (f" and {len(tested) - 6} more" if len(tested) > 6 else "")
    return f"{base} against {names}"


def _nothing(rows: list[dict[str, Any]]) -> str:
    """Return a warning where differences say nothing, since no run has learned to find anything."""
    found = [run["metrics"]["AP"] or 0.0 for row in rows for run in row["runs"]]
    if not found or max(found) >= 0.001:
        return ""
    return (
        "No run has learned to find anything: AP is below 0.001 throughout, so that nothing here "
        "compares the variants. Give more epochs."
    )


def _facts(plan: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    size = plan["settings"]["imgsz"]
    fraction = plan["settings"].get("fraction", 1.0)
    part = "" if fraction == 1 else f" (fraction {fraction:g} of them used)"
    devices = Counter(run["environment"]["device"] for row in rows for run in row["runs"])
    return (
        f"{Path(plan['data']).name}: {plan['images']['train']:,} training{part} and "
        f"{plan['images']['val']:,} validation images, {size} pixels, "
        f"{_count(plan['epochs'], 'epoch')}, {_count(len(plan['seeds']), 'seed')}. "
        f"Trained on {', '.join(devices) or 'nothing yet'}."
    )


def _rules(plan: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    tests = sum(1 for row in rows if row["paired"])
    return " ".join(
        [
            "Runs of one seed share data, order of images, augmentation, budget, and the initial "
            "weights of the rows that a variant has from the base; differences are paired by seed.",
            f"Verdicts are two-sided paired t-tests at 5 %, corrected by Holm's method for "
            f"{_count(tests, 'comparison')}.",
            "AP is that of each run's best epoch, chosen on the validation split it is reported "
            "on, which flatters all alike.",
            "No difference seen means that these seeds do not show one, not that there is none.",
            *plan["notes"],
        ]
    )


def _speed_words(rows: list[dict[str, Any]]) -> str:
    timed = [row for row in rows if row["speed"]]
    memory = " and ".join(sorted({r["peak_memory"]["of"] for row in rows for r in row["runs"]}))
    text = (
        f"Training time, by the clock and beside whatever else ran, and peak memory, that of "
        f"{memory}, are means over seeds. "
        if memory
        else ""
    )
    if timed:
        calls = timed[0]["speed"]["1"]["calls"]
        gated = any(run.get("gates") for row in timed for run in row["runs"])
        gates = ", its gates as they were trained," if gated else ""
        text += (
            f"Latency is one forward pass of the fused model{gates} on {timed[0]['timed_on']} in "
            f"{timed[0]['precision']}, without NMS: median of {calls} calls after warm-up, models "
            "in turns, and in brackets the middle half of the calls. Throughput is at batch 32. "
        )
    return text + (
        "GFLOPs are those of yolograft.count. Shared tensors are those that a variant starts from "
        "as the base does, of all it has."
    )


# ------------------------------------------------------------------------------------------ tables

_ACCURACY = {
    "APs": "AP small",
    "APm": "AP medium",
    "APl": "AP large",
}


def _accuracy(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[tuple[str, Any]]]]:
    """Return column names, and for each row the text and the value to sort by of each cell."""
    head = ["variant", "AP", "difference to the base", "p (Holm)"]
    head += [*(_ACCURACY.get(name, name) for name in NAMES[1:]), "verdict"]
    body = []
    for row in rows:
        pair = row["paired"]
        cells: list[tuple[str, Any]] = [(row["name"], row["name"])]
        cells.append((_plus_minus(row["total"]["AP"]), row["total"]["AP"].mean))
        if pair and pair.differences:
            text = f"{pair.mean:+.4f}"
            text += "" if math.isnan(pair.low) else f" [{pair.low:+.4f}, {pair.high:+.4f}]"
            corrected = "" if math.isnan(pair.holm) else f"{pair.holm:.3f}"
            cells += [(text, pair.mean), (corrected, pair.holm)]
        else:
            cells += [("", ""), ("", "")]
        cells += [(_plus_minus(row["total"][n]), row["total"][n].mean) for n in NAMES[1:]]
        cells.append((pair.verdict if pair else "the base",) * 2)
        body.append(cells)
    return head, body


def _costs(rows: list[dict[str, Any]]) -> tuple[list[str], list[list[tuple[str, Any]]]]:
    head = ["variant", "parameters", "GFLOPs", "latency, ms", "images/s", "training"]
    head += ["peak memory", "best epoch", "shared tensors", "what it is"]
    body = []
    for row in rows:
        one = (row["speed"] or {}).get("1")
        many = (row["speed"] or {}).get("32")
        total = row["total"]
        shared = row["runs"][0]["transferred"] if row["runs"] else {}
        latency = f"{one['milliseconds']:.2f} [{one['low']:.2f}, {one['high']:.2f}]" if one else ""
        body.append(
            [
                (row["name"], row["name"]),
                (f"{row['params']:,}", row["params"]),
                (decimals(row["gflops"]), row["gflops"]),
                (latency, one["milliseconds"] if one else ""),
                _cell(many and many["images_per_second"], "{:.1f}".format),
                _cell(total["seconds"].mean, duration),
                _cell(total["memory"].mean, lambda v: f"{v / 1e9:.2f} GB"),
                _cell(total["best_epoch"].mean, "{:.0f}".format),
                (f"{shared['tensors']}/{shared['of']}", shared["tensors"]) if shared else ("", ""),
                (f"{row['kind']}: {row['source']}", row["source"]),
            ]
        )
    return head, body


def _cell(value: float | None, text: Callable[[float], str]) -> tuple[str, Any]:
    """Return text and value, empty where there is none."""
    return ("", "") if value is None or math.isnan(value) else (text(value), value)


def _html_table(head: list[str], body: list[list[tuple[str, Any]]], colors: dict[str, str]) -> str:
    texts = {"verdict", "what it is", "run", "state", "device"}
    lines = ['<table class="sortable"><thead><tr>']
    for name in head:
        side = ' class="text"' if name in texts else ""
        lines.append(f'<th{side} scope="col"><button>{html.escape(name)}</button></th>')
    lines.append("</tr></thead><tbody>")
    for cells in body:
        lines.append("<tr>")
        for n, (name, (text, value)) in enumerate(zip(head, cells, strict=True)):
            missing = isinstance(value, float) and math.isnan(value)
            inner = _quiet(html.escape(text))
            if n == 0 and text in colors:
                inner = f'<span class="dot" style="background:{colors[text]}"></span>{inner}'
            side = ' class="text"' if name in texts else ""
            key = html.escape("" if missing else str(value), quote=True)
            lines.append(f'<td{side} data-v="{key}">{inner}</td>')
        lines.append("</tr>")
    return "".join(lines) + "</tbody></table>"


def _quiet(text: str) -> str:
    """Print spreads and intervals softer than what they belong to."""
    for mark in (" ±", " ["):
        before, found, after = text.partition(mark)
        if found:
            return f'{before}<span class="low">{found}{after}</span>'
    return text


def table_csv(rows: list[dict[str, Any]]) -> str:
    """Return one line for each finished run.

    Args:
        rows: From :func:`read`.
    """
    names = [*NAMES, "ultralytics_AP"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    head = ["variant", "kind", "source", "seed", *names, "best_epoch", "seconds"]
    head += ["peak_memory_bytes", "tensors_shared", "tensors", "params", "gflops"]
    head += ["latency_ms_batch1", "images_per_second_batch32", "device"]
    writer.writerow(head)
    for row in rows:
        speed = row["speed"] or {}
        latency = speed.get("1", {}).get("milliseconds")
        rate = speed.get("32", {}).get("images_per_second")
        for run in row["runs"]:
            cells = [row["name"], row["kind"], row["source"], run["seed"]]
            cells += [run["metrics"][name] for name in names]
            cells += [run["best_epoch"], run["seconds"], run["peak_memory"]["bytes"]]
            cells += [run["transferred"]["tensors"], run["transferred"]["of"]]
            cells += [row["params"], row["gflops"], latency, rate, run["environment"]["device"]]
            writer.writerow(cells)
    return stream.getvalue()


def markdown(
    plan: dict[str, Any], rows: list[dict[str, Any]], failures: list[dict[str, Any]]
) -> str:
    """Return the report as Markdown.

    Args:
        plan: Content of ``plan.json``.
        rows: From :func:`read`.
        failures: From :func:`read`.
    """
    parts = [f"# {_title(plan)}", _facts(plan, rows)]
    parts += [*map(_failure, failures), plan.get("unequal", ""), _nothing(rows)]
    parts.append("\n".join(f"- {r['name']}: {_difference(r)}." for r in rows if r["paired"]))
    parts += ["## Accuracy", _pipes(*_accuracy(rows)), "## Cost", _pipes(*_costs(rows))]
    parts += [_speed_words(rows), "## Figures"]
    parts += [f"![{name}](figures/{name}.png)" for name in ("pareto", "differences", "curves")]
    parts += ["## What these numbers rest on", _rules(plan, rows)]
    parts += ["## How", f"```sh\n{plan['command']}\n```"]
    versions = ", ".join(f"{k} {v}" for k, v in plan["versions"].items() if k != "format" and v)
    parts.append(f"Versions: {versions}. Data: `{plan['digest'][:16]}`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def _pipes(head: list[str], body: list[list[tuple[str, Any]]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for cells in body:
        lines.append("| " + " | ".join(text.replace("|", "\\|") for text, _ in cells) + " |")
    return "\n".join(lines)


def latex(plan: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    r"""Return a table in plain booktabs form, for ``\input`` below ``\usepackage{booktabs}``.

    Args:
        plan: Content of ``plan.json``.
        rows: From :func:`read`.
    """
    lines = [
        f"% {_title(plan)}: {_count(len(plan['seeds']), 'seed')}, "
        f"{_count(plan['epochs'], 'epoch')}, {plan['settings']['imgsz']} pixels",
        r"\begin{tabular}{lrrrrrr}",
        r"\toprule",
        r"Model & AP & $\Delta$AP & AP$_{50}$ & Params (M) & GFLOPs & Latency (ms) \\",
        r"\midrule",
    ]
    for row in rows:
        pair = row["paired"]
        shift = f"${pair.mean:+.3f}$" if pair and pair.differences else "--"
        mean = [_plus_minus(row["total"][name], r"\pm") or "--" for name in ("AP", "AP50")]
        latency = f"{row['speed']['1']['milliseconds']:.2f}" if row["speed"] else "--"
        cells = [_tex(row["name"]), f"${mean[0]}$", shift, f"${mean[1]}$"]
        cells += [f"{row['params'] / 1e6:.2f}", decimals(row["gflops"]), latency]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _tex(text: str) -> str:
    return "".join("\\" + c if c in "_&%#$" else c for c in text)


# -------------------------------------------------------------------------------------------- page


def _page(
    project: Path,
    plan: dict[str, Any],
    rows: list[dict[str, Any]],
    failures: list[dict[str, Any]],
) -> str:
    from plotly.offline import get_plotlyjs

    colors = {row["name"]: figures.color(row, i) for i, row in enumerate(rows)}
    classes = list(
        dict.fromkeys(name for r in rows for run in r["runs"] for name in run["per_class"])
    )
    shapes = json.dumps(_plain(figures.page(rows, classes))).replace("</", "<\\/")
    source = {run["source"] for row in rows for run in row["runs"]}
    escape = html.escape
    template = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(_title(plan)),
        facts=escape(_facts(plan, rows)),
        failures="".join(
            f'<p class="bad">{escape(text)}</p>'
            for text in (*map(_failure, failures), plan.get("unequal"), _nothing(rows))
            if text
        ),
        findings="\n".join(_finding(row, colors) for row in rows),
        rules=escape(_rules(plan, rows)),
        accuracy=_html_table(*_accuracy(rows), colors),
        source=escape(f"AP from {' and '.join(sorted(source))}." if source else ""),
        cost=_html_table(*_costs(rows), colors),
        speed=escape(_speed_words(rows)),
        abreast="trio" if len(rows) <= figures.FEW else "",
        examples=_examples(rows),
        how=escape(
            "The same again; it goes on where it was stopped. Each variant's model YAML is in "
            "configs/, each run's record in records/, its log and checkpoint in runs/."
        ),
        command=escape("\n".join([plan["command"], "", *_commands(plan)])),
        environment=_environment(plan, rows),
        runs=_html_table(*_run_table(rows, failures), {}),
        settings=escape("\n".join(f"{k}: {v}" for k, v in plan["settings"].items())),
        plotly=get_plotlyjs(),
        figures=shapes,
    )


def _plain(value: Any) -> Any:
    """Return a value without NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _failure(record: dict[str, Any]) -> str:
    return f"{record['id']} failed: {record['error']} (log: {record['log']})"


def _finding(row: dict[str, Any], colors: dict[str, str]) -> str:
    pair = row["paired"]
    if pair is None:
        big, small = _plus_minus(row["total"]["AP"]) or "no run", "AP of the base"
    elif pair.differences:
        big, small = f"{pair.mean:+.4f}", pair.verdict
        if not math.isnan(pair.low):
            small += f"; 95\N{NO-BREAK SPACE}% interval {pair.low:+.4f} to {pair.high:+.4f}"
    else:
        big, small = "no result", pair.verdict
    kind = " (control: more of the same)" if row["kind"] == "control" else ""
    return (
        f'<li style="--c:{colors[row["name"]]}"><b>{html.escape(row["name"])}{kind}</b>'
        f'<span class="big">{html.escape(big)}</span><small>{html.escape(small)}</small></li>'
    )


def _commands(plan: dict[str, Any]) -> list[str]:
    """Return the nearest stock command of each variant, for seed 0."""
    words = [f"data={plan['data']}", f"epochs={plan['epochs']}", "seed=0"]
    words += [f"{k}={v}" for k, v in plan["settings"].items()]
    lines = ["# one run by the stock command, without the shared start and order:"]
    for one in plan["variants"]:
        lines.append(shlex.join(["yolo", "train", f"model=configs/{one['name']}.yaml", *words]))
    return lines


def _environment(plan: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    keys = ("device", "system", "python", "cuda", "threads", *plan["versions"])
    lines = ["<table><tbody>"]
    for key in keys:
        found = {run["environment"].get(key) for row in rows for run in row["runs"]} - {None, ""}
        if found and key != "format":
            text = html.escape(", ".join(sorted(map(str, found))))
            lines.append(f'<tr><td>{html.escape(key)}</td><td class="text">{text}</td></tr>')
    lines.append(f'<tr><td>data</td><td class="text">{plan["digest"][:16]}</td></tr>')
    return "".join(lines) + "</tbody></table>"


def _run_table(
    rows: list[dict[str, Any]], failures: list[dict[str, Any]]
) -> tuple[list[str], list[list[tuple[str, Any]]]]:
    head = ["run", "state", "AP", "best epoch", "training", "device"]
    body = [
        [
            (run["id"], run["id"]),
            ("finished", "finished"),
            ("" if run["metrics"]["AP"] is None else f"{run['metrics']['AP']:.4f}",) * 2,
            (str(run["best_epoch"]), run["best_epoch"]),
            (duration(run["seconds"]), run["seconds"]),
            (run["environment"]["device"],) * 2,
        ]
        for row in rows
        for run in row["runs"]
    ]
    body += [[(f["id"],) * 2, ("failed",) * 2, *[("", "")] * 4] for f in failures]
    return head, body


# ---------------------------------------------------------------------------------------- examples


def _examples(rows: list[dict[str, Any]]) -> str:
    """Return example images, what is there and what each variant finds, side by side."""
    first = {row["name"]: min(row["runs"], key=lambda r: r["seed"]) for row in rows if row["runs"]}
    names = [name for run in first.values() for name in run.get("names", [])]
    names = list(dict.fromkeys(names))
    if not first:
        return ""
    images, lines = [], []
    for n, example in enumerate(next(iter(first.values()))["examples"]):
        picture = _picture(example["file"])
        if picture is None:
            continue
        width, height, data = picture
        images.append(
            f'<image id="image{n}" width="{width}" height="{height}" '
            f'href="data:image/jpeg;base64,{data}"/>'
        )
        box = (n, width, height)
        shown = [("what is there", [[*r[:4], 1, r[4]] for r in example["truth"]])]
        for name, run in first.items():
            same = [e for e in run["examples"] if e["file"] == example["file"]]
            shown += [(name, same[0]["found"])] if same else []
        figures_ = "".join(_drawn(box, title, found, names) for title, found in shown)
        lines.append(f'<div class="example">{figures_}</div>')
    if not lines:
        return ""
    keys = "".join(
        f'<span><i style="border-color:{_shade(i)};background:#555"></i>{html.escape(name)}</span>'
        for i, name in enumerate(names[:20])
    )
    seed = min(run["seed"] for run in first.values())
    return (
        f"<h2>Examples</h2><p class='note'>The same validation images through the best checkpoint "
        f"of seed {seed} of each variant; boxes with a score of 0.25 and more. Hover a box for its "
        f"class and score. They were chosen by file name, not by result.</p>"
        f'<div class="keys">{keys}</div>'
        f'<svg width="0" height="0" style="position:absolute"><defs>{"".join(images)}</defs></svg>'
        f'<div class="examples">{"".join(lines)}</div>'
    )


def _picture(file: str) -> tuple[int, int, str] | None:
    """Return width and height of an image file, and a small JPEG of it; ``None`` if not here."""
    import cv2
    import numpy as np

    try:
        image = cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR)
    except OSError:
        return None
    if image is None:
        return None
    height, width = image.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return width, height, base64.b64encode(jpeg.tobytes()).decode()


def _shade(kind: int) -> str:
    return _CLASS_COLORS[kind % len(_CLASS_COLORS)]


def _drawn(image: tuple[int, int, int], title: str, found: list[list], names: list[str]) -> str:
    n, width, height = image
    boxes, line = [], max(width, height) / 110
    for x0, y0, x1, y1, score, kind in found:
        label = names[kind] if kind < len(names) else str(kind)
        text = html.escape(label if title == "what is there" else f"{label} {score:.2f}")
        boxes.append(
            f'<rect x="{x0}" y="{y0}" width="{max(0, x1 - x0):.1f}" height="{max(0, y1 - y0):.1f}" '
            f'fill="transparent" stroke="{_shade(kind)}" stroke-width="{line:.1f}">'
            f"<title>{text}</title></rect>"
        )
    count = "1 box" if len(found) == 1 else f"{len(found)} boxes"
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img"><use href="#image{n}"/>'
        f"{''.join(boxes)}</svg><figcaption>{html.escape(title)}: {count}</figcaption></figure>"
    )
