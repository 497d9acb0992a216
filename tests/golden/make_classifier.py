"""Write the files of classifiers that every later version must read: `python tests/golden/make_classifier.py`.

Run once for a version of the file format, and never again; the weights are random, so that every parameter counts.
"""

import json
import sys
from pathlib import Path

import numpy as np

import unrolled as ur
from unrolled.data.codecs import SeriesCodec, TextCodec
from unrolled.data.text import Characters, Words
from unrolled.models.classifier import KIND, Classifier
from unrolled.models.classifier_data import Options

FILES = Path(__file__).parent / "classifier"
TEXTS = ["the cat, the sät", "Dog!", "a"]
SERIES = [np.arange(10.0).reshape(5, 2), np.ones((3, 2))]
WORDS = Words(("<unk>", "<eos>", "the", "cat", "sät", ","), words="punctuation")
COLUMNS = {"text": "review", "label": "mood", "encoding": "utf-8"}
CASES = {
    "words": (TextCodec(WORDS, lower=True), ["glad", "sad", "so so"], "mean", "accuracy", {}),
    "characters": (
        TextCodec(Characters(("\ufffd", "a", "t")), lower=False),
        [0, 1],
        "attention",
        "macro_f1",
        {"cell": "lstm"},
    ),
    "series": (
        SeriesCodec(("up", "down"), np.array([4.5, 5.5]), np.array([3.0, 0.5])),
        ["a", "b"],
        "max",
        "accuracy",
        {"bidirectional": False},
    ),
}


def made(name):
    """The classifier of a case."""
    inputs, labels, pooling, decides, options = CASES[name]
    codec = {"labels": labels, "inputs": inputs, "pooling": pooling, "columns": COLUMNS, "decides": decides}
    rng = np.random.default_rng(len(name))
    spec = KIND.spec(Options(hidden_size=4, embedding_size=3, **options), **codec)
    network = ur.Network(spec, rng=rng, backend="reference", head=KIND.head(**codec))
    for p in network.params.values():
        p[...] = rng.normal(0, 0.6, p.shape)
    return Classifier(network, **codec)


def numbers(model, name):
    """What a model says of some examples."""
    return model.predict_proba(SERIES if name == "series" else TEXTS).tolist()


def main():
    """Write what is not there yet."""
    FILES.mkdir(exist_ok=True)
    said = FILES / "numbers.json"
    found = json.loads(said.read_text()) if said.exists() else {}
    for name in CASES:
        path = FILES / f"{name}.safetensors"
        if not path.exists():
            made(name).save(path)
            found[name] = numbers(ur.load(path, backend="reference"), name)
    said.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
