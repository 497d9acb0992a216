"""What the estimators share: their parameters, a fit that hands over to a model, and pickles of a model's file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_consistent_length

from ..cells import Cell, CellName
from ..checks import Array, check_a, check_choice, check_fraction
from ..data.examples import Labelled, labelled
from ..declared import option, same
from ..declared import options as declared_options
from ..errors import UnrolledError
from ..models.base import load
from ..models.classifier_data import Options
from .inputs import take


@dataclass(kw_only=True, eq=False, repr=False)
class SequenceEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator whose `model_` is one of the library's, made by `fit`; its parameters are options of that."""

    cell: str | Cell = same(Options, "cell")
    hidden_size: int | tuple[int, ...] = same(Options, "hidden_size")
    num_layers: int = same(Options, "num_layers")
    bidirectional: bool = same(Options, "bidirectional")
    embedding_size: int = same(
        Options, "embedding_size", about="Width of the embedding of texts' symbols; 0 feeds one-hot vectors."
    )
    dropout: float = same(Options, "dropout", about="Share of a layer's outputs that are dropped in training.")
    epochs: float = same(Options, "epochs", about="Passes over the training part, at most.")
    batch_size: int = same(Options, "batch_size", about="Sequences side by side, those of like length.")
    optimizer: str = same(Options, "optimizer")
    learning_rate: float | None = same(Options, "learning_rate", about="Rate of the update rule.")
    weight_decay: float | None = same(Options, "weight_decay")
    patience: int = same(
        Options, "patience", about="Passes without a better validation after which training stops; 0 for never."
    )
    validation_fraction: float = option(
        0.1,
        "Share that is validated on.",
        "Data",
        about="Share of the sequences, drawn by chance, that is validated on and not learnt from; the parameters of "
        "the best validation are kept. 0 for none: those of the last pass are.",
    )
    random_state: int | np.random.RandomState | None = option(
        None,
        "Seed of everything random.",
        "Training",
        about="Seed of weights, batches, dropout and of what is validated on. An int makes each fit the same.",
    )
    verbose: bool = option(False, "Whether training says how it goes.", "Output")
    backend: str = option("auto", "auto, cpu (the engine) or reference (NumPy).", "Training")
    options: dict[str, Any] | None = option(
        None,
        "Further options by their names.",
        "Training",
        about="Further options of the model by their names, such as {'schedule': 'cosine', 'zoneout': 0.1}.",
    )

    def _fitted(self, train: Any, kind: type, source: Any, **asked: Any) -> Any:
        """Return a model trained with the parameters; what is `asked` comes with or instead of them."""
        more = {} if self.options is None else check_a("options", self.options, dict, "a dict of options by name")
        own = self.get_params(deep=False)
        if odd := [name for name in more if name in {*own, *asked, "seed", "val_fraction"}]:
            raise UnrolledError(f"options names {odd[0]}, which is a parameter of the estimator; give it there")
        known = declared_options(kind)
        chosen = {name: value for name, value in own.items() if name in known}
        chosen["val_fraction"] = check_fraction("validation_fraction", self.validation_fraction)
        chosen |= {"seed": self._seed(), "sample_length": 0} | asked | more
        model = train(source, verbose=bool(self.verbose), backend=self.backend, **chosen)
        self.history_ = [
            {"epoch": e.epoch, "loss": e.train_loss, "val_loss": e.val_loss, **e.metrics} for e in model.result.history
        ]
        return model

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral) and not isinstance(self.random_state, bool):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))

    # --- what comes out

    def set_output(self, *, transform: str | None = None) -> Self:
        """Choose what predictions are: "default", arrays, or "pandas", with the index of X where it has one.

        Under the name that scikit-learn's transformers have for it.
        """
        if transform is not None:
            check_choice("transform", transform, ["default", "pandas"])
            self._sklearn_output_config = {"transform": transform}
        return self

    def _out(self, values: Any, X: Any, names: Any = None) -> Any:
        """Return predictions of X as the user wants them; `names` are those of columns."""
        if getattr(self, "_sklearn_output_config", {}).get("transform") != "pandas":
            return values
        import pandas as pd

        index = X.index if isinstance(X, (pd.Series, pd.DataFrame)) else None
        if isinstance(values, list) or values.ndim == 1:
            return pd.Series(values, index=index)
        return pd.DataFrame(values, index=index, columns=names)

    # --- copies and pickles hold the model as its own file has it

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:
            cell, data = state["model_"].spec.cell, _as_bytes(state["model_"])
            state["model_"] = (data, cell) if isinstance(cell, CellName) else data  # a file has no code of a cell
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "model_" in state:
            held = state["model_"]
            data, cell = held if isinstance(held, tuple) else (held, None)
            self.model_ = _from_bytes(data, self.backend, cell)


@dataclass(kw_only=True, eq=False, repr=False)
class PooledEstimator(SequenceEstimator):
    """An estimator that reads texts or sequences of numbers, and says one thing of each."""

    pooling: str = same(Options, "pooling")
    level: str = same(Options, "level", about="What a symbol of texts is: word, char or bpe (byte pairs).")
    lower: bool = same(Options, "lower", about="Whether texts are made lower-case.")
    min_count: int = same(Options, "min_count", about="Occurrences that a symbol of texts needs to be listed.")

    def _examples(self, X: Any, y: Array, sample_weight: Any) -> tuple[Labelled, Array]:
        """Return the sequences of X with their weights, and y, without what counts nothing."""
        x = take(self, X, reset=True)
        check_consistent_length(x, y)
        if sample_weight is None:
            return labelled(x), y
        weights = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
        if weights.shape != (len(x),) or (weights < 0).any() or not weights.any():
            raise UnrolledError(
                f"sample_weight has shape {weights.shape}, its sum is {weights.sum():g}; expected ({len(x)},) numbers, "
                "0 or more and not all zero"
            )
        rows = np.flatnonzero(weights)
        found = replace(labelled(x), weights=tuple((weights / weights.mean()).tolist()))
        return found.part(rows), y[rows]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


def _as_bytes(model: Any) -> bytes:
    """Return a model as its file has it."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        model.save(path)
        return path.read_bytes()


def _from_bytes(data: bytes, backend: str, cell: str | None) -> Any:
    """Return the model of a file's bytes."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(data)
        return load(path, backend=backend, cell=cell)
