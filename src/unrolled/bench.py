"""Speed on the machine at hand: what `unrolled bench` prints, and what the scripts in benchmarks/ measure at length.

Each row first compares results with PyTorch's in float64 (where PyTorch is installed), then times both sides in turns.
Sizes are (B, T, V, E, H, L) for language models and (B, T, I, H, L) for plain stacks.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import backends
from .checks import ROUNDED
from .errors import UnrolledError
from .models import sampling as sample
from .nn.network import Network
from .nn.recurrent import Recurrent
from .nn.spec import Spec
from .training.clipping import clip_by_norm
from .training.optimizers import make_optimizer

if TYPE_CHECKING:
    from .backends.cpu.limits import Limits

MODELS = (
    (16, 50, 85, 21, 200, 1),
    (50, 50, 65, 65, 128, 2),
    (50, 50, 65, 128, 256, 2),
    (100, 64, 96, 64, 512, 1),
    (32, 64, 96, 256, 512, 2),
    (20, 20, 10000, 200, 200, 2),
)
STACKS = (
    (1, 50, 64, 128, 1),
    (16, 50, 64, 128, 1),
    (50, 50, 128, 128, 2),
    (16, 50, 200, 200, 1),
    (20, 35, 200, 200, 2),
    (32, 64, 256, 512, 2),
    (64, 64, 512, 1024, 1),
)
MODULES = {"lstm": "LSTM", "gru_reset_after": "GRU", "rnn_tanh": "RNN"}
"""PyTorch's name of each cell it has."""
TOKENS = 400
"""Drawn in a run."""
BUSY = 0.75
"""Load of a machine from which on other work is worth a warning: one process that computes makes 1."""
SHARE = 1.05
"""Of sgemm's rate: what lies above is no noise of two measurements on a quiet machine."""
CLIP, RATE = 1.0, 1e-4
TOLERANCE = 2e-5
"""Of float32 results against float64: some hundred roundings in a row."""


@dataclass(frozen=True)
class Row:
    """One size: seconds a call (median) and its spread, here and with PyTorch (None without it)."""

    size: tuple[int, ...]
    threads: int
    seconds: float
    spread: float
    torch_seconds: float | None = None
    torch_spread: float | None = None
    flops: float | None = None
    """Multiplications and additions of the products that a call needs, a second."""
    sgemm_flops: float | None = None
    """The same of a large matrix product, measured just before and just after: the better, which was disturbed less."""
    weights: int | None = None
    """Bytes of those that a token must read, where tokens are drawn."""
    error: float | None = None
    """Largest relative error against PyTorch in float64."""

    @property
    def ratio(self) -> float | None:
        """PyTorch's time / ours."""
        return None if self.torch_seconds is None else self.torch_seconds / self.seconds

    @property
    def share(self) -> float | None:
        """Our operations a second as a share of sgemm's."""
        return None if self.flops is None or self.sgemm_flops is None else self.flops / self.sgemm_flops

    def share_of(self, limits: Limits | None) -> float | None:
        """Our operations a second as a share of the cores' out of registers; or the weights' reading rate (drawing).

        That is a share of the cores' own from the level of the caches that each one's part of the weights lies in.
        """
        if limits is None:
            return None
        if self.flops is not None:
            return self.flops / (limits.flops * self.threads)
        if self.weights is None or (level := limits.level(self.weights / self.threads)) is None:
            return None
        return self.weights * TOKENS / self.seconds / (level.rate * self.threads)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self) | {"ratio": self.ratio, "share": self.share}


