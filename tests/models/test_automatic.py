"""Settings chosen from data and time: what is asked for stays, and more time makes more of it."""

import numpy as np
import pytest

import unrolled as ur
from unrolled.models import files
from unrolled.models.automatic import (
    BY_HEART,
    CHOSEN,
    ENOUGH,
    FEW,
    IN_CLUSTERS,
    OWN,
    PASSES,
    SHOWN,
    SHOWN_WORDS,
    WIDTHS,
    for_rows,
    for_text,
    multiplied,
    seconds,
)
from unrolled.models.options import Options
from unrolled.models.tagger_data import Options as TaggerOptions
from unrolled.nn.heads import LANGUAGE
from unrolled.training.callbacks import Callback

NOVEL = {"symbols": 650_000, "vocabulary_size": 76}


def numbers(options, vocabulary_size=76):
    return multiplied(options.spec(vocabulary_size))


def test_what_multiplies_is_every_matrix_that_is_not_looked_up():
    spec = ur.Spec(vocabulary_size=11, cell="lstm", embedding_size=3, hidden_size=5, num_layers=1)
    assert multiplied(spec) == 4 * 5 * (3 + 5) + 11 * 5
    tied = ur.Spec(vocabulary_size=11, cell="lstm", embedding_size=5, hidden_size=5, num_layers=1, tied=True)
    assert multiplied(tied) == 4 * 5 * (5 + 5) + 11 * 5


@pytest.mark.parametrize("minutes", [0.2, 1, 3])
def test_the_work_is_that_of_the_minutes_and_the_width_fits_it(minutes):
    options = for_text(Options(minutes=minutes), ["minutes"], **NOVEL).options
    n, shown = numbers(options), options.epochs * NOVEL["symbols"]
    updates = shown / (options.batch_size * options.seq_length)
    spec = options.spec(NOVEL["vocabulary_size"])
    assert seconds(spec, shown, updates) == pytest.approx(60 * minutes, rel=0.01)  # passes have three digits
    assert shown >= SHOWN * n * 0.99
    wider = for_text(Options(minutes=minutes, hidden_size=2 * options.hidden_size), ["hidden_size"], **NOVEL).options
    assert wider.epochs * NOVEL["symbols"] < SHOWN * numbers(wider)


@pytest.mark.parametrize("minutes", [10, 30])
def test_where_there_is_time_for_all_passes_the_network_is_as_wide_as_they_leave_time_for(minutes):
    chosen = for_text(Options(minutes=minutes), ["minutes"], **NOVEL)
    assert chosen.options.epochs == ENOUGH
    assert f"as wide as there is time for {ENOUGH} passes" in chosen.why[2]
    wider = WIDTHS[WIDTHS.index(chosen.options.hidden_size) + 1 :][:1]
    for width in wider:
        assert for_text(Options(minutes=minutes, hidden_size=width), ["hidden_size"], **NOVEL).options.epochs < ENOUGH
    assert (chosen.options.hidden_size, bool(wider)) == ((896, True) if minutes == 10 else (WIDTHS[-1], False))


def test_where_few_passes_are_asked_for_the_network_is_as_wide_as_they_leave_time_for():
    chosen = for_text(Options(minutes=1, epochs=1.0), ["minutes", "epochs"], **NOVEL)
    assert chosen.options.hidden_size == 896
    assert "as wide as there is time for 1 pass" in chosen.why[2]
    longer = for_text(Options(minutes=1, epochs=3.0), ["minutes", "epochs"], **NOVEL).options
    assert longer.hidden_size == 448


def test_what_is_asked_for_stays_and_the_rest_fits_it():
    asked = {"cell": "lstm", "dropout": 0.05, "num_layers": 2, "batch_size": 7, "hidden_size": 30, "epochs": 4.0}
    chosen = for_text(Options(**asked, minutes=2.0), [*asked, "minutes"], **NOVEL)
    assert {name: getattr(chosen.options, name) for name in asked} == asked
    assert (chosen.options.minutes, chosen.options.schedule) == (2.0, "cosine")  # by the clock, as epochs are asked for
    assert not any(line.startswith(("cell", "dropout", "hidden")) for line in chosen.why)
    widths = for_text(Options(hidden_size=(6, 5)), ["hidden_size"], **NOVEL).options
    assert (widths.hidden_size, widths.num_layers) == ((6, 5), 2)


