"""Functions that anyone may call take anything: it is used, or refused in one short line."""

from itertools import islice

import numpy as np
import pytest

import unrolled as ur
from unrolled.data import batches
from unrolled.ladder import convert, plain
from unrolled.ladder import layers as rung1
from unrolled.ladder import solver as rung2
from unrolled.models import sampling as sample
from unrolled.models import scoring as score
from unrolled.reference import layers, losses


class Long:
    def __repr__(self):
        return "x\n" * 500


ODD = [
    *(None, True, -1, 10**5000, 1.5, float("nan"), float("inf"), 1j, "x", "x" * 5000, b"x", np.float32(2), np.int8(-3)),
    *([], [1.5], ["a"], [[1], [1, 2]], {}, {"a": 1}, set(), Long(), object, lambda: 0, np.timedelta64(3, "s")),
    *(np.zeros(3), np.zeros((2, 3)), np.array(3), np.zeros((0, 0)), np.array([2**63], np.uint64), np.array([None])),
    *(np.array(["a", "b"]), np.array([True, False]), np.ma.masked_array([1, 2], [0, 1]), np.datetime64("2020")),
]
TOKENS = np.arange(40) % 5
NETS = {name: ur.Network(ur.Spec(5, "lstm", 3, 4, 1), backend=name, rng=0) for name in ("auto", "reference")}
NET = NETS["auto"]
MODEL = ur.LanguageModel(NET, ur.data.text.Characters(tuple("abcd\n")))
TEXTS = {"char": "ab\ncd\n", "byte": b"ab\ncd\n", "word": "ab ab\ncd cd\n", "tokens": np.arange(7)}
KNOWN = {level: ur.data.text.Vocabulary.of(text, level) for level, text in TEXTS.items()}
CORPUS = ur.data.text.of_documents(["ab", "cd"], "char")
ONE, TWO, THREE = np.zeros(5), np.ones((2, 3)), np.ones((7, 2, 3))


def first_batch(**given):
    return ur.batches(**given)[0]


SCORES = {"transitions": np.zeros((3, 3)), "begin": np.zeros(3), "end": np.zeros(3)}
CALLS = {
    sample.sample_token: {"logits": ONE, "temperature": 1.0, "u": 0.5},
    sample.tokens: {"network": NET, "prompt": [1], "length": 3, "temperature": 1.0, "rng": 0, "end": None},
    sample.TokenSampler: {"network": NET, "state": NET.zero_state(1), "length": 3},
    sample.TokenSampler(NET, NET.zero_state(1), 3).sample: {"token": 1, "u": [0.5], "temperature": 1.0},
    score.score: {"network": NET, "tokens": TOKENS, "documents": None, "window": 0},
    score.log_probabilities: {"logits": TWO, "targets": [0, 2]},
    score.evaluate: {"network": NET, "lanes": batches.lanes(TOKENS, 2, 3)},
    batches.lanes: {"tokens": TOKENS, "batch_size": 2, "seq_length": 3, "documents": None},
    batches.Lanes: {"tokens": TOKENS, "batch_size": 2, "seq_length": 3, "documents": None},
    batches.tokens_needed: {"batch_size": 2, "seq_length": 3},
    losses.log_softmax: {"logits": TWO},
    losses.cross_entropy: {"logits": TWO, "targets": [0, 2], "smoothing": 0.0},
    losses.bernoulli: {"logits": TWO, "targets": TWO > 0, "weights": None},
    losses.squared_error: {"outputs": TWO, "targets": TWO, "weights": None},
    losses.huber: {"outputs": TWO, "targets": TWO, "weights": None, "delta": 1.0},
    losses.quantile: {"outputs": TWO, "targets": TWO[:, 0], "quantiles": (0.1, 0.5, 0.9), "weights": None},
    losses.gaussian: {"outputs": TWO[:, :2], "targets": TWO[:, 0], "weights": None},
    losses.sigmoid: {"logits": TWO},
    losses.crf: {"emissions": THREE, "targets": np.zeros((7, 2), int), "lengths": [7, 3]} | SCORES,
    losses.marginals: {"emissions": THREE, "lengths": [7, 3]} | SCORES,
    losses.viterbi: {"emissions": THREE, "lengths": [7, 3]} | SCORES,
    first_batch: {"x": [[1, 2], [3]], "y": [0, 1], "batch_size": 2, "stepwise": None, "weights": None}
    | {"class_weights": None, "ignore": None, "seed": 0},
    ur.heads.tags: {"size": 3, "crf": False},
    ur.heads.classes: {"size": 3, "pooling": "last"},
    ur.heads.labels: {"size": 3, "pooling": None},
    ur.heads.numbers: {"size": 3, "loss": "quantile", "pooling": None, "quantiles": (0.1, 0.9), "delta": 1.0},
    losses.confidence: {"logits": TWO, "targets": [0, 2]},
    losses.activation_penalty: {"y": THREE},
    losses.temporal_penalty: {"y": THREE, "starts": None},
    layers.dropout: {"x": TWO, "mask": TWO > 0, "rate": 0.5},
    layers.draw_mask: {"rng": 0, "shape": (2, 3), "rate": 0.5},
    layers.uniform: {"rng": 0, "shape": (2, 3), "bound": 0.5, "dtype": "float32"},
    layers.embed: {"weight": TWO, "tokens": [1]},
    layers.embed_backward: {"tokens": [1, 2], "dx": TWO, "size": 5},
    layers.linear: {"weight": TWO, "bias": np.zeros(2), "x": THREE},
    layers.linear_backward: {"weight": TWO, "x": THREE, "dy": THREE[..., :2]},
    ur.LanguageModel: {"network": NET, "vocabulary": MODEL.vocabulary, "result": None},
    MODEL.score: {"text": "abc", "window": 0},
    MODEL.stream: {"prompt": "a", "length": 3, "temperature": 1.0, "seed": None, "rng": None},
    MODEL.draw: {"n": 2, "prompt": "a", "length": 3, "temperature": 1.0, "repetition_penalty": 1.2, "top_k": 3}
    | {"top_p": 0.9, "min_p": 0.1, "stop": "zz", "allow": "[a-c]*"},
    MODEL.samples: {"n": 2, "prompt": "a", "length": 3, "temperature": 1.0, "seed": None, "rng": None},
}


