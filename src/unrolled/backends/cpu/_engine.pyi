"""The compiled module: see csrc/engine.cpp."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def build() -> dict[str, Any]: ...
def vector_bytes() -> int: ...
def select(name: str) -> None: ...
def cells() -> list[str]: ...
def set_threads(n: int) -> None: ...
def get_threads() -> int: ...
def calls_alone() -> int: ...
def fetch_above(bytes: int) -> None: ...
def fetched_above() -> int: ...
def multiply_pairs(wanted: bool) -> None: ...
def multiplies_pairs() -> bool: ...
def multiply_adds(rounds: int) -> float: ...
def read(x: Array, times: int) -> float: ...
def trim() -> None: ...
def empty32(shape: Sequence[int]) -> Array: ...
def empty64(shape: Sequence[int]) -> Array: ...
def forward32(
    cell: str,
    dims: Sequence[int],
    x: Array,
    w: Mapping[str, Array | None],
    live: Array | None,
    keep: Sequence[Array | None],
    states: Sequence[Array],
    proposed: Sequence[Array],
    gates: Array,
    y: Array | None,
    /,
) -> None: ...

forward64 = forward32

def backward32(
    cell: str,
    dims: Sequence[int],
    x: Array,
    w: Mapping[str, Array | None],
    live: Array | None,
    keep: Sequence[Array | None],
    states: Sequence[Array],
    proposed: Sequence[Array],
    gates: Array,
    dy: Array,
    dstate: Sequence[Array],
    dx: Array | None,
    grads: Mapping[str, Array | None],
    /,
) -> None: ...

backward64 = backward32

def operations() -> list[str]: ...
def interpreter_forward32(
    dims: Sequence[int],
    x: Array,
    table: Array | None,
    units: Array,
    arrays: Sequence[Array],
    layout: Array,
    given: Sequence[tuple[int, Array]],
    inputs: tuple[Any, ...],
    stages: Sequence[tuple[Any, ...]],
    /,
) -> None: ...

interpreter_forward64 = interpreter_forward32

def interpreter_backward32(
    dims: Sequence[int],
    x: Array,
    table: Array | None,
    units: Array,
    arrays: Sequence[Array],
    layout: Array,
    given: Sequence[tuple[int, Array]],
    inputs: tuple[Any, ...],
    stages: Sequence[tuple[Any, ...]],
    dx: Array | None,
    sums: Array,
    /,
) -> None: ...

interpreter_backward64 = interpreter_backward32

def map32(name: str, x: Array, y: Array, /) -> None: ...

map64 = map32

def linear32(dims: Sequence[int], x: Array, weight: Array, bias: Array | None, y: Array, /) -> None: ...

linear64 = linear32

def linear_backward32(
    dims: Sequence[int], x: Array, weight: Array, dy: Array, dx: Array, d_weight: Array, d_bias: Array, /
) -> None: ...

linear_backward64 = linear_backward32

def embed_backward32(tokens: Array, rows: Array, table: Array, /) -> None: ...

embed_backward64 = embed_backward32

def cross_entropy32(
    logits: Array, targets: Array, scale: float, smoothing: float, nats: Array, d: Array | None, /
) -> None: ...

cross_entropy64 = cross_entropy32

def sum_of_squares32(arrays: Sequence[Array], /) -> float: ...

sum_of_squares64 = sum_of_squares32

def scale32(arrays: Sequence[Array], factor: float, /) -> None: ...

scale64 = scale32

def update32(
    rule: str,
    params: Sequence[Array],
    grads: Sequence[Array],
    moments: Sequence[Sequence[Array]],
    numbers: Sequence[float],
    decay: float,
    /,
) -> None: ...

update64 = update32

class Sampler32:
    def __init__(
        self,
        cell: str,
        dims: Sequence[int],
        weights: Sequence[Mapping[str, Array | None]],
        embedding: Array | None,
        decoder: Array,
        bias: Array | None,
        form: int,
        /,
    ) -> None: ...
    def set_state(self, fields: Sequence[Array], row: int, /) -> None: ...
    def sample(self, tokens: Array, u: Array, temperature: float, sampled: Array, /) -> bool: ...

Sampler64 = Sampler32
