"""Options of a network: of its stack of layers, and of what stands around the stack where it predicts symbols."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from ..cells import Cell, find_cell
from ..cells.settings import parse_settings
from ..checks import as_kind, check_fraction, check_size, check_weight
from ..declared import Declared, about, one_of, option, options
from ..errors import UnrolledError, brief
from .initializers import INITS, check_forget_bias, check_init_name

DTYPES = ("float32", "float64", "bfloat16")


@dataclass(frozen=True)
class NetworkOptions(Declared):
    """Options of a network that predicts symbols; `Spec` has them, and the number of symbols."""

    cell: str | Cell = option(
        "lstm",
        "Such as lstm, gru, min_gru (`unrolled info --cells` has all), or your own, my_cell.py:NAME.",
        "Network",
        lambda _, value: find_cell(value) and value,
        about="Name of the cell; `unrolled info --cells` describes each. Or a cell of your own: the object, or "
        "`my_cell.py:NAME` on the command line.",
    )
    embedding_size: int = option(
        64,
        "Width of the embedding; 0 feeds one-hot vectors.",
        "Network",
        partial(check_size, least=0),
        around=True,
    )
    hidden_size: int | tuple[int, ...] = option(
        128,
        "Hidden units a layer; 256,128: of each layer.",
        "Network",
        also=("--rnn-size",),
        about="Hidden units of a layer: one number for all layers, or one each.",
    )
    num_layers: int = option(2, "Layers.", "Network", check_size)
    bias: bool = option(
        True,
        "Biases in the recurrent layers.",
        "Weights",
        about="Whether the recurrent layers have biases, `bias_ih` and `bias_hh`: two parameters, as in PyTorch, of "
        "which Adam moves both. The decoder always has them.",
    )
    dropout: float = option(
        0.0,
        "After each layer.",
        "Dropout",
        check_fraction,
        about="Of a layer's outputs (of language models, as in char-rnn, of the last layer's too).",
        source="Srivastava et al. 2014",
    )
    dtype: str = option(
        "float32",
        "float32, float64, or bfloat16: float32 whose products round.",
        "Weights",
        one_of("dtype", DTYPES),
        about="float32 or float64; bfloat16 is float32, but that products round what they multiply to bfloat16.",
    )
    locked_dropout: float = option(
        0.0,
        "After each layer, the same units at all steps.",
        "Dropout",
        check_fraction,
        about="As `dropout`, with one mask for all steps.",
        source="Gal & Ghahramani 2016",
    )
    embedding_dropout: float = option(
        0.0,
        "Of symbols: whole rows of the embedding.",
        "Dropout",
        check_fraction,
        about="Of symbols: whole rows of the embedding, for a whole pass.",
        source="Gal & Ghahramani 2016",
        around=True,
    )
    recurrent_dropout: float = option(
        0.0,
        "Of what a cell adds to its memory.",
        "Dropout",
        check_fraction,
        about="Of the candidate: what is added to the memory is dropped, never the memory.",
        source="Semeniuta et al. 2016",
    )
    weight_drop: float = option(
        0.0,
        "Of single recurrent weights.",
        "Dropout",
        check_fraction,
        about="Of entries of `weight_hh`, for a whole pass (DropConnect).",
        source="Wan et al. 2013; Merity et al. 2018",
    )
    zoneout: float = option(
        0.0,
        "Share of units that keep their old hidden state.",
        "Dropout",
        check_fraction,
        about="Share of units that keep their old h. Without masks the two are mixed instead.",
        source="Krueger et al. 2017",
    )
    zoneout_cell: float = option(
        0.0,
        "Share of units that keep their old memory cell.",
        "Dropout",
        check_fraction,
        about="Share of units that keep their old c.",
        source="Krueger et al. 2017",
    )
    residual: bool = option(
        False,
        "Add a layer's input to its output, from the second layer on.",
        "Network",
        about="From the second layer on, a layer's input is added to its output. All widths must be equal.",
        source="He et al. 2016",
    )
    proj_size: int = option(
        0,
        "Project the hidden state to so many numbers; 0 for no projection.",
        "Network",
        partial(check_size, least=0),
        about="h is projected to so many numbers (`weight_hr`), as in PyTorch's LSTM; 0 for no projection. Memory "
        "cells only.",
        source="Sak et al. 2014",
    )
    learn_state: bool = option(
        False,
        "Train the initial state too.",
        "Weights",
        about="The initial state is trained (`initial_h_l0`, ...): it is what `state=None` then means.",
    )
    tied: bool = option(
        False,
        "Let the decoder use the embedding's weight.",
        "Weights",
        about="The decoder's weight is the embedding's, which must be as wide as the last layer.",
        source="Press & Wolf 2017",
        around=True,
    )
    ar: float = option(
        0.0,
        "Activation regularisation: weight of the outputs' mean square.",
        "Penalties",
        check_weight,
        about="Weight in the loss of activation regularisation: the mean square of the last layer's output, after "
        "dropout.",
        source="Merity et al. 2017",
        around=True,
    )
    tar: float = option(
        0.0,
        "Temporal activation regularisation: weight of that of their changes.",
        "Penalties",
        check_weight,
        about="The same of that output's change from step to step, before dropout, within a chunk and a document.",
        source="Merity et al. 2017",
        around=True,
    )
    label_smoothing: float = option(
        0.0,
        "Share of a target's probability spread over all symbols.",
        "Penalties",
        check_fraction,
        about="Share of each target's probability that training spreads over all symbols.",
        source="Szegedy et al. 2016",
        around=True,
    )
    init: str = option(
        "pytorch",
        f"Initial weights: {', '.join(INITS)}.",
        "Weights",
        lambda _, value: check_init_name(value),
        about="Initial weights: `pytorch`, `char-rnn`, `glorot` (recurrent weights orthogonal), `identity` (simple "
        "cells), `uniform:0.1` (all from U(-0.1, 0.1), or another bound).",
        source="Glorot & Bengio 2010; Saxe et al. 2014; Le et al. 2015",
    )
    forget_bias: float | None = option(
        None,
        "Forget-gate bias at the start.",
        "Weights",
        lambda _, value: check_forget_bias(value),
        unset="as --init has it",
        about="What the forget gate's two biases add up to at first.",
        source="Gers et al. 2000; Jozefowicz et al. 2015",
    )
    bidirectional: bool = option(
        False,
        "Read backwards too; no language model does.",
        "Network",
        about="Whether each layer also runs backwards in time; outputs are twice as wide then, those of the second "
        "direction behind those of the first.",
        source="Schuster & Paliwal 1997",
    )
    input_dropout: float = option(
        0.0,
        "Of what the first layer reads.",
        "Dropout",
        check_fraction,
        about="Of what the first layer reads: embedded symbols, spelled words, numbers.",
        source="Srivastava et al. 2014; of words Lample et al. 2016",
        around=True,
    )
    cell_settings: str = option(
        "",
        "Constants of the cell, such as dt=0.05,activation=relu; `unrolled info --cells` lists each cell's.",
        "Network",
        lambda name, value: check_settings(name, value),
        about="Constants of the cell that are not trained: numbers, and activations by name.",
    )
    softmax: str = option(
        "full",
        "Of language models: full, adaptive (rare words in clusters), or adaptive:2000,10000 with their limits.",
        "Head",
        lambda _, value: check_softmax(value),
        about="Of language models: `full`; `adaptive`, for many words: those below a 16th of the vocabulary in one "
        "softmax, those below a quarter and the others in two clusters that read 4 and 16 times fewer numbers; or "
        "`adaptive:2000,10000`, with these limits. Words are numbered by falling frequency.",
        source="Grave et al. 2017",
        around=True,
    )


def check_softmax(value: object) -> str:
    """Return a kind of softmax, or say what is wrong with it."""
    name, _, given = str(value).partition(":")
    limits = given.split(",") if given else []
    if name not in ("full", "adaptive") or (name == "full" and value != "full") or str(value).endswith(":"):
        raise UnrolledError(f"softmax is {brief(value)}; expected full, adaptive, or adaptive:2000,10000")
    if not all(limit.isascii() and limit.isdigit() and len(limit) < 10 for limit in limits):
        raise UnrolledError(f"softmax is {brief(value)}; its limits must be whole numbers with commas between")
    return str(value)


def check_settings(name: str, value: object) -> str:
    """Return a cell's settings as a text, in which each is NAME=VALUE."""
    text = as_kind(name, value, "str")
    parse_settings(text)
    return str(text)