class Of:
    """A method of one object, as a test's name shows it."""

    def __init__(self, call, name):
        self.call, self.__qualname__ = call, name

    def __call__(self, **given):
        return self.call(**given)


CALLS |= {
    ur.data.text.unigram_entropy: {"tokens": [0, 1, 1], "size": 2},
    ur.data.text.bigram_entropy: {"tokens": [0, 1, 1], "size": 2},
    ur.data.split.split: {"tokens": range(9), "val_fraction": 0.2, "test_fraction": 0.1},
    ur.data.text.strip_gutenberg: {"text": "hello"},
    ur.data.text.read: {
        **{"paths": __file__, "level": "char", "keep_gutenberg": False, "json_field": "", "column": ""},
        **{"skip_null": False, "documents": False, "stream": False},
    },
    ur.data.text.of_documents: {"texts": ["a", "b"], "level": "char"},
    ur.data.text.vocabulary_of: {
        "corpus": CORPUS,
        "min_count": 1,
        "max_symbols": 0,
        "lower": False,
        "words": "whitespace",
    },
    ur.data.text.encode: {"corpus": CORPUS, "vocabulary": ur.data.text.vocabulary_of(CORPUS)},
    ur.data.text.Corpus: {"text": "abc", "level": "char", "name": "a", "documents": None},
    ur.data.text.Decoder: {"vocabulary": KNOWN["char"]},
    ur.data.text.vocabulary.check_range: {"tokens": TOKENS, "size": 5},
    ur.data.text.Characters: {"symbols": ["a", "b"], "documents": False},
    ur.data.text.Bytes: {"documents": False},
    ur.data.text.Words: {"symbols": ["<unk>", "<eos>"], "lower": False, "words": "whitespace", "documents": False},
    ur.data.text.BytePairs: {"merges": (), "documents": False},
    ur.data.text.Numbers: {"size": 5, "documents": False},
    ur.data.text.Vocabulary.from_json: {"data": {"level": "byte"}},
}
for level, known in KNOWN.items():
    CALLS |= {
        Of(known.encode, f"{level}.encode"): {"text": "ab" if level != "tokens" else "1 2"},
        Of(known.decode, f"{level}.decode"): {"tokens": [0, 1]},
        Of(known.piece, f"{level}.piece"): {"token": 1},
        Of(known.decoder().feed, f"{level}.feed"): {"token": 1},
        Of(known.grown, f"{level}.grown"): {"other": known},
        Of(known.unlisted, f"{level}.unlisted"): {"text": "ab"},
        Of(known.spelling_bits, f"{level}.spelling_bits"): {"text": "ab"},
        Of(known.unpredicted, f"{level}.unpredicted"): {"text": "ab", "first": 1},
        Of(known.with_documents, f"{level}.with_documents"): {"tokens": [1, 0, 1], "documents": [1]},
        Of(ur.data.text.Vocabulary.of, f"{level}.of"): {"text": TEXTS[level], "level": level, "lower": False}
        | {"min_count": 1, "max_symbols": 0, "words": "whitespace"},
    }

