"""scikit-learn's contract of estimators, on sequences."""

import copy
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn is not installed, or an older one")
pd = pytest.importorskip("pandas", reason="pandas is not installed")
# ruff: noqa: E402

import joblib
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

import unrolled as ur
from unrolled.declared import options
from unrolled.models import classifier_data, regressor, tagger_data
from unrolled.sklearn import SequenceClassifier, SequenceRegressor, SequenceTagger

CHECKED = {"hidden_size": 8, "epochs": 16, "learning_rate": 0.06, "dropout": 0.0, "batch_size": 20, "patience": 0}
FAST = {"hidden_size": 6, "epochs": 12, "learning_rate": 0.05, "dropout": 0.0, "batch_size": 8, "random_state": 3}
GUIDE = Path(__file__).parent.parent / "docs" / "guides" / "scikit-learn.md"

# What can't hold of any estimator that learns from batches; the guide lists the same with the same reasons.
EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "a sequence given twice makes other batches, and more steps, than "
    "one that counts twice"
}


def checks():
    """Every estimator with each of scikit-learn's checks of it."""
    for estimator in (SequenceClassifier(**CHECKED), SequenceRegressor(**CHECKED)):
        yield from estimator_checks_generator(estimator, expected_failed_checks=EXPECTED, mark="xfail")


@pytest.mark.parametrize(
    ("estimator", "check"), list(checks()), ids=lambda value: getattr(value, "func", type(value)).__name__
)
@pytest.mark.filterwarnings("default")
def test_a_check_of_scikit_learn(estimator, check):
    check(estimator)


def ups_and_downs(n=36, channels=2, seed=0):
    """Series of 3 to 7 steps that rise or fall, and which they do."""
    rng = np.random.default_rng(seed)
    way = np.arange(n) % 2
    x = [np.outer(np.linspace(-1, 1, rng.integers(3, 8)) * (2 * k - 1), np.ones(channels)) for k in way]
    return [a + 0.1 * rng.standard_normal(a.shape) for a in x], np.where(way, "up", "down")


SENTENCES = [["the", "cat", "saw"], ["the", "saw"], ["a", "cat", "saw", "the", "dog"], ["dogs", "saw", "a", "cat"]] * 6
TAGS = [["D", "N", "V"], ["D", "N"], ["D", "N", "V", "D", "N"], ["N", "V", "D", "N"]] * 6


def fitted(kind, **more):
    """An estimator of a kind that has learnt, and what it has learnt from."""
    x, y = ups_and_downs()
    if kind is SequenceTagger:
        x, y = SENTENCES, TAGS
    elif kind is SequenceRegressor:
        y = np.array([len(a) for a in x], float)
    return kind(**(FAST | more)).fit(x, y), x, y


KINDS = [SequenceClassifier, SequenceRegressor, SequenceTagger]


def outputs(estimator, x):
    found = [estimator.predict(x)]
    return found + ([estimator.predict_proba(x)] if hasattr(estimator, "predict_proba") else [])


