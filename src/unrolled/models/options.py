"""The options of training a model, whatever its kind, and those of a language model."""

from __future__ import annotations

from dataclasses import dataclass

from ..checks import check_widths
from ..data.options import SplitOptions, TextOptions
from ..declared import anew, documented, option, options
from ..errors import UnrolledError
from ..keywords import suggesting
from ..nn.options import NetworkOptions
from ..nn.spec import Spec
from ..training.options import RunOptions, TrainingOptions


@dataclass(frozen=True)
class ModelOptions(RunOptions, SplitOptions, TrainingOptions, NetworkOptions):
    """Options that all kinds of models share: of the network, its training, the split and what is written."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.hidden_size, tuple):  # the widths say how many layers there are
            usual = type(self).__dataclass_fields__["num_layers"].default
            widths = check_widths(self.hidden_size, None if self.num_layers == usual else self.num_layers)
            object.__setattr__(self, "num_layers", len(widths))

    def spec(self, vocabulary_size: int, characters: int = 0) -> Spec:
        """Return the network's description."""
        told = {name: getattr(self, name) for name in options(Spec) if hasattr(self, name)}
        return Spec(vocabulary_size, characters=characters, **told)


@suggesting
@documented
@dataclass(frozen=True)
class Options(ModelOptions, TextOptions):
    """How to build and train a language model.

    Attributes
    ----------
    **options

    Examples
    --------
    >>> Options(hidden_size=(6, 5)).num_layers
    2
    """

    unigram_bias: bool = option(
        False,
        "Begin with the decoder's bias at the logarithms of the symbols' shares.",
        "Weights",
        about="The decoder's bias begins at log((n_a + 1/2) / (N + V/2)) of every symbol a, which occurs n_a times "
        "among the N symbols to train on, and not as `init` says: what has learnt nothing yet predicts the unigram "
        "distribution.",
    )
    vary_seq_length: bool = option(
        False,
        "Cut chunks elsewhere in each epoch, around --seq-length.",
        "Training",
        about="Chunks have lengths drawn around `seq_length` in each epoch, one in twenty around half of it, and "
        "the rate follows the length.",
        source="Merity et al. 2018",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bidirectional:
            raise UnrolledError("bidirectional is true; a model of the next symbol can't read what comes after it")


ANEW = anew(Options)
"""Options that a run which goes on may be asked for anew: all that its state does not depend on."""
