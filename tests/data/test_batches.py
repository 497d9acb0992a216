"""Lanes: which token is whose target, exactly, and what is said about bad input."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.batches import Batch, Lanes, as_tokens, lanes, tokens_needed
from unrolled.errors import UnrolledError


def message(call, *args, **kwargs):
    with pytest.raises(UnrolledError) as caught:
        call(*args, **kwargs)
    text = str(caught.value)
    assert "\n" not in text
    return text


class Stubborn:
    """What has a conversion of its own that fails, as a tensor on another device has."""

    def __array__(self, *_args, **_kw):
        raise RuntimeError("on another device")


def sizes(seed, count=40):
    """(N, B, T) with N from the fewest that are enough."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        B, T = (int(n) for n in rng.integers(1, 9, size=2))
        yield int(rng.integers(tokens_needed(B, T), tokens_needed(B, T) + 100)), B, T


# --- lanes ---


def test_two_lanes_of_a_small_text_are_these_numbers():
    data = lanes(np.arange(12), batch_size=2, seq_length=3)
    assert (len(data), data.lane_length, data.targets) == (2, 5, 10)
    (x0, y0), (x1, y1) = data
    assert x0.tolist() == [[0, 5], [1, 6], [2, 7]]
    assert y0.tolist() == [[1, 6], [2, 7], [3, 8]]
    assert x1.tolist() == [[3, 8], [4, 9]]
    assert y1.tolist() == [[4, 9], [5, 10]]


@pytest.mark.parametrize(("N", "B", "T"), list(sizes(seed=1)))
def test_reassembled_lanes_are_the_text(N, B, T):
    tokens = np.random.default_rng(N).integers(0, 50, size=N)
    data = lanes(tokens, B, T)
    L, chunks = (N - 1) // B, list(data)
    x, y = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    assert x.shape == y.shape == (L, B)
    assert x.T.reshape(-1).tolist() == tokens[: B * L].tolist()
    assert y.T.reshape(-1).tolist() == tokens[1 : B * L + 1].tolist()
    assert data.targets == sum(y.size for _, y in chunks) == B * L


@pytest.mark.parametrize(("N", "B", "T"), list(sizes(seed=4)))
def test_varied_chunks_are_the_text_too_and_none_is_empty(N, B, T):
    tokens = np.random.default_rng(N).integers(0, 50, size=N)
    data = lanes(tokens, B, T, documents=np.arange(1, N, 7), varied=True)
    whole = lanes(tokens, B, data.lane_length, documents=np.arange(1, N, 7))[0]
    for epoch in range(3):
        of_epoch = data.of_epoch([5, epoch])
        chunks = [of_epoch(k) for k in range(len(data))]
        assert all(len(chunk.x) for chunk in chunks)
        for name in ("x", "y", "starts"):
            assert np.array_equal(np.concatenate([getattr(chunk, name) for chunk in chunks]), getattr(whole, name))
        assert [chunk.share * T for chunk in chunks] == pytest.approx([len(chunk.x) for chunk in chunks])


def test_varied_lengths_are_drawn_as_merity_and_others_draw_them():
    data = lanes(np.arange(70 * 4000 + 1), 1, 70, varied=True)
    one, other = (
        np.array([len(of_epoch(k).x) for k in range(len(data))])
        for of_epoch in (data.of_epoch([1, 0]), data.of_epoch([1, 1]))
    )
    assert (one != other).any()
    usual = one[one > 53]
    # 70 / (1 - 0.05 / 2), since there are as many as without; a twentieth of 4,000 is halved, give or take 14
    assert usual.mean() == pytest.approx(71.8, abs=0.3)
    assert usual.std() == pytest.approx(5.1, abs=0.2)
    assert 150 < (one <= 53).sum() < 250
    fixed = lanes(np.arange(71), 1, 35)
    assert [len(fixed.of_epoch([1, 0])(k).x) for k in (0, 1)] == [35, 35]
    assert fixed.of_epoch([1, 0])(0).share == 1


@pytest.mark.parametrize(("N", "B", "T"), list(sizes(seed=2)))
def test_every_target_is_used_once_but_for_fewer_than_a_batch_at_the_end(N, B, T):
    targets = sorted(int(t) for _, y in lanes(range(N), B, T) for t in y.reshape(-1))
    assert targets == list(range(1, len(targets) + 1))
    assert 0 <= N - 1 - len(targets) < B


@pytest.mark.parametrize(("N", "B", "T"), list(sizes(seed=3)))
def test_each_chunk_continues_each_row_where_the_last_one_stopped(N, B, T):
    chunks = list(lanes(range(N), B, T))
    for (x, y), (later, _) in zip(chunks, chunks[1:], strict=False):
        assert later[0].tolist() == y[-1].tolist() == (x[-1] + 1).tolist()
    assert [x.shape for x, _ in chunks[:-1]] == [(T, B)] * (len(chunks) - 1)
    assert 1 <= len(chunks[-1].x) <= T


