"""Warm starts: the tensors of a trained model in a grafted one.

=============  ==================================================================================
file           does
=============  ==================================================================================
layers.py      what a layer is: its sources, tensors, kind
rebuild.py     what a checkpoint's layers are beyond their config
trace.py       what an image becomes in a model
match.py       which layer of a checkpoint each layer is
scale.py       refuses a checkpoint of another scale
prompts.py     classes of World and YOLOE models
transplant.py  carries the tensors over
report.py      what was carried, and what was not
checkpoint.py  a trained model in, a grafted one out
freeze.py      ``freeze=10`` counts rows of the base
=============  ==================================================================================
"""
