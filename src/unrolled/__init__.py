"""unrolled: recurrent neural networks you can read, prove, and run fast.

>>> import numpy as np
>>> import unrolled as ur
>>> lstm = ur.LSTM(input_size=4, hidden_size=5)
>>> y, state, tape = lstm.forward(np.ones((7, 3, 4)))
>>> dx, dstate, grads = lstm.backward(tape, np.ones_like(y))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import Interrupted, UnrolledError, UnrolledWarning, Unsupported

if TYPE_CHECKING:
    from .data.padded import batches
    from .gradcheck import check_cell, check_network
    from .models.base import load
    from .models.classifier import Classifier
    from .models.forecaster import Forecaster
    from .models.language_model import LanguageModel
    from .models.tagger import Tagger
    from .nn import heads
    from .nn.layers import GRU, LSTM, RNN
    from .nn.mlstm import MLSTM
    from .nn.network import Network
    from .nn.recurrent import Recurrent
    from .nn.spec import Spec
    from .reference import losses
    from .seeding import manual_seed
    from .training import optim
    from .tuning import tune

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "MLSTM",
    "RNN",
    "Classifier",
    "Forecaster",
    "Interrupted",
    "LanguageModel",
    "Network",
    "Recurrent",
    "Spec",
    "Tagger",
    "UnrolledError",
    "UnrolledWarning",
    "Unsupported",
    "__version__",
    "batches",
    "check_cell",
    "check_network",
    "heads",
    "load",
    "losses",
    "manual_seed",
    "optim",
    "tune",
]

_LATER = {
    **dict.fromkeys(("GRU", "LSTM", "RNN"), "nn.layers"),
    "MLSTM": "nn.mlstm",
    "Recurrent": "nn.recurrent",
    "Network": "nn.network",
    "Spec": "nn.spec",
    "LanguageModel": "models.language_model",
    "Tagger": "models.tagger",
    "Classifier": "models.classifier",
    "Forecaster": "models.forecaster",
    "batches": "data.padded",
    "load": "models.base",
    "manual_seed": "seeding",
    "tune": "tuning",
    "check_cell": "gradcheck",
    "check_network": "gradcheck",
}
"""Names that are imported when they are first used: a script that only wants a layer does not wait for the others, and
the command can prepare for Ctrl-C before it waits for NumPy."""

_DOORS = {"heads": "nn.heads", "losses": "reference.losses", "optim": "training.optim"}
"""Modules that are known by shorter names: the pieces that a training loop is made of."""


def __getattr__(name: str) -> Any:
    """Import what was not needed until now (PEP 562)."""
    if name in _DOORS:
        return import_module(f".{_DOORS[name]}", __name__)
    if name in _LATER:
        value = globals()[name] = getattr(import_module(f".{_LATER[name]}", __name__), name)
        return value
    try:
        return import_module(f".{name}", __name__)
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