def test_a_chunk_is_found_by_its_number_from_either_end():
    data = lanes(range(100), batch_size=3, seq_length=7)
    chunks = list(data)
    assert len(chunks) == len(data) == 5
    for k, (x, y) in enumerate(chunks):
        for number in (k, k - len(data), np.int64(k)):
            assert data[number].x.tolist() == x.tolist()
            assert data[number].y.tolist() == y.tolist()


@pytest.mark.parametrize("k", [5, -6])
def test_a_chunk_outside_the_epoch_is_an_index_error(k):
    with pytest.raises(IndexError, match=rf"^chunk {k} is outside an epoch of 5 chunks$"):
        lanes(range(100), batch_size=3, seq_length=7)[k]


def test_lanes_can_be_read_again_and_say_what_they_are():
    data = lanes(range(3000), batch_size=2, seq_length=5)
    assert repr(data) == "<2 lanes of 1,499 steps: 300 chunks of 5>"
    assert [x.tolist() for x, _ in data] == [x.tolist() for x, _ in data]
    assert isinstance(data, Lanes)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4"])
def test_any_integer_type_gives_new_contiguous_int32(dtype):
    tokens = np.arange(23, dtype=dtype)
    for x, y in lanes(tokens, 3, 4):
        for a in (x, y):
            assert a.dtype == np.dtype("int32")
            assert a.flags.c_contiguous
            assert a.flags.writeable
            assert not np.shares_memory(a, tokens)


def test_lists_ranges_and_strided_views_are_read_alike():
    tokens = [5, 1, 4, 1, 3, 1, 2, 1, 0, 1]
    wide = np.repeat(np.array(tokens), 3)[::3]
    reverse = np.array(tokens[::-1])[::-1]
    want = [(x.tolist(), y.tolist()) for x, y in lanes(tokens, 2, 3)]
    for same in (np.array(tokens), wide, reverse, tuple(tokens)):
        assert [(x.tolist(), y.tolist()) for x, y in lanes(same, 2, 3)] == want


def test_a_memory_mapped_array_is_viewed_not_copied(tmp_path):
    path = tmp_path / "tokens.bin"
    np.arange(1000, dtype=np.uint16).tofile(path)
    tokens = np.memmap(path, dtype=np.uint16, mode="r")
    data = lanes(tokens, batch_size=4, seq_length=10)
    assert np.shares_memory(data.tokens, tokens)
    assert data[1].x[0].tolist() == [10, 259, 508, 757]


def test_the_fewest_tokens_give_one_full_chunk():
    assert tokens_needed(4, 6) == 25
    data = lanes(range(25), 4, 6)
    assert [x.shape for x, _ in data] == [(6, 4)]


def test_too_short_a_text_says_how_much_is_needed_and_what_fits():
    assert message(lanes, range(1200), 50, 50) == (
        "the text has 1,200 tokens; batch size 50 x sequence length 50 needs 2,501. "
        "Give more text, or smaller batches or sequences (a batch of 23 fits)"
    )
    assert message(lanes, range(24), 4, 24, name="the validation part") == (
        "the validation part has 24 tokens; batch size 4 x sequence length 24 needs 97. "
        "Give more text, or smaller batches or sequences"
    )
    assert message(lanes, [], 1, 1) == (
        "the text has 0 tokens; batch size 1 x sequence length 1 needs 2. "
        "Give more text, or smaller batches or sequences"
    )


@pytest.mark.parametrize(
    ("number", "unit", "said"), [(1, "word", "1 word; "), (0, "byte", "0 bytes; "), (2, "character", "2 characters; ")]
)
def test_a_text_too_short_is_counted_in_its_level_s_units(number, unit, said):
    text = message(lanes, range(number), 2, 2, name="the training part", unit=unit)
    assert text.startswith(f"the training part has {said}")


@pytest.mark.parametrize(("level", "said"), [("char", "1 character; "), ("word", "1 word; "), ("byte", "1 byte; ")])
def test_a_model_s_text_too_short_is_counted_in_its_units(level, said):
    text = message(ur.LanguageModel.train, b"a" if level == "byte" else "a", level=level, val_fraction=0.0)
    assert said in text


def test_where_documents_begin_is_checked():
    assert message(lanes, range(50), 2, 2, documents=[0.5]) == (
        "documents are float64; expected integers, which Vocabulary.encode makes of a text"
    )
    assert message(lanes, range(50), 2, 2, documents=[4, 2]) == (
        "documents must begin in rising order; sort where they begin"
    )
    data = lanes(range(12), 2, 3, documents=[1, 8])
    assert data.starts(0).T.tolist() == [[False, True, False], [False, False, False]]


