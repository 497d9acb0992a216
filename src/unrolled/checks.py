"""Checks of what callers hand in, once for every room: sizes, fractions, numbers, arrays, indices, generators."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, NoReturn, TypeVar, cast

import numpy as np

from .cells import Cell, name_of
from .errors import UnrolledError, brief, figure, listed, suggest

Array = np.ndarray[Any, Any]
Ranges = Mapping[str, tuple[str, Callable[[float], bool]]]
"""Ranges of options by name, each in words and as a test."""
_T = TypeVar("_T")

MOST_LAYERS = 10_000
LARGEST = 2**63 - 1
NOT_FINITE = "the network's outputs are not finite: its weights are too large"


def is_number(value: object) -> bool:
    """Whether `value` is a real number that a float can hold: no bool, no NaN, no infinity.

    Examples
    --------
    >>> is_number(np.float32(0.5)), is_number(float("nan")), is_number(10**400), is_number(True)
    (True, False, False, False)
    """
    if isinstance(value, (bool, np.bool_, np.timedelta64)) or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(float(value))  # as a Python float: NumPy would cast a bound to float32, and overflow
    except OverflowError:
        return False


def is_whole(value: object) -> bool:
    """Whether `value` is a whole number; a bool is none, nor is a span of time, though NumPy calls that integral.

    Examples
    --------
    >>> is_whole(np.int8(3)), is_whole(True), is_whole(np.timedelta64(3, "s")), is_whole(3.0)
    (True, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, (bool, np.bool_, np.timedelta64))


def check_size(name: str, value: object, least: int = 1, most: float = LARGEST) -> int:
    """Return `value` as an int, or say what is wrong with it; what no machine counts to is no size.

    Examples
    --------
    >>> check_size("steps", 10**5000)
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: steps is a number of 16,610 bits; it must be a whole number, from 1 to \
9,223,372,036,854,775,807
    """
    whole = is_whole(value)
    if not whole or not least <= int(cast(Any, value)) <= most:
        open_end = most >= LARGEST and not (whole and int(cast(Any, value)) > most)
        limits = f"{least} or more" if open_end else f"from {least} to {most:,}"
        raise UnrolledError(f"{name} is {brief(value)}; it must be a whole number, {limits}")
    return int(cast(Any, value))


def check_fraction(name: str, value: object) -> float:
    """Return `value` as a float in [0, 1), or say what is wrong with it."""
    if not is_number(value) or not 0 <= float(cast(Real, value)) < 1:
        raise UnrolledError(f"{name} is {brief(value)}; it must be at least 0 and below 1")
    return float(cast(Real, value))


def check_weight(name: str, value: object) -> float:
    """Return `value` as a finite float, 0 or more, or say what is wrong with it."""
    if not is_number(value) or float(cast(Real, value)) < 0:
        raise UnrolledError(f"{name} is {brief(value)}; it must be a number, 0 or more")
    return float(cast(Real, value))


def check_number(name: str, value: object) -> float:
    """Return `value` as a finite float, or say what is wrong with it."""
    if not is_number(value):
        raise UnrolledError(f"{name} is {brief(value)}; it must be a finite number")
    return float(cast(Real, value))


def check_seed(value: object) -> int:
    """Return a seed, a whole number of any size, as an int, or say what is wrong with it."""
    return check_size("seed", value, least=0, most=math.inf)


def check_choice(kind: str, value: object, known: Sequence[str]) -> str:
    """Return a name that is known, or say which one is near; arrays and the like are no names.

    Examples
    --------
    >>> check_choice("level", np.array(["char", "byte"]), ["byte", "char"])
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: no level is called array(['char', 'byte'], dtype='<U4'). Known: byte, char
    """
    if not isinstance(value, str):
        raise UnrolledError(f"no {kind} is called {brief(value)}. Known: {', '.join(known)}")
    if value not in known:
        raise UnrolledError(suggest(kind, value, list(known)))
    return str(value)


def check_a(name: str, value: object, kind: type[_T] | tuple[type[_T], ...], words: str) -> _T:
    """Return `value` if it is of a class, or say what it is.

    Examples
    --------
    >>> check_a("prompt", 5, str, "a text")
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: prompt is 5; expected a text
    """
    if not isinstance(value, kind):
        raise UnrolledError(f"{name} is {brief(value)}; expected {words}")
    return value


