"""The proofs, as functions anyone can call: `check_cell` for a cell, `check_network` for a network.

- *Contract*: a cell's functions take and give what the scan expects, and change no argument.
- *Derived backward*: a hand-written backward function gives what follows from the traced forward one.
- *Complex step* (Squire & Trapp 1998): f'(x) v = Im f(x + i h v) / h, without the cancellation of finite differences,
  so h can be 1e-30 and the derivative is exact to rounding. NumPy orders complex numbers by their real part first, so
  `where` and `maximum` take the branch of the real number: exact too, unless a unit sits right on its kink.
- *Central differences*, which need no complex arithmetic and know nothing of analytic functions.
- *Projection*: at real sizes, in the network's own precision and on its own backend, <gradient, v> for random v.
- *Laws* that hold for any recurrence: linear in dy, nothing from nothing, chunks and steps equal the whole, rows of a
  batch do not touch each other, masked steps do nothing, the same again, arguments are not changed.

(PyTorch's numbers, every backend against the reference and golden values are tests of this project.)
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..cells import Cell, find_cell
from ..checks import check_seed, check_size
from ..errors import UnrolledError, brief
from ..nn.mlstm import MLSTM
from ..nn.recurrent import Recurrent
from .contract import contract
from .derivatives import (
    away_from_zero,
    derivatives,
    dropped_case,
    kept_case,
    project,
    prove_recurrent,
    random_inputs,
    recurrent_case,
)
from .derived import derived, used
from .laws import laws
from .memory import Maskless
from .network import LossNetwork, prove_loss
from .report import Proof, Report
from .sizes import B, H, I, T

__all__ = ["LossNetwork", "Proof", "Report", "check_cell", "check_derivatives", "check_loss", "check_network"]


def check_cell(cell: str | Cell, *, seed: int = 0) -> Report:
    """Prove a cell: its contract, every derivative at one layer, with and without bias, and the laws.

    Hand-written backward functions are compared with what is derived of the forward ones, and rows, per-unit parameters
    and fields of the state that nothing reads are named. Then comes one step: what is wrong at a gate is wrong there
    alone, and named. Then seven steps, entry by entry.
    Rows of different lengths, kept units (zoneout) and dropped candidates (recurrent dropout) are tried along random
    directions, two for each gate's rows.

    Parameters
    ----------
    cell : str or Cell
        A name, or a cell of your own.
    seed : int
        Of the random contents.

    Returns
    -------
    Report
        If the contract is broken, the report ends there.

    Raises
    ------
    UnrolledError
        If no cell has that name.

    Examples
    --------
    >>> import unrolled as ur
    >>> report = ur.check_cell("lstm")
    >>> report.passed
    True
    >>> report[3].name, report[3].subject, report[3].value < 1e-12
    ('complex step', 'weight_ih_l0, lstm, one step', True)
    """
    cell = find_cell(cell)
    check_seed(seed)
    kept = contract(cell, np.random.default_rng(seed))
    proofs = [kept]
    if kept.passed:
        proofs += [*derived(cell, np.random.default_rng(seed)), *used(cell)]
        one = Recurrent(cell, I, H, dtype="float64", backend="reference", rng=0)
        proofs += check_derivatives(one, steps=1, seed=seed).proofs
        for bias in (True, False):
            net = Recurrent(cell, I, H, bias=bias, dtype="float64", backend="reference", rng=0)
            rng, label = np.random.default_rng(seed), f"{cell.name}, bias={bias}"
            proofs += prove_recurrent(net, rng, label, full=True)
            proofs += laws(net, rng, label)
        masked = {"kept units": kept_case} | ({"dropped candidates": dropped_case} if cell.candidate else {})
        for label, case in masked.items():
            made = case(net, np.random.default_rng(seed))
            proofs += derivatives(made, f"{cell.name}, {label}", np.random.default_rng(seed), full=False)
    return Report(tuple(proofs))


def check_network(net: Recurrent | MLSTM | LossNetwork, *, seed: int = 0) -> Report:
    """Prove a network as it is: its layers, options, parameters, precision and backend.

    Derivatives of a float64 copy are compared with complex steps along random directions, two for each gate's rows. The
    network itself, in its own precision and on its own backend, has to agree at T = 20, B = 8 through random
    projections, and to obey the laws. Parameters that are all zeros, as fresh biases may be, are tried at random
    values: zeros can put a unit right on its kink. For a language network the value is its loss; its recurrent stack is
    proven by itself as well.

    Parameters
    ----------
    net : Recurrent, MLSTM, Network, or anything that is a LossNetwork
        It is not changed.
    seed : int
        Of the random inputs.

    Returns
    -------
    Report

    Examples
    --------
    >>> import unrolled as ur
    >>> report = ur.check_network(ur.GRU(4, 5, num_layers=2, bidirectional=True))
    >>> print(str(report).splitlines()[-1])
    100 passed, 0 failed, 2 unsupported
    >>> print(report.unsupported[0].detail)
    the reverse direction needs the whole sequence
    """
    _check_net(net)
    if isinstance(net, MLSTM):
        net = cast(Any, Maskless(net))
    elif not isinstance(net, Recurrent):
        stack = getattr(net, "recurrent", None)
        more = check_network(stack, seed=seed) if isinstance(stack, Recurrent) else ()
        return Report((*check_loss(net, seed=seed), *more))
    own, twin, rng = _with_twin(net, seed)
    derivatives = prove_recurrent(twin, rng, f"{own.cell.name}, L={own.num_layers}", full=False)
    return Report((*derivatives, *project(own, twin, rng), *laws(own, rng, f"{own.cell.name}, {own.dtype}")))


def check_loss(net: LossNetwork, *, seed: int = 0) -> Report:
    """Prove the loss of a network alone, as `check_network` does beside its stack."""
    _check_net(net)
    return Report(tuple(prove_loss(*_with_twin(net, seed))))


def _with_twin(net: Any, seed: int) -> tuple[Any, Any, np.random.Generator]:
    """Return a network none of whose parameters are all zeros, the same in float64, and what draws the rest."""
    rng = np.random.default_rng(check_seed(seed))
    net = net.with_params(away_from_zero(net.params, rng))
    wide = {name: p.astype(np.float64) for name, p in net.params.items()}
    return net, net.with_params(wide, "reference"), rng


def check_derivatives(net: Recurrent, *, steps: int = T, seed: int = 0) -> Report:
    """Compare every gradient of a stack with complex steps and central differences along random directions, in float64.

    Parameters
    ----------
    net : Recurrent
        Its derivatives are tried with two random directions for each gate's rows; `check_network` does more.
    steps : int
        T. With a single step an error stays at the gate it was made at; with more, earlier steps see it too.
    seed : int
        Of the random inputs.

    Returns
    -------
    Report

    Examples
    --------
    >>> import unrolled as ur
    >>> print(str(check_derivatives(ur.LSTM(4, 5))).splitlines()[-1])
    14 passed, 0 failed, 0 unsupported
    """
    if not isinstance(net, Recurrent):
        raise UnrolledError(f"net is {brief(net)}; expected a Recurrent (check_network takes other networks)")
    steps, rng = check_size("steps", steps), np.random.default_rng(check_seed(seed))
    params = away_from_zero(net.params, rng)
    twin = net.with_params({name: p.astype(np.float64) for name, p in params.items()}, "reference")
    x, state = random_inputs(twin, steps, B, rng)
    label = f"{net.cell.name}{', one step' * (steps == 1)}"
    return Report(tuple(derivatives(recurrent_case(twin, x, state, None, rng), label, rng, full=False)))


NEEDED = ("params", "spec", "with_params", "zero_state", "draw_masks", "loss", "loss_and_gradients")
"""Attributes of a LossNetwork."""


def _check_net(net: Any) -> None:
    """Refuse what has not all that the proofs ask of a network."""
    if isinstance(net, (Recurrent, MLSTM)):
        return
    missing = [name for name in NEEDED if not hasattr(net, name)]
    if isinstance(net, type) or len(missing) == len(NEEDED):
        hint = "; prove its network" if hasattr(net, "network") else ""
        raise UnrolledError(f"net is {brief(net)}; expected a Recurrent, a Network, or another LossNetwork{hint}")
    if missing:
        raise UnrolledError(f"net is {brief(net)}, which is no LossNetwork: it lacks {', '.join(missing)}")
