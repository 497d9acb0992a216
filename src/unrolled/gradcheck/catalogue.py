"""All there is to choose from: each option with an example of it, each cell with what it takes and refuses."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from .. import backends
from ..cells import Cell
from ..codegen.derive import complete
from ..errors import UnrolledError
from ..nn import adaptive, heads
from ..nn.heads import Head
from ..nn.network import Network
from ..nn.pools import POOLS
from ..nn.recurrent import Recurrent
from ..nn.spec import Spec

I, H = 4, 5
STACK: dict[str, dict[str, Any]] = {
    "two layers": {"num_layers": 2},
    "no bias": {"bias": False},
    "batch first": {"batch_first": True},
    "bidirectional": {"bidirectional": True},
    "width per layer": {"hidden_size": (6, 5)},
    "residual": {"residual": True, "num_layers": 3},
    "dropout": {"dropout": 0.3, "num_layers": 2},
    "locked dropout": {"locked_dropout": 0.3, "num_layers": 2},
    "recurrent dropout": {"recurrent_dropout": 0.3},
    "weight drop": {"weight_drop": 0.3},
    "zoneout": {"zoneout": 0.2},
    "zoneout of the cell": {"zoneout_cell": 0.2},
    "projection": {"proj_size": 3},
    "trained initial state": {"learn_state": True},
    "forget-gate bias": {"forget_bias": 1.0},
    "glorot": {"init": "glorot"},
    "char-rnn": {"init": "char-rnn"},
    "identity": {"init": "identity"},
    "float64": {"dtype": "float64"},
    "bfloat16": {"dtype": "bfloat16"},
}
"""Options of a stack. (`lengths` is no option: every proof runs with and without.)"""

WORDS: dict[str, Any] = {"characters": 9, "characters_embedding_size": 3, "characters_hidden_size": 6}
"""Sizes of words with spelling; of two units a norm would be all but a step, and have no derivative to compare with."""

LANGUAGE: dict[str, dict[str, Any]] = {
    "language model": {},
    "one-hot input": {"embedding_size": 0},
    "embedding dropout": {"embedding_dropout": 0.3},
    "input dropout": {"input_dropout": 0.3},
    "words with spelling": {**WORDS, "word_dropout": 0.3},
    "tied weights": {"tied": True, "embedding_size": H},
    "activation regularisation": {"ar": 0.7, "dropout": 0.3},
    "temporal activation regularisation": {"tar": 0.9, "locked_dropout": 0.3},
    "label smoothing": {"label_smoothing": 0.2},
    "adaptive softmax": {"softmax": "adaptive:3,6"},
}
"""Options of a language network, around its stack."""


HEADS: dict[str, Head] = {
    "tags": heads.tags(3),
    "tags, adaptive": adaptive.adaptive((2, 4, 7), (3, 2)),
    "tags, CRF": heads.tags(3, crf=True),
    **{f"classes, {pooling}": heads.classes(3, pooling) for pooling in POOLS},
    "labels": heads.labels(3),
    "labels, max": heads.labels(3, pooling="max"),
    "numbers": heads.numbers(2),
    "numbers, Huber": heads.numbers(2, "huber", delta=0.3, pooling="last"),
    "numbers, quantiles": heads.numbers(2, "quantile", quantiles=(0.2, 0.7), pooling="mean"),
    "numbers, Gaussian": heads.numbers(2, "gaussian", pooling="attention"),
}
"""Heads, each with its loss; every way to pool, and every loss."""


def build(cell: Cell, options: dict[str, Any], backend: str = "auto") -> Recurrent:
    """Return a small stack with these options.

    Raises
    ------
    UnrolledError
        If the cell refuses an option; the message says why.
    """
    return Recurrent(cell, I, **({"hidden_size": H} | options), backend=backend, rng=0)


def build_language(cell: Cell, options: dict[str, Any], backend: str = "auto") -> Network:
    """Return a small language network with these options."""
    return _drawn(
        Network(Spec(11, cell, **({"embedding_size": I, "hidden_size": H} | options)), backend=backend, rng=0)
    )


def build_head(cell: Cell, head: Head, *, words: bool = True) -> Network:
    """Return a small network with this head, which reads words with their spelling, both ways, or tokens one way."""
    more: dict[str, Any] = WORDS | {"bidirectional": True, "input_dropout": 0.2} if words else {}
    return _drawn(Network(Spec(11, cell, I, H, 1, **more), head=head, rng=0))


def _drawn(net: Network) -> Network:
    """Draw the weights of clusters, which begin at 0, where derivatives of what they multiply are 0 too."""
    for name, p in net.params.items():
        if name.startswith("head.cluster"):
            p[...] = np.random.default_rng(0).uniform(-0.5, 0.5, p.shape)
    return net


def refused(cell: Cell) -> dict[str, str]:
    """Options that make no sense with a cell, each with the reason.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> list(refused(CELLS["mgu"]))
    ['zoneout of the cell', 'projection', 'forget-gate bias', 'identity']
    """
    reasons = {}
    for name, options in STACK.items():
        try:
            build(cell, options, "reference")
        except UnrolledError as error:
            reasons[name] = str(error)
    return reasons


def parameters(cell: Cell) -> dict[str, str]:
    """Every parameter of a layer, with its shape in letters.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> parameters(CELLS["lstm_peephole"])["weight_peephole"]
    '3 x H'
    >>> parameters(CELLS["slstm"])["weight_hh"]
    '4H x H/4'
    """
    inputs, hidden = 7919, 55440  # a prime, and a number that most others divide, both above any count

    def letter(size: int) -> str:
        if size == inputs:
            return "I"
        share = Fraction(size, hidden)
        if share < Fraction(1, 64):
            return str(size)
        if share.numerator == 1:
            return "H" if share == 1 else f"H/{share.denominator}"
        return f"{float(share):.4g}H"

    return {name: " x ".join(map(letter, shape)) for name, shape in cell.shapes(inputs, hidden).items()}


def describe(cell: Cell) -> list[tuple[str, str]]:
    """Return what a user wants to know of a cell, as (label, text).

    Raises
    ------
    UnrolledError
        If it is none that runs: what it lacks can't be derived.

    Examples
    --------
    >>> from unrolled.cells import CELLS
    >>> dict(describe(CELLS["lstm"]))["tape"]
    'i f g o, and the state h c'
    """
    complete(cell)
    gates, state = " ".join(cell.gate_fields), " ".join(cell.state_fields)
    why = backends.reason(cell)
    sizes = ", ".join(f"{name} ({shape})" for name, shape in parameters(cell).items())
    seen = [what for what, sees in (("x itself", cell.sees_x), ("time (timespans)", cell.sees_time)) if sees]
    constants = () if cell.settings is None else zip(cell.settings._fields, cell.settings, strict=True)
    settings = ",".join(f"{name}={value}" for name, value in constants)
    return [
        ("paper", cell.paper),
        ("parameters", sizes),
        *([("settings", settings)] if settings else []),
        *([("sees", ", ".join(seen))] if seen else []),
        ("tape", f"{gates}, and the state {state}" if gates else f"the state {state}"),
        (
            "backend",
            f"reference: {why}" if why else f"engine, {'kernel' if backends.has_kernel(cell) else 'interpreter'}",
        ),
        ("refuses", ", ".join(refused(cell)) or "nothing"),
    ]
