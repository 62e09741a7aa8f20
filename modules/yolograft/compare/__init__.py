"""Runs in, records out, one page: compare variants of a model on equal terms.

=============  ==================================================================================
file           does
=============  ==================================================================================
interrupt.py   Ctrl-C
plan.py        what is compared: base, variants, scale-up control; refuses what cannot be
data.py        check a data set, tell its content from another's
run.py         schedule the runs, keep their records, go on where a killed comparison stopped
worker.py      one run in its own process
train.py       the trainer of a run: same start, same order of data, exact continuation
evaluate.py    AP by COCO's rules of the trained model
speed.py       latency and throughput of the fused models, in turns
cluster.py     the same runs on a Ray cluster
statistics.py  means, paired differences, intervals, corrected verdicts
report.py      page, Markdown, CSV, LaTeX; figures.py draws
=============  ==================================================================================
"""
