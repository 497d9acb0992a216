"""There is one set of parameters, whoever holds it and however it is assigned to."""

import copy
import pickle

import numpy as np
import pytest

import unrolled as ur
from unrolled.cells import CELLS
from unrolled.nn.params import Params

SPEC = ur.Spec(vocabulary_size=7, embedding_size=4, hidden_size=5, num_layers=1)


def ways(net, new):
    """Every way to give a stack's parameters new values."""
    name = "weight_hh_l0"

    def in_place():
        net.recurrent.params[name] *= 0
        net.recurrent.params[name] += 2

    def whole():
        net.recurrent.params = new

    def union():
        params = net.recurrent.params
        params |= new

    return {
        "recurrent.load_params": lambda: net.recurrent.load_params(new),
        "recurrent.params[...] =": lambda: net.recurrent.params.__setitem__(name, new[name]),
        "params[...] =": lambda: net.params.__setitem__(f"recurrent.{name}", new[name]),
        "params[...] -=": in_place,
        "params =": whole,
        "params |=": union,
        "params.update": lambda: net.params.update({f"recurrent.{name}": new[name].tolist()}),
        "load_params": lambda: net.load_params(net.params | {f"recurrent.{name}": new[name]}),
    }


@pytest.mark.parametrize("way", ways(None, None))
def test_no_way_of_assigning_parts_a_network_from_its_stack(way):
    net = ur.Network(SPEC)
    held, moments = net.params["recurrent.weight_hh_l0"], net.params
    ways(net, {name: 0 * p + 2 for name, p in net.recurrent.params.items()})[way]()
    assert (held == 2).all()  # the optimiser's, the checkpoint's
    assert moments is net.params
    assert {f"recurrent.{k}" for k in net.recurrent.params} <= net.params.keys()
    for name, p in net.recurrent.params.items():
        assert net.params[f"recurrent.{name}"] is p


@pytest.mark.parametrize("again", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copied_network_has_one_set_of_its_own(again):
    net = ur.Network(SPEC)
    other = again(net)
    other.recurrent.params["bias_ih_l0"] = np.full(20, 3)
    assert (other.params["recurrent.bias_ih_l0"] == 3).all()
    assert (net.params["recurrent.bias_ih_l0"] != 3).all()


REFUSED = {
    r"^weight_hh_l0 has shape \(5, 20\); this network takes \(20, 5\)$": lambda p: p.update(
        weight_hh_l0=np.ones((5, 20))
    ),
    r"^bias_ih_l0 has shape \(1,\); this network takes \(20,\)$": lambda p: p.__setitem__("bias_ih_l0", [1.0]),
    r"^bias_ih_l0 holds values that are not finite$": lambda p: p.__setitem__("bias_ih_l0", np.full(20, np.nan)),
    r"^bias_hh_l0 holds values that are not finite$": lambda p: p.__setitem__("bias_hh_l0", np.full(20, 1e300)),
    r"^bias_ih_l0 holds complex numbers; this network takes float32$": lambda p: p.update(bias_ih_l0=np.full(20, 1j)),
    r"^no parameter is called 'bias_l0'; did you mean 'bias_": lambda p: p.__setitem__("bias_l0", np.ones(20)),
    r"^no parameter is called 'w'\. Known: weight_ih_l0": lambda p: p.setdefault("w", np.ones(20)),
    r"^the parameters do not fit this network; unknown: bias_l0$": lambda p: p.update(bias_l0=np.ones(20)),
    r"^the parameters are 3; expected a dictionary of arrays by their names$": lambda p: p.update(3),
    r"^the parameters are None; expected a dictionary": lambda p: p.__ior__(None),
    r"^a network's parameters can't be taken out; copy": lambda p: p.pop("bias_ih_l0"),
    r"^a network's parameters can't be taken out; copy the": lambda p: p.clear(),
    r"^a network's parameters can't be taken out; copy the d": lambda p: p.__delitem__("bias_ih_l0"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_refused_when_it_is_assigned_and_changes_nothing(message):
    net = ur.LSTM(4, 5)
    before = {name: p.copy() for name, p in net.params.items()}
    with pytest.raises(ur.UnrolledError, match=message):
        REFUSED[message](net.params)
    assert list(before) == list(net.params)
    for name, p in before.items():
        np.testing.assert_array_equal(net.params[name], p)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("cell", CELLS)
def test_an_array_whose_shape_was_changed_behind_our_back_is_refused_by_the_next_call(backend, cell):
    """Of one step and of any parameter, where the engine has the least to notice it by."""
    for name in ur.Recurrent(cell, 1, 5, learn_state=True).params:
        net = ur.Recurrent(cell, 1, 5, backend=backend, learn_state=True)
        dict.__setitem__(net.params, name, np.ones((7, 2), "float32"))
        for call in (net, net.forward):
            with pytest.raises(
                ur.UnrolledError, match=rf"^{name} has shape \(7, 2\); this network takes \(\d+, ?\d*\)$"
            ):
                call(np.ones((1, 1, 1)))


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_odd_arrays_are_used_as_the_numbers_that_they_hold(backend):
    """Misaligned, in Fortran's order, in the other byte order, read-only."""
    net = ur.LSTM(4, 5, backend=backend)
    x = np.random.default_rng(0).normal(size=(7, 3, 4))
    odd = dict(net.params)
    for name, p in net.params.items():
        odd[name] = np.frombuffer(b"." + p.tobytes(), "f4", offset=1).reshape(p.shape)
    assert not odd["weight_hh_l0"].flags.aligned
    odd["weight_ih_l0"] = np.asfortranarray(net.params["weight_ih_l0"])
    odd["bias_hh_l0"] = net.params["bias_hh_l0"].astype(">f4")
    np.testing.assert_array_equal(net.with_params(odd)(x)[0], net(x)[0])
    with pytest.raises(ur.UnrolledError, match=r"^bias_hh_l0 has shape \(3,\); this network takes \(20,\)$"):
        net.with_params(odd | {"bias_hh_l0": np.ones(3, "f4")})


def test_params_are_read_as_any_dictionary():
    params = Params(a=np.zeros(2), b=np.ones(3))
    assert type(params | {}) is dict
    assert type(copy.copy(params)) is dict
    assert list(params) == ["a", "b"]
    assert params.setdefault("a") is params["a"]