def test_what_help_pages_call_chosen_is_what_is_chosen():
    seen = {}
    texts = [("char", 3_000, 40), ("byte", 3_000, 256), ("word", 2_000_000, 3_000), ("word", 2_000_000, 33_000)]
    texts += [("word", 700_000, 9_000)]
    for level, symbols, size in texts:
        usual = Options(level=level)
        found = for_text(usual, [], symbols, size).options
        seen |= {name: value for name, value in vars(found).items() if value != getattr(usual, name)}
    told = {name: value for name, value in CHOSEN["language"].items() if value != "chosen"}
    assert seen.keys() == CHOSEN["language"].keys()
    assert {name: str(seen[name]) for name in told} == told
    passes = {task: ["epochs"] * (not kind.options().patience) for task, kind in files.kinds().items()}
    assert {task: list(chosen) for task, chosen in CHOSEN.items()} == passes | {"language": [*CHOSEN["language"]]}


def test_a_decoder_that_is_to_be_an_embedding_there_is_none_of_is_refused_by_the_network():
    options = for_text(Options(tied=True, embedding_size=0), ["tied", "embedding_size"], **NOVEL).options
    with pytest.raises(ur.UnrolledError, match="tied weights need an embedding as wide as the last layer"):
        ur.Network(options.spec(NOVEL["vocabulary_size"]))


def test_a_decoder_that_is_to_be_the_embedding_fits_the_width():
    options = for_text(Options(tied=True), ["tied"], **NOVEL).options
    assert (options.tied, options.embedding_size) == (True, options.hidden_size)


@pytest.mark.parametrize("asked", [{"proj_size": 100}, {"zoneout_cell": 0.1}, {"forget_bias": 0.0}])
def test_an_option_of_a_memory_is_given_a_cell_that_has_one(asked):
    chosen = for_text(Options(**asked), [*asked], **NOVEL)
    assert chosen.options.cell == "lstm"
    assert f"cell lstm: it has what {next(iter(asked)).replace('_', ' ')} needs" in chosen.why
    assert chosen.options.hidden_size > chosen.options.proj_size
    spec = chosen.options.spec(NOVEL["vocabulary_size"])  # which refuses what does not fit
    assert spec.cell == "lstm"


def test_a_projection_makes_no_wider_network_and_one_that_no_width_has_room_for_is_refused():
    narrow = {**NOVEL, "symbols": 20_000}
    widths = [for_text(Options(cell="lstm", proj_size=p), ["cell", "proj_size"], **narrow).options for p in (0, 20)]
    assert widths[0].hidden_size == widths[1].hidden_size
    with pytest.raises(ur.UnrolledError, match="proj_size is 2000; it must be below hidden_size = 1024"):
        for_text(Options(proj_size=2000), ["proj_size"], **NOVEL)


def test_short_texts_have_fewer_lanes_and_passes_end():
    options = for_text(Options(), [], symbols=3_000, vocabulary_size=40).options
    assert options.epochs == 9
    assert options.epochs * numbers(options, 40) / 3_000 == pytest.approx(BY_HEART, rel=0.01)  # passes have a digit
    assert options.batch_size * options.seq_length * 10 < 3_000
    assert (options.hidden_size, options.dropout) == (96, 0.3)
    assert for_text(Options(), [], symbols=4, vocabulary_size=3).options.batch_size == 2


def test_a_narrow_network_that_is_asked_for_makes_more_passes_and_a_wide_one_few():
    for width, passes, dropout in ((16, PASSES, 0.2), (64, PASSES, 0.4), (128, 36.9, 0.5), (512, FEW, 0.3)):
        options = for_text(Options(hidden_size=width), ["hidden_size"], symbols=20_000, vocabulary_size=60).options
        assert (options.epochs, options.dropout) == (passes, dropout)


def test_tokens_are_chosen_for_as_characters_are_and_no_one_token_changes_it():
    """Of few passes by a wide network, a novel's tokens; tied, from 1,001 on (docs/results.md)."""
    for level in ("bpe", "tokens"):
        options = for_text(Options(level=level, minutes=1), ["level", "minutes"], 220_000, 1024).options
        assert (options.hidden_size, options.epochs, options.dropout, options.tied) == (256, 10, 0.3, True)
    for size in (1000, 1001):
        options = for_text(Options(level="bpe", minutes=1), ["level", "minutes"], 220_000, size).options
        assert options.epochs == 10
        assert 256 <= options.hidden_size <= 320
    wide = for_text(Options(level="bpe", minutes=5), ["level", "minutes"], 57_000, 9_000).options
    assert (wide.hidden_size, wide.epochs, wide.dropout) == (448, 7.1, 0.3)
    assert wide.epochs * multiplied(wide.spec(9_000), ends=False) / 57_000 == pytest.approx(BY_HEART, rel=0.01)


def test_a_short_text_gets_no_more_numbers_than_it_can_fill_however_long_the_time():
    found = for_text(Options(minutes=5), ["minutes"], symbols=96_000, vocabulary_size=70)
    assert (found.options.hidden_size, found.options.dropout) == (768, 0.3)
    wider = for_text(Options(hidden_size=896), ["hidden_size"], symbols=96_000, vocabulary_size=70).options
    assert numbers(found.options, 70) < OWN * 96_000 < numbers(wider, 70)
    assert any("as wide as a text of this length can use: 20.5 numbers for each symbol" in line for line in found.why)
    longer = for_text(Options(minutes=5), ["minutes"], symbols=9_600_000, vocabulary_size=70)
    assert longer.options.dropout == 0
    assert any("as wide as the time can teach" in line for line in longer.why)