def alternate(
    sides: dict[str, Callable[[], Any]],
    seconds: float = 1.0,
    blocks: int = 7,
    pause: float = 0.1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds a call of each side, one number a block; of one thread, `time.process_time` leaves out who else works.

    Blocks alternate, with a pause between: a framework's threads spin for some tens of milliseconds after a call, and
    would slow the other side down. Each side's share of `seconds` is the same, whatever a call takes.

    Examples
    --------
    >>> sorted(alternate({"a": lambda: None, "b": lambda: None}, seconds=0.01, blocks=2, pause=0))
    ['a', 'b']
    """
    calls, times = dict[str, int](), {name: list[float]() for name in sides}
    for name, run in sides.items():
        run()
        start = clock()
        run()
        calls[name] = max(1, round(seconds / blocks / len(sides) / (clock() - start)))
    for _ in range(blocks):
        for name, run in sides.items():
            time.sleep(pause)
            run()
            start = clock()
            for _ in range(calls[name]):
                run()
            times[name].append((clock() - start) / calls[name])
    return times


def summary(times: list[float]) -> tuple[float, float]:
    """Median, and half the distance between the quartiles as a share of it.

    Examples
    --------
    >>> summary([1.0, 2.0, 3.0])
    (2.0, 0.5)
    """
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4)
    return median, (high - low) / 2 / median


def sgemm_flops(size: int = 1024, seconds: float = 0.3) -> float:
    """Floating-point operations a second of NumPy's own float32 product, the best of several.

    Examples
    --------
    >>> sgemm_flops(64, 0.001) > 0
    True
    """
    a = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        np.dot(a, a)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def geometric_mean(values: list[float]) -> float:
    """The n-th root of the product.

    Examples
    --------
    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    return statistics.geometric_mean(values)


def relative_error(got: Any, want: Any) -> float:
    """Largest difference, as a share of the largest number wanted.

    Examples
    --------
    >>> relative_error([1.0, 2.0], [1.0, 4.0])
    0.5
    """
    want = np.asarray(want)
    return float(np.abs(np.asarray(got) - want).max() / max(np.abs(want).max(), 1e-30))


def machine() -> dict[str, str]:
    """Processor and versions, for the head of a table."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = f"{len(names)} x {names[0]}" if names else name
    said = {"processor": name, "python": platform.python_version(), "numpy": np.__version__}
    if has_torch():
        said["torch"] = import_module("torch").__version__
    return said


def doubts(rows: Sequence[Row] = (), load: float = 0) -> list[str]:
    """Return what speaks against figures: other work on this machine, and shares that can't be.

    Parameters
    ----------
    rows : what was measured
    load : processes that wanted a processor in the last minute, before anything was measured (`os.getloadavg`)

    Examples
    --------
    >>> doubts([Row((1,), 1, 1.0, 0.1, flops=171e9, sgemm_flops=100e9)], load=6.5)[0]
    'this machine is busy with other work (load 6.5), so times and shares are not to be trusted'
    """
    said = []
    if load > BUSY:
        said.append(
            f"this machine is busy with other work (load {load:.1f}), so times and shares are not to be trusted"
        )
    if most := max((row.share for row in rows if row.share is not None and row.share > SHARE), default=0):
        said.append(f"{most:.0%} of sgemm can't be: other work slowed that product; measure again on a quiet machine")
    return said


def load() -> float:
    """Return how many processes wanted a processor in the last minute; 0 where the system doesn't say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return find_spec("torch") is not None


def model_row(size: tuple[int, ...], threads: int, seconds: float) -> Row:
    """One training step of a language model: tokens, loss, gradients, clipping, Adam; the state is carried on."""
    network, (x, y) = model_of(size, threads), tokens_of(size)
    batch, steps, vocabulary, embedding, hidden, layers = size
    rows = batch * steps  # the first layer's product takes one row a symbol or a token, whichever are fewer
    work = min(vocabulary, rows) * 4 * hidden * embedding
    work += rows * (4 * hidden * hidden * (2 * layers - 1) + hidden * vocabulary)
    theirs: list[Callable[[], Any]] = []
    error = None
    if has_torch():
        error = model_error(network, x, y)
        theirs = [torch_step(network, x, y, adam) for adam in ("foreach", "fused")]
    return _row(size, threads, seconds, model_step(network, x, y), theirs, 6.0 * work, error)


def model_step(network: Network, x: Any, y: Any) -> Callable[[], None]:
    """Return one training step on these tokens."""
    optimizer, state = make_optimizer("adam", network.params), None

    def step() -> None:
        nonlocal state
        _, grads, state = network.loss_and_gradients(x, y, state)
        clip_by_norm(grads, CLIP)
        optimizer.update(grads, RATE)

    return step


def stack_row(cell: str, size: tuple[int, ...], threads: int, seconds: float) -> Row:
    """Forward and backward of a plain stack: plain weights in, plain gradients out, weights changed between calls."""
    batch, steps, inputs, hidden, layers = size
    _use_threads(threads)
    rng = np.random.default_rng(0)
    ours = Recurrent(cell, inputs, hidden, layers, rng=0)
    x = rng.standard_normal((steps, batch, inputs), dtype=np.float32)
    dy = rng.standard_normal((steps, batch, hidden), dtype=np.float32)

    def run() -> None:
        for p in ours.params.values():
            p.flat[0] += 1e-6
        _, _, tape = ours.forward(x)
        ours.backward(tape, dy)

    theirs: list[Callable[[], Any]] = []
    error = None
    if has_torch():
        error = _stack_error(cell, ours, x, dy)
        theirs = [_torch_stack(cell, ours, x, dy)]
    columns = inputs + hidden + (layers - 1) * 2 * hidden
    return _row(
        size, threads, seconds, run, theirs, 6.0 * steps * batch * len(ours.cell.rows) * hidden * columns, error
    )


def drawing_row(size: tuple[int, ...], threads: int, seconds: float) -> Row:
    """Draw `TOKENS` tokens one at a time, each fed back; PyTorch draws by the same rule from the same numbers."""
    network = model_of(size, threads)
    run, theirs = drawing(network), []
    if has_torch():
        theirs = [torch_drawing(network)]
        if theirs[0]() != run():
            raise UnrolledError(f"{size}: PyTorch draws other tokens; nothing is timed")
    row = _row(size, threads, seconds, run, theirs, None, None)
    return row if backends.instruction_set() == "none" else replace(row, weights=bytes_of_token(size))


def rows(what: str, threads: int, seconds: float) -> Iterator[Row]:
    """Yield a table's rows as they are measured: "training", "drawing", or a cell's name for plain stacks of it."""
    if what in ("training", "drawing"):
        measure = model_row if what == "training" else drawing_row
        return (measure(size, threads, seconds) for size in MODELS)
    return (stack_row(what, size, threads, seconds) for size in STACKS)


def _use_threads(threads: int) -> None:
    backends.set_threads(threads)
    if has_torch():
        import_module("torch").set_num_threads(threads)


def model_of(size: tuple[int, ...], threads: int, dtype: str = "float32") -> Network:
    """Return the network of a size, and use so many threads."""
    _use_threads(threads)
    _, _, vocabulary, embedding, hidden, layers = size
    return Network(Spec(vocabulary, "lstm", embedding, hidden, layers, dtype=dtype), rng=0)


def tokens_of(size: tuple[int, ...]) -> Any:
    """Return what such a network reads, and the targets."""
    return np.random.default_rng(0).integers(0, size[2], (2, size[1], size[0]))


def _row(
    size: tuple[int, ...],
    threads: int,
    seconds: float,
    ours: Callable[[], Any],
    theirs: list[Callable[[], Any]],
    work: float | None,
    error: float | None,
) -> Row:
    """Time ours against the fastest of theirs."""
    from threadpoolctl import threadpool_limits

    if error is not None and not error < TOLERANCE:
        raise UnrolledError(f"{size}: relative error {error:.1e} against PyTorch in float64; nothing is timed")

    def product() -> float | None:
        if work is None:
            return None
        with threadpool_limits(threads, user_api="blas"):
            return sgemm_flops()

    before = product()
    with backends.undisturbed("cpu"):
        if len(theirs) > 1:
            tried = alternate({str(n): run for n, run in enumerate(theirs)}, seconds / 3, blocks=3)
            theirs = [theirs[int(min(tried, key=lambda n: min(tried[n])))]]
        times = alternate({"ours": ours} | dict(zip(["theirs"], theirs, strict=False)), seconds)
    flops = None if before is None else max(before, product() or 0)
    median, spread = summary(times["ours"])
    other, other_spread = summary(times["theirs"]) if theirs else (None, None)
    return Row(
        size,
        threads,
        median,
        spread,
        other,
        other_spread,
        None if work is None else work / median,
        flops,
        error=error,
    )


def bytes_of_token(size: tuple[int, ...]) -> int:
    """Bytes of the weights that drawing a token must read, where inputs are picked from a table if that pays."""
    from .backends.base import PAYS

    _, _, vocabulary, embedding, hidden, layers = size
    outer = vocabulary * hidden
    if vocabulary > PAYS * TOKENS:
        outer += 4 * hidden * embedding
    return 4 * ((2 * layers - 1) * 4 * hidden * hidden + outer)


def said_of(limits: Limits | None) -> list[str]:
    """Return the head's line of what this machine can do at most; none without the engine.

    Examples
    --------
    >>> said_of(None)
    []
    """
    if limits is None:
        return []
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        product = sgemm_flops(seconds=0.1)
    said = f"a core: {limits.flops / 1e9:.0f} GFLOP/s out of registers, sgemm {product / 1e9:.0f}"
    reads = [
        f"{level.rate / 1e9:.0f} from {level.name}" + (f" ({level.size / 1024:,.0f} KiB)" if level.size else "")
        for level in limits.levels
    ]
    return [said + ("; reads, GB/s: " + ", ".join(reads) if reads else "")]


def torch_model(network: Network) -> Any:
    """Return the obvious torch module with the same parameters, by the same names."""
    torch = import_module("torch")
    spec = network.spec
    module = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(spec.vocabulary_size, spec.embedding_size),
            "recurrent": torch.nn.LSTM(spec.embedding_size, spec.hidden_size, spec.num_layers),
            "decoder": torch.nn.Linear(spec.hidden_size, spec.vocabulary_size),
        }
    )
    module.load_state_dict({name: torch.from_numpy(p.copy()) for name, p in network.params.items()})
    return module


