"""The model in the package: it is the one that its page tells of, and writes as it was taught."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import pytest

import unrolled as ur
from unrolled.cli import main
from unrolled.errors import UnrolledError, UnrolledWarning
from unrolled.models.files import model_file

DOCS = Path(__file__).parents[2] / "docs"
HELD_OUT = (
    "“You are very kind,” said Elizabeth, “but I have no intention of dancing this evening; and I am\n"
    "persuaded that Mr. Darcy will not ask me.” She could not but smile, however, when her mother, who\n"
    "had been listening to every word of it, began to speak of the colonel and his regiment.\n"
)
"""Nobody's but ours, in her manner."""
NAMES = ("Elizabeth", "Jane", "Lydia", "Bennet", "Bingley", "Collins", "Darcy", "Wickham")


@pytest.fixture(scope="module")
def pride():
    return ur.load("pride")


def run(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main(list(words))
    return end.value.code, *capsys.readouterr()


def test_its_file_is_the_one_that_its_page_tells_of(pride):
    file = model_file("pride")
    page = (DOCS / "models" / "pride.md").read_text(encoding="utf-8")
    assert hashlib.sha256(file.read_bytes()).hexdigest() in page
    assert f"{file.stat().st_size:,} bytes" in page
    assert file.stat().st_size < 2_000_000
    assert f"{pride.network.spec.parameter_count:,} parameters" in page
    assert pride.network.weights == "int8"


def test_it_predicts_her_english_and_writes_it(pride):
    assert pride.score(HELD_OUT).nats == pytest.approx(0.86816, abs=1e-4)  # float32 sums in another order: 1e-6
    shuffled = "".join(sorted(HELD_OUT))
    assert pride.score(shuffled).nats > 5  # the same letters, in another order
    text = pride.sample("It is a truth", 12_000, temperature=0.7, seed=1)
    assert sum(name in text for name in NAMES) >= 3


def test_a_name_is_the_model_and_a_path_is_a_path(pride, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own = ur.LanguageModel.train(
        "the cat sat. " * 40, hidden_size=7, num_layers=1, batch_size=2, epochs=1, seq_length=12
    )
    own.save("pride")
    with pytest.warns(
        UnrolledWarning, match=r"pride is the built-in model; what is called so in this folder is \./pride"
    ):
        assert ur.load("pride").network.spec == pride.network.spec
    assert ur.load("./pride").network.spec == ur.load(Path("pride")).network.spec == own.network.spec
    Path("held.txt").write_text(HELD_OUT, encoding="utf-8")
    note = "unrolled: note: pride is the built-in model; what is called so in this folder is ./pride\n"
    assert run(capsys, "score", "pride", "held.txt", "--per-token", "s.tsv")[0::2] == (0, note)  # it is named thrice
    status, out, err = run(capsys, "quantize", "pride", "held.txt", "--out", "small.safetensors")
    assert (status, err) == (2, note + "unrolled: pride: its weights are int8 already\n")
    status, out, err = run(capsys, "info", "./pride")
    assert (status, out.split(":")[0], err) == (0, "pride", "")
    Path("pride").unlink()
    for wrong in ("prid", "Pride"):
        with pytest.raises(UnrolledError, match=rf"{wrong}: no such file .* did you mean 'pride'\? Known: pride"):
            ur.load(wrong)


def test_commands_take_its_name(pride, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("held.txt").write_text(HELD_OUT, encoding="utf-8")
    status, out, _ = run(capsys, "sample", "pride", "--prompt", "It is", "--length", "50", "--seed", "1")
    assert (status, out) == (0, "It is" + pride.sample("It is", 50, seed=1) + "\n")
    status, out, _ = run(capsys, "score", "pride", "held.txt", "--json")
    assert (status, json.loads(out)["predicted"]) == (0, len(HELD_OUT) - 1)
    *_, last = run(capsys, "score", "pride", "held.txt")[1].splitlines()
    assert last == "no yardsticks: the built-in model has no run beside it whose text could be counted"
    first, *lines = run(capsys, "info", "pride")[1].splitlines()
    assert first.endswith(f"{model_file('pride').stat().st_size:,} bytes")
    assert lines[:2] == [
        "  trained on        Pride and Prejudice, Jane Austen (unrolled fetch pride)",
        "  its page          docs/models/pride.md",
    ]
    assert (DOCS.parent / lines[1].split()[-1]).is_file()
    assert run(capsys, "sample", "pride", "--weights", "bfloat16")[0::2] == (
        2,
        "unrolled: pride: its weights are int8 already; round the float32 model that they were made of\n",
    )
    assert run(capsys, "sample", "prid")[0::2] == (
        2,
        "unrolled: prid: no such file or folder, and no built-in model is called 'prid'; did you mean 'pride'? "
        "Known: pride\n",
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the kernel's own libraries
def test_its_notebook_runs_from_the_top_to_the_bottom_without_a_network(tmp_path, monkeypatch):
    for extra in ("nbclient", "ipykernel"):
        pytest.importorskip(extra, reason=f"{extra} is not installed: pip install 'unrolled[notebook]'")
    for folder in ("JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR", "UNROLLED_DATA"):
        monkeypatch.setenv(folder, str(tmp_path))
    monkeypatch.setenv("NOTEBOOK_SHORT", "1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody answers
    spec = importlib.util.spec_from_file_location("make_notebook", DOCS / "make_notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    stored = json.loads((DOCS / "notebooks" / "pride.ipynb").read_text(encoding="utf-8"))
    for notebook in (stored, module.run("pride", tmp_path)):
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        outputs = [output for cell in code for output in cell["outputs"]]
        assert not [output for output in outputs if output["output_type"] == "error"]
        assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
        text = "".join("".join(output.get("text", "")) for output in outputs)
        losses = [float(loss) for loss in re.findall(r"validation ([\d.]+) nats a character", text)]
        assert losses == sorted(losses, reverse=True)
        assert losses[-1] < losses[0] - 0.1


def test_a_path_of_its_name_is_the_built_in_model_where_nothing_else_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ur.load(Path("pride")).vocabulary == ur.load("pride").vocabulary
    ur.LanguageModel.train("abc" * 1000, epochs=1, hidden_size=3).save("pride")
    assert len(ur.load(Path("pride")).vocabulary) == 3
