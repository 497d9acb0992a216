"""A search: its rungs, its settings, one process or several, an end before its time, and what it refuses."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import unrolled as ur
from unrolled.cli import main
from unrolled.cli.compare import comparison
from unrolled.models import files
from unrolled.training.divergence import KeptDiverging
from unrolled.training.run_folder import Held, held
from unrolled.training.trainer import CHECKPOINT, MODEL, Trainer
from unrolled.tuning import state as states
from unrolled.tuning import work
from unrolled.tuning.report import plan
from unrolled.tuning.space import SPACE, settings
from unrolled.tuning.trials import Trials, chosen

TEXT = "".join(np.random.default_rng(0).choice(["the ", "cat ", "sat ", "on ", "mats. "], size=300).tolist())
SMALL = {"hidden_size": 8, "embedding_size": 5, "sample_length": 0}
LEAST, THREE, NINE = 1e-4, 6e-4, 27e-4
"""Minutes of a trial in the shortest rung, here, and of searches of three settings and of nine."""


@pytest.fixture(autouse=True, scope="module")
def _brief():
    importlib.import_module("unrolled.cli.tune")  # whose help keeps the minimum as it was then
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "LEAST", LEAST)
        patch.setattr(states, "SHORTEST", THREE)
        yield


@pytest.fixture
def book(tmp_path):
    (tmp_path / "book.txt").write_text(TEXT)
    return tmp_path / "book.txt"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Make a search of nine settings."""
    folder = tmp_path_factory.mktemp("nine")
    (folder / "book.txt").write_text(TEXT)
    return ur.tune(folder / "book.txt", minutes=NINE, out=folder / "out", **SMALL)


@pytest.fixture
def search(made, tmp_path):
    """Copy the folder of that search."""
    return shutil.copytree(made.folder, tmp_path / "out")


def figures(found):
    return {(t.rung, t.setting): (t.best.val_loss, t.epochs, t.options) for t in found.state.trials}


SIZES = [(6e-4, [3, 1]), (27e-4, [9, 3, 1]), (0.0108, [27, 9, 3, 1]), (600, [27, 9, 3, 1])]


@pytest.mark.parametrize(("minutes", "sizes"), SIZES)
def test_rungs_cost_the_same_and_the_whole_time(minutes, sizes):
    rungs = states.rungs(minutes)
    assert [rung.settings for rung in rungs] == sizes
    costs = [rung.settings * rung.minutes for rung in rungs]
    assert costs == pytest.approx([minutes / len(sizes)] * len(sizes))
    assert rungs[0].minutes >= LEAST * (1 - 1e-9)  # it is minutes, divided


@pytest.mark.parametrize("task", SPACE)
def test_every_draw_of_a_space_is_an_option_of_its_kind(task):
    usual = files.kinds()[task].options()
    drawn = settings(task, {}, 27, seed=3)
    assert drawn[0] == {}
    assert drawn[:9] == settings(task, {}, 9, seed=3)
    assert len({json.dumps(one) for one in drawn}) == 27
    for one in drawn[1:]:
        assert list(one) == list(SPACE[task])
        options = replace(usual, **{n: SPACE[task][n].of(getattr(usual, n) or 0.002, v) for n, v in one.items()})
        assert usual.hidden_size / 2 <= options.hidden_size <= usual.hidden_size * 2
        assert 0 <= options.dropout <= 0.8


def test_a_search_halves_by_three_and_leaves_one_ordinary_run(made, book):
    state = made.state
    by_rung = [[t.setting for t in state.of_rung(k)] for k in range(3)]
    assert [len(rung) for rung in by_rung] == [9, 3, 1]
    assert [set(rung) for rung in by_rung[1:]] == [set(by_rung[0][:3]), set(by_rung[1][:1])]
    losses = {(t.rung, t.setting): t.best.val_loss for t in state.trials}
    assert made.rows[0]["val_loss"] == min(losses.values())
    assert [row["val_loss"] for row in made.rows] == sorted(row["val_loss"] for row in made.rows)
    assert len(made.rows) == len(losses) == 13  # a later trial that was worse is in the table too
    # The first setting is what is chosen automatically, to the bit.
    automatic = ur.LanguageModel.train(book, auto=True, minutes=state.rungs[0].minutes, **SMALL)
    assert losses[0, 0] == automatic.result.best.val_loss
    # Models are those of the best run alone; the others keep what is compared.
    assert [path.parent for path in made.folder.rglob(MODEL)] == [made.best]
    assert ur.load(made.best).score(TEXT).nats < np.log(len(set(TEXT)))
    assert comparison([made.run(t) for t in state.trials])[0]["run"] == str(made.best)
    assert ur.LanguageModel.resume(made.best).result.best.val_loss == made.rows[0]["val_loss"]


