"""Rows built and run without memory, on the meta device: what shape does each return?"""

from __future__ import annotations

import torch
from torch import nn

from yolograft import parser, registry, ultra
from yolograft.config import rows, scale
from yolograft.errors import ConfigError

#: Layers that read texts beside the map, and those that return texts instead of a map.
_GUIDED = ("C2fAttn",)
_TEXTUAL = ("ImagePoolingAttn",)


def trace(config: dict, given: list, name: str, shape: tuple[int, int, int]) -> list:
    """Return what each row makes of an empty image or map; ``None`` for rows that return texts.

    Args:
        config: The config that the rows are from, for its scales.
        given: The rows.
        name: What messages call the config.
        shape: Channels, height and width of the input.

    Raises:
        ConfigError: If the rows cannot be built, or cannot be run.
    """
    try:
        return _run(_build(config, given, name, shape[0], "meta"), shape, "meta")
    except ConfigError:
        raise
    except Exception:  # a layer that wants real memory gets it
        try:
            return _run(_build(config, given, name, shape[0], "cpu"), shape, "cpu")
        except ConfigError:
            raise
        except Exception as error:
            msg = f"{name}: it cannot be built ({type(error).__name__}: {error})"
            raise ConfigError(msg) from error


def probe(config: dict, row: list, shape: tuple[int, int, int], run: bool) -> tuple | None:
    """Return the shape that a row makes of a map, at the narrowest scale of a config.

    Args:
        config: The config, for its scales.
        row: Repeats, module and arguments.
        shape: Channels, height and width of the map that it reads.
        run: Whether to run it; else it is built only.

    Raises:
        ConfigError: If it cannot be built, or cannot be run.
    """
    name = "probe"
    try:
        if not run:
            _build(config, [[-1, *row]], name, shape[0], "meta")
            return None
        return tuple(trace(config, [[-1, *row]], name, shape)[0].shape[1:])
    except ConfigError as error:
        text = str(error).removeprefix(f"{name}, row 0 (backbone): ").removeprefix(f"{name}: ")
        raise ConfigError(text) from error


def build(config: dict, given: list, name: str, ch: int) -> nn.Sequential:
    """Return the layers of rows, at the narrowest scale of a config.

    Args:
        config: The config that the rows are from, for its scales.
        given: The rows.
        name: What messages call the config.
        ch: Channels of the map that they read.
    """
    given = [_lighter(row) for row in given]
    small = rows.with_rows({**scale.narrow(config), "yaml_file": name}, given, len(given))
    return parser.parse(small, ch, False)[0]


def _build(config: dict, given: list, name: str, ch: int, device: str):
    """Build rows, ready to be run for their shapes."""
    with torch.device(device):
        layers = build(config, given, name, ch)
    plain = (nn.BatchNorm2d, nn.SiLU, nn.ReLU, nn.GELU)
    for module in layers.modules():
        for key, child in module.named_children():
            if isinstance(child, plain):
                module._modules[key] = nn.Identity()
            elif type(child) is nn.Conv2d and not isinstance(child.padding, str):
                child.forward = _hollow(child)
    return layers.eval()


def _lighter(row: list) -> list:
    """Return a copy of a row with the same shape, that is quicker to build."""
    source, repeats, label, args = ultra.without_weights(row)
    if label.startswith("RepNCSPELAN4") and len(args) > 3 and isinstance(args[3], int):
        args[3] = 1  # its repeats, which depth does not reach
    return [source, repeats, label, args]


def _hollow(conv):
    """Return a forward that gives a map of a convolution's shape, and computes nothing."""

    def forward(x):
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                x.shape[2:], conv.kernel_size, conv.stride, conv.padding, conv.dilation, strict=True
            )
        ]
        return x.new_zeros(x.shape[0], conv.out_channels, *size)

    return forward


def _run(layers, shape: tuple[int, int, int], device: str) -> list:
    outputs = []
    x, texts = torch.zeros(1, *shape, device=device), torch.zeros(1, 80, 512, device=device)
    with torch.no_grad():
        for layer in layers:
            f = layer.f
            if f != -1:
                x = outputs[f] if isinstance(f, int) else [x if j == -1 else outputs[j] for j in f]
            kind = type(layer).__name__
            if kind in _TEXTUAL:
                outputs.append(None)
                continue
            if not _keeps_shape(layer):
                x = layer(x, texts) if kind in _GUIDED else layer(x)
            outputs.append(x)
    return outputs


def _keeps_shape(layer: nn.Module) -> bool:
    """Tell whether a layer is a block that keeps the shape: it need not run."""
    label = str(layer.type).rpartition(".")[2]
    block = registry.find(label) if "[" not in label else None
    return block is not None and block.role.keeps_shape
