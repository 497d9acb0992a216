"""What a loss is set beside, rates a character, byte and word, and tables of surprisal: numbers worked out by hand."""

import csv
import json
import lzma
from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import main
from unrolled.data.batches import Lanes
from unrolled.data.text import Vocabulary
from unrolled.data.text.kneser_ney import KneserNey
from unrolled.models import surprisal
from unrolled.models.scoring import Score
from unrolled.models.trained_on import training_part
from unrolled.models.yardsticks import yardsticks
from unrolled.training.lines import beside

SMALL = {"hidden_size": 7, "num_layers": 1, "embedding_size": 5, "batch_size": 2, "seq_length": 12, "epochs": 1}


def command(*args):
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    return end.value.code


def test_yardsticks_are_of_the_very_tokens_that_are_predicted():
    """Three lanes of a text leave its last token out; xz is what the two texts take more than the first."""
    rng = np.random.default_rng(2)
    seen, text = ("".join(rng.choice(list("aabcé\n"), n)) for n in (4000, 2001))
    letters = Vocabulary.of(seen, "char")
    found = yardsticks(Lanes(letters.encode(seen), 5, 9), Lanes(letters.encode(text), 3, 4), letters)
    assert (found.predicted, found.counted) == (3 * (2000 // 3), 4000)
    counted = KneserNey(letters.encode(seen), len(letters)).log_probabilities(letters.encode(text[:1999]))
    assert (found.unigram, found.bigram, found.fivegram) == tuple(-counted[n].mean() for n in (0, 1, 4))
    more = len(lzma.compress((seen + text[1:1999]).encode())) - len(lzma.compress(seen.encode()))
    assert found.xz == pytest.approx(8 * more * np.log(2) / 1998, rel=1e-12)
    assert found.units == {"character": 1998, "byte": 1998 + text[1:1999].count("é"), "word": len(text[1:1999].split())}
    # five symbols, one twice as likely: the drawn text's entropy is 2 log 3 / 3 + log 6 ... within its sampling error
    assert found.unigram == pytest.approx(np.log(3) / 3 + 4 * np.log(6) / 6, abs=0.02)


def test_long_training_texts_are_counted_at_their_end(monkeypatch):
    monkeypatch.setattr("unrolled.models.yardsticks.COUNTED", 10)
    numbers = Vocabulary.of(np.array([2]), "tokens")
    train = Lanes(np.array([0, 1] * 9), 1, 5, documents=np.array([3, 12]))
    found = yardsticks(train, Lanes(np.array([0, 2, 1]), 1, 5), numbers)
    last = KneserNey(np.array([0, 1] * 5), 3, np.array([4])).log_probabilities(np.array([0, 2, 1]))
    assert (found.counted, found.bigram, found.xz) == (10, -last[1].mean(), None)
    assert yardsticks(train, Lanes(np.array([0, 1] * 6), 1, 5), numbers) is None


def test_a_broken_run_is_seen():
    found = {"predicted": 9, "counted": 5, "unigram": 3.0, "bigram": 2.0, "fivegram": 1.5, "xz": None}
    ends = [beside(found, nats, "word")[-1] for nats in (1.0, 1.6, 2.5)]
    assert ends == [
        "the model is better than all of them",
        "the model is better than unigram counts and bigram counts, worse than 5-gram counts",
        "the model is better than unigram counts, worse than bigram counts and 5-gram counts",
    ]
    *_, worse, why = beside(found, 3.1, "word")
    assert worse == "the model is worse than all of them"
    assert why.startswith("it knows no more than how often each symbol occurs")
    assert beside(found, 1.0, "word")[1] == "unigram counts 3.0000 nats = 4.3281 bits a word, perplexity 20.09"


def test_rates_count_what_is_predicted():
    """Of "né le" the n is not predicted: é, blank, l, e are 4 characters, 5 bytes, 2 words."""
    text = "né le"
    letters = Score(np.log(2), np.log([0.5] * 4))
    assert letters.rates(text, 1, Vocabulary.of(text, "char")) == {
        "bits_per_character": 1.0,
        "bits_per_byte": 4 / 5,
        "bits_per_word": 2.0,
    }
    of_bytes = Score(np.log(2), np.log([0.5] * 5))
    assert of_bytes.rates(text.encode(), 110, Vocabulary.of("", "byte"))["bits_per_character"] == 5 / 4
    words = Score(2 * np.log(2), np.log([0.25] * 2))  # 4 bits, and 8 a byte of "ox" and its end: 28 of 6 characters
    assert words.rates("a ox a", 2, Vocabulary.of("a", "word"))["bits_per_character"] == pytest.approx(28 / 5)
    assert letters.rates(np.arange(5), 0, Vocabulary.of(np.arange(5), "tokens")) == {}


@pytest.mark.parametrize(
    ("text", "level", "documents", "words"),
    [
        ("ab  c d\n", "char", None, {1: ("ab", ""), 4: ("c", 3.0), 6: ("d", 2.0)}),
        ("\nab c\nd\n", "char", [5], {2: ("ab", 2.0), 5: ("c", 3.0), 7: ("d", 2.0)}),
        ("a é", "byte", None, {0: ("a", ""), 3: ("é", 3.0)}),
    ],
)
def test_words_of_a_table_have_the_sum_of_their_symbols(text, level, documents, words):
    """Each symbol has one bit: a word those of its symbols and the blanks before it, a document's last word its end."""
    vocabulary = Vocabulary.of(text, level)
    tokens = vocabulary.encode(text)
    if documents:
        vocabulary, documents = replace(vocabulary, documents=True), np.array(documents)
    names, *rows = surprisal.table(Score(1.0, np.log([0.5] * (len(tokens) - 1)), documents), tokens, vocabulary)
    assert names[:6] == ["position", "token", "log_probability", "surprisal", "word", "word_surprisal"]
    assert names[6:] == (["document"] if documents else [])
    assert [row[:2] for row in rows] == [[k, vocabulary.label(t)] for k, t in enumerate(tokens.tolist())]
    assert rows[0][2:4] == ["", ""]
    assert all(row[2:4] == [np.log(0.5), 1.0] for row in rows[1:])
    assert {k: tuple(row[4:6]) for k, row in enumerate(rows) if row[4]} == words


def test_the_newline_that_ends_the_last_document_counts_with_its_last_word():
    """As that of every other, of a model of running text too, and where no documents are kept apart it does not."""
    vocabulary = Vocabulary.of("ab c\nd\n", "char")
    tokens, scored = vocabulary.encode("ab c\nd\n"), np.log([0.5] * 6)
    for documents, words in ((np.array([4]), {1: "ab", 4: "c", 6: "d"}), (None, {1: "ab", 3: "c", 5: "d"})):
        _, *rows = surprisal.table(Score(1.0, scored, documents), tokens, vocabulary)
        assert {k: row[4] for k, row in enumerate(rows) if row[4]} == words
        assert rows[max(words)][5] == 2.0  # its newline, or the one before it
        assert [row[6:] for row in rows] == ([[0]] * 5 + [[1]] * 2 if documents is not None else [[]] * 7)


def test_ends_of_lines_in_a_table_are_quoted_each_of_them(tmp_path):
    """A carriage return alone ends a row for many readers of CSV, Python's own among them."""
    (tmp_path / "t.txt").write_bytes(b"ab\r\ncd\re\n" * 40)
    options = SMALL | {"level": "byte", "hidden_size": 5, "num_layers": 1}
    ur.LanguageModel.train(tmp_path / "t.txt", out=tmp_path / "r", **options)
    for name, between in (("t.tsv", "\t"), ("t.csv", ",")):
        assert command("score", tmp_path / "r", tmp_path / "t.txt", "--per-token", tmp_path / name) == 0
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file, delimiter=between)
        assert {len(row) for row in rows} == {len(header)}
        assert "".join(row[1] for row in rows) == "ab\r\ncd\re\n" * 40
        assert (tmp_path / name).read_bytes().startswith(between.join(header).encode() + b"\n0")


def test_score_prints_and_writes_it_all(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text('the "cat" sat\ton a mat, the dog\n' * 60)
    (tmp_path / "new.txt").write_text('a "dog"\tsat')
    model = ur.LanguageModel.train(tmp_path / "book.txt", out="r", **SMALL)
    assert command("score", "r", "new.txt", "--per-token", "t.csv") == 0
    out = capsys.readouterr().out
    score = model.score('a "dog"\tsat')
    part = training_part(tmp_path / "r/model.safetensors", model.vocabulary)
    tokens = model.vocabulary.encode('a "dog"\tsat')
    found = yardsticks(part, Lanes(tokens, 1, 1), model.vocabulary)
    assert f"10 characters: {score.nats:.4f} nats" in out
    assert f"{10 * score.bits / 2:.4f} bits a word between blanks" in out  # "dog" and sat
    assert f"5-gram counts {found.fivegram:.4f} nats" in out
    assert f"by {found.counted:,} of the training" in out
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert "".join(row["token"] for row in rows) == 'a "dog"\tsat'
    assert sum(float(row["surprisal"]) for row in rows[1:]) == pytest.approx(10 * score.bits, rel=1e-12)
    assert [row["word"] for row in rows if row["word"]] == ["a", '"dog"', "sat"]
    command("score", "r", "new.txt", "--per-token", "-", "--json")
    table, said = capsys.readouterr()
    assert [row[1] for row in csv.reader(table.splitlines(), delimiter="\t")][1:] == [row["token"] for row in rows]
    assert json.loads(said)["yardsticks"] == found.to_json()
    model.save("alone.safetensors")
    command("score", "alone.safetensors", "new.txt")
    assert "no yardsticks: alone.safetensors has no run beside it whose text" in capsys.readouterr().out
    (tmp_path / "book.txt").write_text("another text of the\n" * 60)
    command("score", "r", "new.txt")
    assert "no yardsticks: the text is not the one that r was trained on" in capsys.readouterr().out
    (tmp_path / "loop.tsv").symlink_to("loop.tsv")
    for name, why in (
        ("t.txt", "must end in .tsv or .csv"),
        ("new.tsv", "would write over new.tsv, which is read"),
        ("loop.tsv", "--per-token is loop.tsv, which is a link that leads nowhere"),
        ("", "--per-token has no name: the path is empty"),
    ):
        (tmp_path / "new.tsv").write_text("a cat")
        assert command("score", "r", "new.tsv", "--per-token", name) == 2
        assert why in capsys.readouterr().err