def test_a_search_says_what_it_is_going_to_do(made):
    begun = replace(made.state, trials=made.state.trials[:2])
    assert plan(Path("tunes/book"), begun) == [
        "settings to try: 9 for 0.0001, then 3 for 0.0003, then 1 for 0.0009 minutes of work each; "
        "the best run so far is kept in tunes/book",
        "searched, around the automatic choice: cell gru_reset_after or lstm; num_layers 1 or 2; "
        "learning_rate 0.333 to 3 times; dropout -0.2, -0.1, +0, +0.1, +0.2; batch_size 0.5 to 2 times; "
        "seq_length 0.5 to 2 times",
        "trials that are over: 2 of 13",
    ]


def test_an_interrupted_search_goes_on_to_the_same_bits(book, tmp_path, monkeypatch):
    whole = ur.tune(book, minutes=THREE, out=tmp_path / "whole", **SMALL)
    step, steps = Trainer.step, []

    def interrupted(self):
        steps.append(self)
        if len(steps) in (3, whole.state.trials[0].best.step + 10):
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Trainer, "step", interrupted)
    for done, how in [(0, {"minutes": THREE, "out": tmp_path / "cut"} | SMALL), (1, {"resume": tmp_path / "cut"})]:
        with pytest.raises(ur.Interrupted):
            ur.tune(None if done else book, **how)
        assert len(states.read(tmp_path / "cut").trials) == done
        assert len(list((tmp_path / "cut").rglob(CHECKPOINT))) == done + 1
    # The same command goes on too.
    assert figures(ur.tune(book, minutes=THREE, out=tmp_path / "cut", **SMALL)) == figures(whole)


def test_what_another_process_makes_is_left_to_it(search, monkeypatch):
    state = states.read(search)
    replace(state, trials=[t for t in state.trials if t.rung == 0 and t.setting < 7]).written(search)
    seen = []

    def made(self, rung, setting, folder):
        seen.append(setting)
        raise KeyboardInterrupt

    monkeypatch.setattr(Trials, "made", made)
    with held(search / "07"), pytest.raises(KeyboardInterrupt):
        ur.tune(resume=search)
    assert seen == [8]


@pytest.mark.slow  # two more Pythons are started
def test_processes_change_nothing(made, book, tmp_path):
    found = ur.tune(book, minutes=NINE, out=tmp_path / "two", processes=3, threads=2, **SMALL)
    assert figures(found) == figures(made)
    assert found.best.relative_to(found.folder) == made.best.relative_to(made.folder)


def test_what_diverges_is_the_worst_and_a_search_of_nothing_else_ends(book, tmp_path, monkeypatch):
    trained, bad = Trials._trained, {1}

    def diverging(self, options, folder):
        if int(folder.parent.name) in bad:
            raise KeptDiverging("stopped at step 3", "the last good model is kept in a folder")
        return trained(self, options, folder)

    monkeypatch.setattr(Trials, "_trained", diverging)
    found = ur.tune(book, minutes=THREE, out=tmp_path / "out", **SMALL)
    assert [row["val_loss"] is None for row in found.rows] == [False, False, False, True]
    assert {t.setting: t.failed for t in found.state.trials} == {0: None, 1: "stopped at step 3", 2: None}
    bad |= {0, 2}
    with pytest.raises(ur.UnrolledError, match=r"every trial of rung 1 failed. Setting 0: stopped at step 3"):
        ur.tune(book, minutes=THREE, out=tmp_path / "other", **SMALL)


