"""A user's own cell everywhere that a built-in goes: names, files, runs, the command line."""

import copy
import json
import pickle
import re
import sys
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS, OWN, Back, Cell, CellName, Stage, find_cell, fingerprint, name_of
from unrolled.cells.ops import sigmoid, tanh
from unrolled.cli import cli, exits
from unrolled.cli.own_cell import load_cell
from unrolled.data.examples import labelled
from unrolled.data.tagged import Tagged
from unrolled.models import files
from unrolled.nn.network import Network

SOURCE = """
from typing import Any, NamedTuple

from unrolled.cells import Back, Cell, Stage
from unrolled.cells.ops import sigmoid, tanh


class State(NamedTuple):
    h: Any


class Gates(NamedTuple):
    z: Any
    n: Any


def forward(ax, ah, s, m=1):
    z = sigmoid(ax[0] + ah[0])
    n = tanh(ax[1] + ah[1])
    return State(h=s.h + z * (m * n - s.h)), Gates(z, n)


def backward(d, k, s, new, m=1):
    dn = d.h * k.z
    da = (d.h * (m * k.n - s.h) * k.z * (1 - k.z), dn * m * (1 - k.n * k.n))
    return Back(da, da, State(h=d.h * (1 - k.z)))


LIGHT = Cell("light", State, Gates, (Stage(("z", "n"), forward, backward),), "none", candidate="n")
"""


class State(NamedTuple):
    h: Any


class Gates(NamedTuple):
    z: Any
    n: Any


def helper(old, new, share):
    return old + (new - old) * share


def forward(ax, ah, s, m=1):
    """The same equations in other words."""
    update = 1 / (1 + np.exp(-(ah[0] + ax[0])))
    candidate = tanh(ah[1] + ax[1])
    return State(helper(s.h, candidate * m, update)), Gates(update, candidate)


def backward(d, k, s, new, m=1):
    dn = d.h * k.z
    da = (d.h * (m * k.n - s.h) * k.z * (1 - k.z), dn * m * (1 - k.n * k.n))
    return Back(da, da, State(h=d.h * (1 - k.z)))


def steeper(ax, ah, s, m=1):
    z, n = sigmoid(2 * (ax[0] + ah[0])), tanh(ax[1] + ah[1])
    return State(h=s.h + z * (m * n - s.h)), Gates(z, n)


def branching(ax, ah, s, m=1):
    return (State(h=ax[0]) if ax[0] > 0 else State(h=ah[1])), Gates(ax[0], ax[1])


LIGHT = Cell("light", State, Gates, (Stage(("z", "n"), forward, backward),), "none", candidate="n")
OTHER = replace(LIGHT, stages=(Stage(("z", "n"), steeper, backward),))
SMALL = {"hidden_size": 6, "num_layers": 1, "embedding_size": 5, "batch_size": 2, "seq_length": 8, "epochs": 1}
TEXT = "the cat sat on the mat. " * 30


