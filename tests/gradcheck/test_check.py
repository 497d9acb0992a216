"""`unrolled check`: what it proves, how it says what is wrong, and its exit status; `unrolled info --cells`."""

import itertools
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

import unrolled as ur
from unrolled import backends
from unrolled.cells import CELLS
from unrolled.cli import cli
from unrolled.codegen.cpp import EMITTED
from unrolled.gradcheck import catalogue, check_loss, suite
from unrolled.nn import pools


def run(*arguments):
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.return_value, result.output


def test_quick_proves_every_cell_and_every_option_in_not_too_many_proofs(monkeypatch):
    outcomes = []

    def spied(*args, **kw):
        for outcome in check_all(*args, **kw):
            outcomes.append(outcome)
            yield outcome

    check_all = suite.check_all
    monkeypatch.setattr(suite, "check_all", spied)
    status, output = run("check", "--quick")
    assert status == 0
    passed, failed = map(int, re.fullmatch(r"(\d+) passed, (\d+) failed, \d+ unsupported", last(output)).groups())
    assert (300 < passed < 4500, failed) == (True, 0)  # each some milliseconds; more would no longer be quick
    lines = *CELLS, "mlstm", *(f"head: {name}" for name in catalogue.HEADS)
    assert all(re.search(rf"^{line} ", output, re.M) for line in lines)
    assert {outcome.cell for outcome in outcomes} == {*CELLS, "mlstm"}
    assert {outcome.what for outcome in outcomes} == {
        "the cell itself",
        *catalogue.STACK,
        *catalogue.LANGUAGE,
        *catalogue.HEADS,
    }
    assert all(any(proof.passed for proof in outcome.report) for outcome in outcomes)


def last(output):
    return output.rstrip().splitlines()[-1]


@pytest.mark.slow
def test_one_cell_with_all_options_pairs_and_backends(monkeypatch):
    monkeypatch.setattr(suite, "PAIRS", 3)
    outcomes = list(suite.check_all("indrnn"))
    assert not [proof for outcome in outcomes for proof in outcome.report.failed]
    whats = {outcome.what for outcome in outcomes}
    assert whats >= {*catalogue.STACK, *catalogue.LANGUAGE, *catalogue.HEADS, *suite.pairs(CELLS["indrnn"], 0)}
    refusals = {o.what: o.report[0].detail for o in outcomes if all(p.verdict == "unsupported" for p in o.report)}
    assert refusals["zoneout of the cell"] == "zoneout_cell keeps old values of c; indrnn has no c, use zoneout"
    backends = {outcome.backend for outcome in outcomes}
    assert backends == {"reference", "cpu", "auto"}  # without the engine, one outcome says so


@pytest.mark.slow
@pytest.mark.exhaustive
def test_everything_holds():
    status, output = run("check")
    assert status == 0, output
    assert ", 0 failed, " in last(output)


def test_a_wrong_derivative_is_named_by_gate_and_parameter_with_both_numbers(monkeypatch):
    right = CELLS["lstm"].stages[0]

    def backward(*args, **kw):
        b = right.backward(*args, **kw)
        da = (b.ax[0], -b.ax[1], *b.ax[2:])  # the forget gate's sign
        return b._replace(ax=da, ah=da)

    monkeypatch.setattr(suite, "STACK", {})
    monkeypatch.setattr(suite, "LANGUAGE", {})
    monkeypatch.setattr(suite, "HEADS", {})
    monkeypatch.setitem(CELLS, "lstm", replace(CELLS["lstm"], stages=(replace(right, backward=backward),)))
    status, output = run("check", "--cell", "lstm", "--quick")
    assert status == 1
    found = re.search(r"bias_ih_l0, rows of f: backward (\S+), complex step (\S+)$", output, re.M)
    ours, theirs = map(float, found.groups())
    assert ours == pytest.approx(-theirs, rel=1e-6)
    assert int(re.search(r", (\d+) failed, ", last(output)).group(1)) > 0


def every_head_with_every_cell():
    """Each head with a fifth of the cells, each cell with a fifth of the heads; the other pairs prove the same anew."""
    for (i, cell), (j, head) in itertools.product(enumerate(CELLS), enumerate(catalogue.HEADS)):
        yield pytest.param(cell, head, marks=() if (i + j) % 5 == 0 else pytest.mark.exhaustive)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "head"), [*every_head_with_every_cell()])
def test_every_head_is_proven_with_every_cell_on_spelled_words_that_are_read_both_ways(cell, head):
    report = check_loss(catalogue.build_head(CELLS[cell], catalogue.HEADS[head])).raise_if_failed()
    proven = {proof.subject.split(",")[0] for proof in report}
    assert {"characters.embedding.weight", "recurrent.weight_ih_l0_reverse"} <= proven
    assert any(proof.name == "padding" for proof in report)


def test_a_wrong_gradient_of_a_head_is_found(monkeypatch):
    right = pools.POOLS["attention"]

    def wrong(drows, y, lengths, params, directions):
        dy, grads = right.select_backward(drows, y, lengths, params, directions)
        return dy, {name: 1.01 * g for name, g in grads.items()}

    head = catalogue.HEADS["classes, attention"]._replace(select_backward=wrong)
    report = check_loss(catalogue.build_head(CELLS["gru_reset_after"], head, words=False))
    assert {proof.subject.split(",")[0] for proof in report.failed} == {"head.query"}


def test_an_unknown_cell_is_one_line():
    with pytest.raises(ur.UnrolledError, match="did you mean 'mgu'"):
        run("check", "--cell", "mgv")


def test_pairs_are_seeded_and_do_not_contradict_themselves():
    cell = CELLS["lstm"]
    assert suite.pairs(cell, 0) == suite.pairs(cell, 0) != suite.pairs(cell, 1)
    for seed in range(20):
        for name, options in suite.pairs(cell, seed).items():
            for part in name.split(" + "):
                for key, value in catalogue.STACK[part].items():
                    assert options[key] == value or key == "num_layers"


def test_info_lists_every_cell_with_paper_parameters_backend_and_what_it_refuses():
    _, output = run("info", "--cells")
    parts = re.split(r"^(?=\S)", output, flags=re.M)[1:]
    assert [part.split("\n")[0] for part in parts] == list(CELLS)
    for part, cell in zip(parts, CELLS.values(), strict=True):
        lines = dict(line.split(None, 1) for line in part.splitlines()[1:])
        more = ["settings"] * (cell.settings is not None) + ["sees"] * (cell.sees_x or cell.sees_time)
        assert list(lines) == ["paper", "parameters", *more, "tape", "backend", "refuses"]
        assert lines["paper"] == cell.paper
    coupled = parts[list(CELLS).index("lstm_coupled")]
    assert "weight_ih (3H x I), weight_hh (3H x H), bias_ih (3H), bias_hh (3H)\n" in coupled
    assert "weight_hh (4H x H/4)" in parts[list(CELLS).index("slstm")]
    assert "settings    dt=0.042,gamma=2.7,epsilon=4.7\n" in parts[list(CELLS).index("cornn")]
    kinds = {
        name: dict(line.split(None, 1) for line in part.splitlines()[1:])["backend"]
        for name, part in zip(CELLS, parts, strict=True)
    }
    if "cpu" in backends.BACKENDS:
        assert {kinds["lstm"], kinds["lstm_use_gate"]} == {"engine, kernel", "engine, interpreter"}
        assert list(kinds.values()).count("engine, interpreter") == len(CELLS) - len(EMITTED)
    else:
        assert all("engine was not built" in kind for kind in kinds.values())
