"""`ur.MLSTM`: the proofs of every option, what a wrong one would do to them, its door, and what it begins with."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import unrolled as ur
from unrolled.backends import chunkwise
from unrolled.errors import UnrolledError
from unrolled.gradcheck import memory
from unrolled.gradcheck.derivatives import away_from_zero, derivatives, random_inputs, recurrent_case
from unrolled.nn import mlstm
from unrolled.reference.matrix_memory import Memory, State

T, B, I, H = 7, 3, 4, 6


def net(**options):
    return ur.MLSTM(I, H, **({"heads": 2, "key_size": 5, "rng": 0} | options))


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("batch first", "reference"),
        ("one head", "chunkwise"),
        ("chunks of three", "chunkwise"),
        ("float64", "chunkwise"),
    ],
)
def test_options_are_proven(name, backend):
    """The others too are, by `unrolled check`."""
    report = ur.check_network(memory.build(memory.OPTIONS[name], backend))
    assert len(report) > 90
    assert (report.failed, report.unsupported) == ((), ())


@pytest.mark.parametrize("field", ["q", "k", "v", "i", "f", "C", "n", "m"])
def test_a_wrong_gradient_is_named_by_its_parameter(field, monkeypatch):
    right = mlstm.RECURRENT

    def wrong(s, read, kept, d_read, end, d):
        start = right.backward(s, read, kept, d_read, end, d)
        if field in d._fields:
            getattr(d, field)[...] *= 1 + 1e-6
            return start
        return start._replace(**{field: getattr(start, field) * (1 + 1e-6)})

    monkeypatch.setattr(mlstm, "RECURRENT", Memory(right.forward, wrong))
    rng = np.random.default_rng(0)
    maskless = memory.Maskless(net(backend="reference", dtype="float64"))
    maskless = maskless.with_params(away_from_zero(maskless.params, rng))
    proofs = derivatives(recurrent_case(maskless, *random_inputs(maskless, 3, B, rng), None, rng), "", rng, full=False)
    said = f"state.{field}" if field in State._fields else f"weight_{field}_l0"
    failed = [p.detail for p in proofs if p.verdict == "failed" and p.name == "complex step"]
    assert any(detail.startswith(said) and ": backward " in detail for detail in failed)


PLANTED = [
    ("+ total[..., None]", ""),
    ("-c.sign * g_read", "0 * g_read"),
    ("step > top, share", "step >= top, share"),
    ("step == top, share", "step == top, 0"),
    ("dm + (total - scale)", "dm + total"),
    ("through[..., -1:, :] * d_memory", "d_memory"),
    ("+ last * (k @ d_memory)", ""),
    ("np.where(c.sign == 0, g_read, 0)", "0"),
    ("np.where(c.largest < 0, a, 0)", "a"),
    ("u[..., -1] = new - b[..., -1]", "u[..., -1] = new"),
    ("through[..., None] * (q @ memory)", "(q @ memory)"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("right", "wrong"), PLANTED)
def test_an_error_planted_in_the_chunkwise_form_is_caught(right, wrong, monkeypatch):
    text = Path(chunkwise.__file__).read_text()
    assert text.count(right) == 1
    planted = ModuleType(f"{chunkwise.__name__}_planted")
    exec(text.replace(right, wrong).replace("from ..", "from unrolled."), planted.__dict__)
    monkeypatch.setattr(mlstm, "chunkwise", planted.chunkwise)
    assert ur.check_network(memory.build(memory.OPTIONS["chunks of three"], "chunkwise")).failed


def test_steps_chunks_batch_first_one_row_and_one_hot_inputs_are_the_same_numbers():
    tokens = np.random.default_rng(0).integers(0, I, (T, B))
    one = net(dtype="float64", num_layers=2)
    y, state, tape = one.forward(tokens)
    dx, _, grads = one.backward(tape, np.ones_like(y))
    assert dx is None
    x = np.eye(I)[tokens]
    ours, new, tape = one.forward(x)
    _, _, dense = one.backward(tape, np.ones_like(y))
    np.testing.assert_allclose(ours, y, rtol=0, atol=1e-14)
    for name, g in grads.items():
        np.testing.assert_allclose(g, dense[name], rtol=0, atol=1e-12, err_msg=name)
    turned = net(dtype="float64", num_layers=2, batch_first=True)
    np.testing.assert_allclose(turned(x.swapaxes(0, 1))[0].swapaxes(0, 1), y, rtol=0, atol=1e-14)
    alone, last = one(x[:, 1])
    np.testing.assert_allclose(alone, y[:, 1], rtol=0, atol=1e-14)
    np.testing.assert_allclose(last.C, new.C[:, 1], rtol=0, atol=1e-14)
    assert last.m.shape == (2, 2)
    assert [f.shape for f in state] == [(2, B, 2, 5, 3), (2, B, 2, 5), (2, B, 2)]


def test_a_tape_is_its_own():
    one, x = net(), np.ones((T, B, I), np.float32)
    y, _, tape = one.forward(x)
    dx, _, _ = one.backward(tape, np.ones_like(y))
    x[...] = y[...] = np.nan
    one.params["weight_q_l0"] = np.zeros((10, I))
    assert (one.backward(tape, np.ones((T, B, H)))[0] == dx).all()


def test_it_begins_as_the_authors_do():
    params = ur.MLSTM(1000, 12, heads=4, rng=0).params
    assert params["bias_f_l0"].tolist() == [3, 4, 5, 6]
    assert not any(params[name].any() for name in ("weight_f_l0", "weight_i_l0", "bias_q_l0"))
    assert params["weight_v_l0"].std() == pytest.approx((2 / 5000) ** 0.5, rel=0.05)  # of 12,000 numbers
    assert ur.MLSTM(4, 6).heads == 1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: net(heads=4), "hidden_size is 6, heads is 4; expected heads of one width"),
        (lambda: net(backend="cpu"), "no backend of mlstm is called 'cpu'. Known: auto, chunkwise, reference"),
        (
            lambda: ur.Recurrent("mLSTM", 4, 5),
            "mlstm has a matrix memory and is no cell; it is a layer, ur.MLSTM(input_size, hidden_size)",
        ),
        (lambda: net(chunk_size=0), "chunk_size is 0; it must be a whole number, 1 or more"),
        (lambda: net()(np.ones((T, B, 2))), "layer 0: x has 2 features, weight_q_l0 takes 4"),
        (lambda: net()(np.ones((T, B, I)), np.ones(3)), "state must be (C, n, m), as mlstm has it"),
        (
            lambda: net()(np.ones((T, B, I)), net().zero_state(2)),
            "state.C has shape (1, 2, 2, 5, 3); expected (1, 3, 2, 5, 3)",
        ),
        (
            lambda: net(head=2),
            "no option is called 'head'; did you mean 'heads'? Known: input_size, hidden_size, num_layers, heads, "
            "key_size, batch_first, dtype, backend, chunk_size, rng",
        ),
        (
            lambda: net().backward(net(num_layers=2).forward(np.ones((T, B, I)))[2], np.ones((T, B, H))),
            "the tape is another network's: its num_layers is 2, this network's is 1",
        ),
        (
            lambda: net().backward(net().forward(np.ones((T, B, I)))[2], np.ones((T, B, 5))),
            "dy has shape (7, 3, 5); expected (T, B, H) = (7, 3, 6)",
        ),
    ],
)
def test_what_makes_no_sense_is_said_in_a_line(call, said):
    with pytest.raises(UnrolledError) as error:
        call()
    assert str(error.value) == said
