"""Configs in, configs out: put blocks into any model by a recipe.

=============  ==================================================================================
file           does
=============  ==================================================================================
recipes.py     find a recipe, read it, refuse what is wrong in it
graph.py       a config's rows: who reads whom, and how large each map is
meta.py        rows built and run without memory
selectors.py   find the rows that a recipe's words mean
edits.py       what the steps do: insert, replace, swap and remove
splice.py      the new rows, renumbered; where each came from
make.py        a graft by recipe, or by a name such as yolo11s-cbam.yaml
file.py        a grafted config as a model YAML
preview.py     the table that ``yolograft patch`` prints
=============  ==================================================================================
"""

from yolograft.graft.make import Graft, graft

__all__ = ["Graft", "graft"]