def test_a_setting_changes_its_size_first_and_keeps_to_the_work(book):
    kind = files.kinds()["language"]
    how = {"minutes": 0.01, "level": "word"}
    usual, nothing = chosen(kind, book, {}, **how)
    options, changed = chosen(kind, book, {"hidden_size": 2.0, "learning_rate": 0.5, "dropout": 0.1}, **how)
    assert (nothing, changed["hidden_size"]) == ({}, 2 * usual.hidden_size)
    wide, _ = chosen(kind, book, {"hidden_size": 2.0}, **how)  # whose dropout may be another one
    assert options.dropout == pytest.approx(wide.dropout + 0.1)
    assert options.patience == usual.patience == 0
    labels = (["aa", "bb", "ab", "ba"] * 9, [0, 1, 0, 1] * 9)
    kind = files.kinds()["classify"]
    few, many = (chosen(kind, labels, {}, minutes=m, hidden_size=8, level="char")[0] for m in (0.001, 0.002))
    assert few.epochs < many.epochs  # though its patience, which stays, could end it
    assert few.patience == kind.options.patience


DATA = {
    "tag": "the\tD\ncat\tN\nsat\tV\n\na\tD\ndog\tN\n\n" * 20,
    "classify": "text,label\n" + "good day,glad\nbad day,sad\nso good,glad\nso bad,sad\n" * 12,
    "forecast": "load\n" + "".join(f"{n % 7}\n" for n in range(120)),
}

MORE = {"tag": {"column": "2"}, "classify": {"label": "label"}, "forecast": {"horizon": 6, "context": 12, "segment": 3}}


