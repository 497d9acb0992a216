"""Checks of what is handed to the rungs made of arrays: shapes and symbols, which no rung is about."""

from typing import Any

import numpy as np

from ..checks import Array, are_indices, as_floats, as_numbers
from ..errors import UnrolledError, brief


def check(fits: bool, name: str, value: object, words: str) -> None:
    """Refuse a value that does not fit, in one line."""
    if not fits:
        raise UnrolledError(f"{name} is {brief(value)}; it must be {words}")


def as_steps(name: str, steps: Any, width: int) -> list[Array]:
    """Return a new array a step, all (B, width) numbers or (B,) symbols below `width`; say which one is none.

    Examples
    --------
    >>> as_steps("xlist", [[0, 2]], 3)
    [array([0, 2])]
    >>> as_steps("xlist", [0, 2], 3)
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: xlist[0] has shape (); expected (B, 3) numbers or (B,) symbols, B rows, one for a \
single text
    """
    if not _is_list(steps) or not len(steps):
        raise UnrolledError(f"{name} is a {type(steps).__name__} without steps; expected one array a step")
    found, rows = [], None
    for t, given in enumerate(steps):
        if _fits(given, (rows, width)):
            found.append(given.copy())
            continue
        x = as_numbers(f"{name}[{t}]", given)
        symbols = x.dtype.kind in "iu" and x.ndim == 1
        if (x.shape[1:] != (width,) and not symbols) or not x.ndim or rows not in (None, len(x)):
            B = "B" if rows is None else rows
            raise UnrolledError(
                f"{name}[{t}] has shape {x.shape}; expected ({B}, {width}) numbers or ({B},) symbols, "
                + ("B rows, one for a single text" if rows is None else "as the steps before")
            )
        rows = len(x)
        found.append(as_symbols(f"{name}[{t}]", x, x.shape, width) if symbols else x + 0.0)
    return found


def _fits(given: Any, shape: tuple[int | None, ...]) -> bool:
    """Whether something is what it should be already, as it is where one layer hands it to the next."""
    return type(given) is np.ndarray and given.shape == shape and given.dtype.kind in "fc"


def _is_list(given: Any) -> bool:
    return isinstance(given, (list, tuple)) or (isinstance(given, np.ndarray) and given.ndim > 0)


def as_symbols(name: str, values: Any, shape: tuple[int, ...] | None, size: int) -> Array:
    """Return whole numbers below `size` of a shape, (T, B) where it is None, as integers that index."""
    x = as_numbers(name, values)
    if x.dtype.kind not in "iu" or (x.ndim != 2 if shape is None else x.shape != shape):
        raise UnrolledError(f"{name} is {x.dtype} of shape {x.shape}; expected symbols {shape or '(T, B)'}")
    if not are_indices(x, size):
        raise UnrolledError(f"{name} has symbols from {x.min()} to {x.max()}; they must be from 0 to {size - 1}")
    return x.astype(np.intp)


def as_arrays(name: str, given: Any, shape: tuple[int, ...], count: int) -> tuple[Array, ...]:
    """Return `count` new arrays of one shape: a state, or gradients; zeros for None or nothing."""
    if given is None or (isinstance(given, (tuple, list)) and not given):
        return tuple(np.zeros(shape) for _ in range(count))
    if not _is_list(given) or len(given) != count:
        got = f"has {len(given)} entries" if _is_list(given) else f"is a {type(given).__name__}"
        raise UnrolledError(f"{name} {got}; expected {count} of shape {shape}")
    fields = tuple(f if _fits(f, shape) else as_numbers(f"{name}[{n}]", f) for n, f in enumerate(given))
    for n, field in enumerate(fields):
        if field.shape != shape:
            raise UnrolledError(f"{name}[{n}] has shape {field.shape}; expected {shape}")
    return tuple(field.copy() for field in fields)


def as_shaped(name: str, given: Any, *shape: int | None) -> Array:
    """Return a new array of numbers of a shape, where None is any size.

    Examples
    --------
    >>> as_shaped("b", [1, 2], 3)
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: b has shape (2,); expected (3,)
    """
    a = as_floats(name, given, len(shape))
    if a.ndim != len(shape) or any(size not in (None, n) for size, n in zip(shape, a.shape, strict=False)):
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise UnrolledError(f"{name} has shape {a.shape}; expected ({expected}{',' * (len(shape) == 1)})")
    return a.copy()


def check_grads(name: str, grads: Any, params: dict[str, Array]) -> None:
    """Refuse gradients that do not have the names and shapes of the parameters, before any of these is changed."""
    check(isinstance(grads, dict), name, grads, f"a dictionary of {', '.join(params)}")
    for key, w in params.items():
        check(key in grads, f"the names in {name}", sorted(map(str, grads)), f"{', '.join(params)}")
        as_shaped(f"{name}[{key!r}]", grads[key], *w.shape)