def check_options(
    owner: str, defaults: Mapping[str, float], given: Mapping[str, float], ranges: Ranges
) -> dict[str, float]:
    """Return the defaults with the given options in their places, once every one is known and in its range.

    Examples
    --------
    >>> check_options("sgd", {"rate": 0.1, "decay": 0}, {"decay": 1}, {"decay": ("0 or more", lambda v: v >= 0)})
    {'rate': 0.1, 'decay': 1.0}
    """
    for option, value in given.items():
        if option not in defaults:
            known = suggest(f"option of {owner}", option, list(defaults))
            raise UnrolledError(known if defaults else f"{owner} takes no options; got {brief(option)}")
        words, fits = ranges[option]
        if not (is_number(value) and fits(float(value))):
            raise UnrolledError(f"{option} of {owner} is {brief(value)}; it must be {words}")
    return dict(defaults) | {option: float(value) for option, value in given.items()}


def check_floats(what: str, arrays: object) -> Mapping[str, Array]:
    """Return a dictionary of arrays of floats, or say what is wrong with it.

    Examples
    --------
    >>> check_floats("gradient", {"w": np.zeros(1)})
    {'w': array([0.])}
    """
    if not isinstance(arrays, Mapping):
        raise UnrolledError(f"{what}s are a {type(arrays).__name__}; expected a dictionary of arrays by their names")
    for name, a in arrays.items():
        if not isinstance(a, np.ndarray) or isinstance(a, np.ma.MaskedArray):
            raise UnrolledError(
                f"{what} {listed([name])} is a {type(a).__name__}; expected an array of float32 or float64"
            )
        if a.dtype.kind != "f":
            raise UnrolledError(f"{what} {name} has dtype {a.dtype}; expected float32 or float64")
    return arrays


def check_dims(name: str, value: Any) -> tuple[int, ...]:
    """Return an array's shape as a tuple of whole numbers, or say what is wrong with it."""
    if not isinstance(value, (tuple, list)):
        raise UnrolledError(f"{name} is {brief(value)}; expected a tuple of sizes")
    return tuple(check_size(f"{name}[{n}]", size, least=0) for n, size in enumerate(value))


_KINDS: dict[str, tuple[Any, Any, str]] = {
    "int": (Integral, int, "a whole number"),
    "float": (Real, float, "a number"),
    "str": (str, str, "a text"),
    "str | Cell": ((str, Cell), name_of, "the name of a cell, or a cell"),
    "bool": ((bool, np.bool_), bool, "true or false"),
}


def as_kind(name: str, value: object, kind: str) -> Any:
    """Return an option's value as Python's own kind of number, text or tuple, or say what is wrong with it.

    Options are written to files, which hold nothing of NumPy's.

    Parameters
    ----------
    name : str
    value : object
    kind : str
        The option's type as its dataclass has it, such as "float | None".

    Examples
    --------
    >>> as_kind("epochs", np.float32(0.5), "float"), as_kind("hidden_size", [np.int64(8), 4], "int | tuple[int, ...]")
    (0.5, (8, 4))
    """
    plain = kind.removesuffix(" | None")
    if value is None and plain != kind:
        return None
    if isinstance(value, (tuple, list)) and plain == "int | tuple[int, ...]":  # of each layer
        return tuple(as_kind(name, part, "int") for part in value)
    wanted, make, words = _KINDS.get(plain) or _KINDS[plain.split(" | ")[0]]
    odd = isinstance(value, np.timedelta64) or (
        isinstance(value, bool) and make is not bool
    )  # to Python, whole numbers
    if odd or not isinstance(value, wanted):
        raise UnrolledError(f"{name} is {brief(value)}; it must be {words}")
    try:
        if isinstance(value, Integral):
            float(value)
        return make(value)
    except OverflowError:
        raise UnrolledError(f"{name} is too large a number; not even a float would hold it") from None


def check_positive(name: str, value: object, most: float = math.inf) -> float:
    """Return `value` as a finite float above 0, and at most `most`, or say what is wrong with it."""
    if not is_number(value) or not 0 < float(cast(Real, value)) <= most:
        shown = figure(float(cast(Real, value))) if is_number(value) else brief(value)
        limit = f" and at most {most:,.15g}" if most < math.inf else ", and finite" if shown == "inf" else ""
        raise UnrolledError(f"{name} is {shown}; it must be above 0{limit}")
    return float(cast(Real, value))


