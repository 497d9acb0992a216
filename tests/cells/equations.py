"""Equations of cells without a recurrent product, and of light ones, written from their papers: one step of one row.

Each takes a layer's parameters, x (I,) and the old state by its fields, and returns all that the tape keeps, (H,) each.
"""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def positive(a):
    return np.array([v + 0.5 if v >= 0 else sigmoid(v) for v in a])


def rows(w, x, count):
    """W x + b, block by block."""
    return np.split(w["weight_ih"] @ x + w["bias_ih"], count)


def min_gru(w, x, s):
    az, an = rows(w, x, 2)
    z, n = sigmoid(az), positive(an)
    return {"z": z, "n": n, "h": (1 - z) * s["h"] + z * n}


def min_lstm(w, x, s):
    af, ai, an = rows(w, x, 3)
    f, i = sigmoid(af) / (sigmoid(af) + sigmoid(ai)), sigmoid(ai) / (sigmoid(af) + sigmoid(ai))
    n = positive(an)
    return {"f": f, "i": i, "n": n, "h": f * s["h"] + i * n}


def sru(w, x, s):
    g, af, ar = np.split(w["weight_ih"] @ x, 3)
    bf, br = np.split(w["bias_ih"], 2)
    vf, vr = w["weight_c"]
    f, r = sigmoid(af + vf * s["c"] + bf), sigmoid(ar + vr * s["c"] + br)
    c = f * s["c"] + (1 - f) * g
    return {"g": g, "f": f, "r": r, "c": c, "h": r * c + (1 - r) * np.sqrt(3) * (w["weight_x"] @ x)}


def qrnn(pooling, window):
    def step(w, x, s):
        gates = {"f": "zf", "fo": "zfo", "ifo": "zfoi"}[pooling]
        now = np.split(w["weight_ih"] @ x, window * len(gates))
        out = {}
        if window == 2:
            out |= {f"{gate}_before": a for gate, a in zip(gates, now, strict=False)}
            now = [a + s[f"{gate}_before"] for gate, a in zip(gates, now[len(gates) :], strict=True)]
        for gate, a, b in zip(gates, now, np.split(w["bias_ih"], len(gates)), strict=True):
            out[gate] = np.tanh(a + b) if gate == "z" else sigmoid(a + b)
        memory = s["h"] if pooling == "f" else s["c"]
        memory = out["f"] * memory + (out["i"] if pooling == "ifo" else 1 - out["f"]) * out["z"]
        return out | ({"h": memory} if pooling == "f" else {"c": memory, "h": out["o"] * memory})

    return step


def ligru(w, x, s, norm=lambda a, gain: a):
    ax = norm(w["weight_ih"] @ x, w.get("gain_ih")) + w["bias_ih"]
    az, an = np.split(ax + norm(w["weight_hh"] @ s["h"], w.get("gain_hh")), 2)
    z, n = sigmoid(az), np.maximum(an, 0)
    return {"z": z, "n": n, "h": z * s["h"] + (1 - z) * n}


def ligru_layer_norm(w, x, s):
    return ligru(w, x, s, lambda a, gain: gain * (a - a.mean()) / np.sqrt(a.var() + 1e-5))


def star(w, x, s):
    az, ak = rows(w, x, 2)
    z, k = np.tanh(az), sigmoid(ak + w["weight_hh"] @ s["h"])
    return {"z": z, "k": k, "h": np.tanh((1 - k) * s["h"] + k * z)}


def hgrn(w, x, s, lower=0.0):
    af, ag, ao = rows(w, x, 3)
    f, g, o = lower + (1 - lower) * sigmoid(af), ag * sigmoid(ag), sigmoid(ao)
    c = f * s["c"] + (1 - f) * g
    return {"f": f, "g": g, "o": o, "c": c, "h": o * c}


EQUATIONS = {
    "min_gru": min_gru,
    "min_lstm": min_lstm,
    "sru": sru,
    "ligru": ligru,
    "ligru_layer_norm": ligru_layer_norm,
    "star": star,
    "hgrn": hgrn,
}
EQUATIONS |= {
    f"qrnn_{pooling}{'_w2' * (window == 2)}": qrnn(pooling, window)
    for pooling in ("f", "fo", "ifo")
    for window in (1, 2)
}
