"""Configs in, configs out; weights in, weights out: put blocks into any model by a recipe.

=============  ==================================================================================
file           does
=============  ==================================================================================
recipes.py     find a recipe, read it, refuse what is wrong in it
graph.py       read a config's rows: who reads whom, and how large each map is
select.py      find the rows that a recipe's words mean
engine.py      insert, replace, swap and remove; renumber; say where each new row came from
write.py       a config as a YAML file in Ultralytics' style
report.py      the table that ``yolograft patch`` prints
transplant.py  find each layer's counterpart in a checkpoint, and carry its tensors over
rebuild.py     what a checkpoint's layers are, and its config does not say
exact.py       what a trained layer's tensors are in the block that takes its place
checkpoint.py  a trained model in, a grafted one out
=============  ==================================================================================
"""

from yolograft.graft.edits import Graft, graft, patch

__all__ = ["Graft", "graft", "patch"]
