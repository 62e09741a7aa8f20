"""What must hold for every block, over the table in `cases.py`."""

import inspect
import io
import pickle
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from itertools import product

import onnxruntime
import openvino
import pytest
import torch
from torch import Tensor, nn

from yolograft import registry, trial
from yolograft.blocks import _layers

from .cases import BLOCKS, CASES, FIRST, REFUSALS, TOLERANCES

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

OPENVINO = openvino.Core()

#: Batch, height, width: tiny, odd, rectangular; one image, and one value per channel.
SIZES = [(1, 1, 1), (3, 1, 1), (1, 2, 2), (2, 3, 3), (2, 1, 4), (1, 7, 4), (3, 6, 9)]

#: Graphs are made at the first size, and must hold at the others. A compiler takes equal sizes for
#: the same, and 1 for a constant: the first size equals no case's width, the second holds no 1.
GRAPH_SIZES = [(9, 12, 10), (2, 7, 11), (1, 5, 4), (1, 1, 2)]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


def limits(case):
    """Return what the table of blocks says that a block cannot do, as built for a case.

    A limit may end with the argument that it depends on: ``no gradient for g.bias (norm=True)``.
    """
    block = registry.find(case.block)
    defaults = {p.name: p.default for p in arguments(BLOCKS[case.block])}
    given = {f"({name}={value})" for name, value in (defaults | case.args).items()}
    stated = [limit.partition(" (") for limit in (block.limits if block else {})]
    return {text for text, _, condition in stated if not condition or f"({condition}" in given}


@pytest.fixture(params=[False, True], ids=["eval", "train"])
def training(request):
    return request.param


def arguments(function):
    """Return the parameters that a caller names; a block without ``__init__`` has none."""
    parameters = inspect.signature(function).parameters.values()
    return [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def close(actual, expected, dtype=torch.float64, scale=1):
    tolerance = scale * TOLERANCES[dtype]
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


def tensors(y):
    return (y,) if isinstance(y, Tensor) else tuple(y)


def loss(y):
    """Weight every output value differently: a plain sum is blind behind BatchNorm."""
    return sum((t * torch.arange(t.numel()).sin().view(t.shape)).sum() for t in tensors(y))


def gradients(module, x):
    """Return the gradients of a loss by name, with those of the input as ``x``."""
    x = x.detach().requires_grad_()
    loss(module(x)).backward()
    return {"x": x.grad, **{n: p.grad for n, p in module.named_parameters()}}


# The mathematics


@pytest.mark.each("case")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matches_reference(case, size, training):
    module, x = case.build().train(training), case.input(*size)
    expected, state = case.expected(module, x)
    close(module(x), expected)
    close(dict(module.state_dict()), {n: t.detach() for n, t in state.items()})


@pytest.mark.parametrize("size", [(1, 1, 1), (3, 5, 4), (2, 4, 6)], ids=str)
def test_gradients_match_reference(case, size, training):
    module, x = case.build().train(training), case.input(*size).requires_grad_()
    expected, state = case.expected(module, x)
    names = [n for n, _ in module.named_parameters()]
    wanted = torch.autograd.grad(loss(expected), [x, *(state[n] for n in names)])
    close(gradients(module, x), dict(zip(["x", *names], wanted, strict=True)), scale=10)


def test_gradcheck(case, training):
    module = case.build().train(training)
    names = [n for n, _ in module.named_parameters()]

    def run(x, *values):
        weights = dict(zip(names, values, strict=True))
        return tensors(torch.func.functional_call(module, weights, (x,)))

    inputs = (case.input(3, 4, 3).requires_grad_(), *module.parameters())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def test_every_parameter_learns(case):
    for name, gradient in gradients(case.build().train(), case.input(4, 6, 7)).items():
        assert gradient.isfinite().all(), name
        if f"no gradient for {name}" in limits(case):
            assert gradient.abs().max() < 1e-12, name
        else:
            assert gradient.abs().max() > 1e-6, name


# Calls


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "strided", "expanded"])
def test_layouts(case, layout):
    module, x = case.build().eval(), case.input(2, 6, 4)
    if layout == "channels_last":
        module = module.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        x = x.mT.contiguous().mT
    elif layout == "strided":
        x = x.repeat_interleave(2, 3)[..., ::2]
    else:
        x = x[:1].expand(3, -1, -1, -1)
    close(module(x), module.to(memory_format=torch.contiguous_format)(x.contiguous()))


