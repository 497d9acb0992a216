"""Estimators of sequences for scikit-learn: classifiers, regressors and taggers, as its users expect them.

They stand on the models of `unrolled.models`; scikit-learn is an extra, `pip install 'unrolled[sklearn]'`.
"""

try:
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "unrolled.sklearn needs scikit-learn: pip install 'unrolled[sklearn]'", name="sklearn"
    ) from error

from .classifier import SequenceClassifier
from .regressor import SequenceRegressor
from .tagger import SequenceTagger

__all__ = ["SequenceClassifier", "SequenceRegressor", "SequenceTagger"]
