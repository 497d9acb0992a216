"""A run of a language model: what the loop trains, and what is made of a text and options."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import declared
from ..cells import name_of
from ..data.batches import held_out, lanes
from ..data.documents import documents_in, draw_parts
from ..data.split import USES
from ..data.text import (
    Corpus,
    Encoded,
    Vocabulary,
    bigram_entropy,
    encode,
    unigram_counts,
    unigram_entropy,
)
from ..errors import UnrolledError, brief, count
from ..nn import adaptive
from ..nn.network import Network
from ..nn.spec import Spec
from ..storage import Arrays, Stored
from ..training import checkpoints, metrics_log
from ..training import run_folder as run
from ..training.callbacks import Facts
from ..training.lines import losses
from ..training.trainer import Metrics
from . import files as checkpoint
from . import sampling as sample
from .automatic import Chosen, for_text
from .base import OfNetwork, Prepared
from .language_data import (
    for_bigrams,
    split_text,
)
from .options import Options
from .scoring import evaluate
from .writer import Writer
from .yardsticks import yardsticks


class NextSymbol(OfNetwork):
    """A language model as the loop trains it: the network predicts each symbol from those before it."""

    def __init__(self, network: Network, vocabulary: Vocabulary) -> None:
        super().__init__(network)
        self.vocabulary = vocabulary

    def evaluate(self, batches: Any) -> Metrics:
        """Return the loss over lanes, each from the initial state."""
        return {"loss": evaluate(self.network, batches)}

    def preview(self, rng: np.random.Generator, length: int) -> str:
        """Return a sampled line."""
        start = np.array([self.vocabulary.first_token(rng)])
        drawn = list(sample.tokens(self.network, start, length, 0.7, rng, end=self.vocabulary.end))
        return self.vocabulary.decode(drawn)

    def write(self, path: Path, params: Arrays | None = None) -> dict[str, Stored]:
        """Write a model file."""
        return checkpoint.save(path, self.network, self.vocabulary, params)


def options_of_model(options: dict[str, Any], of: Spec, vocabulary: Vocabulary) -> dict[str, Any]:
    """Options with a model's network and vocabulary; those that say something else are refused."""
    names = declared.options(Options)
    spec = {name: value for name, value in asdict(of).items() if name in names}
    free = {name for name in spec if "drop" in name or "zoneout" in name} | {"ar", "tar", "label_smoothing"}
    fixed = {name: value for name, value in spec.items() if name not in free | {"init"}}
    fixed |= vocabulary.options
    options |= {"cell": name_of(options["cell"])} if "cell" in options else {}
    for name, value in fixed.items():
        if options.get(name, value) != value:
            raise UnrolledError(f"{name} is {brief(options[name])}, but the model to start from has {value!r}")
    return {name: spec[name] for name in free} | options | fixed


def prepared(
    corpus: Corpus,
    held: Mapping[str, Corpus],
    vocabulary: Vocabulary,
    options: Options,
    folder: Path | None,
    backend: str,
    *,
    init_from: Writer | None = None,
    before: checkpoints.Reopened | None = None,
    asked: Collection[str] | None = None,
) -> Prepared:
    """Make of a corpus, and of others held out, a run from the start or one that goes on.

    Options but those `asked` for are chosen, where these are given.
    """
    changed = f"the text is not the one that {folder} was trained on"
    changed += ", or what it validates or tests on is another" if held else ""
    vocabulary = replace(vocabulary, documents=False)  # what tokens are is not about documents
    try:
        encoded = encode(corpus, vocabulary)
        parts = {name: encode(part, vocabulary) for name, part in held.items()}
    except UnrolledError as error:
        raise UnrolledError(f"{changed}: {error}" if before else str(error)) from None
    tokens, texts = encoded.tokens, [encoded, *parts.values()]
    source = _source(corpus, held, vocabulary, texts)
    if before is not None and source["sha256"] != before.source["sha256"]:
        has, had = count(len(tokens), "symbol"), before.source["symbols"]
        raise UnrolledError(
            f"{changed}: it has {has}, {'another' if had == len(tokens) else f'it had {had:,}'}"
            f"{' content' if had == len(tokens) else ''}. Give the old text, or start a new run"
        )
    fractions = ("val" not in held) * options.val_fraction, ("test" not in held) * options.test_fraction
    if corpus.of_lines:
        vocabulary = replace(vocabulary, documents=True)
        train, val, test = draw_parts(encoded, *fractions, options.seed)
    else:
        vocabulary = vocabulary.with_documents(tokens, encoded.documents)
        train, val, test = split_text(encoded, *fractions)
    val, test = parts.get("val", val), parts.get("test", test)
    unit = vocabulary.unit
    options, why = (
        Chosen(options, ()) if asked is None else for_text(options, asked, len(train.tokens), len(vocabulary))
    )
    sizes = options.batch_size, options.seq_length
    for name, use in (("val", "validate"), ("test", "test")):
        if name in held and len(parts[name].tokens) < 2:
            size = count(len(parts[name].tokens), unit)
            raise UnrolledError(f"what is named to {use} on has {size}; 2 or more are needed to predict one")
    batches = lanes(
        train.tokens,
        *sizes,
        name="the training part",
        unit=unit,
        documents=train.documents,
        varied=options.vary_seq_length,
    )
    rng = np.random.default_rng(options.seed)
    network = Network(options.spec(len(vocabulary)), backend=backend, rng=rng)
    if options.unigram_bias and before is None and init_from is None:
        start = adaptive.of_first(network.head, unigram_counts(train.tokens, len(vocabulary)) + 0.5)
        network.params["decoder.bias"][: len(start)] = np.log(start / start.sum())
    if init_from is not None:
        if network.head.classes and len(vocabulary) > len(init_from.vocabulary):
            new = count(len(vocabulary) - len(init_from.vocabulary), "symbol")
            raise UnrolledError(f"the text has {new} that the model doesn't know; an adaptive softmax can't grow")
        for name, p in init_from.network.params.items():  # new symbols come last, and keep their random weights
            network.params[name][tuple(slice(size) for size in p.shape)] = p
    made = run.made_with(network.recurrent.backend)
    more = () if before is None else run.made_elsewhere(before.made_with, made) + metrics_log.set_aside(folder)
    facts = _facts(corpus, texts, (train, val, test), NextSymbol(network, vocabulary), options, more, why)
    validation = held_out(val.tokens, *sizes, val.documents, whole=corpus.of_lines)

    def beside() -> dict[str, Any] | None:
        found = None if validation is None else yardsticks(batches, validation, vocabulary, network.spec)
        return None if found is None else found.to_json()

    return Prepared(
        facts=replace(facts, out=folder, step=0 if before is None else before.step, sha256=source["sha256"]),
        train=batches,
        val=validation,
        test=held_out(test.tokens, *sizes, test.documents, whole=corpus.of_lines),
        eval_every=options.eval_every or max(100, math.ceil(4 * len(val.tokens) / math.prod(sizes))),
        rng=rng,
        codec={"vocabulary": vocabulary.to_json()},
        source=source,
        backend=backend,
        resume=before,
        made_with=made,
        yardsticks=beside,
    )