@pytest.mark.parametrize("how", ["autocast", "cast"])
def test_bfloat16(case, how, training):
    module, size = case.build(torch.float32).train(training), (4, 6 * case.zoom, 7 * case.zoom)
    x = case.input(*size, dtype=torch.float32)
    expected = deepcopy(module)(x)
    if how == "cast":
        module, x = module.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        actual = module(x)
    for got, wanted in zip(tensors(actual), tensors(expected), strict=True):
        assert how == "autocast" or got.dtype == torch.bfloat16
        distance = (got.float() - wanted).norm() / wanted.norm()
        assert distance < TOLERANCES[torch.bfloat16]


def test_keeps_no_state(case):
    module, x = case.build().eval(), case.input(2, 5, 6)
    before = x.clone()
    first = module(x)
    module(case.input(1, 9, 3))
    close(module(x), first)
    assert torch.equal(x, before), "the input was changed in place"


def test_images_do_not_meet_in_eval(case):
    module, x = case.build().eval(), case.input(3, 5, 6)
    whole = [t[1:2] for t in tensors(module(x))]
    close(list(tensors(module(x[1:2]))), whole)


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_deterministic(case, device):
    module, x = case.build().train().to(device), case.input(3, 6, 5).to(device)
    cannot = device == "cuda" and "deterministic training on CUDA" in limits(case)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="determin") if cannot else nullcontext():
            first, second = gradients(deepcopy(module), x), gradients(deepcopy(module), x)
            assert all(torch.equal(first[n], second[n]) for n in first)
    finally:
        torch.use_deterministic_algorithms(before)


# Life in a model


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save", "state_dict"])
def test_copies(case, how):
    module, x = case.build().eval(), case.input(2, 5, 6)
    if how == "deepcopy":
        copy = deepcopy(module)
    elif how == "pickle":
        copy = pickle.loads(pickle.dumps(module))
    elif how == "torch.save":
        file = io.BytesIO()
        torch.save(module, file)
        copy = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    else:
        copy = case.build().eval()
        copy.load_state_dict(module.state_dict(), strict=True)
    close(copy(x), module(x))


def test_fused_equals_unfused(case):
    module, x = case.build().eval(), case.input(2, 5, 6)
    expected = module(x)
    layers = [m for m in module.modules() if isinstance(m, _layers.ConvNormAct)]
    for layer in layers * 2:
        layer.fuse()
    close(module(x), expected)
    assert not any(isinstance(m, nn.BatchNorm2d) for layer in layers for m in layer.modules())


def test_takes_the_attributes_of_ultralytics(case):
    module, x = case.build().eval(), case.input(2, 5, 6)
    expected = module(x)
    trial.check_attributes(module, case.block)
    module.i, module.f, module.type, module.np = 3, -1, "module.Name", 100
    close(module(x), expected)


# Graphs


def check_graph(run, module, case, sizes=GRAPH_SIZES):
    for size in sizes:
        x = case.input(*size, dtype=torch.float32)
        actual = [torch.as_tensor(t) for t in tensors(run(x))]
        close(actual, list(tensors(module(x))), torch.float32)


def check_compiled(case, backend):
    torch._dynamo.reset()
    module, zoom = case.build(torch.float32).eval(), case.zoom
    run = torch.compile(module, fullgraph=True, dynamic=True, backend=backend)
    with torch._dynamo.config.patch(error_on_recompile=True), torch.no_grad():
        check_graph(run, module, case, [(b, h * zoom, w * zoom) for b, h, w in GRAPH_SIZES[:2]])


@pytest.mark.parametrize(
    "case",
    [c if c in FIRST else pytest.param(c, marks=pytest.mark.slow) for c in CASES],
    ids=str,
    indirect=True,
)
def test_compiles(case):
    check_compiled(case, "aot_eager")


@pytest.mark.slow  # up to 20 seconds of C++ compiler per block
@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.block, indirect=True)
def test_compiles_with_inductor(case):
    check_compiled(case, "inductor")


