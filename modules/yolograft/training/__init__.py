"""Train and validate, on one machine or several: ``yolograft train`` and ``yolograft val``."""
