"""The module `_engine` by itself: whatever it is handed, it raises or works; it never touches what is not an array's.

Every entry point is recorded at work on small networks. Then its arguments are taken apart, and at one or two places
something else is put: nothing, other lengths, other types, numbers that overflow. Here the process must go on;
`.ci/sanitize` runs this file under the sanitizers, which see every read and every write.
"""

import threading
import warnings

import numpy as np
import pytest

kernels = pytest.importorskip(
    "unrolled.backends.cpu.kernels", reason="the native engine is not built", exc_type=ImportError
)
from against_reference import masks, problem  # noqa: E402
from grown_cells import GROWN, HEADS  # noqa: E402

import unrolled as ur  # noqa: E402
from unrolled.backends.cpu import _engine, arrays, interpreter, layers, sampler, updates  # noqa: E402
from unrolled.nn.network import Network  # noqa: E402
from unrolled.nn.spec import Spec  # noqa: E402
from unrolled.reference import scan  # noqa: E402
from unrolled.training.clipping import clip_by_norm  # noqa: E402
from unrolled.training.optimizers import make_optimizer  # noqa: E402

REFUSALS = (ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, BufferError)
NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    5,
    17,
    255,
    256,
    2**31 - 1,
    2**31,
    2**40,
    2**61,
    2**62,
    2**63 - 1,
    2**63,
    -(2**63),
    None,
    0.5,
)


def stack(cell, inputs=4, tokens=False, lengths=None, **options):
    """Record a network forward, backward, without a tape, and a single step of it."""
    net = ur.Recurrent(cell, inputs, options.pop("hidden_size", 5), backend="cpu", **options)
    rng = np.random.default_rng(0)
    x = rng.integers(0, inputs, (3, 2)) if tokens else rng.standard_normal((3, 2, inputs)).astype(net.dtype)
    masks = net.draw_masks(3, 2, rng)
    y, _, tape = net.forward(x, lengths=lengths, masks=masks)
    net.backward(tape, np.ones_like(y))
    net(x[:1])


def language(cell, vocabulary=7, embedding=0):
    """Record a language network's step, its optimiser, and its drawing."""
    net = Network(Spec(vocabulary, cell, embedding, 5, 2), backend="cpu")
    x = np.arange(6).reshape(3, 2) % vocabulary
    _, grads, _ = net.loss_and_gradients(x, x)
    clip_by_norm(grads, 1e-3)
    make_optimizer("adam", net.params).update(grads, 0.1)
    net.sampler(net.zero_state(1), 0).sample(1, np.array([0.3, 0.9]), 1.0)


def grown(cell, inputs=4, hidden=5):
    """Record a cell that uses all of the contract, with times."""
    w, x, s, dy, ds = problem(cell, "float32", 3, 2, inputs, hidden)
    chosen = scan.ScanMasks(dt=np.full((3, 2), 0.5, "f4"), **masks(cell, "live_keep", 3, 2, hidden))
    kernels.backward(kernels.forward(cell, w, x, s, chosen)[2], dy, ds)


RECORDED = {
    "lstm": lambda: stack("lstm", lengths=[3, 1]),
    "lstm_peephole": lambda: stack("lstm_peephole", hidden_size=17, zoneout=0.3, zoneout_cell=0.2),
    "gru_reset_before": lambda: stack("gru_reset_before", tokens=True, dtype="float64"),
    "indrnn": lambda: stack("indrnn", bias=False),
    "lstm_layer_norm": lambda: stack("lstm_layer_norm", lengths=[3, 1]),
    "lstm_use_gate": lambda: stack("lstm_use_gate", tokens=True, hidden_size=17),
    "projection": lambda: stack("lstm", proj_size=3, zoneout=0.3, recurrent_dropout=0.4, dtype="float64"),
    "two programs": lambda: stack("gru_layer_norm", bias=False),
    "another width": lambda: grown(GROWN),
    "heads": lambda: grown(HEADS, 17, 17),
    "language": lambda: language("lstm", 7, 3),
    "one-hot": lambda: language("gru_reset_after", 70),
    "many symbols": lambda: language("lstm_peephole", 70, 3),
    "language, interpreted": lambda: language("lstm_layer_norm", 70, 3),
    "one-hot, interpreted": lambda: language("gru_layer_norm"),
}


def calls_of(run):
    """Every call of the engine that `run` makes: (function, arguments); an object's methods with the object first."""
    found = []

    def record(name, dtype):
        function = getattr(_engine, name + arrays.DTYPES[np.dtype(dtype)])

        def recorded(*args):
            found.append((function, args))
            made = function(*args)
            return Recorded(made) if name == "Sampler" else made

        return recorded

    class Recorded:
        def __init__(self, made):
            self.made = made

        def set_state(self, *args):
            found.append((type(self.made).set_state, (self.made, *args)))
            return self.made.set_state(*args)

        def sample(self, *args):
            found.append((type(self.made).sample, (self.made, *args)))
            return self.made.sample(*args)

    with pytest.MonkeyPatch.context() as patch:
        for module in (kernels, sampler, layers, interpreter, arrays, updates):
            patch.setattr(module, "of_dtype", record)
        run()
    return [(function, args) for function, args in found if "empty" not in function.__name__]


def places(value, path=()):
    """Paths to every part of nested arguments."""
    yield path
    if isinstance(value, (list, tuple)):
        for n, part in enumerate(value):
            yield from places(part, (*path, n))
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from places(part, (*path, name))


def at(value, path):
    for step in path:
        value = value[step]
    return value


