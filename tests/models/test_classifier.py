"""A classifier of texts and of series: it learns, resumes to the bit, saves, loads, and writes files back."""

import json

import numpy as np
import pytest

import unrolled as ur
from unrolled.models.classifier import KIND
from unrolled.models.classifier_data import Options, material
from unrolled.models.folds import cross_validate
from unrolled.models.metrics import matrix
from unrolled.nn import heads
from unrolled.training.callbacks import Callback
from unrolled.training.trainer import CHECKPOINT, LAST, MODEL

SMALL = {"hidden_size": 6, "embedding_size": 5, "batch_size": 7, "epochs": 8, "learning_rate": 0.02, "seed": 3}
GOOD, BAD = ("good", "fine", "great", "lovely"), ("bad", "dull", "poor", "awful")


def moods(count, seed=0):
    """Texts of 2 to 6 words, one of which says the mood."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for n in range(count):
        words = [str(w) for w in rng.choice(["a", "film", "so", "plot", ","], rng.integers(1, 6))]
        words.insert(int(rng.integers(len(words) + 1)), str(rng.choice(GOOD if n % 2 else BAD)))
        texts.append(" ".join(words))
        labels.append("glad" if n % 2 else "sad")
    return texts, labels


def waves(count, seed=0):
    """Series of 4 to 9 steps and two channels of very different scales, whose second rises or falls."""
    rng = np.random.default_rng(seed)
    series, labels = [], []
    for n in range(count):
        steps = int(rng.integers(4, 10))
        slope = np.arange(steps) * (1 if n % 3 else -1)
        series.append(np.stack([5 + rng.normal(size=steps), 1e4 + 300 * slope + 50 * rng.normal(size=steps)], axis=1))
        labels.append(n % 3 and 1)
    return series, labels


def csv(texts, labels):
    return "review,mood\n" + "".join(f'"{text}",{label}\n' for text, label in zip(texts, labels, strict=True))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text(csv(*moods(60)))
    return path


@pytest.fixture(scope="module")
def model():
    return ur.Classifier.train(moods(60), **SMALL)


@pytest.mark.parametrize(
    "how", [{}, {"level": "char", "pooling": "max"}, {"level": "bpe", "pooling": "attention"}, {"bidirectional": False}]
)
def test_texts_are_learnt_at_every_level(how):
    if how.get("level") == "bpe":
        pytest.importorskip("tokenizers")
    model = ur.Classifier.train(moods(80), **SMALL | {"epochs": 20, "max_symbols": 270} | how)
    texts, labels = moods(40, seed=9)
    assert model.score((texts, labels))["accuracy"] >= 0.9
    probabilities = model.predict_proba(texts)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-12)
    assert model.predict(texts) == [model.labels[k] for k in probabilities.argmax(axis=1)]
    assert model.labels == ("glad", "sad")


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
def test_series_of_any_length_are_learnt_whatever_their_scale(pooling):
    model = ur.Classifier.train(waves(90), **SMALL | {"pooling": pooling, "epochs": 15})
    series, labels = waves(30, seed=5)
    assert model.score((series, labels))["accuracy"] >= 0.9
    assert model.labels == (0, 1)
    assert model.predict(series[:4]) == labels[:4]
    moved = [np.vstack([one, np.full((3, 2), np.nan)]) for one in series]  # padding
    assert (model.predict_proba(moved) == model.predict_proba(series)).all()
    assert model.spec.embedding_size == 0


def test_what_it_makes_of_one_does_not_depend_on_those_beside_it(model):
    texts, _ = moods(30, seed=2)
    together = model.predict_proba(texts)
    alone = np.concatenate([model.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)  # sums of float32 in another order


def test_figures_are_those_of_the_probabilities(model):
    texts, labels = moods(33, seed=4)
    p, true = model.predict_proba(texts), np.array([model.labels.index(label) for label in labels])
    figures = model.score((texts, labels))
    assert figures["accuracy"] == (p.argmax(axis=1) == true).mean()
    assert figures["loss"] == pytest.approx(-np.log(p[np.arange(33), true]).mean(), rel=1e-5)


def test_what_is_held_out_has_all_labels_alike_though_files_are_sorted():
    texts, labels = zip(*sorted(zip(*moods(60), strict=True), key=lambda pair: pair[1]), strict=True)
    parts = material({"train": (list(texts), labels)}, Options(val_fraction=0.2, test_fraction=0.1), None).parts
    assert {name: len(part.x) for name, part in parts.items()} == {"train": 42, "val": 12, "test": 6}
    assert {name: float(np.mean(part.y)) for name, part in parts.items()} == {"train": 0.5, "val": 0.5, "test": 0.5}


def test_balanced_weights_let_rare_labels_count_as_much_and_the_macro_f1_decide():
    texts, labels = moods(80)
    texts, labels = zip(
        *((t, y) for n, (t, y) in enumerate(zip(texts, labels, strict=True)) if y == "sad" or n < 20), strict=True
    )
    train = material({"train": (list(texts), labels)}, Options(class_weights="balanced", val_fraction=0), None).parts[
        "train"
    ]
    y = np.concatenate([train[k].y for k in range(len(train))])
    weights = np.concatenate([train[k].weights for k in range(len(train))])
    assert {int(k): float(weights[y == k].sum()) for k in (0, 1)} == pytest.approx({0: 25, 1: 25})
    model = ur.Classifier.train((list(texts), labels), class_weights="balanced", **SMALL | {"epochs": 2})
    assert model.decides == "macro_f1"
    best = max(model.result.history, key=lambda e: (e.metrics["macro_f1"], -e.val_loss))
    assert model.result.best.step == best.step


# --- files


def test_a_table_is_written_back_with_labels_and_probabilities(model, table, tmp_path):
    made = ur.Classifier.train(table, text="review", label="mood", **SMALL)
    (tmp_path / "new.csv").write_text('n,review\n1,"a good, film"\n2,so dull\n')
    lines = "".join(made.predictions([tmp_path / "new.csv"])).splitlines()
    assert lines[0] == "n,review,predicted,probability_glad,probability_sad"
    assert lines[1].startswith('1,"a good, film",glad,')
    p = made.predict_proba(["a good, film", "so dull"])
    assert [float(v) for v in lines[2].split(",")[3:]] == p[1].round(6).tolist()
    (tmp_path / "new.jsonl").write_text('{"review": "fine", "n": 1.50}\n')
    (line,) = made.predictions([tmp_path / "new.jsonl"])
    assert json.loads(line)["predicted"] == "glad"
    assert list(json.loads(line)) == ["review", "n", "predicted", "probability_glad", "probability_sad"]
    (tmp_path / "again.csv").write_text("\n".join(lines))
    with pytest.raises(ur.UnrolledError, match="has a column 'predicted' already"):
        list(made.predictions([tmp_path / "again.csv"]))


def test_scored_files_say_all_of_every_label(table):
    made = ur.Classifier.train(table, text="review", label="mood", **SMALL)
    figures, lines = made.scored([table])
    counts = np.array(figures["confusion"]["counts"])
    assert figures["examples"] == counts.sum() == 60
    assert figures["accuracy"] == np.trace(counts) / 60
    first = figures["labels"][0]
    assert (first["label"], first["there"]) == ("glad", 30)
    assert first["recall"] == counts[0, 0] / 30
    assert lines[-3:] == matrix(counts, ["glad", "sad"])
    assert json.loads(json.dumps(figures)) == figures


def test_an_unknown_label_is_said_with_its_row(model, table):
    made = ur.Classifier.train(table, text="review", label="mood", **SMALL | {"epochs": 1})
    table.write_text(csv(["fine"], ["gladd"]))
    for call in (lambda: made.score(table), lambda: made.scored([table])):
        with pytest.raises(
            ur.UnrolledError, match=r"reviews.csv, line 2: no label is called 'gladd'; did you mean 'glad'"
        ):
            call()
    with pytest.raises(ur.UnrolledError, match="text 0: no label is called 'x'"):
        made.score((["fine"], ["x"]))


def test_series_of_files_are_written_as_rows_of_a_table(tmp_path):
    series, labels = waves(24)
    rows = ["who,up,down,kind"]
    rows += [f"s{n},{a},{b},k{labels[n]}" for n, one in enumerate(series) for a, b in one.tolist()]
    (tmp_path / "steps.csv").write_text("\n".join(rows))
    made = ur.Classifier.train(tmp_path / "steps.csv", id="who", label="kind", **SMALL | {"epochs": 2})
    (tmp_path / "new.csv").write_text("down,who,up\n10000,x,5\n10300,x,5\n9000,y,5\n")
    lines = "".join(made.predictions([tmp_path / "new.csv"])).splitlines()
    assert lines[0] == "who,predicted,probability_k0,probability_k1"
    expected = made.predict_proba([np.array([[5, 10000], [5, 10300]]), np.array([[5, 9000]])])
    assert [line.split(",")[0] for line in lines[1:]] == ["x", "y"]
    assert [float(line.split(",")[2]) for line in lines[1:]] == expected[:, 0].round(6).tolist()
    (tmp_path / "new.csv").write_text("who,up\nx,5\n")
    with pytest.raises(ur.UnrolledError, match="no column is called 'down'"):
        list(made.predictions([tmp_path / "new.csv"]))


@pytest.mark.parametrize(
    ("source", "how", "said"),
    [
        ((["a", "b"], ["x", "x"]), {}, "all 2 examples have the label 'x'; expected two labels or more"),
        ((["a", "b", "c"], ["x", "y", "x"]), {}, "text 1: the label 'y' occurs once; give more examples of it"),
        (
            (["a b", "a b", "?", "b"], [0, 1, 0, 1]),
            {"level": "word", "words": "whitespace", "folds": 9},
            "folds is 9; 4",
        ),
        ((["a", "b"] * 2, [0, 1] * 2), {"folds": 1}, "folds is 1; 4 examples make 2 to 4 folds"),
        ((["a", "b"] * 2, [0, 1] * 2), {"pooling": "min"}, "no pooling is called 'min'"),
        ((["a", "b"] * 2, [0, 1] * 2), {"level": "byte"}, "no level is called 'byte'"),
        (5, {}, "the data is 5; expected files, or a pair of texts or series and their labels"),
        ([5], {}, "a file to read is 5; expected a path"),
        ((["a"], None), {}, "the examples have no labels"),
    ],
)
def test_what_can_t_be_learnt_from_is_refused_in_one_line(source, how, said):
    with pytest.raises(ur.UnrolledError) as error:
        ur.Classifier.train(source, **how)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_examples_of_another_kind_are_refused(model):
    with pytest.raises(ur.UnrolledError, match="has series of 1 channel; expected texts"):
        model.predict([np.zeros(3)])
    with pytest.raises(ur.UnrolledError, match="text 1: the text ' ' has no word; leave it out"):
        model.predict(["a", " "])
    series = ur.Classifier.train(waves(12), **SMALL | {"epochs": 0.2})
    with pytest.raises(ur.UnrolledError, match="has texts; expected series of 2 channels"):
        series.predict(["a"])
    with pytest.raises(ur.UnrolledError, match="has series of 3 channels; expected series of 2 channels"):
        series.predict(np.zeros((2, 4, 3)))
    with pytest.raises(ur.UnrolledError, match="is a table; expected series as they were learnt from"):
        list(series.predictions(["a.csv"]))


# --- files of models, and runs


def test_a_file_gives_the_same_model(model, tmp_path):
    model.save(tmp_path / "moods.safetensors")
    again = ur.load(tmp_path / "moods.safetensors")
    texts, _ = moods(20, seed=7)
    assert (again.predict_proba(texts) == model.predict_proba(texts)).all()
    assert repr(again) == repr(model) == "Classifier(gru_reset_after, 1 x 6, 15 words, 2 labels)"
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "moods.safetensors").read_bytes()
    with pytest.raises(ur.UnrolledError, match="the classifier has 15 symbols or channels and 1 distinct labels"):
        ur.Classifier(model.network, ["a"], model.inputs)


class After(Callback):
    """Ends a run, as Ctrl-C does, after so many steps."""

    def __init__(self, steps):
        self.steps = steps

    def stepped(self, progress):
        if progress.step == self.steps:
            raise KeyboardInterrupt


@pytest.mark.parametrize("data", [moods, waves])
def test_a_run_goes_on_to_the_same_bits(tmp_path, data):
    how = SMALL | {"epochs": 4, "dropout": 0.3, "average": "ema", "checkpoint_every": 5}
    whole = ur.Classifier.train(data(50), out=tmp_path / "whole", **how)
    with pytest.raises(ur.Interrupted):
        ur.Classifier.train(data(50), out=tmp_path / "part", callbacks=[After(11)], **how)
    with pytest.raises(ur.UnrolledError, match=r"the data of .* was no file; give it again"):
        ur.Classifier.resume(tmp_path / "part")
    ur.Classifier.resume(tmp_path / "part", data(50))
    for name in (MODEL, LAST):
        assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert whole.result.steps == 4 * 7
    assert (tmp_path / "whole" / CHECKPOINT).exists()


def test_folds_are_runs_of_their_own_and_a_run_goes_on_with_those_that_are_left(tmp_path, table):
    how = SMALL | {"epochs": 2, "folds": 3, "text": "review", "label": "mood"}
    whole = ur.Classifier.train(table, out=tmp_path / "whole", **how)
    figures = json.loads((tmp_path / "whole" / "folds.json").read_text())
    assert figures["folds"] == whole.folds
    assert figures["mean"]["accuracy"] == pytest.approx(np.mean([fold["accuracy"] for fold in whole.folds]))
    assert figures["standard_deviation"]["loss"] == pytest.approx(np.std([f["loss"] for f in whole.folds], ddof=1))
    fold = ur.load(tmp_path / "whole" / "fold-2")
    assert fold.labels == whole.labels

    class InFold(Callback):
        def noted(self, label, line):
            if line.startswith("2 of 3"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ur.Classifier.train(table, out=tmp_path / "part", callbacks=[InFold()], **how)
    (tmp_path / "part" / "folds.json").write_text(json.dumps({"folds": whole.folds[:1]}))
    with pytest.raises(ur.UnrolledError, match=r"part are done, with the options that it had; leave out epochs, or"):
        ur.Classifier.resume(tmp_path / "part", epochs=4)
    assert ur.Classifier.resume(tmp_path / "part", epochs=2, sample_length=3).folds == whole.folds  # which are the same
    for odd in (
        '{"folds": [{"accuracy": 1}, {"loss": 1}]}',
        "[" * 100_000,
        '{"folds": [{"accuracy": 1, "macro_f1": 1, "loss": 1e999}]}',
        "[{}]",
    ):
        (tmp_path / "part" / "folds.json").write_text(odd)
        with pytest.raises(ur.UnrolledError, match=r"is damaged; delete it, and the folds are run again$"):
            ur.Classifier.resume(tmp_path / "part")
    ur.Classifier.train(table, out=tmp_path / "part", overwrite=True, **how | {"folds": 0})
    assert not (tmp_path / "part" / "folds.json").exists()
    assert ur.Classifier.resume(tmp_path / "part", epochs=3).folds is None
    assert ur.Classifier.train(table, **how).folds == whole.folds


def test_what_stopped_in_a_fold_says_how_to_go_on(tmp_path):
    def run(folder, train, test):
        raise ur.Interrupted(None)

    said = []
    with pytest.raises(ur.Interrupted):
        cross_validate(run, "aabb", 2, seed=1, out=tmp_path, say=lambda *line: said.append(line))
    assert said == [("stopped", f"in fold 1 of 2; unrolled train --resume {tmp_path} goes on")]
    (tmp_path / "folds.json").write_text("{}")
    with pytest.raises(ur.UnrolledError, match="is damaged; delete it, and the folds are run again"):
        cross_validate(run, "aabb", 2, seed=1, out=tmp_path, say=print)


def test_what_a_model_s_file_says_of_it(model):
    series = ur.Classifier.train(waves(12), **SMALL | {"epochs": 0.2})
    assert series.details()[:2] == [
        ("labels", "0, 1"),
        ("reads", "2 channels, each less its mean, divided by its standard deviation"),
    ]
    assert model.details()[1] == ("reads", "15 lower-case words listed; encoding 'utf-8'")


def test_an_empty_line_of_the_model_s_own_is_not_shown():
    assert Options().sample_length == 0
    assert KIND.task == "classify"


def test_a_confusion_matrix_is_drawn(model, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "glad.txt").write_text("\n".join(moods(20)[0][1::2]))
    (tmp_path / "sad.txt").write_text("\n".join(moods(20)[0][::2]))
    figure = model.draw([tmp_path / "glad.txt", tmp_path / "sad.txt"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["glad", "sad"]
    assert sum(int(text.get_text()) for text in axes.texts) == 20
    figure.savefig(tmp_path / "a.png")


def test_probabilities_add_up_to_one_however_large_the_outputs():
    logits = np.array([[1e4, 0, -1e4], [1, 1, 1]])
    found = heads.class_probabilities(heads.classes(3), logits, None, {})
    np.testing.assert_allclose(found, [[1, 0, 0], [1 / 3] * 3])