def alike(some, others):
    for one, other in zip(some, others, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    return True


def test_series_of_unequal_lengths_are_learnt():
    clf, x, y = fitted(SequenceClassifier)
    assert clf.score(x, y) == 1
    assert clf.classes_.tolist() == ["down", "up"]
    assert clf.n_features_in_ == 2
    proba = clf.predict_proba(x)
    assert proba.shape == (36, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    assert (clf.classes_[proba.argmax(axis=1)] == clf.predict(x)).all()


def test_one_series_gets_the_same_in_every_form():
    x, y = ups_and_downs()
    x = [a[:3] for a in x]
    as_list = SequenceClassifier(**FAST).fit(x, y)
    as_array = SequenceClassifier(**FAST).fit(np.stack(x), y)
    assert (as_array.predict_proba(np.stack(x)) == as_list.predict_proba(x)).all()
    assert as_array.n_features_in_ == 2
    flat = [a[:, 0] for a in x]
    one = SequenceClassifier(**FAST).fit(flat, y)  # (T,): a channel
    table = SequenceClassifier(**FAST).fit(np.stack(flat), y)  # a row: a sequence
    assert (one.predict_proba(flat) == table.predict_proba(np.stack(flat))).all()
    assert (one.predict_proba(np.stack(flat)) == table.predict_proba(flat)).all()
    assert (one.n_features_in_, table.n_features_in_) == (1, 3)
    assert len(table.predict([[1.0, 2.0], [3.0, 4.0, 5.0, 6.0]])) == 2  # sequences may be of any length


def test_texts_get_the_same_in_every_form():
    texts, y = ["good", "very good", "bad", "so bad", "not bad", "no good"] * 6, [1, 1, 0, 0, 1, 0] * 6
    forms = [
        texts,
        np.array(texts),
        np.array(texts, object),
        pd.Series(texts),
        pd.DataFrame({"review": texts}),
    ]
    found = [SequenceClassifier(**FAST).fit(form, y).predict_proba(form) for form in forms]
    assert all((other == found[0]).all() for other in found)
    clf = SequenceClassifier(**FAST).fit(forms[4], y)
    assert (clf.n_features_in_, clf.feature_names_in_.tolist()) == (1, ["review"])
    assert clf.predict(["good"]).tolist() == [1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_learns_the_same_and_others_do_not(kind):
    first, x, y = fitted(kind)
    assert alike(outputs(first, x), outputs(clone(first).fit(x, y), x))
    other = clone(first).set_params(random_state=4).fit(x, y)
    assert first.history_ != other.history_
    generators = [kind(**FAST | {"random_state": np.random.RandomState(5)}).fit(x, y) for _ in range(2)]
    assert alike(outputs(generators[0], x), outputs(generators[1], x))


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_pickles_hold_the_models_own_file(kind, tmp_path):
    estimator, x, _ = fitted(kind)
    before = outputs(estimator, x)
    estimator.model_.save(tmp_path / "model.safetensors")
    state = estimator.__getstate__()
    assert state["model_"] == (tmp_path / "model.safetensors").read_bytes()
    arrays = {name for name, value in state.items() if isinstance(value, np.ndarray)}
    assert arrays <= {"classes_"}
    joblib.dump(estimator, tmp_path / "estimator.joblib")
    for other in (
        pickle.loads(pickle.dumps(estimator)),
        copy.deepcopy(estimator),
        joblib.load(tmp_path / "estimator.joblib"),
    ):
        assert alike(before, outputs(other, x))
        assert other.history_ == estimator.history_
        assert other.get_params() == estimator.get_params()
    assert alike([before[0]], [estimator.predict(x)])  # which is as it was


def test_searches_pipelines_and_processes():
    x, y = ups_and_downs()
    pipe = make_pipeline(FunctionTransformer(lambda x: [2 * a for a in x]), SequenceClassifier(**FAST))
    grid = GridSearchCV(pipe, {"sequenceclassifier__cell": ["rnn_tanh", "lstm"]}, cv=2).fit(x, y)
    assert grid.best_score_ > 0.9
    assert grid.predict(x).shape == (36,)
    clf = SequenceClassifier(**FAST)
    alone = cross_val_score(clf, x, y, cv=2)
    assert (cross_val_score(clf, x, y, cv=2, n_jobs=2) == alone).all()
    assert cross_val_score(clf, pd.Series(["good one", "bad"] * 18), [1, 0] * 18, cv=2, scoring="roc_auc").tolist() == [
        1,
        1,
    ]
    assert cross_val_score(SequenceTagger(**FAST), SENTENCES, TAGS, cv=2).min() > 0.9
    assert cross_val_predict(SequenceRegressor(**FAST), x, range(36), cv=2).shape == (36,)


def test_pandas_comes_out_where_it_is_asked_for():
    texts = pd.Series(["good", "bad"] * 12, index=range(100, 124))
    clf = SequenceClassifier(**FAST).fit(texts, pd.Series(["glad", "sad"] * 12))
    assert isinstance(clf.predict(texts), np.ndarray)
    clf = clone(clf.set_output(transform="pandas")).fit(texts, ["glad", "sad"] * 12)
    assert clf.predict(texts).loc[101] == "sad"
    proba = clf.predict_proba(texts)
    assert proba.columns.tolist() == ["glad", "sad"]
    assert proba.index.equals(texts.index)
    assert clf.predict(["good"]).tolist() == ["glad"]
    assert isinstance(clf.set_output(transform="default").predict(texts), np.ndarray)
    tagger = SequenceTagger(**FAST).fit(pd.Series(SENTENCES), pd.Series(TAGS)).set_output(transform="pandas")
    found = tagger.predict(pd.Series(SENTENCES[:2], index=["a", "b"]))
    assert len(found["a"]) == 3
    with pytest.raises(ur.UnrolledError, match=r"transform.*polars"):
        clf.set_output(transform="polars")


def test_labels_come_back_as_they_were():
    x, way = ups_and_downs()
    way = way == "up"
    for labels in (np.array([10, 9]), np.array(["10", "9"]), np.array([2.0, 1.0]), np.array([True, False])):
        y = labels[way.astype(int)]
        clf = SequenceClassifier(**FAST).fit(x, y)
        assert clf.classes_.tolist() == sorted(labels.tolist())
        assert (clf.predict(x) == y).all()
        assert clf.predict(x).dtype == y.dtype


def test_classes_and_sequences_count_what_they_are_said_to():
    rng = np.random.default_rng(0)
    x, y = [rng.standard_normal((3, 2)) for _ in range(60)], np.repeat([0, 1], [50, 10])  # nothing to be seen
    share = {}
    for weight in ({0: 1, 1: 500}, {0: 500, 1: 1}):
        clf = SequenceClassifier(class_weight=weight, **FAST | {"batch_size": 60}).fit(x, y)
        share[str(weight)] = clf.predict(x).mean()
    assert share == {"{0: 1, 1: 500}": 1, "{0: 500, 1: 1}": 0}
    by_class = SequenceClassifier(class_weight={0: 1, 1: 25}, **FAST).fit(x, y).predict_proba(x)
    by_sample = SequenceClassifier(**FAST).fit(x, y, np.where(y, 25, 1)).predict_proba(x)
    np.testing.assert_array_equal(by_class, by_sample)
    without = SequenceClassifier(**FAST).fit(x[:55], y[:55]).history_
    zeros = SequenceClassifier(**FAST).fit(x, y, np.arange(60) < 55).history_
    assert [e["loss"] for e in without] == pytest.approx([e["loss"] for e in zeros])
    balanced = SequenceClassifier(class_weight="balanced", **FAST).fit(x, y)
    assert balanced.model_.decides == "macro_f1"


def test_training_stops_early_and_keeps_the_best():
    x, y = ups_and_downs()
    noise = np.random.default_rng(0).integers(2, size=36)
    clf = SequenceClassifier(**FAST | {"epochs": 200, "patience": 3, "validation_fraction": 0.25}).fit(x, noise)
    assert len(clf.history_) < 60
    best = max(clf.history_, key=lambda e: (e["accuracy"], -e["val_loss"]))
    assert best is clf.history_[-4]
    everything = SequenceClassifier(**FAST | {"validation_fraction": 0}).fit(x, y)
    assert [e["val_loss"] for e in everything.history_] == [None] * 12


def test_numbers_are_learnt_one_or_several():
    x, _ = ups_and_downs(60)
    y = np.array([[a[-1, 0], len(a)] for a in x])
    more = FAST | {"epochs": 60}
    both = SequenceRegressor(**more).fit(x, y)
    assert both.predict(x).shape == (60, 2)
    assert both.score(x, y) > 0.9
    one = SequenceRegressor(**more).fit(x, y[:, 1])
    assert one.predict(x).shape == (60,)
    assert one.score(x, y[:, 1]) > 0.9


def test_huber_loss_is_not_moved_by_wild_targets():
    x, _ = ups_and_downs(60)
    y = np.array([len(a) for a in x], float)
    wild = np.where(np.arange(60) % 10, y, 1000)
    errors = {}
    for loss in ("squared", "huber"):
        reg = SequenceRegressor(loss=loss, **FAST | {"epochs": 40}).fit(x, wild)
        errors[loss] = np.median(np.abs(reg.predict(x) - y))
    assert errors["huber"] < errors["squared"] / 2


@pytest.mark.parametrize("crf", [False, True])
def test_tags_and_their_probabilities(crf):
    tagger, x, y = fitted(SequenceTagger, crf=crf, epochs=20)
    assert tagger.score(x, y) > 0.95
    assert tagger.classes_.tolist() == ["D", "N", "V"]
    proba = tagger.predict_proba(x[:3])
    assert [p.shape for p in proba] == [(3, 3), (2, 3), (5, 3)]
    np.testing.assert_allclose(np.concatenate(proba).sum(axis=1), 1, rtol=1e-5)  # K sums of float32
    likeliest = [tagger.classes_[p.argmax(axis=1)].tolist() for p in proba]
    assert likeliest == tagger.predict(x[:3])  # with a CRF they could differ; here all is plain
    assert tagger.score([["cat", "zebra"]], [["N", "never seen"]]) in (0, 0.5)


def test_what_was_learnt_is_a_model_of_the_library(tmp_path):
    clf, x, _ = fitted(SequenceClassifier)
    clf.model_.save(tmp_path / "moods.safetensors")
    model = ur.load(tmp_path / "moods.safetensors")
    assert isinstance(model, ur.Classifier)
    assert model.predict(x) == clf.predict(x).tolist()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"cell": "lstn"}, "did you mean 'lstm'"),
        ({"validation_fraction": 1}, "validation_fraction is 1"),
        ({"class_weight": "even"}, "class_weight is 'even'"),
        ({"pooling": "sum"}, "pooling"),
        ({"options": {"zone_out": 0.1}}, "zone_out"),
        ({"options": {"hidden_size": 3}}, "hidden_size, which is a parameter"),
        ({"options": {"class_weights": "balanced"}}, "class_weights, which is a parameter"),
        ({"random_state": -1}, "seed is -1"),
    ],
)
def test_parameters_are_looked_at_when_it_is_fitted(more, said):
    clf = SequenceClassifier(**FAST | more)
    with pytest.raises(ValueError, match=said) as caught:
        clf.fit(*ups_and_downs())
    assert isinstance(caught.value, ur.UnrolledError)
    assert "\n" not in str(caught.value)
    with pytest.raises(NotFittedError):
        clf.predict(ups_and_downs()[0])