@pytest.fixture
def own():
    """The registry, empty again afterwards."""
    yield OWN
    OWN.clear()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_cell.py").write_text(SOURCE)
    (tmp_path / "t.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "m.safetensors"
    model = ur.LanguageModel.train(TEXT, cell=LIGHT, **SMALL)
    model.save(path)
    return path, model


def run(*words):
    return cli.main([str(word) for word in words], standalone_mode=False)


# --- names


def test_a_registered_cell_is_found_by_its_name_and_suggested(own):
    assert ur.cells.register(LIGHT) is ur.cells.register(LIGHT) is find_cell("light")
    assert ur.cells.register(replace(LIGHT)) == LIGHT  # made again, as in a notebook
    assert ur.Recurrent("light", 4, 5).cell == LIGHT
    assert ur.Network(ur.Spec(7, "light", 4, 5)).recurrent.cell == LIGHT
    with pytest.raises(ur.UnrolledError, match="no cell is called 'lihgt'; did you mean 'light'"):
        find_cell("lihgt")
    with pytest.raises(ur.UnrolledError, match="another cell is registered as 'light'; give this one a name"):
        ur.cells.register(OTHER)
    with pytest.raises(ur.UnrolledError, match="cell 'GRU': a built-in cell is called so"):
        ur.cells.register(replace(LIGHT, name="GRU"))
    with pytest.raises(ur.UnrolledError, match="register was given 'light'; expected a Cell"):
        ur.cells.register("light")


def test_an_own_cell_may_not_be_called_like_a_built_in_where_files_name_it():
    with pytest.raises(ur.UnrolledError, match="cell 'lstm': a built-in cell is called so"):
        ur.Spec(7, replace(LIGHT, name="lstm"))
    with pytest.raises(ur.UnrolledError, match="more than 100 characters"):
        ur.Spec(7, replace(LIGHT, name="x" * 101))
    assert ur.Spec(7, CELLS["lstm"]).cell == "lstm"
    assert not isinstance(name_of(CELLS["lstm"]), CellName)
    with pytest.raises(ur.UnrolledError, match="cell 'lstm': a built-in cell is called so"):
        name_of(CellName(replace(LIGHT, name="lstm")))


def test_a_name_goes_where_texts_go_and_knows_its_cell():
    name = name_of(LIGHT)
    assert (name, json.dumps(name), repr(name)) == ("light", '"light"', "'light'")
    assert copy.copy(name) is copy.deepcopy(name) is name
    assert pickle.loads(pickle.dumps(name)).cell == LIGHT
    assert name == name_of(replace(LIGHT)) != name_of(OTHER)
    assert name == "light"
    assert hash(name) == hash("light")


def test_the_hash_is_of_what_is_computed(tmp_path):
    names: dict = {"__name__": "written"}
    exec(SOURCE, names)
    assert fingerprint(names["LIGHT"]) == fingerprint(LIGHT)  # other words, other order, another helper
    assert fingerprint(replace(LIGHT, name="other", paper="other")) == fingerprint(LIGHT)
    changed = [OTHER, replace(LIGHT, candidate=""), replace(LIGHT, stages=(replace(LIGHT.stages[0], rows=("n", "z")),))]
    assert len({fingerprint(cell) for cell in (LIGHT, *changed, *CELLS.values())}) == 4 + len(CELLS)
    odd = replace(LIGHT, stages=(Stage(("z", "n"), branching, backward),))
    line = branching.__code__.co_firstlineno + 1
    with pytest.raises(ur.UnrolledError, match=rf"test_own_cells.py, line {line}: cell 'light' can't be told"):
        fingerprint(odd)
    with pytest.raises(ur.UnrolledError, match="can't be told by what it computes"):
        ur.LanguageModel.train(TEXT, cell=odd, out=tmp_path / "run", backend="reference", **SMALL)
    with pytest.raises(ur.UnrolledError, match=rf"forward can't be traced: .* \(.*test_own_cells.py, line {line}\)"):
        ur.LanguageModel.train(
            TEXT, cell=replace(odd, stages=(Stage(("z", "n"), branching),)), out=tmp_path / "run", **SMALL
        )
    assert not (tmp_path / "run").exists()


def plain(ax, ah, s, m=1):
    return tuple(map(tuple, forward(ax, ah, s, m)))


def ending(ax, ah, s, m=1):
    raise SystemExit(0)


@pytest.mark.parametrize("given", [backward, None])
def test_plain_tuples_are_as_good_as_state_and_gates_wherever_a_cell_goes(given, tmp_path):
    cells = [replace(LIGHT, stages=(Stage(("z", "n"), each, given),)) for each in (forward, plain)]
    assert fingerprint(cells[0]) == fingerprint(cells[1])
    for backend in ("reference", "auto"):
        texts = []
        for cell in cells:
            model = ur.LanguageModel.train(TEXT, cell=cell, backend=backend, **SMALL)
            model.save(tmp_path / "m")
            texts.append(ur.load(tmp_path / "m", cell=LIGHT).sample("the ", length=9, seed=1))
        assert texts[0] == texts[1]
    assert ur.check_cell(cells[1]).passed


@pytest.mark.parametrize("given", [backward, None])
def test_a_function_that_asks_python_to_end_is_refused_with_its_line(given):
    cell = replace(LIGHT, stages=(Stage(("z", "n"), ending, given),))
    line = rf"test_own_cells.py, line {ending.__code__.co_firstlineno + 1}"
    train = ur.LanguageModel.train
    for use in (fingerprint, lambda cell: train(TEXT, cell=cell, backend="reference", **SMALL)):
        with pytest.raises(ur.UnrolledError, match=r"SystemExit: 0") as caught:
            use(cell)
        assert re.search(line, str(caught.value))
    assert not ur.check_cell(cell).passed


class Leak(NamedTuple):
    a: Any
    b: Any


class Choice(NamedTuple):
    rate: float
    activation: str


def prepared(p, c):
    return Leak(sigmoid(p.a), c.rate * p.b)


def grown(ax, ah, s, p, c, x, dt):
    g = c.activation(ax[0] + ah[0] + p.b * x)
    return State(h=s.h + dt * p.a * (g - s.h)), Gates(g, g)


def at_once(ax, ah, s, p, c, x, dt):
    p = prepared(p, c)
    return grown(ax, ah, s, p, c, x, dt)


def test_the_hash_is_of_what_grown_cells_are_given_too():
    stage = Stage(("n",), grown)
    cell = Cell("own", State, Gates, (stage,), "", Leak, "weight_own", prepare=prepared, settings=Choice(0.5, "tanh"))
    assert fingerprint(replace(cell, prepare=None, stages=(Stage(("n",), at_once),))) == fingerprint(cell)
    assert fingerprint(replace(cell, initial={"weight_own.a": lambda rng, shape: np.ones(shape)})) == fingerprint(cell)
    others = [
        replace(cell, heads=2),
        replace(cell, stages=(replace(stage, biases=("ih",)),)),
        cell.with_settings(rate=0.25),
        cell.with_settings(activation="relu"),
    ]
    assert len({fingerprint(other) for other in (cell, *others)}) == 5


# --- model files


def test_a_file_names_the_cell_and_takes_it_again(saved, own):
    path, model = saved
    again = ur.load(path, cell=LIGHT)
    assert again.network.spec == model.network.spec
    assert again.sample("the ", length=9, seed=1) == model.sample("the ", length=9, seed=1)
    ur.cells.register(LIGHT)
    assert ur.load(path).network.recurrent.cell == LIGHT


def test_a_missing_or_another_cell_is_refused_and_what_the_file_says_can_be_read(saved):
    path, model = saved
    digest = fingerprint(LIGHT)
    with pytest.raises(
        ur.UnrolledError, match=rf"its cell is 'light' \(a user's own, hash {digest[:12]}\), and a file"
    ):
        ur.load(path)
    with pytest.raises(ur.UnrolledError, match=rf"'light' \(hash {fingerprint(OTHER)[:12]}\) computes something else"):
        ur.load(path, cell=OTHER)
    with pytest.raises(ur.UnrolledError, match=r"'lstm' \(hash \w+\) is another one"):
        ur.load(path, cell="lstm")
    found = files.described(path)
    assert (found.spec.cell, found.own.sha256, found.own.name) == ("light", digest, "light")
    assert found.own.parameters["recurrent.weight_hh_l0"] == (12, 6)
    assert dict(found.lines())["parameters"] == f"{model.network.parameter_count:,}"
    assert {name: p.tolist() for name, p in found.params.items()} == {
        name: p.tolist() for name, p in model.network.params.items()
    }


def test_a_built_in_takes_no_other_cell(tmp_path):
    model = ur.LanguageModel.train(TEXT, cell="gru", **SMALL)
    model.save(tmp_path / "m")
    assert ur.load(tmp_path / "m", cell="gru").network.spec.cell == "gru_reset_after"
    with pytest.raises(ur.UnrolledError, match="its cell is 'gru_reset_after', a built-in, not 'light'; leave the"):
        ur.load(tmp_path / "m", cell=LIGHT)


def rated(ax, ah, s, c):
    g = c.activation(ax[0] + ah[0])
    return State(h=s.h + c.rate * (g - s.h)), Gates(g, g)


def test_a_file_keeps_the_settings_that_were_asked_for(tmp_path):
    cell = Cell("rated", State, Gates, (Stage(("n",), rated),), settings=Choice(0.5, "tanh"))
    made = ur.LanguageModel.train(TEXT, cell=cell, cell_settings="rate=0.25", **SMALL)
    made.save(tmp_path / "m")
    again = ur.load(tmp_path / "m", cell=cell)
    assert again.network.recurrent.cell.settings == Choice(0.25, "tanh")
    assert again.score(TEXT).nats == made.score(TEXT).nats
    with pytest.raises(ur.UnrolledError, match=r"'rated' \(hash \w+\) computes something else"):
        ur.load(tmp_path / "m", cell=cell.with_settings(rate=0.25))  # which is another cell


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "dark"}, "it tells of the cell 'dark', its description of 'light'"),
        ({"sha256": 3}, "cell.sha256 is 3; expected a text"),
        ({"parameters": {"recurrent.weight_hh_l0": [3, 3]}}, "the arrays do not fit this network; unknown: "),
        ({"code": "print(1)"}, "cell has an unknown entry, 'code'"),
    ],
)
def test_a_file_that_lies_about_its_cell_is_refused(saved, tmp_path, monkeypatch, change, message):
    _, model = saved
    entry = files.own_cells.entry
    monkeypatch.setattr(files.own_cells, "entry", lambda spec: {"cell": entry(spec)["cell"] | change})
    model.save(tmp_path / "m")
    with pytest.raises(ur.UnrolledError, match=message):
        files.described(tmp_path / "m")


