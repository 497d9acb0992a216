"""Help, completion and type checkers know every keyword; and a run says what it does where that is asked for."""

import copy
import inspect
import math
import pickle
import pydoc
import re
from dataclasses import fields, replace

import pytest

import unrolled as ur
from unrolled.data.text import Reading
from unrolled.models.options import ANEW, Options
from unrolled.training import trainer
from unrolled.training.callbacks import Callback
from unrolled.training.clipping import clip_by_norm
from unrolled.training.lines import Lines
from unrolled.training.optimizers import make_optimizer
from unrolled.training.schedules import make_schedule
from unrolled.training.state import Evaluation

TEXT = "the cat sat on the mat. " * 40
SMALL = {"hidden_size": 5, "embedding_size": 3, "num_layers": 1, "batch_size": 2, "seq_length": 12, "epochs": 1}
SMALL |= {"eval_every": 20, "sample_length": 0, "backend": "reference"}
OPTIONS = {f.name: f.default for f in fields(Options)}
READING = {f.name: f.default for f in fields(Reading)}


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    assert all(p.kind is not p.VAR_KEYWORD for p in parameters)
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_the_signature_of_training_has_every_option_with_its_default():
    own = {"val": (), "test": (), "out": None, "overwrite": False, "init_from": None, "auto": False, "callbacks": ()}
    assert keywords(ur.LanguageModel.train) == own | {"verbose": False, "backend": "auto"} | OPTIONS | READING
    assert list(keywords(ur.LanguageModel.train))[len(own) + 2 :] == [*OPTIONS, *READING]
    again = keywords(ur.LanguageModel.resume)
    assert set(again) == {"callbacks", "verbose", "backend", "cell", *ANEW}
    assert {repr(again[name]) for name in ANEW} == {"<as the run had it>"}


def test_help_shows_names_defaults_and_what_they_are_about():
    page = pydoc.plain(pydoc.render_doc(ur.LanguageModel.train))
    for name, default in (OPTIONS | READING).items():
        assert re.search(rf"\b{name}: '[^']+' = {re.escape(repr(default))}[,\n)]", page), name
        assert re.search(rf"^ +\|? +{name} : ", page, re.M), name
    page = pydoc.plain(pydoc.render_doc(ur.LanguageModel.resume))
    assert re.findall(r"^ +\|? +(\w+) : ", page, re.M)[-len(ANEW) :] == list(ANEW)


def test_a_run_that_goes_on_is_told_anew_what_its_state_does_not_depend_on():
    assert set(ANEW) == {
        *("epochs", "minutes", "patience", "learning_rate", "grad_clip", "clip"),
        *("schedule", "lr_decay", "lr_decay_after", "lr_decay_every", "warmup"),
        *("checkpoint_every", "eval_every", "sample_length", "tensorboard"),
    }


@pytest.mark.parametrize(("kind", "cell"), [("RNN", "rnn_tanh"), ("LSTM", "lstm"), ("GRU", "gru_reset_after")])
def test_the_signature_of_a_layer_has_every_option_with_its_default(kind, cell):
    more = {"nonlinearity": None} if kind == "RNN" else {}
    assert keywords(getattr(ur, kind)) == {"cell": cell} | more | keywords(ur.Recurrent)
    assert keywords(ur.Recurrent)["zoneout_cell"] == 0.0
    assert getattr(ur, kind)(3, 2).cell.name == cell


def test_nothing_is_printed_unless_it_is_asked_for(capsys):
    ur.LanguageModel.train(TEXT, **SMALL)
    assert capsys.readouterr() == ("", "")


class Seen(Callback):
    """Counts validations."""

    count = 0

    def evaluated(self, evaluation, best):
        self.count += 1


