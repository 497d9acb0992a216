"""A regressor: a network that gives a text, or a series of numbers, one number or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import choose
from ..cells import Cell
from ..checks import Array, as_floats, check_a, check_choice
from ..data.codecs import Codec, SeriesCodec, TextCodec, from_json
from ..data.examples import Labelled, channels_of, labelled
from ..data.labelled import read_labelled
from ..data.padded import Padded
from ..data.split import USES, stratified
from ..declared import again, documented, keywords, one_of, option, same
from ..errors import UnrolledError, count
from ..keywords import named, suggesting
from ..nn import heads
from ..nn.network import Network
from ..nn.pools import POOLS
from ..schema import one_of as one_from
from ..training import checkpoints
from ..training.callbacks import Callback
from ..training.trainer import Metrics
from . import classifier
from .classifier_data import Options as Classified
from .classifier_data import encoded, learnt_inputs
from .of_data import Material, OfData, Scored
from .options import ModelOptions

LOSSES = ("squared", "huber")
ROWS = 256
"""Examples that are looked at side by side."""


@suggesting
@documented
@dataclass(frozen=True)
class Options(ModelOptions):
    """How to build and train a regressor.

    Attributes
    ----------
    **options
    """

    embedding_size: int = same(Classified, "embedding_size")
    hidden_size: int | tuple[int, ...] = same(Classified, "hidden_size")
    num_layers: int = same(Classified, "num_layers")
    bidirectional: bool = same(Classified, "bidirectional")
    cell: str | Cell = same(Classified, "cell")
    dropout: float = again(ModelOptions, "dropout", 0.0)
    epochs: float = same(Classified, "epochs")
    batch_size: int = same(Classified, "batch_size")
    patience: int = same(Classified, "patience")
    sample_length: int = same(Classified, "sample_length")
    val_fraction: float = same(Classified, "val_fraction")
    level: str = same(Classified, "level")
    min_count: int = same(Classified, "min_count")
    max_symbols: int = same(Classified, "max_symbols")
    lower: bool = same(Classified, "lower")
    words: str = same(Classified, "words")
    pooling: str = same(Classified, "pooling")
    loss: str = option(
        "squared",
        f"What errors cost: {', '.join(LOSSES)}.",
        "Learning",
        one_of("loss", LOSSES),
        about="What an error e costs, of targets that are scaled to a deviation of 1: `squared`, e²; `huber`, e² / 2 "
        "up to 1 and |e| - 1/2 beyond, so that a wild target pulls no harder than others.",
        source="Huber 1964",
    )


class Regressor(OfData):
    """A network that gives a text, or a series of numbers, K numbers. It learns from data in memory.

    Attributes
    ----------
    network : Network
    inputs : TextCodec or SeriesCodec
        How texts or series become numbers.
    targets : SeriesCodec
        Mean and deviation of the K numbers that were learnt.
    """

    kind = "regressor"
    nats = False

    def __init__(
        self, network: Network, inputs: Codec, targets: SeriesCodec, pooling: str = "mean", loss: str = "squared"
    ) -> None:
        super().__init__(check_a("network", network, Network, "a Network"))
        self.inputs: Codec = inputs
        check_a("inputs", inputs, (TextCodec, SeriesCodec), "a TextCodec or a SeriesCodec")
        self.targets = check_a("targets", targets, SeriesCodec, "a SeriesCodec")
        self.pooling = check_choice("pooling", pooling, list(POOLS))
        self.loss = check_choice("loss", loss, list(LOSSES))
        sizes = network.spec.vocabulary_size, network.head.outputs
        if (len(inputs), len(targets)) != sizes:
            said = f"{len(inputs):,} symbols or channels and {count(len(targets), 'number')}"
            raise UnrolledError(
                f"the regressor has {said}, its network {sizes[0]:,} and {sizes[1]:,}; they must be as many"
            )

    def __repr__(self) -> str:
        spec = self.spec
        return f"Regressor({spec.cell}, {spec.num_layers} x {spec.hidden_size}, {count(len(self.targets), 'number')})"

    @property
    def guess(self) -> float:
        """Loss of guessing the mean: targets have a deviation of 1."""
        return 1.0

    @classmethod
    @named(keywords(Options))
    def train(
        cls,
        source: Any,
        *,
        val: Any = None,
        test: Any = None,
        auto: bool = False,
        callbacks: Sequence[Callback] = (),
        verbose: bool = False,
        backend: str = "auto",
        **asked: Any,
    ) -> Regressor:
        """Train a regressor of texts or series.

        Without `val`, a share of the examples is held out by chance, drawn by the seed.

        Parameters
        ----------
        source : pair (x, y)
            Texts, or arrays (T,) or (T, C) of numbers, or one array (N, T, C); and a number of each, (N,), or (N, K).
        val, test : as source, optional
        auto : bool
            Whether passes that aren't given are chosen from the amount of data and from `minutes`, as in
            `LanguageModel.train`.
        callbacks, verbose, backend
            As in `LanguageModel.train`.
        **asked
            Options of `unrolled.models.regressor.Options`.

        Returns
        -------
        Regressor
            With the parameters of the lowest validation loss; `result` says how training went.

        Examples
        --------
        >>> x = [np.linspace(0, k, 5) for k in range(40)]
        >>> model = Regressor.train((x, [k / 2 for k in range(40)]), hidden_size=8, epochs=60, learning_rate=0.02)
        >>> bool(abs(model.predict([np.linspace(0, 20, 5)])[0, 0] - 10) < 1)
        True
        """
        how: Any = {"out": None, "overwrite": False, "auto": auto, "callbacks": callbacks, "verbose": verbose}
        return cls._train(source, val, test, asked, backend=backend, **how)

    @classmethod
    def material(cls, sources: Mapping[str, Any], options: Options, codec: Mapping[str, Any] | None) -> Material:
        """Read examples; symbols and scales are those of the part to train on."""
        parts = {name: _examples(source) for name, source in sources.items()}
        rng = np.random.default_rng([options.seed, 1])
        total = len(parts["train"][0])
        for name, share in (("test", options.test_fraction), ("val", options.val_fraction)):
            x, y = parts["train"]
            if name not in parts and share:
                kept, held = stratified([0] * len(x), share * total / len(x), rng)
                if len(held) and len(kept):
                    parts |= {"train": (x.part(kept), y[kept]), name: (x.part(held), y[held])}
        x, y = parts["train"]
        inputs, targets = learnt_inputs(x, options), SeriesCodec.learnt([y], channels_of(y.shape[1]))
        batches = {}
        for name, (x, y) in parts.items():
            if y.shape[1] != len(targets):
                raise UnrolledError(f"the part to {USES[name]} has {y.shape[1]} numbers each; expected {len(targets)}")
            scaled = [*targets.encode(y)]
            how: Any = {"stepwise": False, "weights": x.weights, "seed": options.seed}
            batches[name] = Padded(encoded(x, inputs), scaled, options.batch_size, f"the part to {USES[name]}", **how)
        return Material(
            parts=batches,
            codec={"inputs": inputs, "targets": targets, "pooling": options.pooling, "loss": options.loss},
            digest=[a for part in batches.values() for a in (*part.x, *part.y)],
            paths={},
            name="examples",
            unit="number",
            row="example",
            size=count(total, "example"),
            about=(
                ("examples", ", ".join(f"{len(x):,} to {USES[name]}" for name, (x, _) in parts.items())),
                ("numbers", f"{len(targets)} of each"),
                ("steps", inputs.said),
            ),
        )

    # --- what people do with it

    def predict(self, x: Any) -> NDArray[np.float64]:
        """Return K numbers of each text or series, (N, K)."""
        return self._numbers(labelled(x))

    def score(self, source: Any) -> dict[str, float]:
        """Return the loss on examples, a pair (x, y); of their own numbers the mean squared and absolute error."""
        x, y = _examples(source)
        error = self._numbers(x) - y
        scaled = Padded(encoded(x, self.inputs), [*self.targets.encode(y)], ROWS, stepwise=False)
        return self.evaluate(scaled) | {"mse": float(np.mean(error**2)), "mae": float(np.mean(np.abs(error)))}

    def predictions(self, paths: Sequence[str]) -> Iterator[str]:
        """Yield files as they are written back, with the numbers of each text or series."""
        channels = self.inputs.channels if isinstance(self.inputs, SeriesCodec) else ()
        found = read_labelled(paths, labels=False, channels=channels)
        names = ["predicted"] if len(self.targets) == 1 else [f"predicted_{name}" for name in self.targets.channels]
        found.table.check_new(names)
        yield from found.table.written(dict(zip(names, self._numbers(found).T.tolist(), strict=True)))

    def scored(self, paths: Sequence[str]) -> Scored:
        """Refuse files: what they would have to hold is read from memory only."""
        self._has_not("a score of files; its method score takes texts or series, and their numbers")

    def details(self) -> list[tuple[str, str]]:
        """Return what a model file says beside its network."""
        says = f"{count(len(self.targets), 'number')}, {self.loss} loss"
        return [("says", says), ("reads", self.inputs.said), ("pooling", self.pooling)]

    # --- what the loop asks of it

    def evaluate(self, batches: Any) -> Metrics:
        """Return the mean loss of numbers."""
        total, head = 0.0, self.network.head
        for batch in (batches[k] for k in range(len(batches))):
            outputs, _ = self.network(batch.x, lengths=batch.lengths)
            how: Any = {"params": self.params, "gradient": False}
            total += float(head.loss(choose(self.backend), outputs, batch.y, batch.weights, **how)[0]) * batch.targets
        return {"loss": total / batches.targets}

    def preview(self, rng: np.random.Generator, length: int) -> str:
        """Return nothing: what is read is not the model's own."""
        return ""

    def codec(self) -> dict[str, Any]:
        """Return how data becomes numbers, as JSON."""
        return {
            "inputs": self.inputs.to_json(),
            "targets": self.targets.to_json(),
            "pooling": self.pooling,
            "loss": self.loss,
        }

    def _numbers(self, found: Labelled) -> NDArray[np.float64]:
        batches = Padded(encoded(found, self.inputs), (), ROWS, found.table.where, stepwise=False)
        outputs = np.stack(batches.unpadded(self.network(batch.x, lengths=batch.lengths)[0] for batch in batches))
        return outputs * self.targets.scale + self.targets.mean