@pytest.mark.parametrize("task", DATA)
def test_every_kind_of_model_can_be_searched(task, tmp_path):
    path, small = tmp_path / f"data.{'tsv' if task == 'tag' else 'csv'}", {"hidden_size": 8, "num_layers": 1}
    path.write_text(DATA[task])
    found = ur.tune(path, task=task, minutes=THREE, out=tmp_path / "out", **small, **MORE[task])
    assert found.state.fixed == small | MORE[task]
    assert len(found.state.trials) == 4
    assert ur.load(found.best).network.spec.hidden_size == 8
    assert found.state.decides == ur.load(found.best).decides


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"minutes": 5e-4}, "minutes is 0.0005; the shortest search, of 3 settings, takes 0.0006"),
        ({"epochs": 3}, "epochs can't be fixed: the passes of a trial follow from minutes"),
        ({"task": "classify", "folds": 3}, "folds can't be fixed"),
        ({"val_fraction": 0}, "val_fraction is 0; settings are compared by a part to validate on"),
        ({"threads": 0}, "threads is 0; it must be a whole number, from 1 to 1,024"),
        ({"processes": 0}, "processes is 0; it must be a whole number, from 1 to 256"),
        ({"hidden_sise": 8}, "no option is called 'hidden_sise'; did you mean 'hidden_size'"),
        ({"cell": "lstn"}, "no cell is called 'lstn'"),
        ({"horizon": 3, "task": "language"}, "--horizon is an option of forecast"),
        ({"val_fraction": 0.9999}, "the training part has 0 characters"),
        ({"val": "none.txt"}, r"none\.txt"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(how, said, book, tmp_path):
    with pytest.raises(ur.UnrolledError, match=said):
        ur.tune(book, out=tmp_path / "out", **how)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_a_search_takes_no_run(search, book):
    with pytest.raises(ur.UnrolledError, match="holds a search"):
        ur.LanguageModel.train(book, out=search, overwrite=True, **SMALL)


def test_another_search_other_data_and_a_damaged_state_are_refused(search, book, tmp_path):
    same = {"minutes": NINE, "out": search} | SMALL
    for how, said in [({"seed": 5}, "seed"), ({"cell": "lstm"}, "options"), ({"keep": True}, "keep")]:
        with pytest.raises(ur.UnrolledError, match=f"holds a search with other {said}; choose another --out"):
            ur.tune(book, **same | how)
    with pytest.raises(ur.UnrolledError, match="hidden_size can't change when a search goes on"):
        ur.tune(resume=search, hidden_size=9)
    with pytest.raises(ur.UnrolledError, match="cell is 'lstm'; that of the search is 'not fixed'"):
        ur.tune(resume=search, cell="lstm")
    state = states.read(search)
    others = [{name: drawn for name, drawn in one.items() if name != "cell"} for one in state.settings]
    replace(state, fixed=state.fixed | {"cell": "mine"}, settings=others).written(search)
    with pytest.raises(ur.UnrolledError, match=r"no cell is called 'mine'.* a cell of your own is given again: --cell"):
        ur.tune(resume=search)
    state.written(search)
    ur.tune(book, resume=search)  # the same data elsewhere
    book.write_text(TEXT + "the end")
    with pytest.raises(ur.UnrolledError, match=r"the data is not that of the search in .*out\. Give the old data"):
        ur.tune(resume=search)
    good = (search / states.STATE).read_text()
    content = json.loads(good)
    bad = [good[:-40], "[1]", json.dumps(content | {"minutes": 7.0}), json.dumps(content | {"trials": [3]})]
    for text in (*bad, json.dumps({k: v for k, v in content.items() if k != "sha256"}), "{}"):
        (search / states.STATE).write_text(text)
        with pytest.raises(ur.UnrolledError, match=r"tune\.json is damaged"):
            ur.tune(resume=search)
    with pytest.raises(ur.UnrolledError, match="holds no search"):
        ur.tune(resume=tmp_path)


FIRST = "settings[1] has an unknown entry, "
RATE = "settings[1].learning_rate is 'x'; expected a finite number from 0.333 to 3"
LIES = [
    ({"rungs": []}, "it has 9 settings, which its first rung has not"),
    ({"settings": []}, "it has 0 settings, which its first rung has not"),
    ({"trials": {"setting": 26}}, "it has a trial of none of its 9 settings, or of no rung"),
    ({"trials": {"rung": 3}}, "it has a trial of none of its 9 settings, or of no rung"),
    ({"settings": {"learning_rat": 1.0}}, FIRST + "'learning_rat'"),
    ({"settings": {"hidden_size": 1.0}}, FIRST + "'hidden_size'"),  # it is fixed
    ({"settings": {"learning_rate": "x"}}, RATE),
    ({"settings": {"seq_length": 1e300}}, "settings[1].seq_length is 1e+300; expected a finite number from 0.5 to 2"),
    ({"settings": {"dropout": 0.3}}, "settings[1].dropout is 0.3; expected a finite number from -0.2 to 0.2"),
    ({"settings": {"cell": 3}}, "settings[1].cell is 3; expected one of 'gru_reset_after', 'lstm'"),
    ({"settings": {"num_layers": True}}, "settings[1].num_layers is True; expected one of 1, 2"),
    ({"fixed": {"hidden_sise": 8}}, "fixed has an unknown entry, 'hidden_sise'"),
    ({"fixed": {"seed": 8}}, "fixed has an unknown entry, 'seed'"),
    ({"fixed": {"hidden_size": "x"}}, "hidden_size is 'x'; it must be a whole number"),
    ({"fixed": {"cell": 3}}, "fixed.cell is 3; expected a text"),
    ({"how": {"columm": "x"}}, "how has an unknown entry, 'columm'"),
    ({"how": {"column": 3}}, "column is 3; it must be a text"),
]


@pytest.mark.parametrize(("lie", "said"), LIES)
def test_a_state_that_says_what_cannot_be_is_refused_with_the_digest_that_belongs_to_it(lie, said, search):
    ((part, wrong),) = lie.items()
    content = json.loads((search / states.STATE).read_text())
    del content["digest"]
    if isinstance(content[part], dict):
        content[part] |= wrong
    elif wrong:
        content[part][1] |= wrong
    else:
        content[part] = wrong
    (search / states.STATE).write_text(json.dumps(content | {"digest": states._digest(content)}))
    with pytest.raises(ur.UnrolledError) as error:
        ur.tune(resume=search)
    assert f"tune.json is damaged or no state of a search: {said}" in str(error.value)


def test_the_command_prints_ranks_and_says_how_to_use_the_best(book, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def said(*args):
        with pytest.raises(SystemExit) as end:
            main([str(arg) for arg in args])
        return end.value.code, *capfd.readouterr()

    small = ["--hidden-size", 8, "--embedding-size", 5]
    status, out, err = said("tune", "book.txt", "--minutes", THREE, *small)
    assert (status, err.count("\n")) == (0, 6)
    assert err.startswith("settings to try: 3 for 0.0001, then 1 for 0.0003 minutes of work each; ")
    assert err.splitlines()[2].startswith("rung 1 of 2, trial 1, the automatic choice: validation ")
    head, *rest = out.splitlines()
    assert head.split()[:3] == ["rank", "run", "cell"]
    assert "hidden_size" not in head
    assert len(rest) == 4 + 3
    assert rest[-1].startswith("the best run: unrolled sample tunes/book/")
    assert said(*rest[-1].split()[4:], "--length", 20)[0] == 0
    line = r"^unrolled: tunes/book is a search; its runs with a model are tunes/book/\d\d/\d\n$"
    status, _, err = said("sample", "tunes/book")
    assert status == 2
    assert re.match(line, err)
    gone = next(path for path in Path("tunes/book").glob("*/0") if not (path / "model.safetensors").exists())
    line = f"unrolled: {gone} has no model: its search kept that of the best run alone; --keep keeps all\n"
    assert said("sample", gone)[::2] == (2, line)
    assert said("tune", "--resume", "tunes/book") == (0, out, "")
    line = "unrolled: --resume goes on with the options of the search; leave out --minutes\n"
    assert said("tune", "--resume", "tunes/book", "--minutes", 3)[::2] == (2, line)
    line = "unrolled: a search reads its data more than once, which standard input can't be; name a file\n"
    assert said("tune", "-", "--minutes", 3)[::2] == (2, line)
    assert said("tune", "book.txt", "--val-file", "-", "--out", "no")[::2] == (2, line)
    os.mkfifo("pipe")
    line = "unrolled: a search reads its data more than once, which the pipe pipe can't be; name a file\n"
    for named in (["pipe"], ["book.txt", "--test-file", "pipe"]):
        assert said("tune", *named, "--out", "no")[::2] == (2, line)
    assert not Path("no").exists()
    monkeypatch.setattr(Trials, "made", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    lines = "the search is saved: unrolled tune --resume cut goes on\nunrolled: interrupted\n"
    status, _, err = said("tune", "book.txt", "--minutes", THREE, *small, "--out", "cut")
    assert (status, err.split("\n", 2)[2]) == (130, lines)
    monkeypatch.setattr(work, "LONG", 0)  # minutes of a trial that says that it begins
    _, _, err = said("tune", "book.txt", "--minutes", THREE, *small, "--out", "long")
    assert err.splitlines()[2] == "rung 1 of 2, the automatic choice: begins 0.0001 minutes of work"


def test_the_picture_has_a_line_a_setting(made):
    pytest.importorskip("matplotlib")
    axes = made.draw().axes[0]
    assert sorted(len(one.get_xdata()) for one in axes.get_lines()) == [1] * 6 + [2, 2, 3]
    assert len(axes.get_legend().get_texts()) == 1


def test_runs_that_are_there_are_not_taken_for_trials(search, book):
    """Without the state nothing says what the runs in it were trained on, or with which options."""
    (search / states.STATE).unlink()
    before = {path: path.read_bytes() for path in search.rglob("*") if path.is_file()}
    with pytest.raises(ur.UnrolledError, match=r"holds the run 00/0, but no search that it is of \(tune\.json\)"):
        ur.tune(book, minutes=THREE, out=search, **SMALL)
    assert {path: path.read_bytes() for path in search.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("odd", ["tune.png", "02"])
def test_a_file_that_is_in_the_way_is_refused_before_anything_is_written(odd, book, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / odd).write_text("mine")
    with pytest.raises(ur.UnrolledError, match=rf"{odd} .*; choose another --out"):
        ur.tune(book, minutes=THREE, out=tmp_path / "out", **SMALL)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [odd]
    assert (tmp_path / "out" / odd).read_text() == "mine"


@pytest.mark.parametrize("how", ["no folder", "no run", "no model", "damaged"])
def test_a_best_run_that_is_gone_is_made_anew(made, search, how, capfd):
    best = search / made.best.relative_to(made.folder)
    before = (best / MODEL).read_bytes()
    if how in ("no folder", "no run"):
        shutil.rmtree(best.parent if how == "no folder" else best)
    elif how == "no model":
        (best / MODEL).unlink()
    else:
        (best / MODEL).write_bytes(before[:50])
    found = ur.tune(resume=search, verbose=True)
    why = "" if how == "damaged" else "can't read the model "
    assert f"the best trial is made anew: {why}{best}" in capfd.readouterr().err
    assert found.best == best
    assert (best / MODEL).read_bytes() == before
    assert figures(found) == figures(made)


def test_trials_may_have_logs_of_tensorboard(book, tmp_path):
    pytest.importorskip("tensorboardX", reason="the extra `tensorboard` is not installed")
    found = ur.tune(book, minutes=THREE, out=tmp_path / "out", tensorboard=True, **SMALL)
    assert list(found.best.glob("events.out.*"))


def test_numbers_of_numpy_are_numbers(book, tmp_path):
    how = {"hidden_size": np.int64(8), "embedding_size": (np.int64(5)), "dropout": np.float32(0.25), "tied": np.False_}
    found = ur.tune(book, minutes=THREE, seed=np.int64(1), out=tmp_path / "out", sample_length=0, **how)
    assert found.state.fixed == {
        "hidden_size": 8,
        "embedding_size": 5,
        "dropout": 0.25,
        "tied": False,
        "sample_length": 0,
    }


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"source": []}, "there is nothing to learn from: the list is empty"),
        ({"task": [8]}, "no task is called"),
        ({"out": ""}, "the folder of a search has no name"),
        ({"resume": ""}, "the folder of a search has no name"),
        ({"minutes": 1e300}, r"minutes is 1e\+300; a search takes 525,600 at most, a year"),
    ],
)
def test_what_names_no_search_is_one_line(how, said):
    with pytest.raises(ur.UnrolledError, match=said):
        ur.tune(**{"source": TEXT} | how)


