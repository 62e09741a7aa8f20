"""Runs in, records out, one page: compare variants of a model on equal terms.

=============  ==================================================================================
file           does
=============  ==================================================================================
interrupt.py   Ctrl-C
records.py     plan, jobs and records: their types, reader and writer, the project folder
plan.py        what is compared; what cannot be compared is refused
variants.py    the models: read, counted, checked against each other
control.py     the base made larger
data.py        check a dataset, a digest of its content
jobs.py        what is to be done, each with the key of its inputs
keep.py        which records still hold; move those that do not out of the way
run.py         schedule the jobs, continue where a comparison was killed
process.py     a job in its own process on this machine
cluster.py     the same on a Ray cluster
worker.py      what that process does
train.py       the trainer of a run: same start, same order of data, exact continuation
evaluate.py    AP by COCO's rules of the trained model
speed.py       latency and throughput of the fused models, in turns
probe.py       the time that a comparison takes, for a dry run
statistics.py  means, paired differences, intervals, corrected verdicts
results.py     what was found, from plan and records
tables.py      its tables; figures.py its figures; words.py its sentences
report.py      page, Markdown, CSV, LaTeX; page.py what only the page has
=============  ==================================================================================
"""