def torch_logits(module: Any, x: Any, state: Any) -> Any:
    """Logits (T, B, V) and the new state."""
    y, state = module["recurrent"](module["embedding"](x), state)
    return module["decoder"](y), state


def drawing(network: Network) -> Callable[[], list[int]]:
    """Return what draws `TOKENS` tokens, the weights packed beforehand."""
    state = network.zero_state(1)
    sampler = sample.TokenSampler(network, state, TOKENS)

    def run() -> list[int]:
        sampler.start(state)
        return list(sampler.sample(1, np.random.default_rng(0).random(TOKENS), 1.0))

    return run


def torch_drawing(network: Network) -> Callable[[], list[int]]:
    """Return what draws `TOKENS` tokens with PyTorch, a call a token."""
    torch = import_module("torch")
    module = torch_model(network)

    def run() -> list[int]:
        token, state, drawn = 1, None, []
        with torch.inference_mode():
            for number in np.random.default_rng(0).random(TOKENS):
                logits, state = torch_logits(module, torch.tensor([[token]]), state)
                token = sample.sample_token(logits[0, 0].numpy(), 1.0, number)
                drawn.append(token)
        return drawn

    return run


def _torch_loss(module: Any, x: Any, y: Any, state: Any) -> Any:
    logits, state = torch_logits(module, x, state)
    return import_module("torch").nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten()), state


