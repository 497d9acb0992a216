"""The small problem that the update rules are compared on: parameters, and gradients that depend on them."""

import numpy as np

STEPS, RATE = 50, 0.05
# Our name and options -> PyTorch's class and keywords.
CASES = {
    "sgd": ({}, "SGD", {}),
    "sgd_decay": ({"weight_decay": 0.1}, "SGD", {"weight_decay": 0.1}),
    "momentum": ({"momentum": 0.8}, "SGD", {"momentum": 0.8}),
    "momentum_dampened": ({"momentum": 0.8, "dampening": 0.3}, "SGD", {"momentum": 0.8, "dampening": 0.3}),
    "nesterov": ({"momentum": 0.8}, "SGD", {"momentum": 0.8, "nesterov": True}),
    "nesterov_decay": (
        {"momentum": 0.8, "weight_decay": 0.1},
        "SGD",
        {"momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
    ),
    "adagrad": ({}, "Adagrad", {}),
    "rmsprop": ({}, "RMSprop", {}),
    "rmsprop_charrnn": ({"alpha": 0.95}, "RMSprop", {"alpha": 0.95}),
    "adadelta": ({}, "Adadelta", {}),
    "adam": ({}, "Adam", {}),
    "adam_decay": ({"weight_decay": 0.1, "beta1": 0.7}, "Adam", {"weight_decay": 0.1, "betas": (0.7, 0.999)}),
    "adamw": ({"weight_decay": 0.1}, "AdamW", {"weight_decay": 0.1}),
    "adamw_default": ({}, "AdamW", {}),
}


def params(dtype: str = "float64") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {"w": rng.normal(size=(3, 4)).astype(dtype), "b": rng.normal(size=5).astype(dtype)}


def gradients(p: dict[str, np.ndarray], step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    return {name: np.sin(3 * a) + 0.5 * a + rng.normal(size=a.shape).astype(a.dtype) for name, a in p.items()}