# --- kinds of models, copies, proofs


def test_every_kind_of_model_takes_an_own_cell_and_its_file_too(tmp_path):
    tagged = Tagged([["the", "cat", "saw"]] * 6, [["DET", "NOUN", "VERB"]] * 6)
    rows = labelled(["aa b", "b bb", "a a"] * 6)
    series = np.sin(np.arange(90.0) / 3)
    small = {"cell": LIGHT, "hidden_size": 4, "epochs": 1, "num_layers": 1}
    from unrolled.models.regressor import Regressor

    models = [
        ur.Tagger.train(tagged, val_fraction=0, characters_hidden_size=3, **small),
        ur.Classifier.train((["aa b", "b bb", "a a"] * 6, [0, 1, 0] * 6), level="char", **small),
        Regressor.train((rows, [0.0, 1.0, 0.5] * 6), level="char", **small),
        ur.Forecaster.train(series, horizon=2, context=6, val_fraction=0.3, **small),
    ]
    for n, model in enumerate(models):
        model.save(tmp_path / f"{n}")
        again = ur.load(tmp_path / f"{n}", cell=LIGHT)
        assert repr(again) == repr(model)
        assert again.network.recurrent.cell == LIGHT
        with pytest.raises(ur.UnrolledError, match="hand the cell in"):
            ur.load(tmp_path / f"{n}")
        assert dict(files.described(tmp_path / f"{n}").lines())["cell's hash"] == fingerprint(LIGHT)