def replaced(value, path, new):
    """Nested arguments with another part at a path."""
    if not path:
        return new
    if isinstance(value, dict):
        return value | {path[0]: replaced(value[path[0]], path[1:], new)}
    parts = list(value)
    parts[path[0]] = replaced(parts[path[0]], path[1:], new)
    return type(value)(parts)


def others_of_array(a, rng):
    """Arrays beside one: other lengths, ranks, types, layouts; whole numbers also with some changed."""
    yield None
    yield a[:0]
    yield a[..., :0]
    yield a[:-1]
    yield a[..., :-1]
    yield np.concatenate([a, a])
    yield a.reshape(-1)
    yield a[None]
    yield a.astype("f8" if a.dtype != np.float64 else "f4")
    yield a.astype(a.dtype.newbyteorder())
    yield np.repeat(a, 2, axis=-1)[..., ::2]
    yield a[::-1]
    yield a.T
    yield np.empty((0, 5), a.dtype)
    yield np.zeros((), a.dtype)
    yield a.tolist()
    unaligned = np.zeros(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape) if a.size else a
    yield unaligned
    fixed = a.copy()
    fixed.flags.writeable = False
    yield fixed
    if a.dtype.kind in "iu" and a.size:
        ends = np.iinfo(a.dtype)
        for new in (ends.min, max(ends.min, -1), 0, 1, 4, 17, 255, ends.max):
            changed = a.copy()
            changed.reshape(-1)[rng.integers(a.size)] = new
            yield changed
            yield np.full_like(a, new)


def others(value, rng):
    """What may stand in the place of a value."""
    if isinstance(value, np.ndarray):
        yield from others_of_array(value, rng)
    elif isinstance(value, (bool, int, float)) or value is None:
        yield from NUMBERS
        yield np.zeros((2, 3), "f4")
    elif isinstance(value, str):
        yield from ("", "lstm", "indrnn", "adam", "no such name", None)
    elif isinstance(value, dict):
        yield from ({}, None, value | dict.fromkeys(value, None), [])
    elif isinstance(value, (list, tuple)):
        kind = type(value)
        yield from (kind(), kind(value[:-1]), kind(value[1:]), kind([*value, *value]), kind([None] * len(value)), None)
        yield kind(list(value) * 9)
        yield (list if kind is tuple else tuple)(value)


def try_all(calls, rng, most):
    """Make at most so many wrong calls of each; return how many were refused."""
    refused = 0
    for function, args in calls:
        start = 1 if isinstance(args[0], (_engine.Sampler32, _engine.Sampler64)) else 0
        paths = [path for path in places(args) if path and path[0] >= start]
        wrong = [[(path, new)] for path in paths for new in others(at(args, path), rng)]
        wrong += [[*wrong[i], *wrong[j]] for i, j in rng.integers(0, max(1, len(wrong)), (len(wrong), 2)) if wrong]
        for n in rng.permutation(len(wrong))[:most]:
            now = args
            try:
                for path, new in wrong[n]:
                    now = replaced(now, path, new)
            except (TypeError, KeyError, IndexError):
                continue  # the second path was in what the first replaced
            try:
                function(*now)
            except REFUSALS:
                refused += 1
    return refused


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", RECORDED)
def test_wrong_arguments_are_refused_or_harmless(name, threads):
    _engine.set_threads(threads)
    calls = calls_of(RECORDED[name])
    with np.errstate(all="ignore"):  # what calls left in their outputs becomes another type
        refused = try_all(calls, np.random.default_rng(threads), 60)
    assert refused > 15 * len(calls), "most of them are wrong"
    RECORDED[name]()  # and the engine works as before


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDED)
def test_every_wrong_argument_is_refused_or_harmless(name):
    with np.errstate(all="ignore"):
        assert try_all(calls_of(RECORDED[name]), np.random.default_rng(3), 10**6) > 0


def test_what_else_the_module_takes():
    for n in (0, -1, 1025, 10**5, 2**31, 2**63, None, "2"):
        with pytest.raises(REFUSALS):
            _engine.set_threads(n)
    for name in ("", "mmx", None):
        with pytest.raises(REFUSALS):
            _engine.select(name)
    for shape in ([2**62], [2**40, 2**40], [-1], [2**63], [1] * 65, None, [2**31, 2**31, 0, 2**31]):
        with pytest.raises(REFUSALS):
            _engine.empty32(shape)
    assert _engine.empty64([0, 3]).shape == (0, 3)
    x = np.ones(3, "f4")
    for name, source, to in [("sqrt", x, x), ("exp", x, x[:2]), ("exp", x, None), ("exp", x.astype("f8"), x)]:
        with pytest.raises(REFUSALS):
            _engine.map32(name, source, to)
    bare = _engine.Sampler32.__new__(_engine.Sampler32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError):
            bare.sample(0, np.zeros(1), 1.0, np.zeros(1, np.int64))


def test_lists_may_be_emptied_while_a_call_runs():
    """The arrays of a call are the call's own until it ends."""
    rng = np.random.default_rng(5)
    arrays = [rng.standard_normal(200_000).astype("f4") for _ in range(20)]
    want, given, done = _engine.sum_of_squares32(arrays), [], threading.Event()

    def empty():
        while not done.is_set():
            given.clear()

    other = threading.Thread(target=empty)
    other.start()
    try:
        for _ in range(10):
            given[:] = [a.copy() for a in arrays]
            _engine.sum_of_squares32(given)
    finally:
        done.set()
        other.join()
    assert _engine.sum_of_squares32(arrays) == want