def _source(
    corpus: Corpus, held: Mapping[str, Corpus], vocabulary: Vocabulary, texts: Sequence[Encoded]
) -> dict[str, Any]:
    """Return where a text comes from, and a hash of it, as a checkpoint says it."""
    documents = (part.documents for part in texts if part.documents is not None)
    return {
        "name": corpus.name,
        "files": run.absolute(corpus.paths),
        "val": run.absolute(held["val"].paths) if "val" in held else [],
        "test": run.absolute(held["test"].paths) if "test" in held else [],
        "how": dict(corpus.how),
        "sha256": run.fingerprint(vocabulary.to_json(), *(part.tokens for part in texts), *documents),
        "symbols": len(texts[0].tokens),
    }


def _facts(
    corpus: Corpus,
    texts: Sequence[Encoded],
    split_: tuple[Encoded, Encoded, Encoded],
    model: NextSymbol,
    options: Options,
    more: tuple[str, ...],
    why: tuple[str, ...],
) -> Facts:
    """Return what is told of a run before its first step."""
    tokens, symbols, unit = texts[0].tokens, len(model.vocabulary), model.vocabulary.unit
    known, said = for_bigrams(tokens, symbols)
    # A table of pairs of words, or of byte pairs, has learnt this very text by heart: no fair thing to beat.
    bigrams = bigram_entropy(known, symbols) if model.vocabulary.fair_bigrams else None
    drawn = [
        f"{documents_in(part):,} to {use}" for part, use in zip(split_, USES.values(), strict=True) if len(part.tokens)
    ]
    documents = [("documents", f"{', '.join(drawn)}; drawn by the seed, {options.seed}")] if corpus.of_lines else []
    ahead = int(corpus.of_lines)  # the newline before the first line of a part
    train, val, test = (max(0, len(part.tokens) - ahead) for part in split_)
    parts = [f"{train:,} to train", f"{val:,} to validate"] + ([f"{test:,} to test"] if test else [])
    size = count(len(tokens) - ahead, unit)
    of_bigrams = "" if bigrams is None else f", of bigrams {losses(bigrams, unit)}"
    much = "--documents 20" if corpus.of_lines else "--n 5" if texts[0].documents is not None else "--length 400"
    return Facts(
        name=corpus.name,
        notes=tuple(note for part in texts for note in part.notes) + (said if bigrams is not None else ()) + more,
        unit=unit,
        size=size,
        about=(
            ("text", f"{size}, {count(symbols, 'symbol')}; {', '.join(parts)}"),
            *documents,
            ("entropy", f"of single symbols {unigram_entropy(tokens, symbols):.4f} nats{of_bigrams}"),
            *[("chosen", line) for line in why],
        ),
        model=model,
        options=options,
        plan=f"{options.batch_size} lanes x {options.seq_length} steps",
        out=None,
        use=f"unrolled sample {{model}} {much} --temperature 0.7",
    )