@dataclass(frozen=True)
class SpellingOptions(Declared):
    """Options of networks that read words, by a table and by their characters."""

    characters_embedding_size: int = option(
        30,
        "Width of the characters' embedding.",
        "Words",
        check_size,
        about="Width of the embedding of characters, which a word's encoder reads.",
        source="Ling et al. 2015; Lample et al. 2016",
    )
    characters_hidden_size: int = option(
        25,
        "Units a direction that read a word's characters.",
        "Words",
        check_size,
        about="Hidden units, a direction, of the encoder that reads a word's characters both ways; its final states "
        "stand beside the word's own embedding.",
        source="Ling et al. 2015; Lample et al. 2016",
    )
    word_dropout: float = option(
        0.0,
        "Share of words that are read as unknown.",
        "Dropout",
        check_fraction,
        about="Share of the words of a training pass that the table doesn't know (symbol 0 is read); their spelling "
        "stays. So what is unknown is learnt, and what is known by heart is less.",
        source="Iyyer et al. 2015; Kiperwasser & Goldberg 2016",
    )


STACK = {
    name: declared
    for name, declared in options(NetworkOptions).items()
    if not about(declared).around and name not in ("cell", "hidden_size", "num_layers")
}
"""Options of a stack of layers beside its cell and sizes: keywords of `Recurrent`."""
