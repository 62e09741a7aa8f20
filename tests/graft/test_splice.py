"""Renumbering: whatever is done to a config, every row reads the layer that was meant."""

import contextlib
import itertools
import random

import pytest
from random_configs import random_recipe, small_config

from yolograft import ConfigError
from yolograft.graft import graft
from yolograft.graft.edits import Edits
from yolograft.graft.graph import Graph
from yolograft.graft.splice import splice


def random_config(rng, size):
    """Return rows that read one or several earlier rows, by number or counted back."""
    rows = []
    for i in range(size):
        several = rng.random() < 0.3 and i > 1
        sources = rng.sample(range(i), rng.randint(2, min(4, i))) if several else [i - 1]
        if i and not several and rng.random() < 0.3:
            sources = [rng.randrange(i)]
        written = [s - i if i == 0 or rng.random() < 0.5 else s for s in sources]
        rows.append([written if several else written[0], 1, f"Layer{i}", [i]])
    at = rng.randrange(1, size)
    return {"backbone": rows[:at], "head": rows[at:], "extra": {"kept": [1]}}


def random_edits(rng, graph):
    edits, last = Edits(), len(graph.rows) - 1
    for row in graph.rows[:-1]:
        i, kind = row.index, rng.random()
        if kind < 0.15 and len(row.sources) == 1 and i:
            edits.gone.add(i)
            continue
        if kind < 0.3:
            edits.become[i] = ([1, f"New{i}", []], "for")
        for n in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
            adjacent = i in graph.rows[i + 1].sources and i < last
            rewire = rng.choice(("all", "next")) if adjacent else "all"
            edits.follow.setdefault(i, []).append(([1, f"After{i}.{n}", []], rewire))
    return edits


def meant(graph, edits):
    """Return for each new layer, by name, the names of the layers that it has to read.

    Worked out by walking back through the base, with no row number of the result in it.
    """
    names = {row.index: row.label for row in graph.rows} | {-1: "picture"}
    names |= {i: tail[1] for i, (tail, _) in edits.become.items()}

    def inserted(i, rewire):
        return [tail[1] for tail, how in edits.follow.get(i, []) if how == rewire]

    def read_by(reader, i):
        neighbour = i == reader - 1
        while i in edits.gone:
            neighbour = neighbour and graph.rows[i].sources[0] == i - 1
            i = graph.rows[i].sources[0]
        chain = [names[i], *inserted(i, "all"), *(inserted(i, "next") if neighbour else [])]
        return chain[-1]

    want = {}
    for row in graph.rows:
        if row.index in edits.gone:
            continue
        want[names[row.index]] = [read_by(row.index, s) for s in row.sources]
        chain = [names[row.index], *inserted(row.index, "all"), *inserted(row.index, "next")]
        want |= {new: [before] for before, new in itertools.pairwise(chain)}
    return want


def read(rows):
    """Return for each layer, by name, the names of those that it reads."""
    graph = Graph({"backbone": rows[:1], "head": rows[1:]})
    labels = [row.label for row in graph.rows]
    return {
        row.label: ["picture" if s < 0 else labels[s] for s in row.sources] for row in graph.rows
    }


@pytest.mark.parametrize("seed", range(200))
def test_every_row_reads_what_was_meant(seed):
    rng = random.Random(seed)
    graph = Graph(random_config(rng, rng.randint(3, 25)))
    edits = random_edits(rng, graph)
    rows, origins = splice(graph, edits)
    assert read(rows) == meant(graph, edits)
    for row, origin in zip(rows, origins, strict=True):
        old = graph.rows[origin.row]
        if origin.relation == "kept":
            assert row[1:] == old.raw[1:]
            written = row[0] if isinstance(row[0], list) else [row[0]]
            was = old.raw[0] if isinstance(old.raw[0], list) else [old.raw[0]]
            # what was counted back still is, and what was a number still is
            assert [s < 0 for s in written] == [s < 0 for s in was]
        else:
            assert row[2].startswith(
                {"for": "New", "after": f"After{origin.row}."}[origin.relation]
            )


def test_nothing_to_do_changes_nothing():
    graph = Graph(random_config(random.Random(1), 20))
    rows, origins = splice(graph, Edits())
    assert rows == [row.raw for row in graph.rows]
    assert [str(origin) for origin in origins] == [str(i) for i in range(20)]


CHAIN = {
    "nc": 3,
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [16, 3, 1]],
        [-1, 1, "Conv", [16, 3, 1]],
        [[-1, 0, -2], 1, "Concat", [1]],
    ],
    "head": [[[1, 3], 1, "Detect", ["nc"]]],
}


def steps(**step):
    return {"steps": [step]}


def test_rewire_all_gives_every_reader_the_new_layer():
    config = graft(CHAIN, steps(insert="SE", at={"rows": 1})).config
    assert [row[0] for row in config["backbone"]] == [-1, -1, -1, -1, [-1, 0, -2]]
    assert config["head"][0][0] == [2, 4]


def test_rewire_next_leaves_the_other_readers_the_map_as_it_was():
    config = graft(CHAIN, steps(insert="SE", at={"rows": 1}, rewire="next")).config
    assert [row[0] for row in config["backbone"]] == [-1, -1, -1, -1, [-1, 0, -3]]
    assert config["head"][0][0] == [1, 4]
    with pytest.raises(ConfigError, match=r"rewire=next, but row 4 does not read .*row 3") as error:
        graft(
            {**CHAIN, "head": [[[1, 2], 1, "Detect", ["nc"]]]},
            steps(insert="SE", at={"rows": 3}, rewire="next"),
        )
    assert "use rewire: all" in str(error.value)


def test_a_removed_layer_is_read_through():
    config = graft(CHAIN, steps(remove=True, at={"rows": 2})).config
    assert [row[0] for row in config["backbone"]] == [-1, -1, [-1, 0, -1]]
    assert config["graft"]["rows"] == [0, 1, 3, 4]


def test_a_reference_to_a_removed_layer_of_another_shape_is_refused():
    with pytest.raises(ConfigError) as error:
        graft(CHAIN, steps(remove=True, at={"rows": 0}))
    assert "row 0 (Conv) is removed, but the config, row 1 (Conv) refers to it" in str(error.value)


@pytest.mark.parametrize("seed", range(20))
def test_random_recipes_on_random_configs_of_real_layers(seed):
    rng = random.Random(seed)
    config = small_config(rng)
    for step in random_recipe(rng)["steps"]:
        try:
            result = graft(config, {"steps": [step]})
        except ConfigError as error:
            assert "step 1" in str(error)  # noqa: PT017 (a refusal is right where nothing fits)
            continue
        new = Graph(result.config)
        own = {o.row: i for i, o in enumerate(result.origins) if o.relation != "after"}
        last = {o.row: i for i, o in enumerate(result.origins)}  # the last behind each base row
        for i, origin in enumerate(result.origins):
            assert new.shapes[i] == result.base.shapes[origin.row]
            if origin.relation == "after":
                assert new.rows[i].sources == (i - 1,)
            else:
                want = [last.get(s, -1) for s in result.base.rows[origin.row].sources]
                assert list(new.rows[i].sources) == want
        assert sorted(own) == list(range(len(result.base.rows)))
        config = {k: v for k, v in result.config.items() if k != "graft"}


def test_the_recipes_of_the_property_test_fit_often_enough():
    fits = 0
    for seed in range(8):
        rng = random.Random(seed)
        config = small_config(rng)
        for step in random_recipe(rng)["steps"]:
            with contextlib.suppress(ConfigError):
                graft(config, {"steps": [step]})
                fits += 1
    assert fits >= 12