@pytest.mark.parametrize(
    "how", [{"minutes": 5}, {"seed": 2}, {"out": "x"}, {"keep": True}, {"val": "x"}, {"task": "tag"}]
)
def test_a_search_that_goes_on_takes_nothing_else(search, how):
    with pytest.raises(ur.UnrolledError, match=f"{next(iter(how))} can't change when a search goes on"):
        ur.tune(resume=search, **how)
    assert ur.tune(resume=search, val=None, test=None).best == ur.tune(resume=search).best


def test_a_search_in_memory_asks_for_its_text(tmp_path):
    ur.tune(TEXT, minutes=THREE, out=tmp_path / "out", **SMALL)
    with pytest.raises(ur.UnrolledError, match=r"it was the standard library, as it was then, or in memory"):
        ur.tune(resume=tmp_path / "out")


@pytest.mark.slow  # another Python is started, and one of its own
@pytest.mark.skipif(sys.platform == "win32", reason="several processes can't share a search there")
def test_a_helper_ends_with_the_process_that_began_it(tmp_path):
    (tmp_path / "book.txt").write_text(TEXT * 100)  # a trial takes minutes
    (tmp_path / "script.py").write_text(
        "import unrolled as ur\nfrom pathlib import Path\nif __name__ == '__main__':\n"
        "    ur.tune(Path('book.txt'), minutes=900, processes=2, threads=2, out='out')\n"
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    begun = subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, **quiet)

    def trials():
        return {path.parents[1] for path in tmp_path.glob(f"out/*/0/{CHECKPOINT}")}

    def is_held(folder):
        try:
            with held(folder):
                return False
        except Held:
            return True

    def wait(until):
        end = time.monotonic() + 200
        while not until():
            assert time.monotonic() < end
            time.sleep(0.2)

    wait(lambda: len(trials()) == 2)
    begun.kill()
    begun.wait()
    wait(lambda: not any(map(is_held, trials())))
    assert len(trials()) == 2


