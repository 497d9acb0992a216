"""The native backend: the recurrence of `unrolled.reference.scan` as one compiled call a layer and direction.

The contract is `scan.forward`'s and `scan.backward`'s. The engine keeps hidden units in panels of one vector, the last
one padded with zeros; arrays that leave here are views without the padding, and a tape's gates are put in order when
they are first read.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...cells import CELLS, Cell
from ...checks import Array, Kept, read_only
from ...errors import UnrolledError, Unsupported, brief
from ...reference import layers as reference_layers
from ...reference import losses, scan
from . import _engine, interpreter, layers, lowering
from .arrays import DTYPES, bytes_of, contiguous, matrix, of_dtype, padded_width, vector_width

KERNELS = frozenset(_engine.cells())
"""Cells that the engine was built with kernels for, by name."""
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
BY_PANELS_BATCH = 2
"""Batches up to this share the hidden units of a step among threads; larger ones share the rows."""


@dataclass(frozen=True)
class EngineTape:
    """What one layer remembers of a forward pass; the same fields as `scan.Tape`, views made on demand.

    Attributes
    ----------
    live, keep : as in `scan.Tape`
    inputs : `scan.Tape`'s x, as the engine reads it
    weights : the parameters under the engine's names
    packed : (T, P, B, gates, W) the gates as the engine keeps them: P panels of W units
    padded : the arrays (N, B, Hp) that `states` and `proposed` (where `keep` is) look into
    """

    cell: Cell
    inputs: Array
    weights: dict[str, Array | None]
    live: Array | None
    keep: Any
    packed: Array
    padded: tuple[list[Array], list[Array]]
    _y: Array

    @property
    def x(self) -> Array:
        """The inputs."""
        return read_only(self.inputs)

    @cached_property
    def states(self) -> Any:
        """The cell's State of (T + 1, B, H) views; entry 0 is the initial state."""
        return self._fields(self.padded[0])

    @cached_property
    def proposed(self) -> Any:
        """State of (T, B, H) views; the cell's new states before `keep`."""
        return self._fields(self.padded[1] or [f[1:] for f in self.padded[0]])

    def _fields(self, padded: list[Array]) -> Any:
        return self.cell.state(*[read_only(f[..., : self._y.shape[-1]]) for f in padded])

    @cached_property
    def gates(self) -> Any:
        """The cell's gates, each (T, B, H)."""
        steps, panels, batch, gates, width = self.packed.shape
        ordered = self.packed.transpose(3, 0, 2, 1, 4).reshape(gates, steps, batch, panels * width)
        return self.cell.gates(*map(read_only, ordered[..., : self._y.shape[-1]]))

    @property
    def y(self) -> Array:
        """Outputs (T, B, H): the hidden states, 0 where a sequence is over."""
        return read_only(self._y)

    @property
    def state(self) -> Any:
        """The final State of (B, H) arrays."""
        return type(self.states)(*(field[-1] for field in self.states))


def reason(cell: Cell, dtype: Any) -> str | None:
    """Say why the engine does not run a cell in a dtype; None if it does.

    Examples
    --------
    >>> reason(CELLS["lstm"], "float32")
    >>> reason(CELLS["lstm"], "complex128")
    'cpu runs float32 and float64, not complex128'
    """
    if np.dtype(dtype) not in DTYPES:
        return f"cpu runs float32 and float64, not {np.dtype(dtype)}"
    try:
        return None if has_kernel(cell) else lowering.refusal(cell)
    except TypeError as error:  # a cell is data; one that holds a list has no hash
        return f"the engine cannot run the cell {brief(cell.name)}: {error}"


def has_kernel(cell: Cell) -> bool:
    """Whether the engine was built with kernels for a cell; any other is interpreted.

    Examples
    --------
    >>> has_kernel(CELLS["lstm"]), has_kernel(CELLS["lstm_use_gate"])
    (True, False)
    """
    known = CELLS.get(cell.name)
    return cell.name in KERNELS and (cell is known or cell == known)  # a copy of a cell is that cell


def _pad(out: Array, field: Array, hidden: int) -> Array:
    """Copy (B, H) into (B, Hp), with zeros in the padding."""
    out[:, :hidden] = field
    if out.shape[1] > hidden:
        out[:, hidden:] = 0
    return out


def weights(cell: Cell, w: scan.Params, dtype: Any) -> dict[str, Array | None]:
    """Return the parameters under the engine's names, contiguous."""
    read = {name: contiguous(w[name], dtype) if name in w else None for name in WEIGHTS}
    read["params"] = contiguous(w[cell.params_name], dtype) if cell.params_name in w else None
    return read


