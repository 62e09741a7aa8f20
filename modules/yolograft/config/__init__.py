"""A model config: what a model YAML holds. One home per fact.

===========  ====================================================================================
file         has
===========  ====================================================================================
labels.py    module names of rows: a block, or a stage with a block inside (``C2f_SK``)
rows.py      rows: their parts, what they read, where they stand
scale.py     scale letters and what they mean
check.py     what a config may make Ultralytics execute
read.py      find and read a model YAML
write.py     a config as a file in Ultralytics' style
origin.py    the key ``graft``: from which row of the base each row came
===========  ====================================================================================
"""
