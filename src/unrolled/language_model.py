"""A language model: a network and its vocabulary, trained, sampled, scored, saved and loaded."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from . import checkpoint, run
from .backends import choose
from .checks import LARGEST, as_kind, check_a, check_seed, check_size
from .data.batches import Tokens, as_tokens, lanes
from .data.split import split
from .data.text import (
    UNK,
    Corpus,
    Encoded,
    Vocabulary,
    bigram_entropy,
    default_corpus,
    encode,
    of_documents,
    read,
    recorded,
    unigram_entropy,
    vocabulary_of,
)
from .data.text.entropy import MOST_DENSE
from .declared import described, keywords
from .errors import Interrupted, UnrolledError, brief, check_path, count, warn
from .events import Events
from .keywords import named
from .lines import Lines
from .nn.network import Network
from .options import ANEW, Options
from .pictures import draw_losses
from .sample import Sampler
from .score import Score, evaluate, score
from .seeding import generator
from .train import MODEL, Facts, Listener, Result, fit, held_out_lanes, send_again
from .training.state import Snapshot

Source = str | bytes | Tokens | Corpus | os.PathLike[str] | Sequence[os.PathLike[str]] | Sequence[str] | None
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


class _AsBefore:
    """Stands in a signature for what a run has already."""

    def __repr__(self) -> str:
        return "<as the run had it>"


_AS_BEFORE = _AsBefore()


class LanguageModel:
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

    def __init__(self, network: Network, vocabulary: Vocabulary, result: Result | None = None) -> None:
        self.network = check_a("network", network, Network, "a Network")
        self.vocabulary = check_a("vocabulary", vocabulary, Vocabulary, "a Vocabulary")
        self.result = None if result is None else check_a("result", result, Result, "what training gave, a Result")
        if len(vocabulary) != network.spec.vocabulary_size:
            raise UnrolledError(
                f"the vocabulary has {count(len(vocabulary), 'symbol')}, the network predicts "
                f"{network.spec.vocabulary_size:,}; they must be as many"
            )

    @classmethod
    @named(keywords(Options))
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
        listener: Listener | None = None,
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
            Folder of this run (see `unrolled.run`); made if it isn't there. Nothing is written without it.
        overwrite : bool
            Whether `out` may hold an earlier run's models already.
        init_from : LanguageModel, optional
            Model to start from, instead of random weights: its network, with rows for the symbols that the text has
            and it doesn't know. The network's and the vocabulary's options are then the model's.
        listener : Listener, optional
            Is told how it goes.
        verbose : bool
            Whether a line at the start and one a validation are printed to standard error; else nothing is.
        backend : str
            "auto", "cpu" or "reference".
        **options
            Fields of `unrolled.options.Options`, with these names and defaults.

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
        out = None if out is None else Path(check_path("the folder of a run", out))
        listener = _told(listener, verbose)
        asked = dict(options) if init_from is None else _of_the_model(dict(options), init_from)
        chosen = Options(**asked)
        if chosen.tensorboard and out is None:
            raise UnrolledError("tensorboard writes into the folder of the run: name one (out)")
        with nullcontext() if out is None else run.claimed(out, overwrite=overwrite):
            corpus = _corpus(source, chosen.level)
            held = _held(corpus, val, test, chosen.level)
            vocabulary = _vocabulary(corpus, list(held.values()), chosen, init_from)
            return cls._fit(corpus, vocabulary, chosen, out, listener, backend, init_from=init_from, held=held)

    @classmethod
    @named(p.replace(default=_AS_BEFORE) for p in keywords(Options) if p.name in ANEW)
    @described(Options, ANEW)
    def resume(
        cls,
        folder: str | os.PathLike[str],
        source: Source = None,
        *,
        listener: Listener | None = None,
        verbose: bool = False,
        backend: str | None = None,
        **options: Any,
    ) -> LanguageModel:
        """Go on with a run, to the same bits as if it had never stopped.

        Parameters
        ----------
        folder : path
            The `out` of the run.
        source : as in `train`, optional
            The text; None reads it from where the run did. It must be the same text.
        listener, verbose
            As in `train`.
        backend : str, optional
            None is the run's own; another one rounds differently, so that the bytes are then not the same.
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
        folder = Path(check_path("the folder of a run", folder))
        listener = _told(listener, verbose)
        for name in options:
            if name not in ANEW:
                raise UnrolledError(f"{name} can't change when a run goes on; what can: {', '.join(ANEW)}")
        with run.held(folder) if folder.is_dir() else nullcontext():
            snapshot, before, vocabulary = run.reopen(folder)
            chosen = replace(before, **options)
            content = snapshot[1]
            if chosen.minutes is not None and float(content["now"]["seconds"]) >= 60 * chosen.minutes:
                raise UnrolledError(
                    f"the run in {folder} has had its {chosen.minutes:g} minutes; --minutes gives it more in all"
                )
            run.check_places(folder)
            _begin_anew(content, before, chosen, options)
            text, how = content["text"], recorded(content["text"]["how"])
            if source is None and text["files"]:
                if "-" in text["files"]:
                    raise UnrolledError(
                        f"the text of {folder} came from standard input; give it again: name the file or -"
                    )
                corpus = read(text["files"], chosen.level, stream=True, **how)
            elif source is None and text["name"] != "stdlib":
                raise UnrolledError(f"the text of {folder} was no file; give it again")
            else:
                corpus = _corpus(source, chosen.level, **how)
            if backend is None:
                backend = str(content["backend"])
                choose("cpu" if backend == "auto" else backend)  # a run that had the engine needs it, or says why not
            if "-" in text["val"] + text["test"]:
                raise UnrolledError(f"what {folder} validates or tests on came through a pipe, and can't be read again")
            held = _held(corpus, text["val"], text["test"], chosen.level)
            return cls._fit(corpus, vocabulary, chosen, folder, listener, backend, snapshot, held=held, before=before)

    @classmethod
    def _fit(
        cls,
        corpus: Corpus,
        vocabulary: Vocabulary,
        options: Options,
        folder: Path | None,
        listener: Listener,
        backend: str,
        resume: Snapshot | None = None,
        init_from: LanguageModel | None = None,
        held: Mapping[str, Corpus] = MappingProxyType({}),
        before: Options | None = None,
    ) -> LanguageModel:
        """Train on a corpus from the start, or from a snapshot on."""
        from . import __version__

        changed = f"the text is not the one that {folder} was trained on"
        vocabulary = replace(vocabulary, documents=False)  # what tokens are is not about documents
        try:
            encoded = encode(corpus, vocabulary)
            parts = {name: encode(part, vocabulary) for name, part in held.items()}
        except UnrolledError as error:
            raise UnrolledError(f"{changed}: {error}" if resume else str(error)) from None
        tokens, texts = encoded.tokens, [encoded, *parts.values()]
        text = {
            "name": corpus.name,
            "files": run.absolute(corpus.paths),
            "val": run.absolute(held["val"].paths) if "val" in held else [],
            "test": run.absolute(held["test"].paths) if "test" in held else [],
            "how": dict(corpus.how),
            "sha256": run.fingerprint(
                vocabulary,
                *(part.tokens for part in texts),
                *(part.documents for part in texts if part.documents is not None),
            ),
            "symbols": len(tokens),
        }
        if resume is not None and text["sha256"] != resume[1]["text"]["sha256"]:
            has, had = count(len(tokens), "symbol"), resume[1]["text"]["symbols"]
            raise UnrolledError(
                f"{changed}: it has {has}, {'another' if had == len(tokens) else f'it had {had:,}'}"
                f"{' content' if had == len(tokens) else ''}. Give the old text, or start a new run"
            )
        vocabulary = vocabulary.with_documents(tokens, encoded.documents)
        fractions = ("val" not in held) * options.val_fraction, ("test" not in held) * options.test_fraction
        train, val, test = _split(encoded, *fractions)
        val, test = parts.get("val", val), parts.get("test", test)
        sizes = options.batch_size, options.seq_length
        lanes(train.tokens, *sizes, name="the training part", unit=vocabulary.unit)  # says what a short text lacks
        rng = np.random.default_rng(options.seed)
        network = Network(options.spec(len(vocabulary)), backend=backend, rng=rng)
        if init_from is not None:
            for name, p in init_from.network.params.items():  # new symbols come last, and keep their random weights
                network.params[name][tuple(slice(size) for size in p.shape)] = p
        known, said = _for_bigrams(tokens, len(vocabulary))
        made = run.made_with(__version__, network.recurrent.backend)
        if resume is not None:
            said += _made_elsewhere(resume[1].get("made_with"), made) + _set_aside(folder)
        facts = Facts(
            name=corpus.name,
            notes=tuple(note for part in texts for note in part.notes) + said,
            level=corpus.level,
            symbols=len(tokens),
            vocabulary_size=len(vocabulary),
            split=(len(train.tokens), len(val.tokens), len(test.tokens)),
            unigram_entropy=unigram_entropy(tokens, len(vocabulary)),
            bigram_entropy=bigram_entropy(known, len(vocabulary)),
            network=network,
            options=options,
            out=folder,
            step=0 if resume is None else int(resume[1]["now"]["step"]),
            documents=encoded.documents is not None,
        )

        def begin(log: run.Log) -> None:
            """Write what the run is; called when its first checkpoint is there."""
            if resume is None:
                run.begin(log.path.parent, facts, text, made)
            else:
                had = asdict(before or options)
                anew = {name: value for name, value in asdict(options).items() if value != had[name]}
                run.go_on(log.path.parent, facts, text, made, anew)
                log.forget_after(facts.step, resume[1]["now"]["history"])
                if anew:
                    log.write(step=facts.step, anew=anew)

        with ExitStack() as stack:
            if folder is not None:
                if options.tensorboard:
                    listener = stack.enter_context(closing(Events(folder, listener)))
                listener = run.Log(folder, listener, begin)
            listener.started(facts)
            result = fit(
                network,
                vocabulary,
                train.tokens,
                val.tokens,
                options,
                out=folder,
                listener=listener,
                rng=rng,
                about={
                    "text": text,
                    "backend": backend if choose(backend).name == "cpu" else "reference",
                    "made_with": made,
                },
                resume=resume,
                documents=(train.documents, val.documents),
            )
            test_lanes = held_out_lanes(test.tokens, options, test.documents)
            if test_lanes is not None and result.signal in (None, signal.SIGINT):  # others leave no time for it
                try:
                    result.test_loss = evaluate(network, test_lanes)
                except KeyboardInterrupt:
                    result.interrupted = True
            listener.finished(result, folder)
        model = cls(network, vocabulary, result)
        if result.interrupted:
            with suppress(KeyboardInterrupt):
                send_again(result.signal)
            raise Interrupted(model)
        return model

    def stream(
        self,
        prompt: str = "",
        length: int = 400,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Iterator[str]:
        """Yield the continuation of a prompt as it is drawn, a symbol at a time; arguments as in `sample`."""
        length = check_size("length", length, least=0)
        sampler = self._sampler(prompt, length, temperature, seed, rng)
        return self._decoded(sampler.texts(length))

    def sample(
        self,
        prompt: str = "",
        length: int = 400,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> str:
        """Return `length` symbols that continue a prompt.

        A model of documents of one line each, trained apart from each other, begins each line anew, in the initial
        state, as it learnt them.

        Parameters
        ----------
        prompt : str
            Text that primes the state; without one the text starts after a newline. It isn't repeated in the result.
        length : int
            Symbols to draw.
        temperature : float
            0 always takes the likeliest symbol; 1 draws from the model's own probabilities.
        seed : int, optional
            The same seed draws the same text.
        rng : numpy.random.Generator, optional
            Where random numbers come from, instead of a seed. Default: a fresh one.

        Raises
        ------
        UnrolledError
            If the prompt has a symbol that the model doesn't know, or a number makes no sense.
        """
        return "".join(self.stream(prompt, length, temperature=temperature, seed=seed, rng=rng))

    def samples(
        self,
        count: int,
        prompt: str = "",
        length: int = 400,
        *,
        temperature: float = 1.0,
        seed: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Iterator[str]:
        r"""Yield `count` continuations of a prompt, one after another, each from the same state.

        Each has `length` symbols; of a model of documents of one line each, as in `sample`, it is the rest of one
        document, without the newline that ends it, and has at most `length` symbols.

        Examples
        --------
        >>> import unrolled as ur
        >>> model = ur.LanguageModel.train("the cat sat. " * 40, hidden_size=8, num_layers=1, batch_size=2,
        ...                                seq_length=12, epochs=1)
        >>> [len(text) for text in model.samples(3, "the ", length=5, seed=1)]
        [5, 5, 5]
        """
        count, length = check_size("count", count, least=0), check_size("length", length, least=0)
        sampler = self._sampler(prompt, min(length * count, LARGEST), temperature, seed, rng)
        end = self.vocabulary.end
        texts = ((token for token in sampler.text(length) if token != end) for _ in range(count))
        return ("".join(self._decoded(text)) for text in texts)

    def _sampler(
        self, prompt: str, length: int, temperature: float, seed: int | None, rng: np.random.Generator | None
    ) -> Sampler:
        """Return what continues a prompt; a model of words is warned of words that it reads as unknown."""
        if seed is not None and rng is not None:
            raise UnrolledError("both seed and rng are given; give one, or neither for another text each time")
        if seed is not None:
            seed = check_seed(seed)
        rng = generator(seed if rng is None else rng)
        check_a("prompt", prompt, str, "a text")
        if unlisted := list(dict.fromkeys(self.vocabulary.unlisted(prompt))):
            names = ", ".join(map(repr, unlisted[:5])) + (f" and {len(unlisted) - 5:,} more" if unlisted[5:] else "")
            warn(f"the model doesn't list {names} of the prompt; it reads {UNK} instead")
        start = self.vocabulary.encode(prompt) if prompt else np.array([self.vocabulary.first_token(rng)])
        return Sampler(self.network, start, length, temperature, rng, self.vocabulary.end)

    def _decoded(self, tokens: Iterable[int]) -> Iterator[str]:
        """Yield what tokens stand for, as they come."""
        decoder = self.vocabulary.decoder()
        for token in tokens:
            yield decoder.feed(token)
        yield decoder.finish()

    def score(self, text: str | bytes | Tokens | Corpus | Sequence[str], *, window: int = 0) -> Score:
        """Return how well the model predicts a text; the documents of a corpus, or of a list, each by itself.

        Parameters
        ----------
        text : str, bytes, array (N,) or list of tokens, Corpus, or list of str, its documents
        window : int
            Begin anew, in the initial state, every so many symbols; 0 carries the state through all of the text.

        Raises
        ------
        UnrolledError
            If the text is shorter than two symbols or has one that the model doesn't know.
        """
        if texts := _texts(text):
            text = of_documents(texts, self.vocabulary.level)
        if not isinstance(text, Corpus):
            return score(self.network, self.vocabulary.encode(text), window=window)  # type: ignore[arg-type]
        encoded = encode(text, self.vocabulary)
        return score(self.network, encoded.tokens, encoded.documents, window=window)

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

    def __repr__(self) -> str:
        spec = self.network.spec
        return (
            f"LanguageModel({spec.cell}, {spec.num_layers} x {spec.hidden_size}, "
            f"{count(len(self.vocabulary), self.vocabulary.unit)}, {self.network.parameter_count:,} parameters)"
        )


def load(path: str | os.PathLike[str], *, backend: str = "auto") -> LanguageModel:
    """Read a model file that `LanguageModel.save` or `unrolled train` wrote; in a run's folder, the best model.

    Raises
    ------
    UnrolledError
        With one line that says what is wrong with the file.
    """
    return LanguageModel(*checkpoint.load(model_file(path), backend))


def model_file(path: str | os.PathLike[str]) -> Path:
    """Return a model's file; in a run's folder that of the best one."""
    file = Path(check_path("the path of a model", path))
    return file / MODEL if file.is_dir() else file


def _told(listener: Listener | None, verbose: bool) -> Listener:
    """Return who is told how a run goes."""
    listener = Listener() if listener is None else check_a("listener", listener, Listener, "a Listener")
    return Lines(listener) if as_kind("verbose", verbose, "bool") else listener


def _of_the_model(options: dict[str, Any], model: LanguageModel) -> dict[str, Any]:
    """Options with a model's network and vocabulary; those that say something else are refused."""
    check_a("init_from", model, LanguageModel, "a LanguageModel, such as load(path) gives")
    spec, vocabulary = model.network.spec.to_json(), model.vocabulary
    free = {name for name in spec if "drop" in name or "zoneout" in name} | {"ar", "tar", "label_smoothing"}
    fixed = {name: value for name, value in spec.items() if name not in free | {"vocabulary_size", "init"}}
    fixed |= vocabulary.options
    for name, value in fixed.items():
        if options.get(name, value) != value:
            raise UnrolledError(f"{name} is {brief(options[name])}, but the model to start from has {value!r}")
    return {name: spec[name] for name in free} | options | fixed


def _begin_anew(content: dict[str, Any], before: Options, chosen: Options, anew: Mapping[str, Any]) -> None:
    """Let go of what a checkpoint holds of options that are asked for anew."""
    for state in (content["now"], content.get("good", content["now"])):
        if chosen.schedule != before.schedule:
            state["schedule"] = chosen.make_schedule(1).state_dict()
        if "learning_rate" in anew:
            state["rate_scale"], state["rollbacks"] = 1.0, 0


def _made_elsewhere(before: Any, now: Mapping[str, str]) -> tuple[str, ...]:
    """Return a note where a run goes on with something that rounds otherwise than what it was made with until now."""
    had = before if isinstance(before, dict) else {}
    changed = [
        f"{name} {had[name]} until now, {value} from here on"
        for name, value in now.items()
        if had.get(name, value) != value
    ]
    return (f"{'; '.join(changed)}: the numbers may be rounded differently",) if changed else ()


def _set_aside(folder: Path | None) -> tuple[str, ...]:
    """Return a note where a run's metrics have lines that are damaged."""
    if folder is None or not os.path.lexists(folder / run.METRICS):
        return ()
    damaged = len(run.read_metrics(folder)[1])
    lines = "a damaged line" if damaged == 1 else f"{damaged} damaged lines"
    return (f"{lines} of {run.METRICS} set aside in {run.DAMAGED}",) if damaged else ()


def _held(corpus: Corpus, val: Paths, test: Paths, level: str) -> dict[str, Corpus]:
    """Read the files to validate and to test on, where some are named; nothing may be read twice."""
    named = {"val": _several(val), "test": _several(test)}
    use = {"train on": corpus.paths, "validate on": named["val"], "test on": named["test"]}
    whose: dict[str, str] = {}
    for what, paths in use.items():
        for path in paths:
            place = os.path.realpath(path)
            if place in whose:
                raise UnrolledError(f"{path} is given to {whose[place]} and again to {what}; give each file once")
            whose[place] = what
    for place, what in whose.items():
        if folder := next((str(above) for above in Path(place).parents if str(above) in whose), None):
            raise UnrolledError(f"{place}, to {what}, is in {folder}, which is there to {whose[folder]}; move it out")
    return {name: read(paths, level, stream=True, **corpus.how) for name, paths in named.items() if paths}


def _several(paths: Paths) -> list[str]:
    """Return one path or several as a list."""
    several: Any = paths if isinstance(paths, (list, tuple, Iterator)) else [] if paths is None else [paths]
    return [name for path in several if (name := check_path("a file to read", path))]


def _vocabulary(corpus: Corpus, held: Sequence[Corpus], options: Options, model: LanguageModel | None) -> Vocabulary:
    """Vocabulary of a text; of characters with those held out, and grown from that of the model to start from."""
    if model is not None and model.vocabulary.complete:  # it can write any text already
        return model.vocabulary
    given = {name: getattr(options, name) for name in ("min_count", "max_symbols", "lower", "words")}
    vocabulary = vocabulary_of(corpus, **given).with_held_out(vocabulary_of(part, **given) for part in held)
    return vocabulary if model is None else model.vocabulary.grown(vocabulary)


def _for_bigrams(tokens: Tokens, size: int) -> tuple[Tokens, tuple[str, ...]]:
    """Tokens to take the entropy of bigrams of: the first ones where all pairs could fill the memory; and a note."""
    most = 1 << 23
    if not isinstance(tokens, np.memmap) or len(tokens) <= most or size <= MOST_DENSE:
        return tokens, ()
    return tokens[:most], (f"the entropy of bigrams is that of the first {most:,} tokens",)


def _split(text: Encoded, val_fraction: float, test_fraction: float) -> tuple[Encoded, Encoded, Encoded]:
    """Cut a text and its documents into (train, val, test)."""
    parts, begin = [], 0
    for tokens in split(text.tokens, val_fraction, test_fraction):
        documents, end = text.documents, begin + len(tokens)
        if documents is not None:
            first, last = np.searchsorted(documents, [begin, end])
            documents = documents[first:last] - begin
        parts.append(Encoded(tokens, documents, ()))
        begin = end
    train, val, test = parts
    return train, val, test


def _corpus(source: Any, level: str, **how: Any) -> Corpus:
    if source is None:
        return default_corpus(level=level)
    if isinstance(source, Corpus):
        return source
    if isinstance(source, (str, bytes)):
        text = source.encode() if isinstance(source, str) and level == "byte" else source
        if isinstance(text, bytes) and level != "byte":
            raise UnrolledError('bytes need level="byte"')
        if not text:
            raise UnrolledError("the text is empty")
        _check_no_name(source)
        return Corpus(text, level, "text")
    if isinstance(source, os.PathLike):
        return read(source, level, stream=True, **how)
    parts: Any = source if isinstance(source, Sequence) else ()
    if parts and all(isinstance(part, os.PathLike) for part in parts):
        return read(parts, level, stream=True, **how)
    if texts := _texts(parts):
        for text in texts:
            _check_no_name(text)
        return of_documents(texts, level)
    tokens = as_tokens(source)
    if level != "tokens":
        raise UnrolledError('an array holds tokens: give level="tokens"')
    return Corpus(tokens, level, "tokens")


def _texts(source: Any) -> list[str]:
    """Return a sequence of texts as a list; an empty one for anything else, a text among it."""
    several = isinstance(source, Sequence) and not isinstance(source, (str, bytes))
    return list(source) if several and all(isinstance(text, str) for text in source) else []


def _check_no_name(text: str | bytes) -> None:
    """Refuse a text that is the name of a file: its content is what was meant."""
    if isinstance(text, str) and 0 < len(text) < 256 and "\0" not in text and os.path.exists(text):
        raise UnrolledError(f"the text {text!r} is the name of a file; for what is in it give Path({text!r})")
