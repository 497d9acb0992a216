"""Write the files of taggers that every later version must read: `python tests/golden/make_taggers.py`.

As `make_models.py`: what is there stays as it was written, and nothing replaces it. The weights are random.
"""

import json
import sys
from pathlib import Path

import numpy as np

import unrolled as ur
from unrolled.data.tagged import Tagged
from unrolled.data.text import Words
from unrolled.nn import heads

HERE = Path(__file__).parent
TAGGERS, NUMBERS = HERE / "taggers", HERE / "taggers.json"
VOCABULARY = Words(("<unk>", "<eos>", "the", "cat", "sät"), lower=True)
SOME = Tagged(
    [["The", "cat", "sät"], ["Dogs"], ["the", "cats", "cat", "the", "x"]],
    [["O", "B-A", "I-A"], ["B-A"], ["O", "B-A", "I-A", "O", "O"]],
)
SPELLING = {"characters_embedding_size": 3, "characters_hidden_size": 2}
CASES = {
    "words": ("", False, {"embedding_size": 3}),
    "spelled crf": ("thecasdog", True, {"embedding_size": 3, "bidirectional": True, **SPELLING, "word_dropout": 0.2}),
}


def numbers(tagger):
    """What a tagger gives for some sentences."""
    return {"tags": tagger.predict(SOME.words), "nats": tagger.score(SOME)["loss"]}


def main():
    """Write what is not there yet."""
    TAGGERS.mkdir(exist_ok=True)
    said = json.loads(NUMBERS.read_text()) if NUMBERS.exists() else {}
    tags = ["B-A", "I-A", "O"]
    for n, (name, (characters, crf, options)) in enumerate(CASES.items()):
        path = TAGGERS / f"{name.replace(' ', '-')}.safetensors"
        if path.exists():
            continue
        rng, known = np.random.default_rng(n), len(characters) + bool(characters)
        spec = ur.Spec(len(VOCABULARY), hidden_size=4, num_layers=1, characters=known, **options)
        network = ur.Network(spec, rng=rng, backend="reference", head=heads.tags(len(tags), crf=crf))
        for p in network.params.values():
            p[...] = rng.normal(0, 1.5, p.shape)
        ur.Tagger(network, VOCABULARY, tags, characters, crf, column="ner", columns=4).save(path)
        said[name] = numbers(ur.load(path, backend="reference"))
    NUMBERS.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