def check_widths(hidden_size: Any, num_layers: Any) -> tuple[int, ...]:
    """Return the width of every layer: one for all (one layer by default), or one a layer."""
    several = isinstance(hidden_size, (tuple, list))
    told = None if num_layers is None else check_size("num_layers", num_layers, most=math.inf)  # bounded below
    if several and (not hidden_size or told not in (None, len(hidden_size))):
        raise UnrolledError(
            f"hidden_size has {len(hidden_size)} widths, num_layers is {brief(num_layers)}; leave one out"
        )
    count = len(hidden_size) if several else told or 1
    if count > MOST_LAYERS:  # before a million widths are looked at
        raise UnrolledError(f"num_layers is {brief(count)}; it must be at most {MOST_LAYERS:,}")
    if several:
        return tuple(check_size("hidden_size", width, most=math.inf) for width in hidden_size)  # the memory bounds it
    return (check_size("hidden_size", hidden_size, most=math.inf),) * count


def check_memory(numbers: int, dtype: str, what: str = "a network of {} parameters") -> None:
    """Refuse what can't fit into this machine's memory, before any of it is filled; `what` these numbers are."""
    needed = numbers * np.dtype(dtype).itemsize
    if hasattr(os, "sysconf") and needed > (there := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        raise UnrolledError(
            f"not enough memory: {what.format(_many(numbers))} takes {_many(needed // 2**30)} GiB, "
            f"this machine has {there // 2**30:,}"
        )


def _many(number: int) -> str:
    return f"{number:,}" if number < 10**30 else "more than 10^30"


def as_array(name: str, value: Any) -> Array:
    """Return `value` as an array, or say that it is none.

    Whatever an object's own conversion raises is a mistake of the caller's (a torch tensor that wants gradients has
    none, nor has one on another device); so are masked entries, which NumPy would drop the mask of and compute with.

    Examples
    --------
    >>> as_array("x", np.ma.masked_array([1.0, 2.0], [False, True]))
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: x has masked entries; fill them, or leave their steps out with lengths
    """
    if type(value) is np.ndarray and value.dtype.isbuiltin == 1:  # what nearly every step hands in
        return value
    if _is_masked(value):
        raise UnrolledError(f"{name} has masked entries; fill them, or leave their steps out with lengths")
    try:
        if str(getattr(value, "dtype", None)) == "torch.bfloat16":  # NumPy has none; float32 holds each of them
            value = value.float()
        array = np.asarray(value)
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    except (ValueError, MemoryError) as error:
        if isinstance(value, (list, tuple)) and isinstance(error, ValueError):
            raise UnrolledError(f"{name} has rows of unequal length; expected an array of numbers") from None
        raise _no_array(name, value, error) from None
    except Exception as error:
        raise _no_array(name, value, error) from None


def _is_masked(value: Any) -> bool:
    """Whether anything in an array, or in lists of arrays however deep, is masked."""
    if isinstance(value, (list, tuple)):
        return any(_is_masked(part) for part in value if isinstance(part, (list, tuple, np.ma.MaskedArray)))
    return bool(np.ma.is_masked(value))


def _no_array(name: str, value: Any, error: Exception) -> UnrolledError:
    """Return what to say where an object can't be made an array."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return UnrolledError(f"{name} is a {type(value).__name__} that can't be made an array: {said}")


def as_numbers(name: str, value: Any) -> Array:
    """Return `value` as an array of numbers, or say that it is none."""
    array = as_array(name, value)
    if array.dtype.kind not in "biufc":
        got = f"has dtype {array.dtype}" if array.ndim else f"is {brief(value)}"
        raise UnrolledError(f"{name} {got}; expected an array of numbers")
    return array


def as_floats(name: str, value: Any, least: int = 0) -> Array:
    """Return `value` as an array of floats (complex ones in proofs) with `least` axes or more, or say what is wrong.

    Examples
    --------
    >>> as_floats("x", [1, 2])
    array([1., 2.])
    """
    array = as_numbers(name, value)
    if array.dtype.kind in "fc" and array.ndim >= least:
        return array
    if array.dtype.kind == "b" or array.ndim < least:
        got = f"has dtype {array.dtype}" if array.dtype.kind == "b" else f"has shape {array.shape}"
        raise UnrolledError(f"{name} {got}; expected an array of floats with {least} axes or more")
    return array.astype(np.float64)


def check_shape(name: str, array: Array, shape: tuple[int, ...], why: str) -> None:
    """Refuse an array of another shape, which NumPy might broadcast; `why` says what it has to fit."""
    if array.shape != shape:
        raise UnrolledError(f"{name} has shape {array.shape}; expected {shape}, to fit {why}")


def check_indices(name: str, value: Any, size: int) -> Array:
    """Return `value` as an array of whole numbers that are all 0 or more and below `size`, or say what is wrong.

    Examples
    --------
    >>> check_indices("targets", [3, -1], 5)
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: targets run from -1 to 3; they must be at least 0 and below 5
    """
    whole = as_array(name, value)
    if whole.dtype.kind not in "iu":
        raise UnrolledError(f"{name} are {whole.dtype}; expected whole numbers below {size}")
    if not are_indices(whole, size):
        raise UnrolledError(f"{name} run from {whole.min()} to {whole.max()}; they must be at least 0 and below {size}")
    return whole


def are_indices(whole: Array, size: int) -> bool:
    """Whether whole numbers are all 0 or more and below `size`; in one pass, since every training step asks.

    Examples
    --------
    >>> are_indices(np.array([0, 4]), 5), are_indices(np.array([-1, 4]), 5), are_indices(np.array([-1], np.int8), 300)
    (True, False, False)
    """
    if whole.dtype.kind == "i":  # as unsigned numbers, negative ones are above every positive one
        size = min(size, 1 << (8 * whole.itemsize - 1))
        whole = whole.view(whole.dtype.str.replace("i", "u"))
    return not whole.size or bool(whole.max() < size)


def check_rng(rng: Any) -> np.random.Generator:
    """Return `rng`, or the Generator of a seed, or say that it is neither."""
    if isinstance(rng, np.random.Generator):
        return rng
    if is_whole(rng) and int(rng) >= 0:
        return np.random.default_rng(int(rng))
    raise UnrolledError(
        f"rng is {brief(rng)}; expected a numpy Generator, such as numpy.random.default_rng(seed), or a seed"
    )


def read_only(a: Array) -> Array:
    """Return a view that can't be written to.

    Examples
    --------
    >>> read_only(np.zeros(2))[0] = 1
    Traceback (most recent call last):
        ...
    ValueError: assignment destination is read-only
    """
    view = a.view()
    view.flags.writeable = False
    return view


def as_dtype(dtype: Any, known: tuple[str, ...]) -> str:
    """Return the name of a dtype as NumPy has it, of whatever names one: "f4", float, numpy.float32, torch.float32.

    Examples
    --------
    >>> [as_dtype(d, ("float32", "float64")) for d in ("single", float, np.dtype("f4"), "torch.float64")]
    ['float32', 'float64', 'float32', 'float64']
    """
    said = (dtype if isinstance(dtype, str) else str(getattr(dtype, "__name__", brief(dtype)))).removeprefix("torch.")
    try:
        name = np.dtype(said if said in known or type(dtype).__module__ == "torch" else dtype).name
    except Exception:  # NumPy reads texts as a small language of their own, and complains in many ways
        name = said.removeprefix("torch.")
    if dtype is None or name not in known:  # to NumPy, None is float64
        raise UnrolledError(suggest("dtype", said if dtype is None or isinstance(dtype, str) else name, list(known)))
    return name


ROUNDED = "bfloat16"
"""The dtype of networks whose products round what they multiply (`reference.operands`): their arrays are float32."""


def array_dtype(dtype: str) -> str:
    """Return the dtype of the arrays of a network of this dtype.

    Examples
    --------
    >>> array_dtype("bfloat16"), array_dtype("float64")
    ('float32', 'float64')
    """
    return "float32" if dtype == ROUNDED else dtype


class Kept(dict[str, Any]):
    """A dictionary that is only read: what a tape holds by name.

    Examples
    --------
    >>> Kept(a=1).clear()
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: what a tape holds can't be changed; copy it (dict(...)), and change the copy
    """

    def _stays(self, *_: Any, **__: Any) -> NoReturn:
        raise UnrolledError("what a tape holds can't be changed; copy it (dict(...)), and change the copy")

    __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _stays

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)
