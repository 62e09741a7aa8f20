"""The verdicts and the Markdown page of a result of the bench of blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .common import interval, table
from .contenders import ROWS

#: Not slower: the lower end of the interval is at least this.
FLOOR = 0.95
#: SKConv: highest time of the block over that of its branch convolutions.
PARTS = 1.2
#: Names of the sides that are no library.
NAMES = {"naive": "naive", "parts": "its branch convolutions alone", "floor": "bandwidth floor"}
HEAD = (
    *("block", "input", "pass", "against", "ours, ms", "theirs, ms", "theirs / ours [95 %]"),
    *("ours, MiB", "theirs, MiB"),
)


@dataclass(frozen=True)
class Goal:
    """What a block is to reach against its naive form, forward, eager, in float32.

    Attributes:
        block: Row of the bench.
        speed: Least ratio of times, naive / ours.
        memory: Least ratio of peak memory, naive / ours; 0 for none.
        size: Channels, height and width.
    """

    block: str
    speed: float
    memory: float = 0.0
    size: tuple[int, ...] = (64, 80, 80)


GOALS = (
    Goal("ACmix", speed=10, memory=5),
    Goal("ACmix attention", speed=20),
    Goal("NonLocal", speed=5),
)


def lines(record: dict) -> list[list[str]]:
    """Return the cells of a record's rows in the table, one row per side."""
    ms, memory = record["milliseconds"], record["peak_bytes"]
    mib = {side: f"{value / 2**20:.1f}" for side, value in memory.items()}
    found = []
    for side in (*record["over_ours"], *record["left_out"]):
        ran = side in ms
        found.append(
            [
                *(record["block"], size(record["shape"]), record["mode"]),
                *(_name(side, record["block"]), _number(ms["ours"])),
                _number(ms[side]) if ran else "",
                interval(record["over_ours"][side]) if ran else "did not run",
                *(mib["ours"], mib.get(side, "")),
            ]
        )
    return found


def verdicts(result: dict) -> list[str]:
    """Return one line per claim of the bench."""
    done = [r for r in result["records"] if r["status"] == "measured"]
    found = []
    for side in ("naive", *result["against"]):
        met = [r for r in done if side in r["over_ours"]]
        slow = [r for r in met if r["over_ours"][side]["low"] < FLOOR]
        found.append(
            f"Slower than {side} (lower end of the interval below {FLOOR}), of {len(met)}: "
            f"{_places(slow, side)}."
        )
    parts = [r for r in done if "parts" in r["over_ours"]]
    if parts:
        values = ", ".join(interval(_inverse(r["over_ours"]["parts"])) for r in parts)
        over = [r for r in parts if 1 / r["over_ours"]["parts"]["ratio"] > PARTS]
        found.append(
            f"{parts[0]['block']}, forward over its branch convolutions alone: {values}; above "
            f"{PARTS}: {_places(over, 'parts')}."
        )
    for goal in GOALS:
        records = [r for r in result["records"] if _fits(goal, r)]
        found += [text for r in records for text in _reached(goal, r)]
    for device in dict.fromkeys(r["device"] for r in result["records"]):
        gates = [r for r in done if r["device"] == device and "floor" in r["over_ours"]]
        values = ", ".join(
            f"{r['block']}{_variant(r)} {size(r['shape'])} {r['over_ours']['floor']['ratio']:.2f}"
            for r in gates
        )
        found.append(
            f"Bandwidth floor over gate (1: as fast as memory allows), forward, {device}: "
            f"{values or 'not measured'}."
        )
    return found


def _fits(goal: Goal, record: dict) -> bool:
    where = (record["block"], tuple(record["shape"][1:]), record["mode"])
    plain = record["dtype"] == "float32" and not record["compiled"]
    return plain and where == (goal.block, goal.size, "forward")


def _reached(goal: Goal, record: dict) -> Iterator[str]:
    """Yield a line per aim of a goal."""
    start = f"Goal: {goal.block} {size(record['shape'])} forward on {record['device']}"
    if record["status"] != "measured":
        yield f"{start}: not measured."
        return
    value = record["over_ours"]["naive"]
    good = "reached" if value["low"] >= goal.speed else "missed"
    yield f"{start}, time naive / ours at least {goal.speed:g}: {interval(value)}, {good}."
    if goal.memory:
        peak = record["peak_bytes"]
        share = peak["naive"] / peak["ours"]
        good = "reached" if share >= goal.memory else "missed"
        yield f"{start}, memory naive / ours at least {goal.memory:g}: {share:.1f}, {good}."