def test_verbose_prints_a_line_at_the_start_and_one_a_validation(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: 0.0)
    seen = Seen()
    model = ur.LanguageModel.train(TEXT, verbose=True, callbacks=[seen], out=tmp_path / "run", **SMALL)
    first, second = model.result.history
    begins = f"960 characters; lstm, 1 x 5 hidden units, embedding 3, {model.network.parameter_count} parameters, "
    begins += f"reference backend; 2 lanes x 12 steps, adam, up to 1 epoch, saved in {tmp_path / 'run'}"

    def line(evaluation, epoch):
        val = evaluation.val_loss
        figures = f"training {evaluation.train_loss:.4f} nats  validation {val:.4f} nats = {val / math.log(2):.4f} bits"
        return f"epoch {epoch}  step {evaluation.step}  {figures} a character  (best so far)  0:00"

    lines = [line(first, "0.53"), line(second, "1.00")]
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", [begins, *lines])
    assert seen.count == 2
    ur.LanguageModel.resume(tmp_path / "run", TEXT, verbose=True, epochs=1.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"goes on at step 38: {begins.replace('1 epoch,', '1.5 epochs,')}"
    assert [text[:19] for text in lines[1:]] == ["epoch 1.05  step 40", "epoch 1.50  step 57"]


def test_the_lines_of_verbose_to_the_letter(capsys, monkeypatch):
    lines = Lines()
    lines.unit = "word"
    lines.evaluated(Evaluation(2880, 3.79, 4.1585, 4.0, 65), best=False)
    lines.evaluated(Evaluation(2881, 3.8, 4.1, None, 3700), best=True)
    lines.rolled_back("stopped at step 7: the training loss is not a number", 4, 0.5)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 3.79  step 2,880  training 4.1585 nats  "
        "validation 4.0000 nats = 5.7708 bits a word, perplexity 54.60  1:05",
        "epoch 3.80  step 2,881  training 4.1000 nats  no validation part  1:01:40",
        "stopped at step 7: the training loss is not a number; back to step 4, with 0.5 times the learning rate",
    ]
    monkeypatch.setattr("sys.stderr", None)  # a program without a console
    lines.evaluated(Evaluation(2881, 3.8, 4.1, None, 3700), best=True)
    assert capsys.readouterr().out == ""


def test_verbose_is_true_or_false():
    with pytest.raises(ur.UnrolledError, match=r"^verbose is 2; it must be true or false$"):
        ur.LanguageModel.train(TEXT, verbose=2)


@pytest.mark.parametrize("make", [Options, lambda **given: ur.Spec(7, **given)])
def test_an_unknown_field_is_named_with_the_nearest(make):
    with pytest.raises(
        ur.UnrolledError, match=r"^no option is called 'hiden_size'; did you mean 'hidden_size'\? Known: "
    ):
        make(hiden_size=3)
    assert keywords(ur.Spec) == {}  # its signature is still its own
    assert list(inspect.signature(ur.Spec).parameters) == [f.name for f in fields(ur.Spec)]
    spec = make(hidden_size=3)
    assert pickle.loads(pickle.dumps(spec)) == copy.copy(spec) == replace(spec) == spec
    assert replace(spec, hidden_size=(3, 4)).num_layers == 2


LONG = 10**400
CUT = "1" + "0" * 79 + r"\.\.\."


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ur.LSTM(4, 5, dropout=LONG), f"dropout is {CUT}; it must be at least 0 and below 1"),
        (
            lambda: ur.LSTM(4, 5, proj_size=-LONG),
            f"proj_size is -{CUT.replace('0', '', 1)}; it must be a whole number, 0 or more",
        ),
        (lambda: ur.LSTM(4, 5, LONG), f"num_layers is {CUT}; it must be at most 10,000"),
        (lambda: ur.LSTM(4, 5, 10**5000), "num_layers is a number of 16,610 bits; it must be at most 10,000"),
        (lambda: ur.LSTM(4, (5, 6), LONG), f"hidden_size has 2 widths, num_layers is {CUT}; leave one out"),
        (
            lambda: ur.LSTM(4, LONG),
            r"not enough memory: a network of more than 10\^30 parameters takes more than 10\^30 GiB, .*",
        ),
        (lambda: ur.LSTM(4, 5, forget_bias=LONG), f"forget_bias is {CUT}; it must be a number from -1,000 to 1,000"),
        (lambda: ur.LSTM(4, 5, rng=-LONG), f"rng is -{CUT.replace('0', '', 1)}; expected a numpy Generator, .*"),
        (lambda: make_optimizer("adam", {}, eps=LONG), f"eps of adam is {CUT}; it must be 1.18e-38 or more"),
        (lambda: clip_by_norm({}, LONG), rf"clipping limit is {CUT}; it must be 0 or more \(infinity: no limit\)"),
        (lambda: make_schedule("cosine", LONG, total=3), f"learning rate is {CUT}; it must be a number, 0 or more"),
    ],
)
def test_a_long_number_is_cut_where_it_is_quoted(call, message):
    with pytest.raises(ur.UnrolledError, match=f"^{message}$"):
        call()


@pytest.mark.parametrize("train", [ur.LanguageModel.train, ur.Tagger.train, ur.Classifier.train, ur.Forecaster.train])
def test_options_of_the_command_line_are_called_as_python_has_them(train):
    for name, here in (("val_file", r"val=Path\(\.\.\.\)"), ("threads", r"unrolled\.backends\.set_threads\(n\)")):
        with pytest.raises(ur.UnrolledError, match=rf"^no option is called '{name}'; from Python it is {here}$"):
            train("text", **{name: 1})