def test_odd_data_is_one_clear_line():
    x, y = ups_and_downs()
    clf = SequenceClassifier(**FAST)
    for bad, said in (
        ([*x[:-1], np.ones((4, 3))], "sequence 35 of X has 3 channels, sequence 0 of X 2"),
        ([*x[:-1], np.full((4, 2), np.nan)], "sequence 35 of X"),
        ([*x[:-1], "text"], "example 35 is of another kind"),
        (["text"] * 35 + [None], "example 35"),
        ([], "X has no sequences"),
        (pd.Series([np.nan, *["text"] * 35]), "example 1 is of another kind"),
        (pd.DataFrame({"a": ["text"] * 36, "b": ["more"] * 36}), "2 columns; expected one column of texts"),
        (x[:-1], "inconsistent numbers of samples"),
    ):
        with pytest.raises(ValueError, match=said):
            clf.fit(bad, y)
    with pytest.raises(ur.UnrolledError, match="y has 1 class"):
        clf.fit(x, ["up"] * 36)
    with pytest.raises(ur.UnrolledError, match=r"occurs once"):
        clf.fit(x, ["up"] + ["down"] * 35)
    with pytest.raises(NotFittedError):
        SequenceTagger().predict(SENTENCES)
    clf.fit(x, y)
    with pytest.raises(ur.UnrolledError, match="3 channels; expected series of 2"):
        clf.predict([np.ones((4, 3))])
    with pytest.raises(ur.UnrolledError, match="texts; expected series of 2 channels"):
        clf.predict(["text"])
    with pytest.raises(ur.UnrolledError, match="sentence 1 has 2 words and 1 tag"):
        SequenceTagger(**FAST).fit([["a"], ["b", "c"]], [["X"], ["Y"]])


def test_parameters_begin_as_the_models_have_them():
    for kind, declared in (
        (SequenceClassifier, classifier_data),
        (SequenceRegressor, regressor),
        (SequenceTagger, tagger_data),
    ):
        theirs = options(declared.Options)
        own = kind().get_params()
        shared = own.keys() & theirs.keys()
        assert len(shared) > 12
        assert {name: own[name] for name in shared} == {name: theirs[name].default for name in shared}
        assert all(f"{name} : " in kind.__doc__ for name in own)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("unrolled.sklearn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn.utils.validation", None)
    with pytest.raises(ImportError, match=r"pip install 'unrolled\[sklearn\]'"):
        import unrolled.sklearn  # noqa: F401


def test_the_guide_lists_every_check_that_does_not_pass():
    page = GUIDE.read_text()
    assert set(re.findall(r"`(check_\w+)`", page)) == set(EXPECTED)
    assert all(reason in " ".join(page.split()) for reason in EXPECTED.values())