def _dims(weight_ih: Array | None, steps: int, batch: int, hidden: int, *, record: bool) -> list[int]:
    """Return the sizes of a call, as csrc/engine.cpp lists them; what the cell decides, the engine knows."""
    assert weight_ih is not None
    return [steps, batch, weight_ih.shape[1], hidden, record, batch <= BY_PANELS_BATCH]


def _refuse(cell: Cell, dtype: Any) -> None:
    why = reason(cell, dtype)
    if why is not None:
        raise Unsupported(f"{why}. Use backend='auto' or 'reference'.")


def forward(
    cell: Cell,
    w: scan.Params,
    x: Array,
    s: Any,
    *,
    live: Array | None = None,
    keep: Any = None,
    record: bool = True,
    drop: Array | None = None,
) -> tuple[Array, Any, EngineTape | interpreter.ProgramTape | None]:
    """Run all steps, as `scan.forward`: by the cell's kernels where there are any for what is asked.

    Raises
    ------
    Unsupported
        If the engine does not run this cell or dtype.

    Examples
    --------
    >>> w = {"weight_ih": np.ones((5, 3)), "weight_hh": np.ones((5, 5))}
    >>> y, s, tape = forward(CELLS["rnn_tanh"], w, np.zeros((7, 2, 3)), CELLS["rnn_tanh"].state(np.zeros((2, 5))))
    >>> y.shape, s.h.shape
    ((7, 2, 5), (2, 5))
    """
    dtype = _dtype(w, x, s)
    _refuse(cell, dtype)
    return _forward(cell, w, x, s, dtype, live, keep, record, drop)


def _dtype(w: scan.Params, x: Array, s: Any) -> np.dtype[Any]:
    """What these compute in; integer x are indices."""
    arrays = [*w.values(), *s, *([] if x.dtype.kind in "iu" else [x])]
    first: np.dtype[Any] = arrays[0].dtype
    return first if all([a.dtype is first for a in arrays]) else np.result_type(*arrays)