def test_traces(case):
    module = case.build(torch.float32).eval()
    run = torch.jit.trace(module, case.input(*GRAPH_SIZES[0], dtype=torch.float32))
    check_graph(run, module, case)


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_onnx(case, dynamic):
    module, file = case.build(torch.float32).eval(), io.BytesIO()
    x = case.input(*GRAPH_SIZES[0], dtype=torch.float32)
    names = [f"out{i}" for i in range(len(tensors(module(x))))]
    axes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        module,
        (x,),
        file,
        opset_version=17,
        input_names=["x"],
        output_names=names,
        dynamic_axes=dict.fromkeys(["x", *names], axes) if dynamic else None,
        dynamo=False,
    )
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])

    def run(x):
        return session.run(None, {"x": x.numpy()})

    check_graph(run, module, case, GRAPH_SIZES if dynamic else GRAPH_SIZES[:1])


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_openvino(case, dynamic, monkeypatch):
    monkeypatch.setenv("CI", "true")  # its converter sends usage statistics from anywhere else
    module = case.build(torch.float32).eval()
    x = case.input(*GRAPH_SIZES[0], dtype=torch.float32)
    shape = {} if dynamic else {"input": x.shape}
    graph = openvino.convert_model(module, example_input=x, **shape)
    run = OPENVINO.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    sizes = GRAPH_SIZES if dynamic else GRAPH_SIZES[:1]
    check_graph(lambda x: run(x.numpy()).to_tuple(), module, case, sizes)


# Arguments


def bad_values():
    """Yield what an argument refuses, by its annotation: block, argument, value, error."""
    wrong = {
        "int": (TypeError, ["8", 2.0, True, None]),
        "int | None": (TypeError, ["8", 2.0, True]),
        "int | tuple[int, int] | None": (TypeError, ["8", 2.0, True, (2, "8"), (2.0, 2)]),
        "tuple[int, ...]": (TypeError, ["6", 6, None, (6, 2.0), (True,)]),
        "bool": (TypeError, ["yes", 1, None]),
        "bool | nn.Module | None": (TypeError, ["SiLU", 1, nn.ReLU]),
        "float": (TypeError, ["0.25", True, None]),
        "str": (TypeError, [1, True, None, ["att"]]),
        "tuple[str, ...]": (TypeError, ["add", 1, None, ("add", 1)]),
        "tuple[int, int]": (TypeError, ["20", 20, None, (20, 12.0), (20, True)]),
    }
    for name, cls in BLOCKS.items():
        for argument in arguments(cls):
            error, values = wrong[argument.annotation]
            yield from product([name], [argument.name], values, [error])
            if argument.annotation in ("int", "float"):
                yield from product([name], [argument.name], [0, -1], [ValueError])


def check_refused(build, block, argument, value, error):
    with pytest.raises(error) as caught:
        build(**{argument: value})
    fact, _, hint = str(caught.value).partition("\n\nHint: ")
    assert fact.startswith(f"{block}: ")
    assert f"{argument}={value!r}" in fact
    assert hint


@pytest.mark.parametrize(("block", "argument", "value", "error"), bad_values())
def test_refuses_wrong_types_and_sizes(block, argument, value, error):
    args = next(case.args for case in CASES if case.block == block)
    check_refused(partial(BLOCKS[block], **args), block, argument, value, error)


@pytest.mark.parametrize(("block", "args", "change"), REFUSALS, ids=str)
def test_refuses_impossible_values(block, args, change):
    BLOCKS[block](**args)
    [(argument, value)] = change.items()
    check_refused(partial(BLOCKS[block], **args), block, argument, value, ValueError)


# The table itself


def fits_reference(case, **changes):
    """Say whether a block that is built with changed arguments passes as the case."""
    try:
        module, x = case.build(**changes), case.input(3, 5, 6)
        close(module(x), case.expected(module, x)[0])
    except (AssertionError, KeyError, RuntimeError):
        return False
    return True


def test_every_block_has_a_case():
    assert {case.block for case in CASES} == set(BLOCKS)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_argument_is_tested(block):
    cases = [case for case in CASES if case.block == block]
    for argument in arguments(BLOCKS[block]):
        if argument.default is argument.empty:
            assert len({case.args[argument.name] for case in cases}) > 1, argument.name
        else:
            assert any(
                not fits_reference(case, **{argument.name: argument.default})
                for case in cases
                if argument.name in case.args
            ), f"no case of {block} would notice if it ignored {argument.name}"


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.block)
def test_signature_is_that_of_the_reference(case):
    wanted, actual = arguments(case.reference)[3:], arguments(BLOCKS[case.block])
    assert [(a.name, a.default) for a in actual] == [(w.name, w.default) for w in wanted]


def test_every_limit_is_one_that_is_tested():
    tested = {
        f"{case.block}: {limit}"
        for case in CASES
        for name in ("", *case.build().state_dict())
        for limit in (f"no gradient for {name}", "deterministic training on CUDA")
        if limit in limits(case)
    }
    stated = {f"{b.name}: {limit}" for b in registry.OURS for limit in b.limits}
    assert tested == {limit.partition(" (")[0] for limit in stated}
