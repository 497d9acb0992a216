"""`SequenceRegressor`: one number or several for each sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..declared import documented, same
from ..models.regressor import Options, Regressor
from .base import PooledEstimator
from .inputs import take


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceRegressor(RegressorMixin, PooledEstimator):  # type: ignore[misc]
    """A recurrent network that gives each sequence one number, or several.

    Parameters
    ----------
    **options

    Attributes
    ----------
    n_features_in_ : int
        Numbers a step; of a 2-D array its columns; 1 of texts.
    model_ : unrolled.models.regressor.Regressor
        What was learnt; its `save` writes a file for `unrolled.load` and the command `unrolled predict`.
    history_ : list of dicts
        Epoch and losses at each validation.

    Examples
    --------
    >>> from unrolled.sklearn import SequenceRegressor
    >>> x = [np.linspace(0, k, 3 + k % 4) for k in range(40)]  # of 3 to 6 steps
    >>> reg = SequenceRegressor(hidden_size=8, epochs=60, learning_rate=0.02, random_state=0)
    >>> reg.fit(x, [k / 2 for k in range(40)]).predict([np.linspace(0, 20, 5)]).round().tolist()
    [10.0]
    """

    dropout: float = same(Options, "dropout")
    loss: str = same(Options, "loss")

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Learn from sequences and their numbers.

        Parameters
        ----------
        X : list of arrays (T,) or (T, I), array (N, T, I) or (N, T), or texts
            As `SequenceClassifier.fit` takes them.
        y : (N,) or (N, K) numbers
        sample_weight : (N,) numbers, optional
            What each sequence counts.

        Raises
        ------
        UnrolledError
            If a parameter makes no sense, or a sequence is empty or has other channels than the first.
        ValueError, TypeError
            scikit-learn's own, where y is no finite numbers, or a 2-D array holds what is no number.
        """
        y = validate_data(self, y=y, multi_output=True, y_numeric=True)
        self._single = y.ndim == 1
        self.model_ = self._fitted(Regressor.train, Options, self._examples(X, y, sample_weight))
        return self

    def predict(self, X: Any) -> Any:
        """Return the numbers of each sequence, (N,), or (N, K) where it was fitted with so many."""
        check_is_fitted(self, "model_")
        found = self.model_.predict(take(self, X, reset=False))
        return self._out(found[:, 0] if self._single else found, X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
