"""All proofs of all there is: every cell, every option by itself and in seeded pairs, every backend, every head."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .. import backends
from ..cells import CELLS, Cell, find_cell
from ..checks import check_seed
from ..errors import UnrolledError
from ..nn.heads import Head
from . import check_cell, check_derivatives, check_loss, check_network
from .catalogue import HEADS, LANGUAGE, STACK, build, build_head, build_language
from .contract import contract
from .derived import derived, used
from .laws import laws
from .memory import BACKENDS, MATRIX, OPTIONS
from .memory import build as build_memory
from .report import Report, unsupported

PAIRS = 12
"""Pairs of options tried with each cell; which ones, the seed says."""


@dataclass(frozen=True)
class Outcome:
    """The proofs of one cell with one choice of options on one backend."""

    cell: str
    what: str
    backend: str
    report: Report
    seconds: float
    head: str = ""
    """Of a network with a head, which one."""

    @property
    def line(self) -> str:
        """What a table counts it with: its head's proofs, or its cell's."""
        return self.head or self.cell


def check_all(cell: str | Cell | None = None, *, quick: bool = False, seed: int = 0) -> Iterator[Outcome]:
    """Prove every cell, option and backend, and every head with its loss; or one cell with all of them.

    Parameters
    ----------
    cell : str or Cell, optional
        Only this cell, which may be your own.
    quick : bool
        Each cell's contract, one step of derivatives and the laws; each option and head with one cell, by turns.
    seed : int
        Of the contents, and of the pairs of options.

    Yields
    ------
    Outcome
        As soon as it is there.

    Raises
    ------
    UnrolledError
        If no cell has that name.

    Examples
    --------
    >>> outcomes = list(check_all("rnn_tanh", quick=True))
    >>> sum(len(outcome.report.failed) for outcome in outcomes)
    0
    """
    check_seed(seed)
    if cell in (None, MATRIX.name):
        yield from _memory(quick, seed)
    if cell == MATRIX.name:
        return
    cells = list(CELLS.values()) if cell is None else [find_cell(cell)]
    turns = {name: _turn(n, options, cells) for n, (name, options) in enumerate(STACK.items())}
    turns |= {name: cells[n % len(cells)] for n, name in enumerate((*LANGUAGE, *HEADS))}
    for one in cells:
        proofs = _quick_cell(one, seed) if quick else _full_cell(one, seed)
        itself = next(proofs)
        yield itself
        if cell is not None and itself.report[0].verdict == "failed":  # its contract: there is nothing that could run
            return
        yield from proofs
        for name, options in (STACK | LANGUAGE).items():
            if quick and turns[name] is one:
                yield _one(one, name, options, "auto", seed)
    for name, head in HEADS.items():
        for one in [turns[name]] if quick else cells:
            yield _head(one, name, head, seed, words=not quick)


def _memory(quick: bool, seed: int) -> Iterator[Outcome]:
    """The layer with a matrix memory, which is no cell."""
    for name in list(OPTIONS)[:1] if quick else OPTIONS:
        for backend in BACKENDS:
            net = build_memory(OPTIONS[name], backend)
            yield _timed(MATRIX, name, backend, partial(check_network, net, seed=seed))


def _head(cell: Cell, name: str, head: Head, seed: int, *, words: bool) -> Outcome:
    """The loss of a network with a head."""
    made = _timed(cell, name, "auto", lambda: check_loss(build_head(cell, head, words=words), seed=seed))
    return replace(made, head=f"head: {name}")


def _turn(n: int, options: Mapping[str, Any], cells: list[Cell]) -> Cell:
    """Return the cell whose turn it is to stand for an option; one that refuses it passes."""
    for cell in cells[n % len(cells) :] + cells[: n % len(cells)]:
        with suppress(UnrolledError):
            build(cell, dict(options), "reference")
            return cell
    return cells[0]


def _timed(cell: Cell, what: str, backend: str, prove: Callable[[], Report]) -> Outcome:
    """Run proofs; what is refused is unsupported, with the reason."""
    start = time.perf_counter()
    try:
        report = prove()
    except UnrolledError as refusal:
        report = Report((unsupported("option", f"{what}, {cell.name}", str(refusal)),))
    return Outcome(cell.name, what, backend, report, time.perf_counter() - start)


def _one(cell: Cell, name: str, options: Mapping[str, Any], backend: str, seed: int) -> Outcome:
    """One choice of options."""
    language = any(part in LANGUAGE for part in name.split(" + "))
    make: Any = build_language if language else build
    return _timed(cell, name, backend, lambda: check_network(make(cell, dict(options), backend), seed=seed))


def _quick_cell(cell: Cell, seed: int) -> Iterator[Outcome]:
    def prove() -> Report:
        rng = np.random.default_rng(seed)
        kept = contract(cell, rng)
        if not kept.passed:
            return Report((kept,))
        derivatives = check_derivatives(build(cell, {}, "reference"), steps=1, seed=seed)
        rest = laws(build(cell, {}), rng, cell.name)
        return Report((kept, *derived(cell, np.random.default_rng(seed)), *used(cell), *derivatives, *rest))

    yield _timed(cell, "the cell itself", "auto", prove)


def _full_cell(cell: Cell, seed: int) -> Iterator[Outcome]:
    yield _timed(cell, "the cell itself", "reference", lambda: check_cell(cell, seed=seed))
    choices: dict[str, Mapping[str, Any]] = {**STACK, **LANGUAGE, **pairs(cell, seed)}
    for name, options in choices.items():
        yield _one(cell, name, options, "reference", seed)
    if "cpu" not in backends.BACKENDS or (why := backends.reason(cell)):
        why = backends.reason(cell) or ""
        yield _timed(cell, "everything", "cpu", lambda: Report((unsupported("backend", f"cpu, {cell.name}", why),)))
        return
    for name, options in choices.items():
        yield _one(cell, name, options, "cpu", seed)


def pairs(cell: Cell, seed: int) -> dict[str, dict[str, Any]]:
    """Pairs of options that do not speak of the same thing, drawn by the seed and the cell's name.

    Examples
    --------
    >>> len(pairs(CELLS["lstm"], 0)) == PAIRS
    True
    """
    rng = np.random.default_rng([seed, *cell.name.encode()])
    names = list(STACK)
    found: dict[str, dict[str, Any]] = {}
    while len(found) < PAIRS:
        a, b = (names[int(n)] for n in sorted(rng.choice(len(names), 2, replace=False)))
        if not (STACK[a].keys() - {"num_layers"}) & STACK[b].keys() and not _layers_differ(STACK[a], STACK[b]):
            found[f"{a} + {b}"] = {**STACK[a], **STACK[b], **_layers(STACK[a], STACK[b])}
    return found


def _layers(*options: Mapping[str, Any]) -> dict[str, int]:
    """The larger of two numbers of layers."""
    counts = [o["num_layers"] for o in options if "num_layers" in o]
    return {"num_layers": max(counts)} if counts else {}


def _layers_differ(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether one names a width per layer, and the other another number of layers."""
    widths = [o["hidden_size"] for o in (a, b) if "hidden_size" in o]
    counts = _layers(a, b)
    return bool(widths and counts and len(widths[0]) != counts["num_layers"])