def _forward(
    cell: Cell,
    w: scan.Params,
    x: Array,
    s: Any,
    dtype: np.dtype[Any],
    live: Array | None,
    keep: Any,
    record: bool,
    drop: Array | None,
) -> tuple[Array, Any, EngineTape | interpreter.ProgramTape | None]:
    """As `forward`, of what the engine runs."""
    steps, batch = x.shape[:2]
    tokens, new = x.dtype.kind in "iu", of_dtype("empty", dtype)
    if not has_kernel(cell) or "weight_hr" in w or drop is not None or any(isinstance(m, float) for m in keep or ()):
        return interpreter.forward(cell, w, x, s, live=live, keep=keep, record=record, drop=drop)
    if live is not None:  # padding may hold anything, NaN too: it must not reach a product
        x = np.where(live if x.ndim == 2 else live[..., None], x, x.dtype.type(0))
    hidden = s[0].shape[-1]
    width = vector_width(dtype)
    padded = -(-hidden // width) * width
    states = [new((steps + 1 if record or n == 0 else 2, batch, padded)) for n in range(len(s))]
    for field, start in zip(states, s, strict=True):
        _pad(field[0], start, hidden)
    proposed = [new((steps, batch, padded)) for _ in s] if record and keep is not None else []
    dims = _dims(w["weight_ih"], steps, batch, hidden, record=record)
    gates = new((steps, padded // width, batch, len(cell.gate_fields) if record else 0, width))
    y = states[0][1:] if live is None else new((steps, batch, padded))
    masks = [] if keep is None else [bytes_of(m, (steps, batch, hidden)) for m in keep]
    read = weights(cell, w, dtype)
    of_dtype("forward", dtype)(
        cell.name,
        dims,
        contiguous(x.reshape(-1), np.int64) if tokens else matrix(x, dtype),
        read,
        bytes_of(live, (steps, batch)),
        masks,
        states,
        proposed,
        gates,
        None if live is None else y,
    )
    y = y[..., :hidden]
    final = type(s)(*[f[steps % len(f), :, :hidden] for f in states])  # the last slot, or the one whose turn it was
    if not record:
        return y, final, None
    return y, final, EngineTape(cell, x, Kept(read), live, keep, gates, (states, proposed), y)


def backward(
    tape: EngineTape | interpreter.ProgramTape, dy: Array, ds: Any
) -> tuple[Array | None, Any, dict[str, Array]]:
    """Carry gradients back through all steps, as `scan.backward`.

    Examples
    --------
    >>> w = {"weight_ih": np.ones((5, 3)), "weight_hh": np.ones((5, 5))}
    >>> zero = CELLS["rnn_tanh"].state(np.zeros((2, 5)))
    >>> y, s, tape = forward(CELLS["rnn_tanh"], w, np.zeros((7, 2, 3)), zero)
    >>> dx, ds, grads = backward(tape, np.ones_like(y), zero)
    >>> dx.shape, sorted(grads)
    ((7, 2, 3), ['weight_hh', 'weight_ih'])
    """
    if isinstance(tape, interpreter.ProgramTape):
        return interpreter.backward(tape, dy, ds)
    cell, x, packed, dtype = tape.cell, tape.inputs, tape.weights, tape.packed.dtype
    steps, batch, hidden = dy.shape
    tokens, new = x.dtype.kind in "iu", of_dtype("empty", dtype)
    dims = _dims(packed["weight_ih"], steps, batch, hidden, record=True)
    inputs = dims[2]
    dx = None if tokens else new((steps, batch, padded_width(inputs, dtype)))
    dstate = [_pad(new((batch, padded_width(hidden, dtype))), f, hidden) for f in ds]
    # The engine writes every gradient, but for the columns beyond a narrow stage's operand, and where no steps are.
    written = steps * batch > 0 and len({len(stage.operand or ()) for stage in cell.stages}) == 1
    grads = {name: None if a is None else new(a.shape) for name, a in packed.items()}
    for g in () if written else grads.values():
        if g is not None:
            g.fill(0)
    masks = [] if tape.keep is None else [bytes_of(m, (steps, batch, hidden)) for m in tape.keep]
    of_dtype("backward", dtype)(
        cell.name,
        dims,
        contiguous(x.reshape(-1), np.int64) if tokens else matrix(x, dtype),
        packed,
        bytes_of(tape.live, (steps, batch)),
        masks,
        tape.padded[0],
        tape.padded[1],
        tape.packed,
        matrix(dy, dtype),
        dstate,
        dx,
        grads,
    )
    named = {cell.params_name if name == "params" else name: g for name, g in grads.items() if g is not None}
    initial = type(ds)(*[f[:, :hidden] for f in dstate])
    return None if dx is None else dx[..., :inputs], initial, named


def set_threads(n: int) -> None:
    """Use `n` threads from now on; results are the same, to the bit, for every number.

    Examples
    --------
    >>> before = get_threads()
    >>> set_threads(1)
    >>> get_threads()
    1
    >>> set_threads(before)
    """
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or not 1 <= n <= 1024:
        raise UnrolledError(f"the number of threads is {brief(n)}; it must be a whole number from 1 to 1024")
    _engine.set_threads(int(n))


def get_threads() -> int:
    """Return how many threads the engine uses.

    Examples
    --------
    >>> get_threads() >= 1
    True
    """
    return _engine.get_threads()


def usable_cores() -> int:
    """Cores that this process may use: hyper-threads counted once, no more than its group's share of the processors.

    Examples
    --------
    >>> usable_cores() >= 1
    True
    """
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = len({_siblings(cpu) for cpu in os.sched_getaffinity(0)})
    return max(1, int(min(cores, quota())))  # threads above the quota would spin it away and then wait, all of them


def quota(root: Path = Path("/")) -> float:
    """Return how many processors the control groups (version 1 or 2) of this process may keep busy; infinite without.

    Containers are limited so: `docker run --cpus=1.5`. A group has no more than those above it.

    Examples
    --------
    >>> quota() > 0
    True
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return math.inf
    found = [math.inf]
    for line in lines:
        controllers, _, path = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = Path(path.lstrip("/"))
        for mount in ("", "unified", "cpu", "cpu,cpuacct"):
            found += [_share(root / "sys/fs/cgroup" / mount / above) for above in (group, *group.parents)]
    return min(found)


def _share(group: Path) -> float:
    """Processors of one control group: `cpu.max` of version 2, `cpu.cfs_*_us` of version 1."""
    try:
        if (v2 := group / "cpu.max").exists():
            limit, period = v2.read_text(encoding="ascii").split()
        else:
            limit, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        return int(limit) / int(period) if limit.strip() != "max" and int(limit) > 0 and int(period) > 0 else math.inf
    except (OSError, ValueError):
        return math.inf


def _siblings(cpu: int) -> str:
    """Name of the core that a logical processor belongs to."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def use_environment() -> None:
    """Take the number of threads and the instruction set from the environment."""
    ours, others = (os.environ.get(name, "").strip() for name in ("UNROLLED_THREADS", "OMP_NUM_THREADS"))
    if ours and not (ours.isdecimal() and len(ours) <= 4 and 1 <= int(ours) <= 1024):
        raise UnrolledError(f"UNROLLED_THREADS is {brief(ours)}; it must be a whole number from 1 to 1024")
    first = others.split(",")[0]  # OpenMP takes a list, a number a level; what makes no sense there is not ours to say
    _engine.set_threads(
        int(ours or 0) or (int(first) if first.isdecimal() and len(first) <= 3 else 0) or usable_cores()
    )
    wanted = os.environ.get("UNROLLED_ISA", "").strip()
    if wanted:
        known = _engine.instruction_sets()
        if wanted.lower() not in known:
            raise UnrolledError(f"UNROLLED_ISA is {brief(wanted)}; this machine and this build have {', '.join(known)}")
        _engine.select(wanted.lower())


class Cpu:
    """The native engine; the contracts are in `unrolled.reference.scan`, `layers`, `losses` and `optim`."""

    name = "cpu"
    forward = staticmethod(forward)
    backward = staticmethod(backward)
    linear = staticmethod(layers.linear)
    linear_backward = staticmethod(layers.linear_backward)
    embed_backward = staticmethod(layers.embed_backward)
    cross_entropy = staticmethod(layers.cross_entropy)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a name: where there is no engine, that is said."""
        from .. import choose

        return choose, ("cpu",)


class Auto:
    """The engine where it runs the cell and the dtype, else the reference; `reason` says which."""

    name = "cpu"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a name, which means the reference where there is no engine."""
        from .. import choose

        return choose, ("auto",)

    @staticmethod
    def forward(
        cell: Cell,
        w: scan.Params,
        x: Array,
        s: Any,
        *,
        live: Array | None = None,
        keep: Any = None,
        record: bool = True,
        drop: Array | None = None,
    ) -> tuple[Array, Any, Any]:
        """Run all steps where that is fastest."""
        dtype = _dtype(w, x, s)
        if reason(cell, dtype):
            return scan.forward(cell, w, x, s, live=live, keep=keep, record=record, drop=drop)
        return _forward(cell, w, x, s, dtype, live, keep, record, drop)

    @staticmethod
    def backward(tape: Any, dy: Array, ds: Any) -> tuple[Array | None, Any, dict[str, Array]]:
        """Carry gradients back on the backend that ran forward."""
        return scan.backward(tape, dy, ds) if isinstance(tape, scan.Tape) else backward(tape, dy, ds)

    @staticmethod
    def linear(weight: Array, bias: Array | None, x: Array) -> Array:
        """x W^T + b."""
        run = layers.linear if layers.runs(weight, bias, x) else reference_layers.linear
        return run(weight, bias, x)

    @staticmethod
    def linear_backward(weight: Array, x: Array, dy: Array) -> tuple[Array, Array, Array]:
        """Gradients of x, the weight and the bias."""
        run = layers.linear_backward if layers.runs(weight, x, dy) else reference_layers.linear_backward
        return run(weight, x, dy)

    @staticmethod
    def embed_backward(tokens: Array, dx: Array, size: int) -> Array:
        """Gradient of an embedding."""
        run = layers.embed_backward if layers.runs(dx) else reference_layers.embed_backward
        return run(tokens, dx, size)

    @staticmethod
    def cross_entropy(
        logits: Array, targets: Array, *, gradient: bool = True, overwrite: bool = False, smoothing: float = 0.0
    ) -> tuple[float, Array]:
        """Mean loss in nats and its gradient."""
        run = layers.cross_entropy if layers.runs(logits) else losses.cross_entropy
        return run(logits, targets, gradient=gradient, overwrite=overwrite, smoothing=smoothing)


def instruction_set() -> str:
    """Name of the instruction set that runs.

    Examples
    --------
    >>> instruction_set() in _engine.instruction_sets()
    True
    """
    return _engine.instruction_set()


def build_info() -> dict[str, Any]:
    """Return how the engine was built, as `backends.build_info` lists it."""
    picked = {"runs": _engine.instruction_sets(), "picked": instruction_set(), "threads": get_threads()}
    return _engine.build() | picked
