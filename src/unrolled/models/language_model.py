"""A language model: a network and its vocabulary, trained, sampled, scored, saved and loaded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import declared
from ..cells import Cell
from ..checks import as_kind, check_a, check_choice, check_size
from ..data.batches import Tokens
from ..data.text import (
    Corpus,
    Reading,
    Vocabulary,
    encode,
    of_documents,
    recorded,
)
from ..data.text.files import check_again
from ..declared import described, keywords
from ..errors import UnrolledError, check_path, count
from ..keywords import named
from ..nn.heads import LANGUAGE
from ..nn.network import Network
from ..pictures import draw_losses
from ..seeding import generator
from ..training import checkpoints
from ..training.callbacks import Callback, Result
from . import files as checkpoint
from .base import Prepared, begin, ended, go_on
from .language_data import (
    Paths,
    Source,
    are_files,
    as_learnt,
    check_how,
    check_no_name,
    read_again,
    read_held,
    read_source,
    texts_of,
    vocabulary_for,
)
from .language_run import NextSymbol, options_of_model, prepared
from .next_words import WordSearch, probabilities
from .options import ANEW, Options
from .scoring import Score, score
from .writer import Writer


class _AsBefore:
    """Stands in a signature for what a run has already."""

    def __repr__(self) -> str:
        return "<as the run had it>"


_AS_BEFORE = _AsBefore()


class LanguageModel(Writer):
    """A network that predicts the next symbol of a text, with the vocabulary that it knows.

    Attributes
    ----------
    network : Network
    vocabulary : Vocabulary
    result : Result or None
        How training went, after `train`.

    Examples
    --------
    >>> import unrolled as ur
    >>> model = ur.LanguageModel.train("the cat sat on the mat. " * 40, hidden_size=16, num_layers=1,
    ...                                batch_size=2, seq_length=12, epochs=3, learning_rate=0.01)
    >>> model.score("the cat sat on the mat. ").nats < 2.5
    True
    >>> len(model.sample("the ", length=20, rng=np.random.default_rng(1)))
    20
    """

    decides = "loss"

    def __init__(self, network: Network, vocabulary: Vocabulary, result: Result | None = None) -> None:
        self.network = check_a("network", network, Network, "a Network")
        self.vocabulary = check_a("vocabulary", vocabulary, Vocabulary, "a Vocabulary")
        self.result = None if result is None else check_a("result", result, Result, "what training gave, a Result")
        if network.spec.bidirectional:
            raise UnrolledError(
                "the network is bidirectional; a model of the next symbol can't read what comes after it"
            )
        if len(vocabulary) != network.spec.vocabulary_size:
            raise UnrolledError(
                f"the vocabulary has {count(len(vocabulary), 'symbol')}, the network predicts "
                f"{network.spec.vocabulary_size:,}; they must be as many"
            )

    @classmethod
    @named(keywords(Options) + keywords(Reading))
    @described(Reading)
    @described(Options)
    def train(
        cls,
        source: Source = None,
        *,
        val: Paths = (),
        test: Paths = (),
        out: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        init_from: LanguageModel | None = None,
        auto: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str = "auto",
        **options: Any,
    ) -> LanguageModel:
        """Train a model.

        Parameters
        ----------
        source : str, bytes, array (N,) of integers, list of str, Corpus, Path or list of Path
            A str is text (bytes with `level="byte"`), an array or a list of integers holds tokens (`level="tokens"`), a
            list of str holds documents, which are kept apart, a Path is a file or a directory; None is the built-in
            default corpus, the source of the Python standard library.
        val, test : path or list of paths, optional
            Files to validate and to test on, instead of shares of the text.
        out : path, optional
            Folder of this run (see `unrolled.training.run_folder`); made if it isn't there. Nothing is written without
            it.
        overwrite : bool
            Whether `out` may hold an earlier run's models already.
        init_from : LanguageModel, optional
            Model to start from, instead of random weights: its network, with rows for the symbols that the text has
            and it doesn't know. The network's and the vocabulary's options are then the model's.
        auto : bool
            Whether options that aren't given are chosen from the amount of text and from `minutes`, 5 if they aren't
            given either, instead of their defaults (`unrolled.models.automatic`); the command does. Minutes are then
            counted as work, and don't end the run by the clock.
        callbacks : sequence of Callback
            Are told how it goes (`unrolled.training.callbacks`).
        verbose : bool
            Whether a line at the start and one a validation are printed to standard error; else nothing is.
        backend : str
            "auto", "cpu" or "reference".
        **options
            Fields of `unrolled.models.options.Options`, with these names and defaults; and what
            `unrolled.data.text.read` takes to read files, of which `documents="lines"` is of a text too: each line is a
            document then.

        Returns
        -------
        LanguageModel
            With the parameters of the lowest validation loss.

        Raises
        ------
        UnrolledError
            For a text or an option that won't do, a folder that holds files of a run, or a loss that keeps diverging.
        Interrupted
            After Ctrl-C, once everything is saved; it is a KeyboardInterrupt, and has the `model` so far. Any other
            signal that ends programs is sent again then.
        """
        how = recorded({name: options.pop(name) for name in declared.options(Reading) if name in options})
        asked, auto = dict(options), as_kind("auto", auto, "bool")
        if init_from is not None:
            check_a("init_from", init_from, LanguageModel, "a LanguageModel, such as load(path) gives")
            asked = options_of_model(asked, init_from.network.spec, init_from.vocabulary)

        def prepare(chosen: Options, folder: Path | None) -> Prepared:
            check_how(source, how)
            corpus = read_source(source, chosen.level, **how)
            held = read_held(corpus, val, test, chosen.level)
            known = None if init_from is None else init_from.vocabulary
            vocabulary = vocabulary_for(corpus, list(held.values()), chosen, known)
            named = set(asked) if auto else None
            return prepared(corpus, held, vocabulary, chosen, folder, backend, init_from=init_from, asked=named)

        return cls._of(*begin(KIND, prepare, asked, out=out, overwrite=overwrite, callbacks=callbacks, verbose=verbose))

    @classmethod
    @named(p.replace(default=_AS_BEFORE) for p in keywords(Options) if p.name in ANEW)
    @described(Options, ANEW)
    def resume(
        cls,
        folder: str | os.PathLike[str],
        source: Source = None,
        *,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str | None = None,
        cell: str | Cell | None = None,
        **options: Any,
    ) -> LanguageModel:
        """Go on with a run, to the same bits as if it had never stopped.

        Parameters
        ----------
        folder : path
            The `out` of the run.
        source : as in `train`, optional
            The text; None reads it from where the run did. It must be the same text.
        callbacks, verbose
            As in `train`.
        backend : str, optional
            None is the run's own; another one rounds differently, so that the bytes are then not the same.
        cell : Cell or str, optional
            The run's cell, where it is a user's own: a checkpoint names it and holds none of its code.
        **options
            What is asked for anew, else as the run had it. Minutes count from the run's first start; a new learning
            rate also takes back what divergences have made of the old one.

        Raises
        ------
        UnrolledError
            If the folder holds no run, its checkpoint is damaged, or the text is another one.
        Interrupted
            As in `train`.
        """
        how: Any = {"backend": backend, "cell": cell, "callbacks": callbacks, "verbose": verbose}
        return cls._of(*go_on(KIND, folder, partial(cls._again, source), options, **how))

    @classmethod
    def _again(
        cls, source: Source, chosen: Options, folder: Path, backend: str, before: checkpoints.Reopened
    ) -> Prepared:
        """Prepare a run once more, with the text that it had, read again where none is given."""
        corpus = read_again(folder, before.source, source, chosen.level)
        check_again(before.source["val"] + before.source["test"], f"what {folder} validates or tests on")
        held = read_held(corpus, before.source["val"], before.source["test"], chosen.level)
        return prepared(corpus, held, before.codec["vocabulary"], chosen, folder, backend, before=before)

    @classmethod
    def _of(cls, trained: NextSymbol, result: Result) -> LanguageModel:
        return ended(cls(trained.network, trained.vocabulary, result), result)

    def predict(self, prompt: str = "", top: int = 5, *, by: str = "word") -> list[tuple[str, float]]:
        r"""Return what is likeliest to come next, each with its probability.

        Parameters
        ----------
        prompt : str
            Without one, what is likeliest behind a newline.
        top : int
            How many.
        by : str
            "word": all up to the next blank, by a search (`unrolled.models.next_words`), as it is written behind the
            prompt: " word" where the prompt's last word is whole, "er" where it is not. "symbol": one symbol of the
            model's own. Where a model of lines ends one, that is "\n" in both.

        Examples
        --------
        >>> import unrolled as ur
        >>> model = ur.LanguageModel.train("the cat sat on the mat. " * 40, hidden_size=16, num_layers=1, batch_size=2,
        ...                                seq_length=12, epochs=20, learning_rate=0.01)
        >>> [word for word, probability in model.predict("the cat sat on", top=1)]
        [' the']
        >>> [symbol for symbol, probability in model.predict("the cat sat o", top=1, by="symbol")]
        ['n']
        """
        check_choice("way to cut what comes next", by, ("word", "symbol"))
        top = check_size("top", top)
        if not prompt and self.vocabulary.newline is None:
            raise UnrolledError("the model knows no newline that it could begin behind; give a prompt")
        start = self._start(prompt, generator())
        state, token = self._primed(start)
        if by == "word" and self.vocabulary.takes is not np.ndarray and self.vocabulary.level != "word":
            return WordSearch(self.network, self.vocabulary, prompt, state, token).likeliest(top)
        chances = probabilities(self.network.logits(np.array([[token]]), state)[0][0, 0])
        likeliest = np.argsort(-chances, kind="stable")[:top].tolist()
        return [(self.vocabulary.label(token), float(chances[token])) for token in likeliest]

    def predictions(
        self, paths: Sequence[str] = (), *, prompt: str = "", top: int = 5, by: str = "word", as_json: bool = False
    ) -> Iterator[str]:
        """Yield lines of what is likeliest to come next, as the command prints it; see `predict`."""
        if paths:
            raise UnrolledError("a language model says what comes next after a text: give it as --prompt, and no file")
        found = self.predict(prompt, top, by=by)
        if as_json:
            yield json.dumps([{by: text, "probability": chance} for text, chance in found]) + "\n"
            return
        for text, chance in found:
            shown = text if by == "word" and text.isprintable() else repr(text)
            yield f"{chance:.4f}  {shown}\n"

    def score(
        self,
        text: str | bytes | Tokens | Corpus | Sequence[str] | os.PathLike[str] | Sequence[os.PathLike[str]],
        *,
        window: int = 0,
        dynamic: float = 0.0,
        documents: str | None = None,
    ) -> Score:
        """Return how well the model predicts a text; the documents of a corpus, or of a list, each by itself.

        Parameters
        ----------
        text : str, bytes, array (N,) or list of tokens, Corpus, list of str (its documents), or files as Path
        window : int
            Begin anew, in the initial state, every so many symbols; 0 carries the state through all of the text.
        dynamic : float
            Learn from each segment once it is scored, at this rate (Krause et al. 2018; `unrolled.models.dynamic`); 0
            does not. The model stays as it is.
        documents : str, optional
            "lines": each line of a text, or of a list of them, is a document, and its end is predicted too, as it is of
            every text where the model has learnt lines; "none": it isn't.

        Raises
        ------
        UnrolledError
            If the text is shorter than two symbols or has one that the model doesn't know, or a file can't be read.
        """
        check_how(text, recorded({} if documents is None else {"documents": documents}))
        if documents is None:
            documents = as_learnt(self.vocabulary).get("documents", "none")
        if are_files(text):
            text = read_source(text, self.vocabulary.level, documents=documents)
        texts = [text] if isinstance(text, str) else texts_of(text)
        for one in texts:
            check_no_name(one)
        if texts and (documents != "none" or not isinstance(text, str)):
            text = of_documents(texts, self.vocabulary.level, "files" if documents == "none" else documents)
        if not isinstance(text, Corpus):
            tokens = self.vocabulary.encode(text)  # type: ignore[arg-type]
            return score(self.network, tokens, window=window, dynamic=dynamic)
        encoded = encode(text, self.vocabulary)
        return score(self.network, encoded.tokens, encoded.documents, window=window, dynamic=dynamic)

    def plot_loss(self) -> Any:
        """Draw the losses of its training over the epochs; returns matplotlib's axes.

        Raises
        ------
        UnrolledError
            If the model was read from a file, which holds no losses, or matplotlib is not installed.
        """
        history = self.result.history if self.result else []
        if not history:
            raise UnrolledError(
                "this model has no losses to draw; `train` leaves them, and `unrolled plot` draws a run's"
            )
        curves = {"training": ([e.epoch for e in history], [e.train_loss for e in history])}
        validated = [(e.epoch, e.val_loss) for e in history if e.val_loss is not None]
        if validated:
            curves["validation"] = ([epoch for epoch, _ in validated], [loss for _, loss in validated])
        return draw_losses(curves, "epochs", "nats a symbol")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to one safetensors file."""
        checkpoint.save(check_path("the path of a model", path), self.network, self.vocabulary)

    def details(self) -> list[tuple[str, str]]:
        """Return what a model file says beside its network, as `unrolled info` prints it."""
        alphabet = [("symbols", repr(self.vocabulary.alphabet))] if self.vocabulary.alphabet else []
        documents = [("documents", "of one line each")] if self.vocabulary.documents else []
        return [("level", self.vocabulary.level), *alphabet, *documents]

    def __repr__(self) -> str:
        spec = self.network.spec
        return (
            f"LanguageModel({spec.cell}, {spec.num_layers} x {spec.hidden_size}, "
            f"{count(len(self.vocabulary), self.vocabulary.unit)}, {self.network.parameter_count:,} parameters)"
        )


def load(
    path: str | os.PathLike[str],
    *,
    backend: str = "auto",
    cell: str | Cell | None = None,
    weights: str | None = None,
) -> LanguageModel:
    """Read the file of a language model, or, in a run's folder, that of the best one, as `unrolled.load`.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the file.
    """
    return LanguageModel(*checkpoint.load(checkpoint.model_file(path), backend, cell, weights))


KIND = checkpoints.Kind(
    checkpoints.LANGUAGE_MODEL,
    Options,
    {"vocabulary": lambda _, value: Vocabulary.from_json(value)},
    spec=lambda options, vocabulary: options.spec(len(vocabulary)),
    head=lambda vocabulary: LANGUAGE,
    model=LanguageModel,
    task="language",
    noun="a language model",
    reading=Reading,
)
"""The contents of files of a language model."""
