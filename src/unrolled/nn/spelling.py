"""Words by their spelling: the final states of a small recurrent encoder that reads a word's characters both ways.

After Lample et al. 2016 (section 4.1) and Ling et al. 2015: what a word that no table lists may be is seen from its
letters. The encoder has the network's own cell, so that one name says what a network is made of.

Letters: T steps, B rows, C characters of the longest word, N distinct words of a batch, H units a direction. Each
distinct word is read once; words of like length are read together, so that little is padded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..backends.base import Backend
from ..checks import Array, array_dtype
from ..errors import UnrolledError
from . import embedding
from .recurrent import Recurrent
from .tape import StackTape


class Spellings(NamedTuple):
    """The distinct words of a batch, the shortest first."""

    characters: Array
    """(C, N), numbers from 0; -1 behind a word's end."""
    lengths: Array
    """(N,)"""
    which: Array
    """(T, B), the number of each word among them."""


class Spelled(NamedTuple):
    """The tape of an encoder's pass: its words, and of each group of them the columns and the stack's tape."""

    words: Spellings
    groups: tuple[tuple[slice, StackTape], ...]


def distinct(words: Array) -> Spellings:
    """Words (T, B, C), numbers of characters from 1 and 0 behind a word's end -> the distinct ones.

    Examples
    --------
    >>> found = distinct(np.array([[[3, 1], [2, 0]], [[2, 0], [3, 1]]]))
    >>> found.characters.T.tolist(), found.which.tolist()
    ([[1, -1], [2, 0]], [[1, 0], [0, 1]])
    """
    size = words.shape[-1]
    flat = np.ascontiguousarray(words).reshape(-1, size)
    whole = flat.view(np.dtype((np.void, size * flat.itemsize)))[:, 0]  # compared as bytes
    _, first, which = np.unique(whole, return_index=True, return_inverse=True)
    found = flat[first]
    lengths = (found > 0).sum(axis=1)
    if ((found > 0) != (np.arange(size) < lengths[:, None])).any():
        raise UnrolledError("a word has a character 0 before its end; characters are numbered from 1")
    order = np.argsort(lengths, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return Spellings(found[order].T - 1, lengths[order], place[which].reshape(words.shape[:2]))


def groups(lengths: Array) -> Iterator[tuple[slice, int]]:
    """Part rising lengths (N,) into groups whose longest is at most half as long again as their shortest.

    Examples
    --------
    >>> [(part.stop, longest) for part, longest in groups(np.array([2, 3, 4, 5, 6, 7]))]
    [(2, 3), (5, 6), (6, 7)]
    """
    start = 0
    while start < len(lengths):
        stop = int(np.searchsorted(lengths, 1.5 * lengths[start], side="right"))
        yield slice(start, stop), int(lengths[stop - 1])
        start = stop


def encode(
    backend: Backend, table: Array, stack: Recurrent, words: Array, *, record: bool
) -> tuple[Array, Spelled | None]:
    """Words (T, B, C), table (characters, E) -> x (T, B, 2 H), the final h of both directions; 0 of an empty word."""
    spellings, folds = distinct(words), not stack.cell.sees_x
    reader, tapes = embedding.folded(backend, table, stack) if folds else stack, []
    finals = [np.zeros((0, stack.output_size), array_dtype(stack.dtype))]  # so that no words are no mistake
    for part, longest in groups(spellings.lengths):
        lengths = spellings.lengths[part]
        if not longest:
            finals.append(np.zeros((len(lengths), stack.output_size), array_dtype(stack.dtype)))
            continue
        even = lengths[0] == longest
        x = spellings.characters[:longest, part]
        x = x if folds else backend.embed(table, np.maximum(x, 0))  # what stands behind a word's end is not read
        _, state, tape = reader._run(x, None, None if even else lengths, record=record)
        finals.append(np.swapaxes(state.h, 0, 1).reshape(len(lengths), -1))
        tapes.append((part, tape))
    x = backend.embed(np.concatenate(finals), spellings.which)
    return x, Spelled(spellings, tuple(tapes)) if record else None


def encode_backward(
    backend: Backend, table: Array, stack: Recurrent, spelled: Spelled, dx: Array
) -> tuple[Array, dict[str, Array]]:
    """dx (T, B, 2 H) -> gradients of the table and of the encoder's parameters."""
    words, sums = spelled.words, dict[str, Array]()
    dfinals = backend.embed_backward(words.which, np.ascontiguousarray(dx), len(words.lengths))
    dtable = np.zeros_like(table)
    for part, tape in spelled.groups:
        dh = dfinals[part].reshape(-1, stack.directions, dx.shape[-1] // stack.directions).swapaxes(0, 1)
        none: Any = stack.zero_state(dh.shape[1])
        dcharacters, _, grads = stack._backward(tape, None, none._replace(h=dh))
        for name, g in grads.items():
            sums[name] = sums[name] + g if name in sums else g
        if dcharacters is not None:
            characters = np.maximum(words.characters[: len(dcharacters), part], 0)
            dtable = dtable + backend.embed_backward(characters, dcharacters, len(table))
    if not sums:
        return np.zeros_like(table), {name: np.zeros_like(p) for name, p in stack.params.items()}
    for name in () if stack.cell.sees_x else stack.first:
        more, sums[name] = embedding.fold_backward(backend, table, stack.params[name], sums[name])
        dtable = dtable + more
    return dtable, sums
