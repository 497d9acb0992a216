"""A tagger stands on the same loop, file and folder: it learns, resumes to the bit, saves and loads."""

import shutil

import numpy as np
import pytest

import unrolled as ur
from unrolled.data.padded import Padded
from unrolled.data.spelled import groups
from unrolled.data.tagged import Tagged, read_tagged
from unrolled.models import files
from unrolled.models.tagger import Tagger
from unrolled.training.callbacks import Callback
from unrolled.training.trainer import CHECKPOINT, LAST, MODEL, accumulated

NOUNS, VERBS = ("cat", "dog", "fish", "saw"), ("saw", "ate", "met")
SMALL = {"hidden_size": 12, "num_layers": 1, "embedding_size": 9, "batch_size": 4, "epochs": 12, "seed": 3}
SMALL |= {"learning_rate": 0.02, "sample_length": 0, "min_count": 1, "checkpoint_every": 7, "val_fraction": 0.2}
SMALL |= {"dropout": 0, "input_dropout": 0, "word_dropout": 0, "spelling": False, "schedule": "constant"}


def sentences(count, seed=0):
    """'the NOUN VERB the NOUN' and shorter ones: "saw" is a noun or a verb by its place."""
    rng = np.random.default_rng(seed)
    found = Tagged([], [])
    for _ in range(count):
        words = ["the", str(rng.choice(NOUNS)), str(rng.choice(VERBS))]
        tags = ["DET", "NOUN", "VERB"]
        if rng.random() < 0.5:
            words, tags = [*words, "the", str(rng.choice(NOUNS))], [*tags, "DET", "NOUN"]
        found.words.append(words)
        found.tags.append(tags)
    return found


def conllu(found):
    lines = []
    for words, tags in zip(*found, strict=True):
        lines += ["# sent_id = 1", "1-2\tthe\t_\t_\t_\t_\t_\t_\t_\t_"]
        lines += [
            f"{n}\t{w}\t{w}\t{t}\tX{t}\t_\t0\troot\t_\t_" for n, (w, t) in enumerate(zip(words, tags, strict=True), 1)
        ]
        lines += ["9.1\tnothing\t_\tVERB\t_\t_\t_\t_\t_\t_", ""]
    return "\n".join(lines)


@pytest.fixture
def treebank(tmp_path):
    path = tmp_path / "bank.conllu"
    path.write_text(conllu(sentences(60)))
    return path


def test_conllu_is_its_words_and_tags(treebank):
    assert read_tagged(treebank) == sentences(60)
    assert read_tagged(treebank, "xpos").tags[0][0] == "XDET"


@pytest.mark.parametrize("odd", [None, 5, b"a", [5]])
def test_what_is_no_sentence_or_path_is_said(odd):
    for call in (
        lambda: Tagger.train(odd),
        lambda: Tagger.train(sentences(9), val=odd or 7),
        lambda: read_tagged("a", odd),
    ):
        with pytest.raises(ur.UnrolledError) as error:
            call()
        assert "\n" not in str(error.value)
    tagger = Tagger.train(sentences(12), **SMALL | {"epochs": 0.4})
    with pytest.raises(ur.UnrolledError, match=r"^the sentence is .*; expected words$"):
        tagger.tag(odd)
    with pytest.raises(
        ur.UnrolledError,
        match=r"^the tagger has 9 words, 1 tags, 0 .* network 9 words, 3 tags, ",
    ):
        Tagger(tagger.network, tagger.vocabulary, ["a"])
    assert repr(tagger) == "Tagger(lstm, 1 x 12, 9 words, 3 tags)"


def test_shares_are_of_all_sentences():
    tagger = Tagger.train(sentences(100), **SMALL | {"epochs": 0.1, "val_fraction": 0.3, "test_fraction": 0.5})
    assert tagger.result.steps == 1  # of 5: 20 sentences, 4 a step, 0.1 epochs


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_a_batch_of_fewer_rows_than_parts_is_run_in_as_many_as_it_has(parts):
    """Nine sentences, eight a step: the last batch has one row."""
    options = SMALL | {"batch_size": 8, "epochs": 2, "val_fraction": 0, "dtype": "float64", "optimizer": "sgd"}
    whole, other = (Tagger.train(sentences(9), accumulate=n, **options) for n in (1, parts))
    for name, p in whole.params.items():
        np.testing.assert_allclose(other.params[name], p, rtol=0, atol=1e-13)  # sums in another order


