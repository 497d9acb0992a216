"""Where random numbers come from that nobody handed in: one generator a process, which can be seeded."""

from __future__ import annotations

from typing import Any

import numpy as np

from .checks import check_rng, check_seed, check_size
from .errors import UnrolledError

_own = np.random.default_rng()


def manual_seed(seed: int) -> None:
    """Make everything that is drawn without an `rng` from now on repeatable: the weights of new networks, samples.

    Two networks made one after the other differ all the same, as in PyTorch. What is given an `rng`, or a seed, as
    `LanguageModel.train` and the command always are, does not depend on it.

    Examples
    --------
    >>> import unrolled as ur
    >>> ur.manual_seed(3)
    >>> first, second = ur.LSTM(4, 5).params["bias_hh_l0"], ur.LSTM(4, 5).params["bias_hh_l0"]
    >>> ur.manual_seed(3)
    >>> again = ur.LSTM(4, 5).params["bias_hh_l0"]
    >>> (first == again).all(), (first == second).any()
    (np.True_, np.False_)
    """
    global _own
    _own = np.random.default_rng(check_seed(seed))


def generator(rng: Any = None) -> np.random.Generator:
    """Return the generator that is meant: a Generator, a seed, or None for the process's own.

    Examples
    --------
    >>> generator(5).random() == np.random.default_rng(5).random()
    True
    """
    return _own if rng is None else check_rng(rng)


def spawn_streams(rng: np.random.Generator, count: int) -> list[np.random.Generator]:
    """Return the next `count` generators whose numbers have nothing to do with a generator's own, nor each other's.

    The n-th that comes of a generator is always the same, however many are asked for at a time.

    Raises
    ------
    UnrolledError
        If the generator was made without a seed sequence, as NumPy's old ones are.

    Examples
    --------
    >>> first, second = spawn_streams(np.random.default_rng(5), 2)
    >>> first.random() == spawn_streams(np.random.default_rng(5), 1)[0].random()
    True
    """
    try:
        return check_rng(rng).spawn(check_size("count", count, least=0))
    except TypeError as error:
        raise UnrolledError(f"rng can't be split into streams: {error}; make it by numpy.random.default_rng") from None
