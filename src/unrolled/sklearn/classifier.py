"""`SequenceClassifier`: a class for each sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks import check_a
from ..data.examples import as_labels
from ..declared import documented, option
from ..errors import UnrolledError
from ..models.classifier import Classifier
from ..models.classifier_data import Options
from .base import PooledEstimator
from .inputs import take


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceClassifier(ClassifierMixin, PooledEstimator):  # type: ignore[misc]
    """A recurrent network that gives each sequence a class.

    Parameters
    ----------
    **options

    Attributes
    ----------
    classes_ : (K,) array
        The classes, sorted.
    n_features_in_ : int
        Numbers a step; of a 2-D array its columns; 1 of texts.
    model_ : unrolled.Classifier
        What was learnt; its `save` writes a file for `unrolled.load` and the command `unrolled predict`.
    history_ : list of dicts
        Epoch, losses and accuracy at each validation.

    Examples
    --------
    >>> from unrolled.sklearn import SequenceClassifier
    >>> texts, moods = ["good", "very good", "bad", "so bad"] * 9, ["glad", "glad", "sad", "sad"] * 9
    >>> clf = SequenceClassifier(hidden_size=8, embedding_size=6, batch_size=4, epochs=9, random_state=0)
    >>> clf.fit(texts, moods).predict(["a good one", "bad , bad"]).tolist()
    ['glad', 'sad']
    """

    class_weight: dict[Any, float] | str | None = option(
        None,
        "What sequences of a class count.",
        "Learning",
        about="`None`: all sequences count alike; `'balanced'`: all classes do, so that rare ones are not passed over; "
        "or what a sequence of each class counts.",
    )

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from sequences and their classes.

        Parameters
        ----------
        X : list of arrays (T,) or (T, I), array (N, T, I) or (N, T), or texts
            Sequences of numbers, which may have different lengths; a 2-D array is sequences of one number a step. Texts
            are a list of str, a pandas Series, or a DataFrame of one column.
        y : (N,) classes
            Whole numbers, texts or bools.
        sample_weight : (N,) numbers, optional
            What each sequence counts.

        Raises
        ------
        UnrolledError
            If a parameter makes no sense, a sequence is empty or has other channels than the first, there is one class
            only, or a class occurs once.
        ValueError, TypeError
            scikit-learn's own, where y is no classes, or a 2-D array holds what is no number.
        """
        y = validate_data(self, y=y)
        check_classification_targets(y)
        x, y = self._examples(X, y, self._weights(y, sample_weight))
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UnrolledError(f"y has 1 class, {self.classes_[0]!r}; expected two or more")
        labels = self._labels()
        x = replace(x, labels=tuple(labels[k] for k in codes.tolist()))
        weights = "balanced" if self.class_weight == "balanced" else "none"
        self.model_ = self._fitted(Classifier.train, Options, x, class_weights=weights)
        return self

    def predict(self, X: Any) -> Any:
        """Return the likeliest class of each sequence, (N,)."""
        likeliest = self._probabilities(X).argmax(axis=1)
        return self._out(self.classes_[likeliest], X)

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of all classes, (N, K), in the order of `classes_`."""
        found = self._probabilities(X)
        return self._out(found, X, self.classes_)

    def _probabilities(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self, "model_")
        names = [str(label) for label in self.model_.labels]
        found = self.model_.predict_proba(take(self, X, reset=False))
        return np.ascontiguousarray(found[:, [names.index(str(label)) for label in self._labels()]])

    def _labels(self) -> tuple[str | int, ...]:
        """Return the classes as the model and its file have them: texts and whole numbers."""
        return as_labels(self.classes_, len(self.classes_))

    def _weights(self, y: Any, sample_weight: Any) -> Any:
        """Return what each sequence counts, by its class too where those have weights of their own."""
        if self.class_weight is None or (isinstance(self.class_weight, str) and self.class_weight == "balanced"):
            return sample_weight
        of_classes = compute_sample_weight(check_a("class_weight", self.class_weight, dict, "a dict or 'balanced'"), y)
        return of_classes if sample_weight is None else of_classes * np.asarray(sample_weight)
