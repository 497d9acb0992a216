"""Files -> text -> tokens: reading and cleaning, the default corpus, vocabularies, entropies.

A text is a `str` at the levels of characters ("char") and words ("word"), `bytes` at the level of bytes ("byte"), and
an array of integers at the level of "tokens".
"""

from .cache import Encoded, encode, vocabulary_of
from .entropy import bigram_entropy, unigram_entropy
from .gutenberg import strip_gutenberg
from .levels import LEVELS, UNITS
from .reading import Corpus, of_documents, read, recorded
from .stdlib import default_corpus
from .vocabulary import EOS, UNK, WORDS, Decoder, Vocabulary

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
    "strip_gutenberg",
    "unigram_entropy",
    "vocabulary_of",
]