@pytest.mark.parametrize("B_fits", [1, 5])
def test_the_batch_size_said_to_fit_fits(B_fits):
    N = tokens_needed(B_fits, 7)
    assert message(lanes, range(N), B_fits + 1, 7).endswith(f"(a batch of {B_fits} fits)")
    assert len(lanes(range(N), B_fits, 7)) == 1


# --- bad tokens and sizes ---


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([0.5, 1.5], "tokens are float64; expected integers, which Vocabulary.encode makes of a text"),
        (np.zeros(9, "float32"), "tokens are float32; expected integers, which Vocabulary.encode makes of a text"),
        ([True, False], "tokens are bool; expected integers, which Vocabulary.encode makes of a text"),
        (["a", "b"], "tokens are <U1; expected integers, which Vocabulary.encode makes of a text"),
        ([2**70], "tokens are object; expected integers, which Vocabulary.encode makes of a text"),
        ("text", "tokens are str; expected integers in one dimension (N,)"),
        (7, "tokens are int; expected integers in one dimension (N,)"),
        (np.zeros((3, 4), int), "tokens are of shape (3, 4); expected integers in one dimension (N,)"),
        (
            np.ma.masked_equal([1, 2, 3], 2),
            "tokens has masked entries; fill them, or leave their steps out with lengths",
        ),
        (Stubborn(), "tokens is a Stubborn that can't be made an array: on another device"),
        ([[1, 2], [3]], "tokens has rows of unequal length; expected an array of numbers"),
    ],
)
def test_tokens_that_are_no_integers_in_a_row_are_refused(tokens, said):
    assert message(as_tokens, tokens) == said
    assert message(lanes, tokens, 1, 1) == said


@pytest.mark.parametrize("size", [0, -3, 1.5, "8", None, True])
@pytest.mark.parametrize("name", ["batch_size", "seq_length"])
def test_sizes_that_are_no_positive_whole_numbers_are_refused(size, name):
    given = {"batch_size": 2, "seq_length": 2, name: size}
    said = f"{name} is {size!r}; it must be a whole number, 1 or more"
    assert message(lanes, range(50), **given) == said
    assert message(tokens_needed, **given) == said


@pytest.mark.parametrize(
    ("token", "dtype"), [(-5, "int32"), (-5, "int64"), (2**31, "uint32"), (2**31, "int64"), (2**63, "uint64")]
)
def test_a_token_that_is_negative_or_does_not_fit_is_refused_when_read(token, dtype):
    tokens = np.zeros(9, dtype)
    tokens[6] = token
    said = f"the text holds the token {token}; tokens go from 0 to 2147483647"
    assert message(list, lanes(tokens, 2, 4)) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"documents": [1.5]}, "documents are float64; expected integers, which Vocabulary.encode makes of a text"),
        ({"documents": [3, 12]}, "documents run from 3 to 12; they must be at least 0 and below 12"),
        ({"documents": [5, 3]}, "documents must begin in rising order; sort where they begin"),
        ({"tokens": [0.5] * 12}, "tokens are float64; expected integers, which Vocabulary.encode makes of a text"),
        ({"batch_size": 0}, "batch_size is 0; it must be a whole number, 1 or more"),
        ({"seq_length": 2.0}, "seq_length is 2.0; it must be a whole number, 1 or more"),
    ],
)
@pytest.mark.parametrize("made", [lanes, Lanes])
def test_lanes_say_the_same_however_they_are_made(made, given, said):
    assert message(made, **{"tokens": range(12), "batch_size": 2, "seq_length": 3} | given) == said


def test_a_chunk_has_a_whole_number():
    data = lanes(range(12), 2, 3)
    assert message(lambda: data["x"]) == "a chunk's number is 'x'; it must be a whole number"
    with pytest.raises(IndexError, match=r"^chunk a number of 16,610 bits is outside an epoch of 2 chunks$"):
        data[10**5000]


@pytest.mark.parametrize(
    ("shape", "kind", "rows"),
    [((5, 4), "i", (5, 2)), ((4,), "i", (2,)), ((4,), "f", (2,)), ((4, 3), "f", (2, 3)), ((5, 4, 3), "f", (5, 2, 3))],
)
def test_rows_of_a_batch_have_their_own_targets(shape, kind, rows):
    """Classes and numbers of every step, and of every row."""
    y = np.arange(np.prod(shape)).reshape(shape).astype(kind)
    part = Batch(np.zeros((5, 4)), y, lengths=np.arange(4)).rows(slice(1, 3))
    assert part.y.shape == rows
    assert part.y.ravel()[0] == (y[0, 1] if rows[0] == 5 else y[1]).ravel()[0]
    assert part.lengths.tolist() == [1, 2]