def _targets(name: str, value: Any) -> SeriesCodec:
    found = from_json(name, value)
    return check_a(name, found, SeriesCodec, "a mean and a deviation of each number")


def _head(targets: SeriesCodec, pooling: str, loss: str, **_: Any) -> heads.Head:
    return heads.numbers(len(targets), loss, pooling=pooling)


KIND = checkpoints.Kind(
    Regressor.kind,
    Options,
    {"inputs": from_json, "targets": _targets, "pooling": one_from(tuple(POOLS)), "loss": one_from(LOSSES)},
    spec=classifier.KIND.spec,
    head=_head,
    model=Regressor,
    task="",
    noun="a regressor",
)
"""The contents of files of a regressor."""


def _examples(source: Any) -> tuple[Labelled, Array]:
    """Return texts or series, and their numbers (N, K)."""
    if not isinstance(source, tuple) or len(source) != 2:
        raise UnrolledError("a regressor learns from a pair of texts or series, and their numbers")
    x = source[0] if isinstance(source[0], Labelled) else labelled(source[0])
    y = as_floats("y", source[1])
    y = y[:, None] if y.ndim == 1 else y
    if y.ndim != 2 or len(y) != len(x) or not y.size or not np.isfinite(y).all():
        raise UnrolledError(f"y has shape {y.shape}; expected finite numbers, ({len(x)},) or ({len(x)}, K)")
    return x, y
