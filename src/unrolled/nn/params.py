"""A network's parameters: a dictionary whose names, shapes and arrays stay, so that all who hold them see one set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import numpy as np

from ..checks import Array, array_dtype, as_numbers, read_only
from ..errors import UnrolledError, brief, listed, suggest
from ..keywords import names_of


class Params(dict[str, Array]):
    """Parameters by name. What is assigned is checked and copied into the array that is there.

    A stack and the network around it, an optimiser and a checkpoint hold the same arrays, and none is ever replaced: so
    no two of them can part. An assignment of another shape is an error at once, not one in a later call.

    Examples
    --------
    >>> params = Params(weight=np.zeros((2, 3)))
    >>> held = params["weight"]
    >>> params["weight"] = np.ones((2, 3))
    >>> held[0].tolist()
    [1.0, 1.0, 1.0]
    >>> params["weight"] = np.ones((3, 2))
    Traceback (most recent call last):
        ...
    unrolled.errors.UnrolledError: weight has shape (3, 2); this network takes (2, 3)
    """

    def __setitem__(self, name: str, value: Any) -> None:
        if not self._has(name):
            raise UnrolledError(suggest("parameter", name, list(self)))
        if value is not self[name]:  # else it was changed in place: `params[name] -= step`
            self[name][...] = fitting(name, value, self[name])

    def update(self, *args: Any, **named: Any) -> None:
        """Copy some parameters in; nothing changes on an error."""
        try:
            given = dict(*args, **named)
        except Exception:
            raise UnrolledError(
                f"the parameters are {brief(args[0])}; expected a dictionary of arrays by their names"
            ) from None
        self.load(dict(self) | given)

    def __ior__(self, other: Any) -> Params:  # type: ignore[override,misc]
        self.update(other)
        return self

    def load(self, new: Mapping[str, Any]) -> None:
        """Copy all parameters in, after checking that names and shapes agree; nothing changes on an error."""
        check_names(self, new)
        arrays = {name: fitting(name, new[name], p) for name, p in self.items() if new[name] is not p}
        for name, array in arrays.items():
            self[name][...] = array

    def kept(self) -> Params:
        """Return copies that can't be written to: those of a tape."""
        return Params({name: read_only(p.copy()) for name, p in self.items()})

    def setdefault(self, name: str, default: Any = None) -> Array:
        """Return the parameter; one that is not there can't be added."""
        if not self._has(name):
            raise UnrolledError(suggest("parameter", name, list(self)))
        return self[name]

    def _has(self, name: object) -> bool:
        return isinstance(name, str) and name in self  # what has no hash names nothing

    def _stays(self, *_: Any) -> NoReturn:
        raise UnrolledError(
            "a network's parameters can't be taken out; copy the dictionary (dict(params)) and change that"
        )

    __delitem__ = clear = pop = popitem = _stays

    def __copy__(self) -> dict[str, Array]:
        return dict(self)

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)  # unpickled as a whole: entry by entry there would be none to copy into


class Parametric:
    """An object with parameters, and with options that are told where it is made.

    An option decides shapes, states and which kernels run, so one that is set later would change half of that.
    """

    _params: Params
    dtype: str
    _complex: bool = False
    """Whether it takes complex numbers, as proofs pass them."""
    _options: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, derived: tuple[str, ...] = (), **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._options = tuple(dict.fromkeys([*cls._options, *names_of(cls.__init__), *derived]))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._options and "_params" in self.__dict__:
            raise UnrolledError(
                f"{name} is told where a network is made; make another one, and give it these parameters by "
                "load_params(net.params)"
            )
        super().__setattr__(name, value)

    def _cast(self, x: Any, name: str) -> Array:
        """Return numbers of a caller's in the network's precision."""
        array = as_numbers(name, x)
        if array.dtype.kind != "c":
            return array.astype(array_dtype(self.dtype), copy=False)
        if not self._complex:
            raise UnrolledError(f"{name} holds complex numbers; this network takes {self.dtype}")
        return array

    @property
    def params(self) -> Params:
        """Parameters by name, PyTorch's where it has them; what is assigned to them is copied in."""
        return self._params

    @params.setter
    def params(self, new: Mapping[str, Any]) -> None:
        self._params.load(new)

    def load_params(self, params: Mapping[str, Any]) -> None:
        """Copy parameters in, by name; a PyTorch module's `state_dict()` as NumPy arrays fits a stack as it is.

        Raises
        ------
        UnrolledError
            If a name is missing or unknown, a shape differs, or a number is not finite; nothing is changed then.
        """
        self._params.load(params)


def check_names(params: Mapping[str, Array], new: Any) -> None:
    """Refuse what is no mapping with these very names."""
    try:
        names = set(new) if isinstance(new, Mapping) else None
    except Exception:  # of a mapping of the caller's own
        names = None
    if names is None:
        raise UnrolledError(f"the parameters are {brief(new)}; expected a dictionary of arrays by their names")
    missing, extra = sorted(params.keys() - names), [name for name in new if name not in params]
    if missing or extra:
        said = [f"{what}: {listed(odd)}" for what, odd in (("missing", missing), ("unknown", extra)) if odd]
        raise UnrolledError(f"the parameters do not fit this network; {'; '.join(said)}")


def fitting(name: str, value: Any, like: Array) -> Array:
    """Return a copy of `value` in the shape and precision of `like`, or say why there is none."""
    array = as_numbers(name, value)
    if array.shape != like.shape:
        raise UnrolledError(f"{name} has shape {array.shape}; this network takes {like.shape}")
    if array.dtype.kind == "c" and like.dtype.kind != "c":
        raise UnrolledError(f"{name} holds complex numbers; this network takes {like.dtype}")
    with np.errstate(over="ignore"):  # a number too large for float32 is infinite there, and said
        copied = np.array(array, dtype=like.dtype, order="C")
    if not np.isfinite(copied).all():
        raise UnrolledError(f"{name} holds values that are not finite")
    return copied


def usable(params: Mapping[str, Array], like: Mapping[str, Array]) -> Params:
    """Return arrays with the names and shapes of `like` as they are, in their precision; copies where they are odd.

    The engine reads contiguous, aligned memory in the machine's own byte order.
    """
    check_names(like, params)
    arrays = Params()
    for name, old in like.items():
        array = as_numbers(name, params[name])
        if array.shape != old.shape:
            raise UnrolledError(f"{name} has shape {array.shape}; this network takes {old.shape}")
        dtype = array.dtype.newbyteorder("=") if array.dtype.kind in "fc" else old.dtype
        dict.__setitem__(arrays, name, np.require(array, dtype, ("C", "A")))
    return arrays
