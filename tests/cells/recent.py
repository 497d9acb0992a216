"""Equations of cells from 2021 on, written out again from their papers, one step of one row of the batch."""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def slstm(w, x, s):
    """Section 2.2, of four heads; where nothing was summed yet the step begins anew."""
    size, h = len(s["h"]), np.array(s["h"])
    units = -(-size // 4)
    seen = np.equal.outer(np.arange(size) // units, np.arange(size) // units)  # of the same head
    spread = np.zeros((4 * size, size))
    spread[np.tile(seen, (4, 1))] = np.concatenate([w["weight_hh"][r, : seen[r % size].sum()] for r in range(4 * size)])
    i, f, z, o = np.split(w["weight_ih"] @ x + spread @ h + w["bias_ih"], 4)
    log_f, c, n = np.log(sigmoid(f)) + s["m"], np.array(s["c"]), np.array(s["n"])
    m = np.where(n > 0, np.maximum(log_f, i), i)
    old, new = np.where(n > 0, np.exp(log_f - m), 0), np.exp(i - m)
    c, n = old * c + new * np.tanh(z), old * n + new
    return dict(i=new, f=old, z=np.tanh(z), o=sigmoid(o), c=c, n=n, m=m, h=sigmoid(o) * c / n)


def lru(w, x, s):
    """Equation 9: x' = lambda x + gamma (B u) and y = Re(C x') + D u with complex numbers."""
    nu, theta, gamma, skip = w["weight_recurrence"]
    b_re, b_im = np.split(w["weight_ih"], 2)
    c_re, minus_c_im = np.split(w["weight_hh"], 2, axis=1)
    state = np.exp(-np.exp(nu) + 1j * np.exp(theta)) * (np.array(s["re"]) + 1j * np.array(s["im"]))
    state = state + np.exp(gamma) * ((b_re + 1j * b_im) @ x)
    y = ((c_re - 1j * minus_c_im) @ state).real + skip * (w["weight_x"] @ x)
    return dict(h=y, re=state.real, im=state.imag)


def rg_lru(w, x, s):
    """Equations 1 to 4 of Griffin."""
    r, i = np.split(sigmoid(w["weight_ih"] @ x + w["bias_ih"]), 2)
    log_a = -8 * r * np.log1p(np.exp(-w["weight_recurrence"][0]))
    scale = np.sqrt(-np.expm1(2 * log_a))
    return dict(r=r, i=i, a=np.exp(log_a), h=np.exp(log_a) * s["h"] + scale * (i * (w["weight_x"] @ x)))


def lem(w, x, s):
    """Equation 3 with a largest step of 1: the output sees the new z."""
    v1, v2, vz, vy = np.split(w["weight_ih"] @ x + w["bias_ih"], 4)
    w1, w2, wz, wy = np.split(w["weight_hh"], 4)
    y, z = np.array(s["h"]), np.array(s["z"])
    step_z, step_y = sigmoid(w1 @ y + v1), sigmoid(w2 @ y + v2)
    z = (1 - step_z) * z + step_z * np.tanh(wz @ y + vz)
    return dict(step_z=step_z, step_h=step_y, z=z, h=(1 - step_y) * y + step_y * np.tanh(wy @ z + vy))


def cornn(w, x, s):
    """Equation 3 with the damping of the old velocity."""
    dt, gamma, epsilon = 0.042, 2.7, 4.7
    y, z = np.array(s["h"]), np.array(s["z"])
    force = np.tanh(w["weight_hh"] @ np.concatenate([y, z]) + w["weight_ih"] @ x + w["bias_ih"])
    z = z + dt * force - dt * gamma * y - dt * epsilon * z
    return dict(z=z, h=y + dt * z)


def cfc(w, x, s, dt=1.0):
    """The closed form, with f of two heads, rate times dt and a shift, as the authors' programs have it."""
    g, h, a, b = np.split(w["weight_ih"] @ x + w["weight_hh"] @ np.array(s["h"]) + w["bias_ih"], 4)
    t = sigmoid(a * dt + b)
    return dict(start=np.tanh(g), end=np.tanh(h), time=t, h=np.tanh(g) * (1 - t) + t * np.tanh(h))


def cfc_backbone(w, x, s, dt=1.0):
    """The same of a layer 2 H wide, with LeCun's tanh, that input and state share."""
    size = len(s["h"])
    a = w["weight_ih"] @ x + w["bias_ih"] + w["weight_hh"][: 2 * size, :size] @ np.array(s["h"])
    shared = 1.7159 * np.tanh(2 / 3 * a)
    g, h, a, b = np.split(w["weight_hh"][2 * size :] @ shared + w["bias_hh"], 4)
    t = sigmoid(a * dt + b)
    return dict(start=np.tanh(g), end=np.tanh(h), time=t, h=np.tanh(g) * (1 - t) + t * np.tanh(h))


RECENT = {f.__name__: f for f in (slstm, lru, rg_lru, lem, cornn, cfc, cfc_backbone)}
