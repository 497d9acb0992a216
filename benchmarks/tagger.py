"""The tagger on UD English-EWT: accuracy over seeds, and speed beside the same network in PyTorch.

    python benchmarks/tagger.py $UNROLLED_DATA/ud-english-ewt [--seeds 1,2,3] [--threads 1,2] [--seconds 20]

Accuracy: a training a seed with the command's defaults, validated on the dev file; the test file is looked at once,
with the model that was best there. Speed: steps of training (batch, masks, loss, gradients, clipping, Adam) over the
same batches, and tagging all sentences of the dev file; PyTorch gets its batches ready-made, with each distinct word
read once, as here, and packed sequences. Its outputs are compared first, and no time is printed if they differ. The
sides take turns; both the clock's seconds and the processor's are given, since other work on the machine takes nothing
away from the latter.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import machine, relative_error, report, script, summary

import unrolled as ur
from unrolled import backends
from unrolled.data.tagged import read_tagged
from unrolled.models.tagger import KIND, Tagger
from unrolled.models.tagger_data import Options
from unrolled.nn.spelling import distinct
from unrolled.training.clipping import clip_by_norm

NAMES = {part: f"en_ewt-ud-{part}.conllu" for part in ("train", "dev", "test")}
STEPS = 40
"""Steps of training in a measurement."""


def accuracy(folder: Path, seed: int, threads: int) -> dict[str, Any]:
    """Train with a seed and the defaults; return what came of it."""
    backends.set_threads(threads)
    files = {part: folder / name for part, name in NAMES.items()}
    start, cpu = time.perf_counter(), time.process_time()
    tagger = ur.Tagger.train(files["train"], val=files["dev"], test=files["test"], seed=seed, sample_length=0)
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    result = tagger.result
    return {
        "seed": seed,
        "threads": threads,
        "dev": result.best.metrics["accuracy"],
        "epoch": result.best.epoch,
        "test": result.test["accuracy"],
        "minutes": seconds / 60,
        "processor minutes": used / 60,
        "parameters": tagger.network.parameter_count,
    }


def twin(tagger: Tagger) -> Any:
    """Return the same network in PyTorch, with the same weights."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    spec, options = tagger.spec, Options()

    class Twin(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(spec.vocabulary_size, spec.embedding_size)
            sizes = spec.characters_embedding_size, spec.characters_hidden_size
            self.characters = nn.ModuleDict(
                {"embedding": nn.Embedding(spec.characters, sizes[0]), "recurrent": nn.LSTM(*sizes, bidirectional=True)}
            )
            self.recurrent = nn.LSTM(spec.input_size, spec.hidden_size, spec.num_layers, bidirectional=True)
            self.decoder = nn.Linear(2 * spec.hidden_size, len(tagger.tags))
            self.drop = nn.ModuleList([nn.Dropout(options.dropout), nn.Dropout(options.input_dropout)])

        def forward(self, ids: Any, letters: Any, sizes: Any, which: Any, lengths: Any) -> Any:
            if self.training:
                ids = ids.masked_fill(torch.rand(ids.shape) < options.word_dropout, 0)
            packed = pack_padded_sequence(self.characters["embedding"](letters), sizes, enforce_sorted=False)
            _, (h, _) = self.characters["recurrent"](packed)
            x = torch.cat([self.embedding(ids), torch.cat([h[0], h[1]], -1)[which]], -1)
            packed = pack_padded_sequence(self.drop[1](x), lengths, enforce_sorted=False)
            y, _ = pad_packed_sequence(self.recurrent(packed)[0], total_length=len(ids))
            return self.decoder(self.drop[0](y))

    found = Twin()
    found.load_state_dict({name: torch.from_numpy(np.array(p)) for name, p in tagger.params.items()})
    return found


def for_torch(batch: Any) -> tuple[Any, ...]:
    """Return a batch as PyTorch's network takes it."""
    import torch

    words = distinct(batch.x[..., 1:])
    arrays = batch.x[..., 0], np.maximum(words.characters, 0), np.maximum(words.lengths, 1), words.which, batch.lengths
    return tuple(torch.from_numpy(np.ascontiguousarray(a, np.int64)) for a in arrays)


def sides_of_training(tagger: Tagger, batches: Any, steps: Any) -> dict[str, Any]:
    """Return an epoch's share of training, here and in PyTorch."""
    import torch

    options, rng, theirs = Options(), np.random.default_rng(1), twin(tagger)
    rule, rate = options.make_optimizer(tagger.params, tagger.backend), options.learning_rate

    def ours() -> None:
        for k in steps:
            batch = batches[k]
            _, grads, _ = tagger.loss_and_gradients(batch, None, tagger.draw_masks(batch, rng))
            clip_by_norm(grads, options.grad_clip)
            rule.update(grads, rate)

    parts = [
        (for_torch(batches[k]), torch.from_numpy(np.where(batches[k].weights > 0, batches[k].y, -100))) for k in steps
    ]
    adam = torch.optim.Adam(theirs.parameters(), lr=rate, fused=True)

    def torchs() -> None:
        theirs.train()
        for inputs, y in parts:
            loss = torch.nn.functional.cross_entropy(theirs(*inputs).flatten(0, 1), y.long().flatten())
            adam.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), options.grad_clip)
            adam.step()

    return {"unrolled": ours, "PyTorch": torchs}


