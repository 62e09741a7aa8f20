"""Fixtures for the tests of blocks."""

import pytest
from scripts.bench import common


@pytest.fixture
def peak():
    """Return the most bytes alive at once, of those that a call allocates on the CPU."""
    return lambda function: common.peak(function, "cpu")
