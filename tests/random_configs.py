"""Random configs of real layers, and random recipes for them."""


def small_config(rng):
    """Return a random detector of real layers: a pyramid down, and some ways up again."""
    rows, strides = [[-1, 1, "Conv", [16, 3, 2]]], [2]

    def add(source, module, args, stride, repeats=1):
        i = len(rows)
        sources = [s - i if rng.random() < 0.3 or s == i - 1 else s for s in source]
        rows.append([sources if len(source) > 1 else sources[0], repeats, module, args])
        strides.append(stride)

    for _ in range(rng.randint(2, 4)):
        width = rng.choice((16, 32, 64))
        down = rng.choice((["Conv", [width, 3, 2]], ["ADown", [width]], ["SCDown", [width, 3, 2]]))
        add([len(rows) - 1], *down, strides[-1] * 2)
        for _ in range(rng.randint(0, 2)):
            add([len(rows) - 1], "C2f", [width, True], strides[-1], rng.randint(1, 3))
    at = len(rows)
    for _ in range(rng.randint(2, 5)):
        last, same = len(rows) - 1, [i for i, s in enumerate(strides) if s == strides[-1]]
        kind = rng.random()
        if kind < 0.3 and strides[-1] > 4:
            add([last], "nn.Upsample", ["None", 2, "nearest"], strides[-1] // 2)
        elif kind < 0.6 and len(same) > 1:
            add([last, rng.choice(same[:-1])], "Concat", [1], strides[-1])
        else:
            add([last], "C3", [32, False], strides[-1], 2)
    feeders = sorted({len(rows) - 1, rng.randrange(at, len(rows)), rng.randrange(len(rows))})
    head = [*rows[at:], [feeders, 1, "Detect", ["nc"]]]
    scales = {"n": [0.33, 0.5, 1024], "x": [1.0, 1.0, 1024]}
    return {"nc": 2, "scales": scales, "backbone": rows[:at], "head": head}


def random_recipe(rng):
    attention = ("SE", "CBAM", "CoordAtt", "GlobalContext")
    level = rng.choice(("P2+", "P3+", "P2", ["P2", "P3"], "coarsest"))
    choices = [
        {"insert": rng.choice(attention), "at": {"section": "neck"}, "rewire": "all"},
        {"insert": rng.choice(attention), "at": [{"is": "stage-end"}, {"is": "head-feeder"}]},
        {"insert": "ASPP", "at": {"level": level, "module": ["C2f", "C3"]}},
        {"swap": rng.choice(("SK", "SE")), "at": {"is": "stage", "level": level}},
        {"replace": "SPDConv", "at": {"is": "downsampler"}},
        {"replace": "SKConv", "at": {"module": ["Conv", "ADown", "SCDown"]}},
    ]
    picked = rng.sample(choices[:4], rng.randint(1, 3)) + rng.sample(choices[4:6], 1)
    return {"steps": picked}