def sides_of_tagging(tagger: Tagger, words: list[list[str]]) -> dict[str, Any]:
    """Return the tagging of sentences, here and in PyTorch."""
    import torch

    theirs = twin(tagger).eval()
    parts = [for_torch(batch) for _, batch in tagger._batches(words)]

    def torchs() -> None:
        with torch.inference_mode():
            for inputs in parts:
                theirs(*inputs).argmax(-1)

    return {"unrolled": lambda: tagger.predict(words), "PyTorch": torchs}


def in_turn(sides: dict[str, Any], seconds: float, blocks: int = 7) -> dict[str, list[tuple[float, float]]]:
    """Return the clock's and the processor's seconds of a call of each side, a pair a block."""
    times = {name: list[tuple[float, float]]() for name in sides}
    end = time.perf_counter() + seconds
    for run in sides.values():
        run()
    while min(map(len, times.values())) < blocks or time.perf_counter() < end:
        for name, run in sides.items():
            time.sleep(0.1)  # a framework's threads spin for some tens of milliseconds after a call
            clock, processor = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return times


def disagreement(tagger: Tagger, batch: Any) -> float:
    """Return how far the outputs of both are apart, beside their size."""
    import torch

    with torch.inference_mode():
        theirs = twin(tagger).eval()(*for_torch(batch)).numpy()
    ours, _ = tagger.network(batch.x, lengths=batch.lengths)
    live = batch.weights > 0
    return relative_error(ours[live], theirs[live])


def speed(folder: Path, threads: int, seconds: float) -> list[dict[str, Any]]:
    """Measure training and tagging on so many threads."""
    import torch

    backends.set_threads(threads)
    torch.set_num_threads(threads)
    options, dev = Options(val_fraction=0), read_tagged(folder / NAMES["dev"])
    material = Tagger.material({"train": folder / NAMES["train"]}, options, None)
    network = ur.Network(KIND.spec(options, **material.codec), rng=0, head=KIND.head(**material.codec))
    tagger, batches = Tagger(network, **material.codec), material.parts["train"]
    steps = np.random.default_rng(0).permutation(len(batches))[:STEPS].tolist()
    if (apart := disagreement(tagger, batches[steps[0]])) > 1e-4:  # float32, some tens of steps each way
        raise SystemExit(f"the outputs differ by {apart:.1e} of their size")
    rows = []
    for what, sentences, sides in (
        ("training", sum(batches[k].size for k in steps), sides_of_training(tagger, batches, steps)),
        ("tagging", len(dev.words), sides_of_tagging(tagger, dev.words)),
    ):
        row: dict[str, Any] = {"what": what, "threads": threads}
        for name, pairs in in_turn(sides, seconds).items():
            clock, processor = zip(*pairs, strict=True)
            median, spread = summary(list(clock))
            row |= {name: sentences / median, f"{name} spread": spread}
            row[f"{name}, processor"] = sentences / summary(list(processor))[0]
        rows.append(row | {"ratio": row["unrolled"] / row["PyTorch"]})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", default="1,2,3", help="'' for no accuracy")
    parser.add_argument("--threads", default="1,2", help="'' for no speed")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tagger.json"))
    args = parser.parse_args()
    rows, lines = list[dict[str, Any]](), list[str]()
    threads = [int(n) for n in args.threads.split(",") if n]
    if threads:
        head = "| | threads | unrolled, sentences a second | PyTorch | ratio | a processor's second | PyTorch |"
        lines += ["", head, "|---|---|---|---|---|---|---|"]
    for n in threads:
        for row in speed(args.folder, n, args.seconds):
            rows.append(row)
            both = " | ".join(f"{row[side]:,.0f} ± {row[f'{side} spread']:.0%}" for side in ("unrolled", "PyTorch"))
            own = " | ".join(f"{row[f'{side}, processor']:,.0f}" for side in ("unrolled", "PyTorch"))
            lines.append(f"| {row['what']} | {n} | {both} | {row['ratio']:.2f} | {own} |")
            print(lines[-1], flush=True)
    seeds = [int(seed) for seed in args.seeds.split(",") if seed]
    if seeds:
        lines += ["", "| seed | dev | test | epoch | minutes | of processor |", "|---|---|---|---|---|---|"]
    for seed in seeds:
        row = accuracy(args.folder, seed, max(threads, default=2))
        rows.append(row)
        lines.append(
            f"| {seed} | {row['dev']:.2%} | {row['test']:.2%} | {row['epoch']:g} | {row['minutes']:.1f} "
            f"| {row['processor minutes']:.1f} |"
        )
        print(lines[-1], flush=True)
    more = {}
    if threads:
        import torch

        more["torch"] = torch.__version__
    command = f"python benchmarks/tagger.py $UNROLLED_DATA/ud-english-ewt --seeds {args.seeds} --threads {args.threads}"
    report(args.out, command, machine(**more), rows, lines)


if __name__ == "__main__":
    script(main)