def test_few_passes_are_made_over_words_however_long_the_time():
    found = for_text(Options(level="word", minutes=5), ["level", "minutes"], symbols=57_000, vocabulary_size=9_000)
    options = found.options
    assert (options.epochs, options.init, options.dropout) == (3.1, "uniform:0.1", 0.3)
    assert options.epochs * 57_000 >= SHOWN_WORDS * multiplied(options.spec(9_000), ends=False)
    assert any(line == "epochs 3.1: more would learn the text by heart" for line in found.why)
    assert any("small, for few updates move it" in line for line in found.why)
    assert for_text(Options(level="word"), [], 2_100_000, 33_000).options.epochs < 6
    pieces = for_text(Options(level="bpe", minutes=5), ["level", "minutes"], 57_000, 9_000).options
    assert (pieces.epochs, pieces.init) == (7.1, "pytorch")
    asked = for_text(Options(level="word", epochs=9, init="glorot"), ["epochs", "init"], 57_000, 9_000).options
    assert (asked.epochs, asked.init) == (9, "glorot")


def test_words_that_are_passed_over_often_are_dropped_too():
    options = for_text(Options(level="word", minutes=20), ["level", "minutes"], 2_088_628, 33_278).options
    assert (options.hidden_size, options.epochs, options.learning_rate) == (512, 4.78, 0.002)
    assert (options.dropout, options.input_dropout, options.embedding_dropout) == (0.5, 0.5, 0.1)
    sooner = for_text(Options(level="word", minutes=3), ["level", "minutes"], 2_088_628, 33_278).options
    assert (sooner.dropout, sooner.input_dropout, sooner.embedding_dropout) == (0.2, 0.0, 0.0)
    chosen = for_text(
        Options(level="word", minutes=20, dropout=0.1), ["level", "minutes", "dropout"], 2_088_628, 33_278
    )
    assert (chosen.options.dropout, chosen.options.input_dropout) == (0.1, 0.5)
    assert "input dropout 0.5, embedding dropout 0.1" in chosen.why[-1]


def test_what_is_chosen_besides_is_told():
    *_, last = for_text(Options(level="word", minutes=3), ["seq_length"], 2_000_000, 3_000).why
    assert last == "besides: num layers 1, embedding size 320, tied, schedule cosine"


def test_many_words_have_an_adaptive_softmax_and_fewer_share_one_matrix():
    size = 33_000
    options = for_text(Options(level="word", minutes=3), ["level", "minutes"], 2_000_000, size).options
    assert (options.softmax, options.tied, options.embedding_size) == ("adaptive", False, options.hidden_size)
    spec = options.spec(size)
    assert options.epochs * 2_000_000 >= SHOWN_WORDS * multiplied(spec, ends=False) * 0.99
    assert seconds(spec, options.epochs * 2e6, options.epochs * 2e6 / 1024) == pytest.approx(180, rel=0.01)
    clusters = [spec.shapes()[f"head.cluster_{k}"] for k in (1, 2)]
    assert multiplied(spec) == pytest.approx(
        multiplied(spec, ends=False)
        + np.prod(spec.shapes()["decoder.weight"])
        + IN_CLUSTERS * sum(map(np.prod, clusters))
    )
    few = for_text(Options(level="word"), ["level"], 2_000_000, 3000).options
    assert (few.softmax, few.tied, few.embedding_size) == ("full", True, few.hidden_size)
    assert not for_text(Options(level="word"), ["level", "tied"], 2_000_000, 3000).options.tied  # --no-tied
    asked = {"hidden_size": 30, "embedding_size": 20}
    assert not for_text(Options(level="word", **asked), [*asked, "level"], 2_000_000, 3000).options.tied
    assert (
        for_text(Options(level="word", hidden_size=30), ["hidden_size"], 2_000_000, 3000).options.embedding_size == 30
    )
    assert for_text(Options(tied=True), ["tied"], 2_000_000, size).options.softmax == "full"
    asked = {"softmax": "adaptive", "level": "word"}
    assert not for_text(Options(**asked), [*asked], 2_000_000, 3000).options.tied


