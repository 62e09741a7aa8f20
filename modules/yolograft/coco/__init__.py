"""COCO JSON straight into training and validation: no label files, no copies.

==============  ================================================================================
file            what it does
==============  ================================================================================
config.py       reads the data YAML: which JSON, which images, which names
index.py        turns one JSON into arrays, once; kept in the user's cache folder
images.py       finds the pictures of a JSON and looks at each of them, once
rle.py          reads run-length encoded masks
report.py       counts what was dropped or changed, and says so in one message
dataset.py      Ultralytics' dataset, fed from the above
metrics.py      the official COCO numbers, against the original JSON
check.py        what ``yolograft coco check`` prints and draws
==============  ================================================================================
"""