def test_batches_hold_every_sentence_once_and_padding_counts_nothing():
    rng = np.random.default_rng(1)
    x = [rng.integers(1, 9, n) for n in (3, 1, 5, 2, 2)]
    data = Padded(x, [a + 1 for a in x], 2)
    assert (len(data), data.targets) == (3, 13)
    seen = []
    for k in range(3):
        batch = data[k]
        assert batch.targets == batch.lengths.sum() == batch.weights.sum()
        for row, n in enumerate(batch.lengths):
            seen.append(batch.x[:n, row].tolist())
            assert batch.y[:n, row].tolist() == (batch.x[:n, row] + 1).tolist()
            assert not batch.x[n:, row].any()
    assert sorted(seen) == sorted(a.tolist() for a in x)


def test_it_learns_what_a_word_is_from_its_place(treebank):
    tagger = Tagger.train(treebank, test=sentences(20, seed=9), **SMALL)
    assert tagger.result.test["accuracy"] == 1.0
    assert tagger.tag("the saw saw the saw") == [
        ("the", "DET"), ("saw", "NOUN"), ("saw", "VERB"), ("the", "DET"), ("saw", "NOUN"),
    ]  # fmt: skip
    assert tagger.tag([]) == []


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_padding_changes_nothing(backend):
    """The gradient of a batch is the mean of its sentences', each alone, by their numbers of words."""
    tagger = Tagger.train(sentences(12), **SMALL | {"epochs": 1, "backend": backend, "dtype": "float64"})
    batch = Padded([np.array([1, 4, 2]), np.array([3])], [np.array([0, 1, 2]), np.array([1])], 2)[0]
    loss, grads, _ = tagger.loss_and_gradients(batch, None, None)
    total, sums = 0.0, dict.fromkeys(grads, 0.0)
    for row, n in enumerate(batch.lengths):
        alone, own, _ = tagger.network.loss_and_gradients(batch.x[:n, row : row + 1], batch.y[:n, row : row + 1])
        total += alone * n / 4
        sums = {name: sums[name] + own[name] * n / 4 for name in sums}
    assert loss == pytest.approx(total, rel=1e-14)  # sums in another order
    for name, g in grads.items():
        np.testing.assert_allclose(g, sums[name], rtol=0, atol=1e-14)


@pytest.mark.parametrize("parts", [2, 3])
def test_parts_of_unequal_sentences_have_the_loss_and_gradients_of_the_whole(parts):
    tagger = Tagger.train(sentences(12), **SMALL | {"epochs": 1, "dtype": "float64"})
    x = [np.array([1, 4, 2]), np.array([3]), np.array([2, 2]), np.array([4, 1, 1, 3, 2])]
    batch = Padded(x, [a % 3 for a in x], 4)[0]
    (loss, grads, _), (other, others, _) = (accumulated(tagger, batch, None, None, n) for n in (1, parts))
    assert other == pytest.approx(loss, rel=1e-14)  # sums in another order
    for name, g in grads.items():
        np.testing.assert_allclose(others[name], g, rtol=0, atol=1e-14)


class Heard(Callback):
    def started(self, facts):
        self.notes = facts.notes


class Stop(Callback):
    def __init__(self, step):
        self.step = step

    def stepped(self, progress):
        if progress.step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("step", [5, 14, 31])
def test_it_resumes_to_the_bit(treebank, tmp_path, step, accumulate):
    """Batches come in another order each epoch, and the order is found again."""
    options = SMALL | {"dropout": 0.2, "epochs": 3, "eval_every": 6, "accumulate": accumulate}
    whole = Tagger.train(treebank, out=tmp_path / "whole", **options)
    with pytest.raises(ur.Interrupted):
        Tagger.train(treebank, out=tmp_path / "run", callbacks=[Stop(step)], **options)
    again = Tagger.resume(tmp_path / "run")
    assert [e.val_loss for e in again.result.history] == [e.val_loss for e in whole.result.history]
    assert again.result.history[-1].metrics["accuracy"] > 0.5
    for name in (MODEL, LAST):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_its_file_loads_as_a_tagger(tmp_path):
    tagger = Tagger.train(sentences(30), **SMALL | {"epochs": 2})
    tagger.save(tmp_path / "t.safetensors")
    again = ur.load(tmp_path / "t.safetensors")
    assert isinstance(again, Tagger)
    assert again.tag("the cat met") == tagger.tag("the cat met")
    again.save(tmp_path / "u.safetensors")
    assert (tmp_path / "u.safetensors").read_bytes() == (tmp_path / "t.safetensors").read_bytes()


