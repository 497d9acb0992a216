"""Drawing texts: documents begin anew, seeds, what is refused, and how the command writes them."""

import io
import json
import sys
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled import backends
from unrolled.cli import main
from unrolled.data.text import Vocabulary, encode, read
from unrolled.models import sampling as sample
from unrolled.models.streams import streams

NAMES = ["anna", "bob", "eve", "dan", "hannah", "otto"] * 20
SMALL = {"hidden_size": 9, "num_layers": 2, "embedding_size": 5, "batch_size": 3, "seq_length": 7, "epochs": 3}


@contextmanager
def threads(count):
    before = backends.threads()
    backends.set_threads(count)
    yield
    backends.set_threads(before)


def documents(path, texts, level="char"):
    path.write_text("".join(json.dumps({"t": text}) + "\n" for text in texts))
    return read(path, level, json_field="t", documents=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    corpus = documents(folder / "names.jsonl", NAMES)
    options = SMALL | {"learning_rate": 0.02, "learn_state": True}
    return ur.LanguageModel.train(corpus, out=folder / "run", **options)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_before", "mgu"])
@pytest.mark.parametrize("prompt", [[3], [2, 0], [4, 0, 1, 2], [0]])
def test_a_document_begins_in_the_initial_state(cell, backend, prompt):
    """As if the network were run step by step by hand; 0 ends a document, and the next begins with it."""
    spec = ur.Spec(vocabulary_size=5, cell=cell, embedding_size=4, hidden_size=6, num_layers=2, learn_state=True)
    net = ur.Network(spec, backend=backend, rng=np.random.default_rng(1))
    for name, p in net.params.items():  # so that the state counts
        p[...] = 0.7 if "initial" in name else 3 * p
    drawn = list(sample.tokens(net, np.array(prompt), 100, 1.0, np.random.default_rng(3), end=0))
    rng, state, expected = np.random.default_rng(3), net.initial_state(1), []
    for token in prompt[:-1]:
        state = net.step([token], net.initial_state(1) if token == 0 else state)[1]
    token = prompt[-1]
    for u in rng.random(100):
        logits, state = net.step([token], net.initial_state(1) if token == 0 else state)
        token = sample.sample_token(logits[0], 1.0, u)
        expected.append(token)
    assert drawn == expected
    assert 1 < drawn.count(0) < 50  # so that there were documents
    without = list(sample.tokens(net, np.array(prompt), 100, 1.0, np.random.default_rng(3)))
    first = drawn.index(0) + 1
    assert 0 in prompt[:-1] or without[:first] == drawn[:first]
    assert without != drawn


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", ["lstm", "gru_reset_after", "mgu"])
@pytest.mark.parametrize("length", [0, 99])  # so that the embedding is looked up, and folded
def test_a_row_that_is_read_beside_others_has_the_bits_that_it_has_alone(cell, dtype, length):
    net = ur.Network(ur.Spec(13, cell, 5, 37, 2, dtype=dtype), rng=1)
    if net.recurrent.backend == "reference":
        pytest.skip("NumPy's products of one row and of many differ: the reference reads one at a time")
    for p in net.params.values():
        p *= 3
    tokens, read = np.random.default_rng(2).integers(0, 13, (4, 70)), net.reader(length)

    def logits(rows):
        found, states = [], net.recurrent.states.part(net.zero_state(rows))
        for step in tokens:
            one, states = read(step[:rows], states)
            found.append(one)
        return np.array(found)

    with threads(1):
        whole = logits(70)
        assert all((logits(rows) == whole[:, :rows]).all() for rows in (1, 3, 8))
    with threads(2):
        assert all((logits(rows) == whole[:, :rows]).all() for rows in (1, 3, 8, 70))


@pytest.mark.parametrize(
    ("cell", "backend", "end"),
    [
        *[("lstm", "auto", 0), ("gru_reset_before", "auto", 0), ("mgu", "auto", 0), ("lstm", "reference", 0)],
        *[("lstm", "auto", None), ("sru", "auto", None), ("lstm projected", "auto", 0)],
    ],
)
def test_a_stream_draws_what_it_draws_alone(cell, backend, end):
    """However many there are, and whatever the threads; each from its own numbers, one a token."""
    name, *projected = cell.split()
    net = ur.Network(ur.Spec(7, name, 4, 6, 2, learn_state=True, proj_size=5 * len(projected)), backend=backend, rng=1)
    for name, p in net.params.items():
        p[...] = 0.7 if "initial" in name else 2 * p
    net.params["decoder.weight"][0], net.params["decoder.bias"][0] = 0, -1  # documents of many lengths
    first = np.arange(40) % 5 + 1

    def drawn(count):
        rngs = [np.random.default_rng(n) for n in range(count)]
        return list(streams(net, net.initial_state(1), first[:count], 50, 0.9, rngs, end=end))

    expected = []
    for n, token in enumerate(first.tolist()):
        rng, state, text = np.random.default_rng(n), net.initial_state(1), []
        while len(text) < 50 and (not text or text[-1] != end):
            logits, state = net.step([token], state)
            text.append(token := sample.sample_token(logits[0], 0.9, rng.random()))
        expected.append(text)
    lengths = {len(text) for text in expected}
    assert lengths == {50} if end is None else len(lengths) > 9 and max(lengths) > sample.CHUNK
    for used in (1, 2) if backend == "auto" else (1,):
        with threads(used):
            assert all(drawn(count) == expected[:count] for count in (1, 3, 8, 40))


def test_a_token_of_each_row_is_the_first_whose_cumulated_probability_exceeds_its_number():
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(sample.IN_CACHE // 900 + 2, 901)).astype(np.float32)
    logits[1, ::2], logits[2, -1], logits[3, 1:] = -np.inf, -np.inf, -np.inf
    u = rng.random(len(logits))
    u[:5] = 0, 1 - 2**-53, 1 - 2**-53, 1 - 2**-53, 0.5
    for temperature in (0.7, 1.0, 1e-300):
        with np.errstate(over="ignore"):
            shifted = (logits - logits.max(axis=1, keepdims=True)).astype(np.float64) / temperature
        sums = np.exp(shifted).cumsum(axis=1)
        expected = [min(np.searchsorted(s, n * s[-1], side="right"), 900) for s, n in zip(sums, u, strict=True)]
        assert [sample.sample_token(row, temperature, n) for row, n in zip(logits, u, strict=True)] == expected
        assert sample._sample_rows(logits, temperature, u).tolist() == expected
    assert (sample._sample_rows(logits, 0, u) == logits.argmax(axis=1)).all()


def test_a_model_knows_whether_its_documents_are_lines(model, tmp_path):
    assert model.vocabulary.end == model.vocabulary.encode("\n")[0]
    model.save(tmp_path / "m")
    assert ur.load(tmp_path / "m").vocabulary == model.vocabulary
    assert Vocabulary.from_json(model.vocabulary.to_json()).documents
    plain = replace(model.vocabulary, documents=False)
    assert plain.to_json() == {
        "level": "char",
        "symbols": sorted({*"\n".join(NAMES)}),
    }  # as before there was such a thing
    assert not Vocabulary.from_json(plain.to_json()).documents
    with pytest.raises(ur.UnrolledError, match="documents"):
        Vocabulary.from_json(plain.to_json() | {"documents": 1})


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
@pytest.mark.parametrize(
    ("texts", "lines"),
    [
        (["a b", "c", "d a b"], True),
        (["a b", "c", ""], True),
        (["a b", "c\n"], True),
        (["a\nb", "c"], False),
        (["\na b", "c"], False),
        (["a b c"], False),
        (["a b\n\n", "c"], False),
    ],
)
def test_a_newline_ends_a_document_only_where_each_is_a_line(tmp_path, texts, lines, level):
    if level == "bpe":
        pytest.importorskip("tokenizers", reason="the extra bpe is not installed")
    corpus = documents(tmp_path / "a.jsonl", texts, level)
    vocabulary = Vocabulary.of(corpus.text, level, max_symbols=260 if level == "bpe" else 0)
    encoded = encode(corpus, vocabulary)
    known = vocabulary.with_documents(encoded.tokens, encoded.documents)
    assert (known.end is not None) == lines
    assert vocabulary.with_documents(encoded.tokens, None).end is None
    if lines:
        assert known.decode([known.end]) == "\n"


def test_a_run_of_documents_goes_on_to_the_same_bytes(tmp_path):
    corpus = documents(tmp_path / "names.jsonl", NAMES)
    ur.LanguageModel.train(corpus, out=tmp_path / "whole", **SMALL)
    ur.LanguageModel.train(corpus, out=tmp_path / "run", **(SMALL | {"epochs": 1}))
    ur.LanguageModel.resume(tmp_path / "run", epochs=3)
    for name in ("model.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def plain_of(model):
    """The same model, as if of running text."""
    return ur.LanguageModel(model.network, replace(model.vocabulary, documents=False))


def test_samples_are_whole_documents(model):
    names = list(model.samples(50, seed=1))
    assert len(names) == 50
    assert not any("\n" in name for name in names)
    assert names[0] == model.sample("", len(names[0]) + 1, seed=1)[:-1]
    assert names[:3] == list(model.samples(3, seed=1))
    assert plain_of(model).sample("an", 40, seed=2) == next(plain_of(model).samples(33, "an", 40, seed=2))
    assert all(len(rest) <= 2 for rest in model.samples(9, "ha", length=2, seed=1))
    model = plain_of(model)
    assert [len(text) for text in model.samples(3, "ha", length=70, seed=1)] == [70] * 3


def test_a_seed_or_a_generator(model):
    given = model.sample("an", 30, rng=np.random.default_rng(7))
    assert model.sample("an", 30, seed=7) == given == "".join(model.stream("an", 30, seed=np.int64(7)))
    assert model.sample("an", 30, seed=8) != given
    with pytest.raises(ur.UnrolledError, match=r"^both seed and rng are given; give one, or neither for another text"):
        model.sample("an", seed=7, rng=np.random.default_rng(7))
    with pytest.raises(ur.UnrolledError, match=r"^seed is 1\.5; it must be a whole number, 0 or more$"):
        model.sample("an", seed=1.5)
    with pytest.raises(ur.UnrolledError, match=r"^prompt is None; expected a text$"):
        model.sample(None)
    with pytest.raises(ur.UnrolledError, match=r"^length is -1; "):
        model.sample("an", -1)
    with pytest.raises(ur.UnrolledError, match=r"^n is 1\.5; "):
        next(model.samples(1.5))


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_sampler_of_tokens_says_in_a_line_what_does_not_fit(backend):
    net = ur.Network(ur.Spec(5, "lstm", 4, 6, 2), backend=backend)
    wrong = [[1, 2], "x", [[1], [2, 3]], (np.zeros((2, 1, 5)),) * 2, np.zeros((2, 1, 6)), (np.zeros((2, 2, 6)),) * 2, 3]
    for state in wrong:
        with pytest.raises(ur.UnrolledError, match=r"^state"):
            sample.TokenSampler(net, state, 3)
    sampler = sample.TokenSampler(net, None, 3)
    with pytest.raises(ur.UnrolledError, match=r"^state"):
        sampler.start((np.zeros((1, 1, 6)),) * 2)
    for token in (1.5, "a", True, -1, None):
        with pytest.raises(ur.UnrolledError, match=r"^token is .*; it must be a whole number, 0 or more$"):
            sampler.sample(token, [0.5], 1)
    with pytest.raises(ur.UnrolledError, match=r"^token is 5; this network knows 0 to 4$"):
        sampler.sample(5, [0.5], 1)
    for u in ([1.0], [-0.1], [np.nan], "x", None, 0.5, [[0.5]], [[0.1], [0.1, 0.2]], [True], [0.5j]):
        with pytest.raises(ur.UnrolledError, match=r"^u "):
            sampler.sample(1, u, 1)
    with pytest.raises(ur.UnrolledError, match=r"^temperature is 'hot'; "):
        sampler.sample(1, [0.5], "hot")
    with pytest.raises(ur.UnrolledError, match=r"^network is 3; expected a Network$"):
        sample.TokenSampler(3, None, 3)
    assert list(sampler.sample(np.int32(1), [], np.float32(0.5))) == []


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("logits", [[0.0, np.nan, 1.0], [0.0, np.inf, 1.0], [-np.inf, -np.inf, -np.inf]])
def test_nothing_is_drawn_from_outputs_that_are_no_numbers(logits, temperature):
    with pytest.raises(ur.UnrolledError, match=r"^the network's outputs are not finite: its weights are too large$"):
        sample.sample_token(np.array(logits), temperature, 0.5)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_weights_that_overflow_are_said_once_something_is_drawn(temperature, backend):
    net = ur.Network(ur.Spec(7, "lstm", 4, 5, 1), backend=backend)
    net.params["decoder.weight"][...] = 3e38
    net.params["recurrent.bias_ih_l0"][...] = 50
    with pytest.raises(ur.UnrolledError, match=r"^the network's outputs are not finite: its weights are too large$"):
        list(sample.tokens(net, np.array([1, 2, 3]), 5, temperature, np.random.default_rng(0)))


def test_words_that_a_model_reads_as_unknown_are_said(capsys):
    model = ur.LanguageModel.train("the cat sat on the mat .\n" * 30, level="word", **SMALL)
    with pytest.warns(
        ur.UnrolledWarning, match=r"^the model doesn't list 'dog', 'dug' of the prompt; it reads <unk> ins"
    ):
        model.sample("the dog dug dog", 3, seed=1)
    many = " ".join(f"w{n}" for n in range(9))
    with pytest.warns(ur.UnrolledWarning, match=r"'w4' and 4 more of the prompt"):
        model.sample(many, 3, seed=1)


def command(*args):
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return end.value.code


def test_the_command_draws_documents_a_line_each(model, tmp_path, capsys):
    model.save(tmp_path / "m")
    assert command("sample", tmp_path / "m", "--n", 6, "--seed", 1, "--prompt", "h") == 0
    assert capsys.readouterr() == ("".join(f"h{rest}\n" for rest in model.samples(6, "h", seed=1)), "")
    other = ur.LanguageModel(model.network, replace(model.vocabulary, documents=False))
    other.save(tmp_path / "m")
    assert command("sample", tmp_path / "m", "--n", 3, "--length", 8, "--seed", 1) == 0
    assert capsys.readouterr().out == "\n\n".join(other.samples(3, "", 8, seed=1)) + "\n"
    assert command("sample", tmp_path / "m", "--n", 0) == 2


@pytest.mark.parametrize("terminal", [True, False])
def test_a_model_cannot_speak_to_the_terminal(tmp_path, monkeypatch, terminal):
    """What it writes is escaped there, and left as it is in a file."""
    text = "\x1b[2Ja\u202eb\tc\n" * 40
    model = ur.LanguageModel.train(text, **SMALL)
    model.save(tmp_path / "m")

    class Output(io.StringIO):
        def isatty(self):
            return terminal

    monkeypatch.setattr(sys, "stdout", Output())
    assert command("sample", tmp_path / "m", "--prompt", "\x1b[2", "--length", 200, "--seed", 1) == 0
    written = sys.stdout.getvalue()
    raw = "\x1b[2" + model.sample("\x1b[2", 200, seed=1) + "\n"
    assert "\n" in raw
    assert written == (raw.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e") if terminal else raw)


@pytest.mark.parametrize(
    ("temperature", "u", "said"),
    [
        (-1, 0.5, "temperature is -1; it must be 0 (greedy) or a positive number"),
        (1, np.nan, "u is nan; it must be at least 0 and below 1"),
        (0, 1.0, "u is 1.0; it must be at least 0 and below 1"),
    ],
)
def test_a_number_that_means_no_draw_is_refused(temperature, u, said):
    with pytest.raises(ur.UnrolledError) as error:
        sample.sample_token(np.zeros(3), temperature, u)
    assert str(error.value) == said


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_a_sampler_of_tokens_has_drawn_before_it_returns(backend):
    """On both backends alike: whoever takes only the first token still goes on behind the last."""
    net = ur.Network(ur.Spec(5, hidden_size=4, num_layers=1, dtype="float64"), backend=backend, rng=1)
    sampler = sample.TokenSampler(net, net.zero_state(1), 3)
    drawn = sampler.sample(2, [0.1, 0.6, 0.9], 1.0)
    assert isinstance(drawn, list)
    _, state = net(np.array([[2], *([token] for token in drawn[:2])]), None)
    expected = sample.sample_token(net.step(np.array([4]), state)[0][0], 1.0, 0.3)
    assert sampler.sample(4, [0.3], 1.0) == [expected]


def test_what_samples_can_not_draw_is_said_at_once(model):
    with pytest.raises(ur.UnrolledError, match=r"^temperature is -1; "):
        model.samples(2, temperature=-1)
    old = np.random.Generator(np.random.RandomState(1)._bit_generator)
    with pytest.raises(ur.UnrolledError, match=r"^rng can't be split into streams: "):
        model.samples(2, rng=old)
    with pytest.raises(ur.UnrolledError, match=r"^there are 2 rngs and 3 tokens; each stream has one of both$"):
        streams(model.network, None, [1, 2, 3], 5, 1.0, [np.random.default_rng(1)] * 2)
    with pytest.raises(ur.UnrolledError, match=r"^prompt are float64; expected integers"):
        sample.tokens(model.network, [1.5], 3, 1.0, 1)
    with pytest.raises(ur.UnrolledError, match=r"^prompt run from 0 to 99; they must be at least 0 and below "):
        sample.tokens(model.network, [0, 99], 3, 1.0, 1)
