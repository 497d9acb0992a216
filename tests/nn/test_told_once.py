"""What a network is told where it is made: options that stay, flags that are flags, and lines about anything else."""

from collections import namedtuple
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS
from unrolled.errors import MOST
from unrolled.interop.onnx import from_onnx, to_onnx
from unrolled.interop.reverse import Reverse
from unrolled.training import optimizers as optim

T, B, I, H = 7, 3, 4, 5
X = np.ones((T, B, I), "float32")


class Mute:
    """What can't even be shown."""

    def __repr__(self):
        raise RuntimeError("no repr")


class Odd(Mapping):
    """A dictionary of the caller's own, whose names have no hash."""

    def __iter__(self):
        return iter([[1], [2]])

    def __len__(self):
        return 2

    def __getitem__(self, key):
        return np.ones(3)


class Mine(ur.LSTM):
    """A class that hands everything on."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.note = "mine"


NETS = {
    "Recurrent": lambda: ur.Recurrent("lstm", I, H),
    "LSTM": lambda: ur.LSTM(I, H),
    "Reverse": lambda: Reverse("lstm", I, H),
    "Mine": lambda: Mine(I, H),
    "a network's": lambda: ur.Network(ur.Spec(7, hidden_size=H)).recurrent,
    "copied": lambda: ur.LSTM(I, H).with_params(ur.LSTM(I, H).params),
}
OPTIONS = (
    *("cell", "input_size", "hidden_size", "hidden_sizes", "num_layers", "bias", "batch_first", "dropout", "zoneout"),
    *("bidirectional", "proj_size", "residual", "learn_state", "init", "forget_bias", "dtype", "backend", "rng"),
)


@pytest.mark.parametrize("net", NETS)
def test_an_option_that_is_set_later_is_refused_and_nothing_changes(net):
    net = NETS[net]()
    before = dict(vars(net))
    for name in OPTIONS:
        with pytest.raises(
            ur.UnrolledError,
            match=f"^{name} is told where a network is made; make another one, and give it these parameters by "
            r"load_params\(net.params\)$",
        ):
            setattr(net, name, 0.5)
    assert vars(net) == before
    net.note = 1
    net.note = 2  # what is no option is the caller's
    net.params = net.params


def test_a_network_keeps_its_description_and_its_stack():
    net = ur.Network(ur.Spec(7, hidden_size=H))
    for name in ("spec", "recurrent", "backend"):
        with pytest.raises(ur.UnrolledError, match=f"^{name} is told where"):
            setattr(net, name, None)


FLAGS = {
    **{
        name: lambda value, name=name: ur.LSTM(I, H, **{name: value})
        for name in ("bias", "batch_first", "bidirectional", "residual", "learn_state")
    },
    "inputs": lambda value: ur.Network(ur.Spec(7)).forward(np.zeros((T, B), int), inputs=value),
    "penalties": lambda value: ur.Network(ur.Spec(7)).backward(None, penalties=value),
}


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("value", ["no", 1, None, np.ones(3), Mute()], ids=["text", "1", "None", "array", "mute"])
def test_a_flag_is_true_or_false(flag, value):
    with pytest.raises(ur.UnrolledError, match=f"^{flag} is .*; it must be true or false$"):
        FLAGS[flag](value)


def test_a_flag_may_be_numpys():
    assert ur.LSTM(I, H, bias=np.False_).bias is False


@pytest.mark.parametrize("name", ["inputs", "product"])
def test_a_stages_flags_are_true_or_false(name):
    lstm = CELLS["lstm"]
    stage = replace(lstm.stages[0], **{name: "x"})
    with pytest.raises(ur.UnrolledError, match=f"^cell 'q': stage 0 .*: {name} is 'x'; it must be True or False$"):
        replace(lstm, name="q", stages=(stage,))


@pytest.mark.parametrize("what", ["paper", "params_name", "candidate"])
def test_what_a_cell_is_called_is_a_text(what):
    with pytest.raises(ur.UnrolledError, match=rf"^cell 'q': {what} is array\(\[1\., 1\.\]\); expected a text$"):
        replace(CELLS["lstm"], name="q", **{what: np.ones(2)})


NODE = to_onnx(ur.LSTM(I, H))
ODD = {
    "array as nonlinearity": lambda: ur.RNN(I, H, nonlinearity=np.ones(3)),
    "mute nonlinearity": lambda: ur.RNN(I, H, nonlinearity=Mute()),
    "mute cell": lambda: ur.Recurrent(Mute(), I, H),
    "mute init": lambda: ur.LSTM(I, H, init=Mute()),
    "mute dtype": lambda: ur.LSTM(I, H, dtype=Mute()),
    "mute rule": lambda: optim.make_optimizer(Mute(), {}),
    "names without hash": lambda: ur.LSTM(I, H).load_params(Odd()),
    "update without hash": lambda: ur.LSTM(I, H).params.update(Odd()),
    "item without hash": lambda: ur.LSTM(I, H).params.__setitem__([1], 1),
    "mute name": lambda: ur.LSTM(I, H).load_params({Mute(): 1}),
    "mute mask": lambda: ur.LSTM(I, H, 2, dropout=0.5).forward(X, masks={Mute(): X > 0}),
    "mute parameter": lambda: optim.make_optimizer("sgd", {Mute(): 1}),
    "long name": lambda: ur.LSTM(I, H).load_params({"x" * 9000: 1}),
    "many names": lambda: ur.LSTM(I, H).load_params({f"x{n}": 1 for n in range(9000)}),
    "many masks": lambda: ur.LSTM(I, H, 2, dropout=0.5).forward(X, masks={f"m{n}": X > 0 for n in range(9000)}),
    "many gradients": lambda: optim.make_optimizer("sgd", {"w": np.ones(3)}).update(
        {f"g{n}": X for n in range(900)}, 1
    ),
    "long state": lambda: optim.make_optimizer("adam", {"w": np.ones(3)}).load_state_dict({"x" * 9000: 1}),
    "long cell": lambda: ur.Recurrent("x" * 9000, I, H),
    "many widths": lambda: ur.LSTM(I, [5, 6] * 900, residual=True),
    "a path": lambda: ur.load("\0" * 9000),
    "drawing x tokens": lambda: ur.Network(ur.Spec(7)).sampler(None, "x"),
    "drawing from two rows": lambda: ur.Network(ur.Spec(7)).sampler(ur.Network(ur.Spec(7)).zero_state(2), 3),
    **{
        f"{name} is {type(value).__name__}": lambda name=name, value=value: from_onnx(
            NODE._replace(attributes=NODE.attributes | {name: value})
        )
        for name in ("hidden_size", "direction", "activations", "layout", "linear_before_reset", "clip")
        for value in (Mute(), {"a": 1}, b"\xff", object(), [[Mute()]], "x" * 9000)
    },
}


@pytest.mark.parametrize("case", ODD)
def test_whatever_is_handed_in_is_answered_in_one_line(case):
    with pytest.raises(ur.UnrolledError) as error:
        ODD[case]()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= MOST


def test_a_long_message_keeps_its_beginning_and_its_advice():
    said = str(ur.UnrolledError("x is " + "1" * 9000 + "; it must be shorter"))
    assert len(said) < MOST
    assert said.startswith("x is 111")
    assert said.endswith("1; it must be shorter")


def test_masks_and_rng_are_not_given_together():
    net = ur.LSTM(I, H, 2, dropout=0.5)
    for masks in ({}, net.draw_masks(T, B, 1)):
        with pytest.raises(ur.UnrolledError, match=r"^both rng and masks are given; give masks for those"):
            net.forward(X, rng=1, masks=masks)


SIZES = {
    "a state of .* rows": lambda n: ur.LSTM(I, H).zero_state(n),
    "a state of .* rows, ": lambda n: ur.LSTM(I, H, learn_state=True).initial_state(n),
    "a state of .* numbers": lambda n: to_onnx(ur.LSTM(I, H, learn_state=True), batch=n),
    "drawing a mask of .* entries": lambda n: ur.LSTM(I, H, 2, dropout=0.5).draw_masks(n, n, 1),
    "drawing a mask of": lambda n: ur.Network(ur.Spec(7, dropout=0.5)).draw_masks(n, n, 1),
}


@pytest.mark.parametrize("what", SIZES)
@pytest.mark.parametrize("size", [10**13, 10**17])
def test_what_no_memory_holds_is_one_line(what, size):
    with pytest.raises(ur.UnrolledError, match=f"^not enough memory: {what}.* takes .* GiB, this machine has "):
        SIZES[what](size)


@pytest.mark.parametrize("kind", [ur.LSTM, lambda *sizes: ur.LSTM(I, (H, 6))], ids=["uniform", "widths"])
def test_a_named_state_is_taken_by_its_names(kind):
    turned = namedtuple("Turned", "c h")
    net, rng = kind(I, H), np.random.default_rng(1)
    zero = net.zero_state(B)
    several = isinstance(zero[0], tuple)
    states = [type(s)(*(rng.normal(size=f.shape) for f in s)) for s in (zero if several else [zero])]
    by_name = [turned(h=s.h, c=s.c) for s in states]
    y = [net(X, tuple(given) if several else given[0])[0] for given in (states, by_name)]
    np.testing.assert_array_equal(*y)


@pytest.mark.parametrize(
    ("make", "got", "meant"),
    [
        (ur.LSTM, "hiddn", "hidden_size"),
        (ur.RNN, "nonlinarity", "nonlinearity"),
        (ur.GRU, "num_layer", "num_layers"),
        (Mine, "zonout", "zoneout"),
        (lambda *sizes, **given: Reverse("lstm", *sizes, **given), "dropot", "dropout"),
    ],
)
def test_an_unknown_keyword_names_the_nearest_of_all(make, got, meant):
    with pytest.raises(ur.UnrolledError, match=f"^no option is called '{got}'; did you mean '{meant}'\\? Known: "):
        make(I, H, **{got: 3})
