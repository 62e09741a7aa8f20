"""COCO JSON straight into training and validation: no label files, no copies.

==============  ================================================================================
file            what it does
==============  ================================================================================
config.py       a data YAML: which JSON, which images, which names
categories.py   categories: read, compared between files, found among a model's classes
mirror.py       left and right keypoints, by their names
parse.py        reads a JSON and checks its outline
values.py       what a value of a JSON means, in whatever way it is written
rle.py          run-length encoded masks
arrays.py       what training needs of one JSON, as arrays
build.py        makes those arrays; what cannot be used is reported
index.py        opens them, from the cache where the content is known
cache.py        arrays in the user's cache folder
images.py       finds the image files of a JSON
scan.py         looks at each image file, once
rotation.py     EXIF rotation
sample.py       one image of a split, and the frame that its JSON counts pixels in
labels.py       Ultralytics' labels from the arrays
dataset.py      Ultralytics' dataset, fed from the above; rtdetr.py: that of RT-DETR
truth.py        the annotations as faster-coco-eval reads them
metrics.py      the official COCO numbers, against the original JSON
recorder.py     gathers the predictions of a validation, and evaluates them
results.py      their columns in results.csv
validation.py   what a validator does on COCO JSON
check.py        what ``yolograft coco check`` prints
issues.py       what it finds
sheet.py        what it draws
report.py       counts issues, and reports each kind once
progress.py     the progress bar
==============  ================================================================================
"""
