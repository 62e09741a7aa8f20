"""Roles: what each promises is what its blocks do, and a new one is a class."""

import pytest
import torch
from torch import nn
from ultralytics.nn import tasks

import yolograft
from yolograft import ConfigError, registry, roles, signatures
from yolograft.graft import graft

#: Blocks with arguments that keep a map of 32 channels small enough for every one of them.
ARGUMENTS = {"MixedPooling": {"sizes": (3, 2)}}


def config(*rows):
    return {"nc": 2, "backbone": [[-1, 1, "Conv", [32, 3, 2]], *rows], "head": []}


@pytest.mark.parametrize("block", registry.OURS, ids=lambda block: block.name)
def test_a_block_does_what_its_role_promises(block):
    role = block.role
    channels = (32, 48)[: len(role.prefix)] if role.takes_width else (32,) * len(role.prefix)
    promise = role.promise(channels or (8,), (16, 12))
    if not role.one_map:
        assert promise is None
        return
    module = signatures.build(block.load(), role, channels, ARGUMENTS.get(block.name, {})).eval()
    y = module(torch.zeros(1, channels[0] if channels else 8, 16, 12))
    assert y.shape[1] == promise.channels
    assert promise.size in (None, tuple(y.shape[2:]))
    assert role.keeps_shape == (y.shape[1:] == (32, 16, 12) and not role.takes_width)
    assert role.halves == (y.shape[2:] == (8, 6))


@pytest.mark.parametrize("role", roles.ROLES.values(), ids=str)
def test_what_a_role_allows_is_what_rows_may_do(role):
    block = next(one for one in registry.OURS if one.role is role)
    args = [48] if role.takes_width else []
    if role.name not in ("backbone", "classifier"):
        stage = [-1, 1, f"C2f_{block.name}", [32, True]]
        if role.inside:
            tasks.parse_model(config(stage), 3, False)
        else:
            with pytest.raises(ConfigError, match="cannot stand inside a stage"):
                tasks.parse_model(config(stage), 3, False)
        twice = [-1, 2, block.name, args]
        if role.once[0]:
            with pytest.raises(ConfigError, match=role.once[0]):
                tasks.parse_model(config(twice), 3, False)
        else:
            assert len(tasks.parse_model(config(twice), 3, False)[0][1]) == 2
    for action in ("insert", "replace", "swap"):
        recipe = {"steps": [{action: block.name, "at": {"is": "downsampler", "level": "P3"}}]}
        if action in role.actions:
            continue  # tests/graft does it
        with pytest.raises(ConfigError, match=f"has the role {role}"):
            graft("yolov8n.yaml", recipe)


def test_names_of_the_first_release_are_accepted():
    assert roles.named("gate", "Mine") is roles.ROLES["attention"]
    with pytest.raises(ConfigError, match=r"Mine: role='neck' is unknown\n\nHint: use one of conv"):
        roles.named("neck", "Mine")


class Pair(roles.Role):
    """A role of somebody's own: the map twice over."""

    name = "pair"
    about = "returns the map twice"
    once = ("one pair is enough", "use 1")

    def stand_in(self, row):
        return [row.sources * 2, 1, "Concat", [1]]

    def channels(self, row, unit):
        return ()

    def promise(self, channels, size):
        return roles.Promise("returns the map twice", 2 * (channels[0] if channels else 8), size)


class Doubled(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], 1)


@pytest.mark.usefixtures("own_blocks")
def test_a_new_role_is_one_class(monkeypatch):
    monkeypatch.setitem(roles.ROLES, "pair", Pair())
    yolograft.register(Doubled, role="pair")
    model, _ = tasks.parse_model(config([-1, 1, "Doubled", []], [-1, 1, "Conv", [16]]), 3, False)
    assert model[2].conv.in_channels == 64
    with pytest.raises(ConfigError, match="one pair is enough"):
        tasks.parse_model(config([-1, 2, "Doubled", []]), 3, False)
    assert any(block.name == "Doubled" for block in registry.table())
