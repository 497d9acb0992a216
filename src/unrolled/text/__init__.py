"""Files -> text -> tokens: reading and cleaning, the default corpus, vocabularies, entropies, the split.

A text is a `str` at the level of characters ("char") and `bytes` at the level of bytes ("byte").
"""

from .default import default_corpus
from .figures import bigram_entropy, split, unigram_entropy
from .gutenberg import strip_gutenberg
from .reading import Corpus, read
from .vocabulary import Decoder, Vocabulary
from .words import LEVELS

__all__ = [
    "LEVELS",
    "Corpus",
    "Decoder",
    "Vocabulary",
    "bigram_entropy",
    "default_corpus",
    "read",
    "split",
    "strip_gutenberg",
    "unigram_entropy",
]
