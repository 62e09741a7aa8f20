"""The table of what is wrapped in Ultralytics."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from yolograft import _startup, ultra
from yolograft.hooks import HOOKS, STATUS

IDS = [hook.target for hook in HOOKS]


def current(target):
    """What stands in Ultralytics: a function, or the getter of a property."""
    module, _, path = target.partition(":")
    found = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found.fget if isinstance(found, property) else found


def test_the_watched_modules_are_those_of_the_table():
    assert len({*_startup.WATCHED}) == len(_startup.WATCHED)
    assert {*_startup.WATCHED} == {hook.module for hook in HOOKS}


def test_each_function_is_named_once():
    assert len({*IDS}) == len(IDS)


@pytest.mark.parametrize("hook", HOOKS, ids=IDS)
def test_a_function_is_wrapped_by_the_file_that_the_table_names(hook):
    wrap = current(hook.target)
    assert STATUS[hook.target] is None
    make = pkgutil.resolve_name(f"yolograft.hooks.{hook.make}")
    assert wrap.__code__.co_filename == make.__code__.co_filename
    assert not hasattr(wrap.__wrapped__, "_yolograft")
    assert "ultralytics" in Path(inspect.unwrap(wrap).__code__.co_filename).parts
    names = tuple(inspect.signature(wrap.__wrapped__).parameters)
    assert names[: len(hook.parameters)] == hook.parameters


@pytest.mark.parametrize("hook", HOOKS, ids=IDS)
def test_a_row_says_why_and_what_would_be_better(hook):
    assert hook.why != hook.instead
    for text in (hook.why, hook.instead):
        assert re.fullmatch(r"[`a-z].{14,90}[^.\s]", text)
    oldest = next(r for r in map(Requirement, requires("yolograft")) if r.name == "ultralytics")
    assert oldest.specifier.contains(hook.since)


def test_our_own_code_gets_the_original():
    tasks = importlib.import_module("ultralytics.nn.tasks")
    found = ultra.original("ultralytics.nn.tasks:parse_model")
    assert found is not tasks.parse_model
    assert found is tasks.parse_model.__wrapped__
    assert found.__module__ == "ultralytics.nn.tasks"
    guess = ultra.original("ultralytics.nn.tasks:guess_model_task")  # which nothing wraps
    assert guess is tasks.guess_model_task


def test_a_module_of_ultralytics_loads_only_what_wraps_it():
    code = (
        "import sys, ultralytics.cfg\n"
        "print(*sorted(m for m in sys.modules if m.startswith('yolograft.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {*done.stdout.split()}
    assert {"yolograft.hooks", "yolograft.hooks.command"} <= loaded
    assert not {"yolograft.parser", "yolograft.registry", "yolograft.blocks"} & loaded
