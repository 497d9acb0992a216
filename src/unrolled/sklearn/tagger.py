"""`SequenceTagger`: a tag for each word of a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ..cells import Cell
from ..data.tagged import Tagged
from ..declared import documented, same
from ..errors import UnrolledError, brief
from ..models.tagger import Tagger
from ..models.tagger_data import Options
from .base import SequenceEstimator


@documented
@dataclass(kw_only=True, eq=False, repr=False)
class SequenceTagger(SequenceEstimator):
    """A recurrent network that gives each word of a sentence a tag.

    Parameters
    ----------
    **options

    Attributes
    ----------
    classes_ : (K,) array
        The tags, sorted.
    model_ : unrolled.Tagger
        What was learnt; its `save` writes a file for `unrolled.load` and the command `unrolled predict`.
    history_ : list of dicts
        Epoch, losses, accuracy, and F1 of spans where there are such, at each validation.

    Examples
    --------
    >>> from unrolled.sklearn import SequenceTagger
    >>> words, tags = ["the", "cat", "saw", "the", "saw"], ["DET", "NOUN", "VERB", "DET", "NOUN"]
    >>> tagger = SequenceTagger(hidden_size=8, epochs=40, learning_rate=0.03, dropout=0, random_state=0)
    >>> tagger.fit([words] * 9, [tags] * 9).predict([["the", "cat"], ["the"]])
    [['DET', 'NOUN'], ['DET']]
    """

    cell: str | Cell = same(Options, "cell")
    hidden_size: int | tuple[int, ...] = same(Options, "hidden_size")
    num_layers: int = same(Options, "num_layers")
    bidirectional: bool = same(Options, "bidirectional")
    embedding_size: int = same(Options, "embedding_size")
    characters_embedding_size: int = same(Options, "characters_embedding_size")
    characters_hidden_size: int = same(Options, "characters_hidden_size")
    input_dropout: float = same(Options, "input_dropout")
    dropout: float = same(Options, "dropout")
    word_dropout: float = same(Options, "word_dropout")
    crf: bool = same(Options, "crf")
    lower: bool = same(Options, "lower")
    min_count: int = same(Options, "min_count")
    epochs: float = same(Options, "epochs")
    batch_size: int = same(Options, "batch_size")
    learning_rate: float | None = same(Options, "learning_rate")
    schedule: str = same(Options, "schedule")
    patience: int = same(Options, "patience")

    def fit(self, X: Any, y: Any) -> Self:
        """Learn from sentences and the tags of their words.

        Parameters
        ----------
        X : list of lists of str
            The words of each sentence; or a pandas Series of such lists.
        y : list of lists of str
            As many tags.

        Raises
        ------
        UnrolledError
            If a parameter makes no sense, a sentence is empty or has not a tag a word, or there is one tag only.
        """
        words, tags = _sentences("X", X), _sentences("y", y)
        check_consistent_length(words, tags)
        Tagged(words, tags).checked()
        seed = self._seed()
        order = np.random.default_rng(seed).permutation(len(words)).tolist()  # those at the end are validated on
        source = Tagged([words[n] for n in order], [tags[n] for n in order])
        self.model_ = self._fitted(Tagger.train, Options, source, seed=seed)
        self.classes_, self.n_features_in_ = np.array(self.model_.tags), 1
        return self

    def predict(self, X: Any) -> Any:
        """Return the tags of each sentence, a list of lists; with a CRF the likeliest sequences."""
        check_is_fitted(self, "model_")
        return self._out(self.model_.predict(_sentences("X", X)), X)

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of each word's tags, a list of arrays (T, K), in the order of `classes_`."""
        check_is_fitted(self, "model_")
        return self._out(self.model_.predict_proba(_sentences("X", X)), X)

    def score(self, X: Any, y: Any) -> float:
        """Return the share of words whose tag is right."""
        check_is_fitted(self, "model_")
        words, tags = _sentences("X", X), _sentences("y", y)
        Tagged(words, tags).checked()
        pairs = zip(chain(*self.model_.predict(words)), chain(*tags), strict=True)
        return float(np.mean([one == other for one, other in pairs]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = False, True
        tags.target_tags.required = True
        return tags


def _sentences(name: str, given: Any) -> list[list[str]]:
    """Return lists of words or tags, of whatever holds them."""
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        raise UnrolledError(f"{name} is {brief(given)}; expected a list of lists of str")
    return [row if isinstance(row, str) or not hasattr(row, "__iter__") else list(row) for row in given]