def torch_step(network: Network, x: Any, y: Any, adam: str) -> Callable[[], None]:
    """Return PyTorch's training step; for a network of bfloat16, under autocast."""
    torch = import_module("torch")
    module, state = torch_model(network), None
    optimizer = torch.optim.Adam(module.parameters(), RATE, **{adam: True})
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    rounds = network.recurrent.dtype == ROUNDED

    def step() -> None:
        nonlocal state
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=rounds):
            loss, new = _torch_loss(module, x, y, state)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        state = tuple(s.detach() for s in new)
        loss.item()

    return step


def model_error(network: Network, x: Any, y: Any) -> float:
    """Largest error of the loss and of all gradients, against PyTorch in float64."""
    torch = import_module("torch")
    exact = torch_model(network).double()
    want, _ = _torch_loss(exact, torch.from_numpy(x), torch.from_numpy(y), None)
    want.backward()
    loss, grads, _ = network.loss_and_gradients(x, y)
    errors = [relative_error(loss, want.detach())]
    return max(errors + [relative_error(grads[name], p.grad) for name, p in exact.named_parameters()])


def _torch_twin(cell: str, ours: Recurrent) -> Any:
    torch = import_module("torch")
    module = getattr(torch.nn, MODULES[cell])(ours.input_size, ours.hidden_size, ours.num_layers)
    module.load_state_dict({name: torch.from_numpy(p.copy()) for name, p in ours.params.items()})
    return module


def _torch_stack(cell: str, ours: Recurrent, x: Any, dy: Any) -> Callable[[], None]:
    torch = import_module("torch")
    module = _torch_twin(cell, ours)
    x, dy = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)

    def run() -> None:
        with torch.no_grad():
            for p in module.parameters():
                p.view(-1)[0] += 1e-6
                p.grad = None
        x.grad = None
        y, _ = module(x)
        y.backward(dy)

    return run


def _stack_error(cell: str, ours: Recurrent, x: Any, dy: Any) -> float:
    torch = import_module("torch")
    exact = _torch_twin(cell, ours).double()
    x64 = torch.from_numpy(x).double().requires_grad_()
    y64, _ = exact(x64)
    y64.backward(torch.from_numpy(dy).double())
    y, _, tape = ours.forward(x)
    dx, _, grads = ours.backward(tape, dy)
    errors = [relative_error(y, y64.detach()), relative_error(dx, x64.grad)]
    return max(errors + [relative_error(grads[name], p.grad) for name, p in exact.named_parameters()])
