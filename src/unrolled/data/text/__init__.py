"""Files -> text -> tokens: reading and cleaning, the default corpus, vocabularies, entropies.

A text is a `str` at the levels of characters ("char") and words ("word"), `bytes` at the level of bytes ("byte"), and
an array of integers at the level of "tokens".
"""

from .byte_pairs import BytePairs
from .cache import Encoded, encode, vocabulary_of
from .characters import Characters
from .corpus import Corpus
from .entropy import bigram_entropy, unigram_counts, unigram_entropy
from .gutenberg import is_whole, strip_gutenberg
from .ids import Bytes, Numbers
from .levels import LEVELS
from .options import Reading, recorded
from .reading import of_documents, read, whole_text
from .stdlib import default_corpus
from .vocabulary import Decoder, Vocabulary
from .words import EOS, UNK, WORDS, Words

__all__ = [
    "EOS",
    "LEVELS",
    "UNK",
    "WORDS",
    "BytePairs",
    "Bytes",
    "Characters",
    "Corpus",
    "Decoder",
    "Encoded",
    "Numbers",
    "Reading",
    "Vocabulary",
    "Words",
    "bigram_entropy",
    "default_corpus",
    "encode",
    "is_whole",
    "of_documents",
    "read",
    "recorded",
    "strip_gutenberg",
    "unigram_counts",
    "unigram_entropy",
    "vocabulary_of",
    "whole_text",
]
