"""The files of a report: page, Markdown, CSV, LaTeX and figures, from the records."""

from __future__ import annotations

from pathlib import Path

from yolograft import files
from yolograft.compare import figures, page, results, tables
from yolograft.compare.words import render, say


def write(project: Path) -> str:
    """Write all files of the report; return a few lines about it.

    Args:
        project: Folder of the comparison.
    """
    found = results.read(project)
    drawn = figures.draw(found.rows)
    for name, figure in drawn.items():
        files.write(project / "figures" / f"{name}.png", figure.png())
    warnings = [*(say("failure", one) for one in found.failures), found.plan.unequal]
    warnings.append(say("nothing", found))
    content = {
        "plan": found.plan,
        "rows": found.rows,
        **{name: say(name, found.plan) for name in ("title", "size", "versions")},
        **{name: say(name, found) for name in ("facts", "rules", "speed")},
        "warnings": [text for text in warnings if text],
        "differences": {row.name: say("difference", row) for row in found.rows if row.paired},
        "accuracy": tables.accuracy(found.rows),
        "costs": tables.costs(found.rows),
        "drawn": {name: figure.svg() for name, figure in drawn.items()},
    }
    for name, text in (
        ("report.html", render("page.html", **content, **page.content(found))),
        ("report.md", render("report.md", **content)),
        ("results.csv", tables.csv_text(found.rows)),
        ("table.tex", render("table.tex", **content)),
    ):
        files.write(project / name, text)
    lines = [f"{name}: {text}" for name, text in content["differences"].items()]
    lines += filter(None, warnings[-2:])
    return "\n".join([*lines, f"Report: {project / 'report.html'}"])
