"""Scripts of a checkout: the commands, and in :mod:`scripts.bench` the benches."""
