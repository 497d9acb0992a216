"""Files -> text -> tokens: reading and cleaning, the default corpus, vocabularies, entropies, the split.

A text is a `str` at the levels of characters ("char") and words ("word"), `bytes` at the level of bytes ("byte"), and
an array of integers at the level of "tokens".
"""

from .cache import Encoded, encode, vocabulary_of
from .default import default_corpus
from .figures import bigram_entropy, split, unigram_entropy
from .gutenberg import strip_gutenberg
from .reading import Corpus, of_documents, read, recorded
from .vocabulary import EOS, UNK, WORDS, Decoder, Vocabulary
from .words import LEVELS, UNITS

__all__ = [
    "EOS",
    "LEVELS",
    "UNITS",
    "UNK",
    "WORDS",
    "Corpus",
    "Decoder",
    "Encoded",
    "Vocabulary",
    "bigram_entropy",
    "default_corpus",
    "encode",
    "of_documents",
    "read",
    "recorded",
    "split",
    "strip_gutenberg",
    "unigram_entropy",
    "vocabulary_of",
]
