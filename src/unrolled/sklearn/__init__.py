"""Estimators of sequences for scikit-learn: classifiers, regressors and taggers, as its users expect them.

They stand on the models of `unrolled.models`; scikit-learn is an extra, `pip install 'unrolled[sklearn]'`.
"""

try:
    from sklearn.utils.validation import validate_data  # noqa: F401  (which came with 1.6)
except ImportError as error:
    raise ImportError(
        "unrolled.sklearn needs scikit-learn 1.6 or later: pip install 'unrolled[sklearn]'", name="sklearn"
    ) from error

from .classifier import SequenceClassifier
from .regressor import SequenceRegressor
from .tagger import SequenceTagger

__all__ = ["SequenceClassifier", "SequenceRegressor", "SequenceTagger"]
