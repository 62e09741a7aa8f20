"""Benches of the blocks: for this repository, not part of the installed package.

Run them from the root of a checkout, as in ``python -m scripts.bench.blocks --help``:

==========  ====================================================================================
``blocks``  time and memory of each block against its naive form and public libraries
``coco``    time and memory of the index of COCO JSON, at COCO's size
``cross``   every recipe on every model YAML of Ultralytics: built, trained for a step, exported
``warm``    models that start warm beside models that start cold, epoch by epoch
==========  ====================================================================================
"""