LIST = plain.LSTM_RNN(0.1, 3, 4, 3)
LAYER, OUTPUT, EMBEDDED = rung1.LSTMLayer(3, 4, 0), rung1.OutputLayer(4, 3, 0), rung2.RNN(5, "abcde")
STACK, SYMBOLS, ROWS = rung1.Stack([LAYER], OUTPUT), np.zeros((5, 2), int), np.zeros((5, 2, 4))
GRADS = STACK.gradients(SYMBOLS, SYMBOLS)[1]
CALLS |= {
    plain.LSTM_RNN: {"lr": 0.1, "in_dim": 3, "h_dim": 4, "out_dim": 3, "window": 25, "clip": 5.0},
    LIST.train: {"iterations": 0, "inputs": [0, 1], "targets": [1, 0]},
    LIST.gradients: {"inputs": [0, 1], "targets": [1, 0], "h": [0.0] * 4, "c": [0.0] * 4},
    LIST.update: {"d": LIST.gradients([0], [1], [0.0] * 4, [0.0] * 4)[1]},
    rung1.RNNLayer: {"in_dim": 3, "h_dim": 4, "rng": 0},
    rung1.LSTMLayer: {"in_dim": 3, "h_dim": 4, "rng": 0, "peephole": False},
    rung1.OutputLayer: {"h_dim": 3, "out_dim": 4, "rng": 0},
    LAYER.forward: {"xlist": SYMBOLS, "state": None},
    LAYER.bptt: {"dslist": ROWS, "dstate": None},
    OUTPUT.forward: {"hlist": ROWS},
    OUTPUT.bptt: {"targets": SYMBOLS},
    rung1.Stack: {"layers": [LAYER], "output": OUTPUT},
    STACK.forward: {"xlist": SYMBOLS, "states": ()},
    STACK.gradients: {"xlist": SYMBOLS, "targets": SYMBOLS, "states": ()},
    STACK.update: {"grads": GRADS, "lr": 0.1},
    rung1.WordModel: {"text": "a b. c d.", "h_dims": (3,), "limit": 10},
    rung2.RNN: {"vocab_dim": 3, "idx_to_char": "abc", "input_dim": 3, "hidden_dim": 4, "cell_type": "lstm"},
    EMBEDDED.forward: {"symbols": SYMBOLS, "state": ()},
    EMBEDDED.sample: {"seed_idx": 0, "temperature": 1.0, "rng": 0, "T": 3},
    rung2.embed_forward: {"symbols": SYMBOLS, "E": np.ones((3, 4))},
    rung2.affine_forward: {"x": ROWS, "W": np.ones((3, 4)), "b": np.ones(3)},
    rung2.softmax_loss: {"a": ROWS, "targets": SYMBOLS},
    rung2.sequence_forward: {"x": ROWS, "s": (np.zeros((2, 3)),) * 2, "Wx": np.ones((12, 4)), "Wh": np.ones((12, 3))}
    | {"b": np.zeros(12)},
    rung2.Solver: {"data": TOKENS, "model": EMBEDDED, "seq_length": 3, "batch_size": 2, "lr": 0.1, "num_iters": 2}
    | {"update_rule": "RMSProp", "lr_decay": 0.9, "decay_every": 3},
    convert.library_names: {"params": STACK.params},
    convert.network_of: {"model": EMBEDDED, "backend": "auto", "dtype": "float64"},
}
ENDLESS = {"T"}
"""What is drawn in one go, and may well be asked for without an end."""


def used(result):
    """Take the first of what comes one by one, since some errors would come with it."""
    return list(islice(result, 3)) if hasattr(result, "__next__") else result


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_anything_is_used_or_refused_in_one_short_line(call):
    good = CALLS[call]
    refused = ValueError if call.__module__ == plain.__name__ else ur.UnrolledError  # rung 0 imports nothing of ours
    used(call(**good))
    for name in good:
        for odd in ODD:
            if name in ENDLESS and isinstance(odd, int) and odd > 10**9:
                continue
            try:
                used(call(**good | {name: odd}))
            except refused as error:
                said = str(error)
                assert "\n" not in said, (name, said)
                assert len(said) < 400 or name == "paths", (name, said)  # a file is named whole
