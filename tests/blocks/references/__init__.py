"""What each block computes, written a second time: slowly, from the papers, and by other means.

A reference has the arguments ``(p, x, training, /)`` and then the signature of the block, defaults
included. ``p`` maps the names of the block's state dict to tensors; a reference in training writes
the new running statistics into it. Widths are worked out from the arguments and imposed on the
weights with ``view``, so that a block that ignores an argument does not fit its reference.

One paper, one file, as in `yolograft.blocks`, with the `CASES` that the tests compare and the
`REFUSALS` of its own checks; `tools.py` holds what they share.
"""
