"""Write recurrent.json: names, shapes and the last entry of every parameter, from seed 7.

A change of this file is a change of what people's files and seeds mean: run it as
`python tests/golden/make_stacks.py` only for new cells or options, and look at the difference.
"""

import json
from pathlib import Path

import numpy as np

import unrolled as ur
from unrolled.cells import CELLS

OPTIONS = {
    "one layer": {},
    "no bias": {"bias": False},
    "two layers, both directions": {"num_layers": 2, "bidirectional": True},
}

if __name__ == "__main__":
    golden = {}
    for cell in CELLS:
        for label, extra in OPTIONS.items():
            options = {"cell": cell, "input_size": 4, "hidden_size": 5} | extra
            net = ur.Recurrent(**options, rng=np.random.default_rng(7))
            golden[f"{cell}, {label}"] = {
                "options": options,
                "parameters": [[name, list(p.shape)] for name, p in net.params.items()],
                "last entries": [float(p.flat[-1]) for p in net.params.values()],
            }
    lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in golden.items()]
    Path(__file__).with_name("recurrent.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
