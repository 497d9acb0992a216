"""What a model of its size usually reaches: the fit worked out once more, what it is not said of, and who says it."""

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import main
from unrolled.data.batches import Lanes
from unrolled.data.text import Vocabulary, default_corpus
from unrolled.models.usual import BEYOND, POINTS, spread, usual
from unrolled.models.yardsticks import COUNTED, FEWEST, yardsticks
from unrolled.nn.spec import Spec
from unrolled.training.lines import usually

RESULTS = Path(__file__).parents[2] / "benchmarks/results/usual.json"
ALL = [point for text in POINTS.values() for point in text]


def normal_equations(points):
    """log ratio = a + b n + c p + d n p, n and p from the points' means; the plane of solutions is the same."""
    n, p, ratio = (np.log([getattr(point, name) for point in points]) for name in ("symbols", "numbers", "ratio"))
    dn, dp = n - n.mean(), p - p.mean()
    terms = [np.ones_like(n), dn, dp, dn * dp]
    left = [[float((one * other).sum()) for other in terms] for one in terms]
    a, b, c, d = np.linalg.solve(left, [float((one * ratio).sum()) for one in terms])

    def fit(symbols, numbers):
        x, y = math.log(symbols) - n.mean(), math.log(numbers) - p.mean()
        return a + b * x + c * y + d * x * y

    return fit


def test_the_points_are_those_of_the_committed_runs():
    rows = json.loads(RESULTS.read_text())["rows"]
    names = ("symbols", "numbers", "five_gram", "ratio")
    found = {text: sorted([row[name] for name in names] for row in rows if row["text"] == text) for text in POINTS}
    assert len(rows) == len(ALL)
    for text, points in POINTS.items():
        assert np.array(sorted(points)) == pytest.approx(np.array(found[text]), abs=5e-5)  # four digits are kept
    assert all(row["ratio"] == row["validation"] / row["five_gram"] for row in rows)


def test_the_middle_is_that_of_least_squares():
    fit = normal_equations(ALL)
    for symbols, numbers in ((100_000, 60_000), (400_000, 500_000), (1_000_000, 200_000)):
        found = usual(symbols, numbers, 1.5)
        assert found.middle == pytest.approx(1.5 * math.exp(fit(symbols, numbers)), rel=1e-9)
        assert (found.runs, found.texts) == (len(ALL), 3)


def test_every_text_lies_within_the_range_that_the_others_have():
    """The spread is the largest of these errors, so that no run of a text that was left out lies outside."""
    errors = []
    for text, points in POINTS.items():
        fit = normal_equations([point for other in POINTS if other != text for point in POINTS[other]])
        errors += [abs(fit(point.symbols, point.numbers) - math.log(point.ratio)) for point in points]
    assert spread() == pytest.approx(max(errors), rel=1e-9)
    found = usual(400_000, 200_000, 1.5)
    assert found.high / found.middle == pytest.approx(found.middle / found.low)
    assert math.log(found.high / found.middle) == pytest.approx(max(errors), rel=1e-9)
    assert max(errors) < 0.15  # a range that is wider than that shows nothing


def test_nothing_is_said_far_from_all_runs():
    inside = {"symbols": 400_000, "numbers": 200_000, "five_gram": 1.5}
    for name, value in inside.items():
        known = [getattr(point, name) for point in ALL]
        for edge, beyond in ((min(known) / BEYOND, 0.999), (max(known) * BEYOND, 1.001)):
            assert usual(**inside | {name: edge}) is not None
            assert usual(**inside | {name: edge * beyond}) is None
        assert usual(**inside | {name: value}) is not None
    assert max(point.symbols for point in ALL) * BEYOND < COUNTED  # so that N is known wherever it is in the range


GRU = {"cell": "gru_reset_after", "hidden_size": 96, "embedding_size": 64, "num_layers": 1}


def test_of_which_texts_it_is_said():
    """Not of words, lines that are documents, few symbols, nor of a text that stands in the training part."""
    text = default_corpus().text[:46_000]
    letters = Vocabulary.of(text, "char")
    tokens = letters.encode(text)
    train, held = Lanes(tokens[:40_000], 1, 64), Lanes(tokens[40_000:], 1, 64)
    spec = Spec(vocabulary_size=len(letters), **GRU)
    found = yardsticks(train, held, letters, spec)
    assert found.usual == usual(40_000, 3 * 96 * (96 + 64) + 96 * len(letters), found.fivegram)
    assert found.usual is not None
    assert json.loads(json.dumps(found.to_json()))["usual"]["runs"] == len(ALL)
    few, seen = Lanes(tokens[40_000 : 40_000 + FEWEST], 1, 64), Lanes(tokens[30_000:40_000], 1, 64)
    for part, vocabulary, of in (
        (held, letters, None),
        (few, letters, spec),
        (seen, letters, spec),
        (held, replace(letters, documents=True), spec),
        (held, Vocabulary.of(np.arange(len(letters)), "tokens"), spec),
    ):
        assert yardsticks(train, part, vocabulary, of).usual is None


def test_a_broken_run_is_seen():
    """Beyond the range by as much again as it reaches from its middle."""
    found = {"usual": {"low": 1.9, "middle": 2.0, "high": 2.1, "runs": 9, "texts": 3}}
    within = "networks of this size, trained on so long a text, reach 1.9000 to 2.1000 nats (9 runs on 3 texts)"
    assert usually(found, 2.19) == [within]
    said = usually(found, 2.21)
    assert said[:2] == [
        within,
        "the model is 10 % above the middle, worse than usual: a run cut short is, or one of few passes",
    ]
    assert usually({"usual": None}, 2.21) == []


def test_train_and_score_say_it(tmp_path, capsys, monkeypatch):
    """One pass over 32,400 characters is a run cut short; what is scored is of the part that was held out."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text(default_corpus().text[:36_000])
    (tmp_path / "new.txt").write_text(default_corpus().text[33_000:36_000])
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in GRU.items()]
    command("train", "book.txt", "--no-auto", *sizes, "--epochs", 1, "--val-fraction", 0.1, "--sample-length", 0)
    out = capsys.readouterr().out
    within = r"^usually    networks of this size, trained on so long a text, reach ([\d.]+) to ([\d.]+) nats"
    low, high = re.search(within, out, re.M).groups()
    assert re.search(r"^ {11}the model is \d+ % above the middle, worse than usual", out, re.M)
    assert 1 < float(low) < float(high) < 3
    command("score", "runs/book", "new.txt")
    assert "\n  usually networks of this size, trained on so long a text, reach " in capsys.readouterr().out
    command("score", "runs/book", "new.txt", "--json")
    figures = json.loads(capsys.readouterr().out)
    beside = figures["yardsticks"]
    model = ur.load("runs/book")
    numbers = 3 * 96 * (96 + 64) + 96 * len(model.vocabulary)
    assert beside["usual"] == asdict(usual(beside["counted"], numbers, beside["fivegram"]))
    command("score", "runs/book", "new.txt", "--json", "--window", 50)
    assert json.loads(capsys.readouterr().out)["yardsticks"] == beside | {"usual": None}


def command(*args):
    with pytest.raises(SystemExit) as end:
        main([str(arg) for arg in args])
    assert end.value.code in (0, None)
