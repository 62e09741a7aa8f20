"""Fixtures for the tests of blocks."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def peak(monkeypatch):
    """Return the most bytes alive at once, of those that a call allocates on the CPU."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "scripts"))
    bench = importlib.import_module("bench")
    return lambda function: bench.peak(function, "cpu")