def test_estimators_of_scikit_learn_take_it_and_pickle_it():
    pytest.importorskip("sklearn", minversion="1.6", reason="scikit-learn is not installed, or an older one")
    from sklearn.base import clone

    from unrolled.sklearn import SequenceClassifier

    made = clone(SequenceClassifier(cell=LIGHT, hidden_size=4, epochs=1, level="char", random_state=0))
    made.fit(["aa", "bb"] * 6, [0, 1] * 6)
    again = pickle.loads(pickle.dumps(made))
    assert again.model_.network.recurrent.cell == LIGHT
    assert again.predict_proba(["ab"]).tolist() == made.predict_proba(["ab"]).tolist()


def test_networks_with_an_own_cell_are_copied_pickled_and_proven():
    net = Network(ur.Spec(7, LIGHT, embedding_size=4, hidden_size=5, characters=0), rng=0)
    x = np.arange(6).reshape(3, 2)
    for other in (copy.copy(net), copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.spec == net.spec
        assert other.recurrent.cell == LIGHT
        assert (other(x)[0] == net(x)[0]).all()
    assert ur.check_network(net).passed


# --- runs


def test_a_run_goes_on_to_the_bit_with_its_cell_and_not_without(tmp_path):
    whole = ur.LanguageModel.train(TEXT, cell=LIGHT, out=tmp_path / "a", **SMALL | {"epochs": 2})
    ur.LanguageModel.train(TEXT, cell=LIGHT, out=tmp_path / "b", **SMALL)
    with pytest.raises(ur.UnrolledError, match=r"checkpoint.safetensors: its cell is 'light' .* hand the cell in"):
        ur.LanguageModel.resume(tmp_path / "b", TEXT, epochs=2)
    with pytest.raises(ur.UnrolledError, match="computes something else"):
        ur.LanguageModel.resume(tmp_path / "b", TEXT, epochs=2, cell=OTHER)
    again = ur.LanguageModel.resume(tmp_path / "b", TEXT, epochs=2, cell=LIGHT)
    for name, p in whole.network.params.items():
        np.testing.assert_array_equal(again.network.params[name], p)
    assert (tmp_path / "b" / "model.safetensors").read_bytes() == (tmp_path / "a" / "model.safetensors").read_bytes()
    started = ur.LanguageModel.train(TEXT, init_from=again, cell=LIGHT, **SMALL)
    assert started.network.recurrent.cell == LIGHT
    with pytest.raises(ur.UnrolledError, match="cell is 'light', but the model to start from has 'light'"):
        ur.LanguageModel.train(TEXT, init_from=again, cell=OTHER, **SMALL)


# --- the command line


def test_the_command_trains_samples_scores_and_goes_on_with_a_cell_of_a_file(folder, capsys):
    small = [
        "--hidden-size",
        6,
        "--num-layers",
        1,
        "--embedding-size",
        5,
        "--batch-size",
        2,
        "--seq-length",
        8,
        "--no-auto",
    ]
    mine = ["--cell", "my_cell.py:LIGHT"]
    assert run("train", "t.txt", *mine, *small, "--epochs", 1, "--out", "r") in (None, 0)
    assert "--temperature 0.7 --cell my_cell.py:LIGHT" in capsys.readouterr().out
    assert 'cell = "my_cell.py:LIGHT"' in (folder / "r" / "config.toml").read_text()
    (folder / "my_cell.py").write_text(SOURCE.replace("m=1):", "m=1):  # a comment\n    # and another"))
    for words in (
        ["sample", "r", "--length", 5],
        ["score", "r", "t.txt"],
        ["predict", "r", "--prompt", "the"],
        ["info", "r"],
    ):
        assert run(*words, *mine) in (None, 0)
        if words[0] != "info":
            with pytest.raises(ur.UnrolledError, match=r"its cell is 'light' .* as --cell FILE.py:NAME"):
                run(*words)
    assert run("info", "r") in (None, 0)
    assert f"cell's hash       {fingerprint(LIGHT)}" in capsys.readouterr().out
    with pytest.raises(ur.UnrolledError, match=r"its cell is 'light' .* hand the cell in"):
        run("train", "--resume", "r", "--epochs", 2)
    assert run("train", "--resume", "r", "--epochs", 2, *mine) in (None, 0)
    with pytest.raises(ur.UnrolledError, match=r"r/config.toml, line \d+: .* too: --cell my_cell.py:LIGHT"):
        run("train", "--config", "r/config.toml", "--out", "s")
    assert run("train", "--config", "r/config.toml", "--out", "s", *mine) in (None, 0)
    assert run("compare", "r", "s") in (None, 0)
    assert (folder / "r" / "model.safetensors").read_bytes() == (folder / "s" / "model.safetensors").read_bytes()
    assert run("train", "t.txt", "--init-from", "r", *mine, *small[-5:], "--epochs", 1, "--out", "u") in (None, 0)


def test_the_command_describes_and_proves_a_cell_of_a_file(folder, capsys, monkeypatch):
    assert run("info", "--cell", "my_cell.py:LIGHT") in (None, 0)
    assert capsys.readouterr().out.startswith("light\n  paper ")
    found = []
    monkeypatch.setattr("unrolled.gradcheck.suite.check_all", lambda cell, **how: found.append(find_cell(cell)) or [])
    run("check", "my_cell.py:LIGHT")
    run("check", "--cell", "my_cell.py:LIGHT")
    assert [cell.name for cell in found] == ["light", "light"]
    with pytest.raises(ur.UnrolledError, match="the cell is named twice"):
        run("check", "lstm", "--cell", "lstm")


MUTE = "class MuteError(Exception):\n    def __str__(self):\n        raise self\nraise MuteError"
IF = r"forward can't be traced: .* instead of if \(.*my_cell.py, line 18\)$"


@pytest.mark.parametrize(
    ("text", "source", "message"),
    [
        ("none.py:LIGHT", "", "can't read the file of a cell none.py: No such file or directory"),
        ("my_cell.py:LIHGT", SOURCE, "my_cell.py: no cell is called 'LIHGT'; did you mean 'LIGHT'"),
        ("my_cell.py:forward", SOURCE, "my_cell.py, line 17: forward is <function .*; expected a Cell"),
        ("my_cell.py", SOURCE, "'my_cell.py' names no cell; write my_cell.py:LIGHT"),
        ("my_cell.py:A", "x = 1\ny = x / 0\n", "my_cell.py, line 2: ZeroDivisionError: division by zero"),
        ("my_cell.py:A", "x = (\n", r"my_cell.py, line 1: '\(' was never closed"),
        ("my_cell.py:A", "import sys\nsys.exit(3)", "my_cell.py, line 2: SystemExit: 3"),
        ("my_cell.py:A", SOURCE.replace('"light"', "3"), "my_cell.py, line 29: cell 3: name is 3; expected a text"),
        ("my_cell.py:A", "import helper_of_mine", "my_cell.py, line 1: ModuleNotFoundError: No module named"),
        ("my_cell.py:A", "raise GeneratorExit", "my_cell.py, line 1: GeneratorExit$"),
        ("my_cell.py:A", "raise StopIteration('a\\nb')", "my_cell.py, line 1: StopIteration: a b$"),
        ("my_cell.py:A", "raise SyntaxError('a\\nb')", "my_cell.py, line 1: SyntaxError: a b$"),
        ("my_cell.py:A", MUTE, "my_cell.py, line 4: MuteError$"),
        ("my_cell.py:A", "import sys\nsys.path = []", "my_cell.py holds no cell; write A = Cell"),
        ("my_cell.py", "x = 1", "my_cell.py holds no cell; write NAME = Cell"),
        ("my_cell.py:A", "x = '\udce9'", r"my_cell.py.*: \(unicode error\) 'utf-8' codec can't decode byte 0xe9"),
        ("my_cell.py:LIGHT", SOURCE.replace('"light"', '"gru"'), "cell 'gru': a built-in cell is called so"),
        ("my_cell.py:LIGHT", SOURCE.replace("z = sig", "z = 1 if ax[0] > 0 else sig").replace(", backward)", ")"), IF),
    ],
)
def test_what_is_wrong_with_a_cells_file_is_one_line_that_says_where(folder, capsys, text, source, message):
    (folder / "my_cell.py").write_text(source, errors="surrogateescape")
    before = list(sys.path)
    with pytest.raises(ur.UnrolledError, match=message) as caught:
        run("info", "--cell", text)
    assert "\n" not in str(caught.value)
    assert sys.path == before
    assert not capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_a_cells_file_is_read_in_the_encoding_that_it_says(folder, encoding):
    cookie = "# -*- coding: latin-1 -*-" * (encoding == "latin-1")
    (folder / "my_cell.py").write_text(f"{cookie}{SOURCE}".replace('"none"', '"Müller"'), encoding=encoding)
    assert load_cell("my_cell.py:LIGHT").paper == "Müller"


def test_what_a_function_raises_while_a_command_runs_is_one_line_and_no_success(capsys):
    with pytest.raises(SystemExit) as caught:
        exits.run(lambda: sys.exit(0))
    assert (caught.value.code, capsys.readouterr().err.count("\n")) == (2, 1)