def page(result: dict) -> str:
    """Return the Markdown page of a result."""
    about = result["machine"]
    versions = [f"{k} {about[k]}" for k in ("yolograft", *result["against"])]
    text = [
        "# Bench: the blocks against naive forms and public code",
        "",
        *(["A quick run: few rounds, wide intervals.", ""] if result["quick"] else []),
        "Same weights, outputs and input gradients compared first, in float64. Calls alternate; "
        "milliseconds are medians of one call; `theirs / ours` is the median over pairs with its "
        "95 % bootstrap interval, and above 1 ours is faster. MiB: the most memory alive at once "
        "during a call, without input and weights. Forward: evaluation mode, no gradients; forward "
        "+ backward: training mode. Bandwidth floor: the time to read the map twice and write it "
        "once, at the speed at which a copy of it runs. Up to "
        f"{result['rounds']} rounds, fewer where they take long. Compiled, and in other dtypes, at "
        "the middle size.",
        "",
        f"CPU: {about['cpu']} ({about['isa']}), {about['cores']} cores, {about['threads']} "
        f"threads, {_load(result['load'])}. GPU: {about['gpu'] or 'none'}. "
        f"Python {about['python']}, PyTorch {about['torch']}, {', '.join(versions)}.",
        "",
        *(f"- {verdict}" for verdict in verdicts(result)),
    ]
    groups: dict[str, list[dict]] = {}
    for record in result["records"]:
        kind = [record["device"].upper(), record["dtype"], *["compiled"] * record["compiled"]]
        groups.setdefault(", ".join(kind), []).append(record)
    for title, records in groups.items():
        text += ["", f"## {title}", ""]
        if records[0]["status"] == "measured":
            rows = [cells for record in records for cells in lines(record)]
            text.append(table([HEAD, *rows], "llllr"))
        else:
            text.append(f"{len(records)} rows not measured: the machine has no GPU.")
    text += ["", *_notes(result), f"Again: `{result['command']}`", ""]
    return "\n".join(text)


def _notes(result: dict) -> Iterator[str]:
    """Yield what the public forms are, which blocks have none, and what could not run."""
    names = list(dict.fromkeys(r["block"] for r in result["records"]))
    libraries = result["against"]
    forms = {name: ROWS[name].public for name in names}
    for library in libraries:
        for name in names:
            if library in forms[name] and forms[name][library].note:
                yield f"- `{forms[name][library].name}`: {forms[name][library].note}."
    without = [name for name in names if not forms[name].keys() & {*libraries}]
    if libraries and without:
        yield f"- Nothing equal in {', '.join(libraries)}: {', '.join(without)}."
    failures = {
        f"- {_name(side, r['block'])}{_variant(r)} did not run: {reason}": None
        for r in result["records"]
        for side, reason in r.get("left_out", {}).items()
    }
    yield from failures
    yield ""


def _places(records: list[dict], side: str) -> str:
    names = (
        f"{r['block']}{_variant(r)} {size(r['shape'])} {r['mode']} {interval(r['over_ours'][side])}"
        for r in records
    )
    return ", ".join(names) or "none"


def _variant(record: dict) -> str:
    """Return what is not float32 and eager on a CPU."""
    words = [record["device"]] * (record["device"] != "cpu")
    words += [record["dtype"]] * (record["dtype"] != "float32")
    words += ["compiled"] * record["compiled"]
    return f" ({', '.join(words)})" if words else ""


def size(shape: Sequence[int]) -> str:
    """Return ``8x64x80x80``."""
    return "x".join(map(str, shape))


def _name(side: str, block: str) -> str:
    return NAMES.get(side) or ROWS[block].public[side].name


def _number(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _inverse(value: dict[str, float]) -> dict[str, float]:
    return {"ratio": 1 / value["ratio"], "low": 1 / value["high"], "high": 1 / value["low"]}


def _load(load: float | None) -> str:
    return "load unknown" if load is None else f"load average before the start {load:.1f}"