def test_a_fraction_is_fixed_as_the_number_that_it_is(book, tmp_path):
    found = ur.tune(book, minutes=THREE, out=tmp_path / "out", **SMALL, dropout=Fraction(1, 8))
    assert states.read(tmp_path / "out").fixed["dropout"] == 0.125
    assert {trial.options.get("dropout", 0.125) for trial in found.state.trials} == {0.125}


def test_a_search_that_can_not_begin_leaves_no_folder(book, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(states, "write_atomically", full)
    with pytest.raises(OSError, match="No space left on device"):
        ur.tune(book, minutes=THREE, out=tmp_path / "a" / "b", **SMALL)
    assert not (tmp_path / "a").exists()


def test_a_setting_s_folder_that_is_the_search_s_own_is_refused(search):
    state = states.read(search)
    replace(state, trials=[t for t in state.trials if t.rung == 0 and t.setting < 8]).written(search)
    shutil.rmtree(search / "08")
    (search / "08").symlink_to(".")
    with pytest.raises(ur.UnrolledError, match=r"08 leads back to the folder of the search; remove that link"):
        ur.tune(resume=search)


def test_a_metric_may_be_called_as_a_column_is(made):
    trials = [replace(t, best=t.best and replace(t.best, metrics={"run": 3.0, "rank": 2.0})) for t in made.state.trials]
    rows = replace(made, state=replace(made.state, trials=trials)).rows
    assert [(row["rank"], row["run"]) for row in rows] == [(row["rank"], row["run"]) for row in made.rows]