def test_rows_are_passed_until_there_are_updates_enough_within_the_time():
    class Rows(list):
        pass

    def rows(n):
        return Rows([ur.data.batches.Batch(np.zeros((9, 32), int), np.zeros((9, 32), int))] * n)

    spec, large = (ur.Spec(11, hidden_size=h, num_layers=1, embedding_size=4) for h in (5, 1500))
    usual = TaggerOptions()
    assert for_rows(usual, [], rows(400), spec, LANGUAGE).options.epochs == usual.epochs == 12
    assert for_rows(usual, [], rows(20), spec, LANGUAGE).options.epochs == 75
    assert for_rows(usual, [], rows(2), spec, LANGUAGE).options.epochs == 120
    assert for_rows(TaggerOptions(minutes=0.1), [], rows(400), large, LANGUAGE).options.epochs == 1
    assert for_rows(TaggerOptions(epochs=3), ["epochs"], rows(20), spec, LANGUAGE).options.epochs == 3


def test_a_run_keeps_what_was_chosen_and_goes_on_to_the_same_bits(tmp_path):
    text = "the cat sat on the mat, and the dog on the log. " * 30
    how = {"auto": True, "minutes": 0.002, "eval_every": 10, "sample_length": 0}
    whole = ur.LanguageModel.train(text, out=tmp_path / "whole", **how)
    config = (tmp_path / "whole/config.toml").read_text()
    assert 'cell = "gru_reset_after"' in config
    assert "# minutes = (not set)" in config

    class Stop(Callback):
        def evaluated(self, evaluation, best):
            return evaluation.step >= 20

    ur.LanguageModel.train(text, out=tmp_path / "parts", callbacks=[Stop()], **how)
    again = ur.LanguageModel.resume(tmp_path / "parts", text)
    for name, p in whole.network.params.items():
        np.testing.assert_array_equal(again.network.params[name], p)


def test_the_unigram_bias_is_chosen_for_bytes_most_of_which_never_occur():
    for level, on in (("byte", True), ("char", False), ("word", False)):
        assert for_text(Options(level=level), [], symbols=600_000, vocabulary_size=256).options.unigram_bias is on
    assert not for_text(Options(level="byte"), ["unigram_bias"], **NOVEL).options.unigram_bias


@pytest.mark.parametrize("softmax", ["full", "adaptive:2,4"])
def test_a_model_of_unigram_bias_begins_with_the_unigram_distribution(softmax):
    """With a decoder whose weights are 0 it predicts each symbol's share (n + 1/2) / (N + V/2); a cluster's evenly."""
    text = ("a" * 50 + "b" * 30 + "c" * 10 + "d" * 6 + "e" * 3 + "f") * 30
    small = {"hidden_size": 3, "num_layers": 1, "sample_length": 0, "val_fraction": 0, "epochs": 1e-9}
    model = ur.LanguageModel.train(text, unigram_bias=True, learning_rate=1e-30, softmax=softmax, **small)
    for name, p in model.network.params.items():
        if name.startswith("head.") or name == "decoder.weight":
            p[...] = 0
    order = [model.vocabulary.decode(np.array([k])) for k in range(6)]
    shares = np.array([(text.count(symbol) + 0.5) / (len(text) + 3) for symbol in order])
    if softmax != "full":
        shares = np.array([*shares[:2], *[shares[2:4].mean()] * 2, *[shares[4:].mean()] * 2])
    logits, _ = model.network.logits(np.zeros((1, 1), np.int64), None)
    log_probs = logits[0, 0] - np.log(np.exp(logits[0, 0]).sum())
    assert np.exp(log_probs) == pytest.approx(shares, rel=1e-5)  # float32
    plain = ur.LanguageModel.train(text, learning_rate=1e-30, softmax=softmax, **small)
    same = [n for n, p in plain.network.params.items() if n != "decoder.bias" and n[:5] != "head."]
    again = ur.LanguageModel.train(text, unigram_bias=True, learning_rate=1e-30, softmax=softmax, **small)
    assert all((plain.network.params[n] == again.network.params[n]).all() for n in same)  # nothing else is drawn


def test_a_run_of_unigram_bias_goes_on_and_a_model_to_start_from_keeps_its_own(tmp_path):
    small = {"hidden_size": 3, "num_layers": 1, "sample_length": 0, "batch_size": 4, "seq_length": 8}
    text = "the cat sat on the mat. " * 60
    whole = ur.LanguageModel.train(text, unigram_bias=True, epochs=2, **small)
    ur.LanguageModel.train(text, unigram_bias=True, epochs=1, out=tmp_path / "run", **small)
    gone_on = ur.LanguageModel.resume(tmp_path / "run", text, epochs=2)
    assert all((gone_on.network.params[n] == p).all() for n, p in whole.network.params.items())
    how = {"learning_rate": 1e-30, "unigram_bias": True, "epochs": 1e-9, "batch_size": 4, "seq_length": 8}
    again = ur.LanguageModel.train(text, init_from=whole, sample_length=0, **how)
    assert all((again.network.params[n] == p).all() for n, p in whole.network.params.items())