def test_what_is_of_another_kind_is_said(treebank, tmp_path):
    Tagger.train(treebank, out=tmp_path / "run", **SMALL | {"epochs": 1})
    with pytest.raises(ur.UnrolledError, match="this is a run of a 'tagger', not of a language model"):
        ur.LanguageModel.resume(tmp_path / "run")
    with pytest.raises(ur.UnrolledError, match="is a tagger, no language model"):
        files.load(tmp_path / "run" / MODEL)
    assert (tmp_path / "run" / CHECKPOINT).exists()


def test_a_tag_that_only_held_out_sentences_have_is_listed_and_said(treebank):
    odd = Tagged([["the"]], [["ODD"]])
    heard = Heard()
    tagger = Tagger.train(treebank, val=odd, callbacks=[heard], **SMALL | {"epochs": 0.1})
    assert tagger.tags == ("DET", "NOUN", "ODD", "VERB")
    assert tagger.result.best.metrics["accuracy"] == 0
    assert heard.notes == ("1 tag of the part to validate can't be learnt, no sentence to train on has them: ODD",)


def test_a_tag_that_the_model_does_not_know_is_refused_at_scoring(treebank, tmp_path):
    tagger = Tagger.train(treebank, **SMALL | {"epochs": 0.1})
    with pytest.raises(ur.UnrolledError, match=r"^no tag of the model is called 'NOUM'; did you mean 'NOUN'\?"):
        tagger.score(Tagged([["the"]], [["NOUM"]]))
    (tmp_path / "a.tsv").write_text("the\tDET\n\ncat\tNOUM\n")
    for call in (tagger.score, tagger.scored):
        with pytest.raises(ur.UnrolledError, match=r"a.tsv, line 3: no tag of the model is called 'NOUM'; did you"):
            call(tmp_path / "a.tsv")


def test_a_run_whose_data_has_a_new_tag_does_not_go_on(tmp_path):
    (tmp_path / "a.tsv").write_text("the\tDET\n\ncat\tNOUN\n\nsat\tVERB\n")
    Tagger.train(tmp_path / "a.tsv", out=tmp_path / "run", **SMALL | {"epochs": 1})
    (tmp_path / "a.tsv").write_text("the\tDET\n\ncat\tNOUM\n\nsat\tVERB\n")
    said = "^the data of .* is not as it was: no tag of the model is called 'NOUM'; did you mean 'NOUN'"
    with pytest.raises(ur.UnrolledError, match=said):
        Tagger.resume(tmp_path / "run", epochs=2)


def test_no_output_may_have_infinite_options(treebank):
    with pytest.raises(ur.UnrolledError, match="did you mean 'hidden_size'"):
        Tagger.train(treebank, hiden_size=3)


STEMS = [a + b for a in "bdfgklmnprst" for b in ("a", "e", "i", "o", "u", "ar", "el", "on")]
SPELLED = SMALL | {"spelling": True, "characters_embedding_size": 6, "characters_hidden_size": 8, "min_count": 2}


def made_up(stems, seed=0):
    """Words that occur once and end in their tag: -ing is a verb, -ly an adverb, -s a noun."""
    rng = np.random.default_rng(seed)
    ends = {"ing": "VERB", "ly": "ADV", "s": "NOUN"}
    found = Tagged([], [])
    for stem in stems:
        chosen = rng.choice(list(ends), 3).tolist()
        found.words.append([stem + "x" * k + end for k, end in enumerate(chosen)])
        found.tags.append([ends[end] for end in chosen])
    return found


