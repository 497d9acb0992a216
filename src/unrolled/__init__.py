"""unrolled: recurrent neural networks you can read, prove, and run fast.

>>> import numpy as np
>>> import unrolled as ur
>>> lstm = ur.LSTM(input_size=4, hidden_size=5)
>>> y, state, tape = lstm.forward(np.ones((7, 3, 4)))
>>> dx, dstate, grads = lstm.backward(tape, np.ones_like(y))
"""

from .errors import UnrolledError, Unsupported
from .gradcheck import check_cell, check_network
from .language_model import LanguageModel, load
from .network import Network, Spec
from .recurrent import GRU, LSTM, RNN, Recurrent

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "LanguageModel",
    "Network",
    "Recurrent",
    "Spec",
    "UnrolledError",
    "Unsupported",
    "__version__",
    "check_cell",
    "check_network",
    "load",
]
