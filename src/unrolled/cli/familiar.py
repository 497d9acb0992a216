"""The words of people who come from char-rnn, torch-rnn, textgenrnn, awd-lstm-lm or PyTorch's examples, by our names.

Options are looked up by what they mean before they are by their letters: `--gpu` looks like `--out` to a computer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

COMMANDS = {"generate": "sample", "evaluate": "score", "eval": "score"}
"""Other names of commands, which are taken."""

_CALLED = {
    "--cell": "model rnn-type rnn",
    "--hidden-size": "nhid size units hidden rnn-units",
    "--embedding-size": "emsize wordvec-size dim-embeddings embedding embed-size embedding-dim",
    "--num-layers": "nlayers rnn-layers layers n-layers",
    "--seq-length": "bptt seq-len block-size context",
    "--batch-size": "batch bs",
    "--epochs": "max-epochs num-epochs n-epochs iters iterations max-iters steps",
    "--learning-rate": "step-size",
    "--lr-decay": "learning-rate-decay lr-decay-factor gamma",
    "--lr-decay-after": "learning-rate-decay-after",
    "--optimizer": "optim opt",
    "--weight-decay": "wdecay l2",
    "--locked-dropout": "dropouth dropouti variational-dropout",
    "--embedding-dropout": "dropoute",
    "--weight-drop": "wdrop dropconnect",
    "--ar": "alpha",
    "--tar": "beta",
    "--average-after": "nonmono",
    "--val-fraction": "val-frac train-frac train-size valid-fraction",
    "--test-fraction": "test-frac",
    "--val-file": "valid val val-data",
    "--eval-every": "eval-val-every eval-interval log-interval print-every",
    "--checkpoint-every": "save-every save-interval",
    "--out": "save checkpoint-dir checkpoint-name savefile output-dir outf output o",
    "--init-from": "pretrained finetune",
    "--level": "word-level encoding tokenizer",
    "--threads": "workers num-workers n-threads num-threads",
    "--prompt": "primetext start-text prefix start prime seed-text text",
    "--length": "words max-gen-length max-length max-new-tokens num-tokens",
    "--temperature": "temp t",
    "--n": "count num-samples samples n-samples num num-return-sequences best-of",
    "--top-p": "nucleus p",
    "--beam": "beam-size beam-width num-beams",
    "--top-k": "k top-n",
    "--repetition-penalty": "repeat-penalty",
    "--stop": "stop-sequence stop-strings",
    "--window": "context-length",
    "--column": "text-column col",
    "--json-field": "text-field key",
    "--documents": "line-delimited",
}
CALLED = {word: option for option, words in _CALLED.items() for word in words.split()}
"""A familiar option's name -> that of ours which means the same."""

_GPU = "everything runs on the CPU, so there is no GPU to choose; --threads says how many of its cores"
ABSENT = {
    **dict.fromkeys(("gpu", "gpuid", "gpus", "cuda", "no-cuda", "device", "mps", "opencl", "gpu-backend"), _GPU),
    **dict.fromkeys(("data", "data-dir", "input", "file", "dataset"), "name the text itself: unrolled train book.txt"),
    **dict.fromkeys(("verbose", "quiet"), "what is printed can't be set; a run's folder has its figures too"),
    "strip-gutenberg": "that is done without asking; --keep-gutenberg leaves header and footer in",
}
"""Options that can't be asked for, and why."""
ELSEWHERE = {"threads": "the variable UNROLLED_THREADS says how many there are here (UNROLLED_THREADS=1)"}
"""Options that some commands have, and what stands for them in the others."""


def unknown(option: str, known: Sequence[str], absent: Mapping[str, str] = ABSENT) -> str:
    """Return a line that says that a command has no such option, and what it is called here, or why it is `absent`.

    Examples
    --------
    >>> unknown("--temp", ["--length", "--temperature"])
    'there is no option --temp; here it is called --temperature'
    >>> unknown("--lenght", ["--length", "--temperature"])
    'there is no option --lenght; did you mean --length?'
    >>> unknown("--threads", ["--length", "--temperature"])
    'there is no option --threads: the variable UNROLLED_THREADS says how many there are here (UNROLLED_THREADS=1)'
    """
    name = option.lstrip("-").replace("_", "-").lower()
    there_is_none = f"there is no option {option}"
    if CALLED.get(name) in known:
        return f"{there_is_none}; here it is called {CALLED[name]}"
    if why := absent.get(name) or absent.get(CALLED.get(name, "").lstrip("-")) or ELSEWHERE.get(name):
        return f"{there_is_none}: {why}"
    near = get_close_matches(f"--{name}", [other for other in known if other != "--help"], n=1, cutoff=0.6)
    return f"{there_is_none}; " + (f"did you mean {near[0]}?" if near else "--help lists all")