@pytest.mark.parametrize("crf", [False, True])
def test_an_unknown_word_is_known_by_its_spelling(crf, tmp_path):
    options = SPELLED | {"crf": crf, "epochs": 14, "val_fraction": 0, "learning_rate": 0.03}
    tagger = Tagger.train(made_up(STEMS[::2]), **options)
    assert len(tagger.vocabulary) == 2  # no word occurs twice
    unseen = made_up(STEMS[1::2], seed=1)
    assert tagger.score(unseen)["accuracy"] > 0.95
    tagger.save(tmp_path / "t.safetensors")
    again = ur.load(tmp_path / "t.safetensors")
    assert again.predict(unseen.words) == tagger.predict(unseen.words)
    assert (again.crf, again.characters) == (crf, tagger.characters)
    again.save(tmp_path / "u.safetensors")
    assert (tmp_path / "u.safetensors").read_bytes() == (tmp_path / "t.safetensors").read_bytes()
    alone = Tagger.train(made_up(STEMS[::2]), **options | {"spelling": False})
    assert alone.score(unseen)["accuracy"] < 0.6


@pytest.mark.parametrize("crf", [False, True])
def test_with_spelling_and_masks_it_resumes_to_the_bit(treebank, tmp_path, crf):
    options = SPELLED | {"crf": crf, "dropout": 0.2, "input_dropout": 0.1, "word_dropout": 0.3, "epochs": 2}
    whole = Tagger.train(treebank, out=tmp_path / "whole", **options)
    with pytest.raises(ur.Interrupted):
        Tagger.train(treebank, out=tmp_path / "run", callbacks=[Stop(11)], **options)
    moved = tmp_path / "moved.conllu"
    treebank.rename(moved)
    with pytest.raises(ur.UnrolledError, match="no such file"):
        Tagger.resume(tmp_path / "run")
    again = Tagger.resume(tmp_path / "run", moved)
    assert [e.val_loss for e in again.result.history] == [e.val_loss for e in whole.result.history]
    for name in (MODEL, LAST):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


NAMES = "-DOCSTART- -X- O\n\nAnn NNP B-PER\nLee NNP I-PER\nsaw VBD O\nRome NNP B-LOC\n\nit PRP O\nrained VBD O\n"


@pytest.fixture
def names(tmp_path):
    (tmp_path / "names.conll").write_text(NAMES)
    return tmp_path / "names.conll"


def same_again(path):
    """Another file of the same content: one file is not there to train on and to validate on."""
    return shutil.copyfile(path, path.with_name("again.conll"))


@pytest.mark.parametrize("spelling", [True, False])
def test_a_preview_is_a_sentence_that_is_held_out(names, spelling):
    tagger = Tagger.train(names, val=same_again(names), **SMALL | {"epochs": 1, "min_count": 1, "spelling": spelling})
    seen = {tagger.preview(np.random.default_rng(seed), 99) for seed in range(9)}
    assert len(seen) == 2
    for line in seen:
        words = [part.partition("/")[0] for part in line.split() if "/" in part]
        assert [word.lower() for word in words] in (["ann", "lee", "saw", "rome"], ["it", "rained"])
        answers = dict(zip(words, (right for _, right in tagger.tag(words)), strict=True))
        assert all(f"{word}/{answers[word]}" in line for word in words)
    short = tagger.preview(np.random.default_rng(0), 9)
    assert short.endswith("...")


def test_spans_decide_and_are_scored(names):
    options = SMALL | {"epochs": 40, "crf": True}
    tagger = Tagger.train(names, val=same_again(names), **options)
    assert tagger.decides == "f1"
    assert tagger.result.best.metrics["f1"] == 1.0
    assert tagger.score(names)["f1"] == 1.0
    figures, lines = tagger.scored(names)
    assert (figures["words"], figures["sentences"], figures["f1"]) == (6, 2, 1.0)
    assert figures["spans"]["PER"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "there": 1, "predicted": 1}
    assert figures["tags"]["O"]["there"] == 3
    assert figures["confusion"]["labels"] == ["B-LOC", "B-PER", "I-PER", "O"]
    assert np.trace(figures["confusion"]["counts"]) == 6
    assert lines[0].startswith(
        "6 words in 2 sentences: accuracy 100.00%, precision 100.00%, recall 100.00%, F1 100.00%"
    )
    assert sum(line.split()[:1] == ["LOC"] for line in lines) == 1
    assert lines[-1].split() == ["O", "0", "0", "0", "3"]


def test_its_confusions_are_drawn(names):
    pytest.importorskip("matplotlib")
    tagger = Tagger.train(names, **SMALL | {"epochs": 0.1})
    (axes, _) = tagger.draw(names).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == list(tagger.tags)


