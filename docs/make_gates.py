"""Write docs/ladder/gates.png and gates_use.png: two LSTMs learn Pride and Prejudice, and their gates over a sentence.

UNROLLED_DATA=folder python docs/make_gates.py     some minutes a picture; the folder holds pride/1342-0.txt
"""

import os
import sys
from pathlib import Path

import numpy as np

from unrolled.data.batches import lanes
from unrolled.data.text import Vocabulary, read
from unrolled.ladder.gates import UseGateLayer, draw_gates
from unrolled.ladder.layers import LSTMLayer, OutputLayer, Stack
from unrolled.ladder.solver import direction

SENTENCE = "Mr. Bennet replied that he had not. “You want to tell me,”"


def learned(layer: type[LSTMLayer], text: str, vocabulary: Vocabulary, updates: int = 3000) -> Stack:
    """A layer of 64 units that has learned the text with Adam, 32 rows of 50 steps at a time."""
    rng, V = np.random.default_rng(0), len(vocabulary)
    stack = Stack([layer(V, 64, rng)], OutputLayer(64, V, rng))
    batches, states = lanes(vocabulary.encode(text), 32, 50), ()
    moments = [{name: [0, 0] for name in params} for params in stack.params]
    for n in range(updates):
        k = n % len(batches)
        loss, grads, states = stack.gradients(*batches[k], states if k else ())
        for params, own, m in zip(stack.params, grads, moments, strict=True):
            for name, w in params.items():
                w -= 0.01 * 0.5 ** (n / 1000) * direction("adam", own[name], m[name], n + 1)
        if (n + 1) % 500 == 0:
            print(f"{layer.__name__}: {n + 1} updates, loss {loss:.3f} nats a character", flush=True)
    return stack


def main() -> None:
    """Learn and draw both."""
    folder = os.environ.get("UNROLLED_DATA") or sys.exit("set UNROLLED_DATA to the folder that holds pride/1342-0.txt")
    text = read(Path(folder, "pride", "1342-0.txt")).text
    vocabulary = Vocabulary.of(text, "char")
    for layer, name in ((LSTMLayer, "gates.png"), (UseGateLayer, "gates_use.png")):
        stack = learned(layer, text, vocabulary)
        stack.forward(vocabulary.encode(SENTENCE)[:, None])
        figure = draw_gates(stack.layers[0], SENTENCE)
        figure.savefig(Path(__file__).parent / "ladder" / name, dpi=80)


if __name__ == "__main__":
    main()
