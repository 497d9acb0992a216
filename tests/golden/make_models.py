"""Write the model files and the run that every later version must read: `python tests/golden/make_models.py`.

Run once for a version of the file format, and never again: what is there stays as it was written. A new cell, level or
option adds files; nothing replaces one (`tests/models/test_golden_models.py` loads them all). The weights are random,
so that every parameter counts.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import unrolled as ur
from unrolled.cells import CELLS
from unrolled.data.text import BytePairs, Bytes, Characters, Numbers, Vocabulary, Words
from unrolled.models import sampling as sample

HERE = Path(__file__).parent
MODELS, RUN, NUMBERS = HERE / "models", HERE / "run", HERE / "models.json"
TEXT = "the cat sat on the mat; the dog sat on the log.\n" * 12

CHAR = Vocabulary.of("abcdé\n", "char")
LEVELS = {
    "char": CHAR,
    "byte": Bytes(),
    "word": Words(("<unk>", "<eos>", "the", "cat", "sät"), lower=True, words="punctuation"),
    "bpe": BytePairs(merges=((116, 104), (256, 101), (32, 257))),
    "tokens": Numbers(9),
    "documents": Characters(CHAR.symbols, documents=True),
}
OPTIONS = {
    "tied": {"tied": True, "embedding_size": 4},
    "one-hot": {"embedding_size": 0},
    "widths": {"hidden_size": (5, 3, 4)},
    "projected": {"proj_size": 2},
    "learned state": {"learn_state": True},
    "zoneout": {"zoneout": 0.25, "zoneout_cell": 0.125},
    "dropouts": {
        "dropout": 0.1,
        "locked_dropout": 0.2,
        "embedding_dropout": 0.3,
        "recurrent_dropout": 0.4,
        "weight_drop": 0.5,
    },
    "residual": {"residual": True},
    "without biases": {"bias": False},
    "float64": {"dtype": "float64"},
    "penalties": {"ar": 2.0, "tar": 1.0, "label_smoothing": 0.1},
    "char-rnn": {"init": "char-rnn"},
    "forget bias": {"forget_bias": 1.5},
    "all": {
        "cell": "lstm_peephole",
        "hidden_size": (5, 4),
        "proj_size": 3,
        "learn_state": True,
        "tied": True,
        "zoneout": 0.25,
    },
}


def cases():
    """Yield every model's name, vocabulary and options."""
    yield from ((f"level {level}", vocabulary, {}) for level, vocabulary in LEVELS.items())
    yield from ((f"cell {cell}", CHAR, {"cell": cell}) for cell in CELLS)
    yield from ((f"option {name}", CHAR, options) for name, options in OPTIONS.items())


def numbers(model):
    """What a model gives for some tokens: nats a token, and the text that is drawn after them."""
    tokens = (np.arange(40) ** 2 + 3) % len(model.vocabulary)
    drawn = list(sample.tokens(model.network, tokens, 20, 1.0, np.random.default_rng(0)))
    return {"nats": model.score(tokens).nats, "drawn": model.vocabulary.decode(drawn)}


def history(model):
    """The validations of a run."""
    return [[e.step, e.train_loss, e.val_loss] for e in model.result.history]


def main():
    """Write what is not there yet."""
    MODELS.mkdir(exist_ok=True)
    said = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {"models": {}}
    for n, (name, vocabulary, options) in enumerate(cases()):
        path = MODELS / f"{name.replace(' ', '-')}.safetensors"
        if path.exists():
            continue
        rng = np.random.default_rng(n)
        spec = ur.Spec(len(vocabulary), **({"embedding_size": 3, "hidden_size": 4} | options))
        network = ur.Network(spec, rng=rng, backend="reference")
        for p in network.params.values():
            p[...] = rng.normal(0, 0.6, p.shape)
        ur.LanguageModel(network, vocabulary).save(path)
        said["models"][name] = numbers(ur.load(path, backend="reference"))
    if not RUN.exists():
        sizes = {"hidden_size": 4, "embedding_size": 3, "num_layers": 2, "batch_size": 2, "seq_length": 9}
        more = {"epochs": 2, "eval_every": 9, "checkpoint_every": 10, "sample_length": 0, "schedule": "plateau"}
        more |= {"average": "ema", "dropout": 0.1, "ema_decay": 0.9}
        with tempfile.TemporaryDirectory() as folder:
            ur.LanguageModel.train(TEXT, out=Path(folder, "run"), backend="reference", **sizes, **more)
            RUN.mkdir()
            for name in ("config.toml", "metrics.jsonl", "checkpoint.safetensors"):
                (RUN / name).write_bytes(Path(folder, "run", name).read_bytes())
            said["run"] = history(ur.LanguageModel.resume(Path(folder, "run"), TEXT, epochs=4))
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in said["models"].items())
    NUMBERS.write_text(f'{{"run": {json.dumps(said["run"])}, "models": {{\n{lines}\n}}}}\n')


if __name__ == "__main__":
    sys.exit(main())