@pytest.mark.parametrize("most", [1, 5, 10_000])
def test_figures_do_not_depend_on_what_is_tagged_together(monkeypatch, most):
    tagger = Tagger.train(sentences(12), **SPELLED | {"epochs": 1, "dtype": "float64"})
    before = tagger.score(sentences(30, seed=5))
    monkeypatch.setattr("unrolled.models.tagger.groups", lambda lengths: groups(lengths, most))
    assert tagger.score(sentences(30, seed=5)) == pytest.approx(before, rel=1e-12)  # sums in another order


def test_predictions_go_into_the_files_that_they_are_for(names, tmp_path):
    tagger = Tagger.train(names, **SMALL | {"epochs": 40, "val_fraction": 0})
    assert "".join(tagger.predictions(names)) == NAMES
    (tmp_path / "bare.txt").write_text("Ann\nLee\n\nRome")
    assert "".join(tagger.predictions([tmp_path / "bare.txt"])) == "Ann\tB-PER\nLee\tI-PER\n\nRome\tB-LOC"
    (tmp_path / "two.txt").write_text("Ann NNP\n" * 10)
    assert "".join(tagger.predictions(tmp_path / "two.txt")).startswith("Ann NNP B-PER\n")
    (tmp_path / "text.txt").write_text("Ann Lee saw Rome.\n")
    lines = "".join(tagger.predictions(tmp_path / "text.txt")).splitlines()
    assert lines[:4] == ["Ann\tB-PER", "Lee\tI-PER", "saw\tO", "Rome\tB-LOC"]
    assert [line.split("\t")[0] for line in lines[4:]] == [".", ""]


def test_a_treebank_comes_back_with_the_column_that_was_learnt(treebank):
    text = treebank.read_text()
    tagger = Tagger.train(treebank, column="xpos", **SMALL | {"epochs": 12})
    assert tagger.tags == ("XDET", "XNOUN", "XVERB")
    assert "".join(tagger.predictions(treebank)) == text
    assert tagger.score(treebank)["accuracy"] == 1.0


@pytest.mark.parametrize("tag", [" ", "a\tb", "a\nb", "\ud800"])
def test_a_tag_that_no_file_could_hold_is_refused(tag):
    with pytest.raises(ur.UnrolledError, match="which no file could hold in a column"):
        Tagger.train(Tagged([["a", "b"]] * 3, [["X", tag]] * 3), **SMALL)
    with pytest.raises(ur.UnrolledError, match=r"^the words of sentences are None; expected a list of lists of words$"):
        Tagger.train(Tagged(None, None))


def test_a_file_with_other_characters_than_its_network_reads_is_refused(treebank, tmp_path):
    tagger = Tagger.train(treebank, **SPELLED | {"epochs": 1})
    known = tagger.characters
    for characters in (f"{known}Ω", known[:-1], known[:1] + known[:-1], ""):
        content = {"kind": "tagger"} | tagger.codec() | {"characters": characters}
        files.write(tmp_path / "a.safetensors", tagger.network, content)
        with pytest.raises(ur.UnrolledError, match=r"a\.safetensors: it knows \d+ characters and the unknown one, its"):
            ur.load(tmp_path / "a.safetensors")


def test_what_is_no_set_of_tags_is_said(names, tmp_path):
    (tmp_path / "one.tsv").write_text("a\tX\nb\tX\n")
    with pytest.raises(
        ur.UnrolledError, match=r"^the words to learn from have 1 different tag: X; expected 2 to 10,000$"
    ):
        Tagger.train(tmp_path / "one.tsv")
    (tmp_path / "two.tsv").write_text("a\tX\nb\tY\n")
    with pytest.raises(ur.UnrolledError, match=r"two\.tsv a file of 2 columns; give files of one kind together"):
        Tagger.train(names, val=tmp_path / "two.tsv")


@pytest.mark.parametrize("odd", ["the cat", None, 3, [["a", ""]], [[]], [["a"], "bc"], ["ab"], [None], [[1]], b"a", {}])
def test_what_are_no_sentences_is_said(odd):
    tagger = Tagger.train(sentences(12), **SMALL | {"epochs": 0.1})
    with pytest.raises(ur.UnrolledError) as error:
        tagger.predict(odd)
    assert "\n" not in str(error.value)
    assert tagger.predict([]) == []
