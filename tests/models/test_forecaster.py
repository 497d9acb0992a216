"""A forecaster continues what it has learnt, says how sure it is, and stands on the same loop, file and folder."""

import csv
import io

import numpy as np
import pytest

import unrolled as ur
from unrolled.models import files, forecaster_data
from unrolled.models.bands import read_bands
from unrolled.models.forecaster import Forecaster
from unrolled.models.forecaster_options import Options
from unrolled.models.plan import Plan
from unrolled.training.callbacks import Callback
from unrolled.training.trainer import LAST, MODEL

SMALL = {"horizon": 6, "context": 12, "segment": 3, "hidden_size": 12, "batch_size": 16, "dropout": 0.0, "seed": 3}
SMALL |= {"learning_rate": 0.01, "epochs": 2, "sample_length": 0}
LINE = np.arange(200.0) * 0.5 + 3


def waves(n=240, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    return 10 + 4 * np.sin(2 * np.pi * t / 12) + 0.02 * t + noise * rng.normal(size=n)


def table(path, n=120):
    days = np.datetime64("2024-01-01") + np.arange(n)
    rows = [f"{day},{a:.3f},{b:.3f}" for day, a, b in zip(days, waves(n), waves(n, 1), strict=True)]
    path.write_text("\n".join(["day,load,heat", *rows]) + "\n")
    return path


@pytest.mark.parametrize("how", [{}, {"output": "recurrent"}, {"instance": "mean"}, {"instance": "standard"}])
def test_a_straight_line_is_followed_beyond_what_was_learnt(how):
    model = Forecaster.train(LINE, **SMALL | {"epochs": 6}, **how)
    for line in (LINE, LINE + 1e4, LINE[:12] - 1e4):
        expected = line[-1] + 0.5 * np.arange(1, 7)
        np.testing.assert_allclose(model.predict(line), expected, atol=0.05)  # a tenth of a step


@pytest.mark.parametrize("output", ["direct", "recurrent"])
@pytest.mark.parametrize("loss", ["absolute", "squared", "huber", "quantile", "gaussian"])
def test_it_learns_a_season_and_how_sure_it_is(loss, output):
    how = SMALL | {"epochs": 5, "loss": loss, "output": output, "val_fraction": 0.3}
    model = Forecaster.train(waves(600), **how)
    figures = model.score(waves(500, seed=9))
    assert figures["windows"] == 500 - 12 - 6 + 1
    assert figures["mse"] < 0.1 < figures["mse_last"]  # the noise's own share is 0.001
    # 180 steps of validation say how wide bands are; shares of other noise are a few hundredths off
    assert figures["coverage_80"] == pytest.approx(0.8, abs=0.08)
    assert figures["coverage_95"] == pytest.approx(0.95, abs=0.05)
    assert len(model.bands.before) == (2 if loss in ("quantile", "gaussian") else 0)
    forecast = model.forecast(waves(500, seed=9))
    (low, high), (lowest, highest) = forecast.bands[0.8], forecast.bands[0.95]
    assert (lowest <= low).all()
    assert (low < forecast.values).all()
    assert (forecast.values < high).all()
    assert (high <= highest).all()


def test_figures_are_those_of_the_forecasts_themselves():
    """What score says of a file, held against predictions from each of its steps."""
    model = Forecaster.train(waves(), **SMALL)
    data, (mean, deviation) = waves(40, seed=7), (model.plan.means[0], model.plan.deviations[0])
    errors, last, held = [], [], []
    for end in range(12, 35, 2):
        forecast, came = model.forecast(data[:end]), data[end : end + 6]
        errors.append(forecast.values[:, 0] - came)
        last.append(data[end - 1] - came)
        low, high = forecast.bands[0.8]
        held.append((low[:, 0] <= came) & (came <= high[:, 0]))
    figures = model.score(data, stride=2)
    assert figures["windows"] == 12
    # float32 of standardised values
    assert figures["rmse_units"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-5)
    assert figures["mae"] == pytest.approx(np.mean(np.abs(errors)) / deviation, rel=1e-5)
    assert figures["mse_last"] == pytest.approx(np.mean(np.square(last)) / deviation**2, rel=1e-5)
    assert figures["coverage_80"] == np.mean(held)
    assert mean == pytest.approx(waves()[:192].mean(), rel=1e-12)  # of the part to train on, 80 %


def test_many_series_are_told_apart_and_scaled_each_by_itself():
    t = np.arange(150)
    rise = {"k": np.repeat(["up", "down"], 150), "y": np.concatenate([1e3 + 5.0 * t, 0.01 * t[::-1]])}
    model = Forecaster.train(rise, id="k", **SMALL | {"epochs": 5})
    assert model.plan.names == ("up", "down")
    values = model.predict({"k": ["down"] * 12, "y": 3 - 0.01 * t[:12]})
    np.testing.assert_allclose(values[:, 0], 3 - 0.01 * t[12:18], atol=0.01)
    with pytest.raises(ur.UnrolledError, match="no series that the model knows is called 'upp'; did you mean 'up'"):
        model.predict({"k": ["upp"] * 12, "y": t[:12]})


@pytest.mark.parametrize("output", ["direct", "recurrent"])
def test_a_decoder_of_its_own_learns_from_its_own_series_alone(output):
    """Two series with one context and two futures, which a shared decoder is told apart by one feature only."""
    t = np.arange(160)
    both = np.stack([np.sin(t), -np.sin(t)], axis=1)
    model = Forecaster.train(both, target="all", apart=True, output=output, loss="quantile", **SMALL | {"epochs": 12})
    assert model.params["decoder.weight"].shape == (2 * 3 * 5, 12)
    np.testing.assert_allclose(model.predict(both), np.sin(t[-1] + np.arange(1, 7))[:, None] * [1, -1], atol=0.3)
    batch = forecaster_data.material({"train": both}, Options(target="all", apart=True, **SMALL), model.plan).parts[
        "train"
    ][0]
    kept = np.isnan(batch.y[-1]).all(axis=0)
    assert not kept.any()
    only = batch.rows(slice(0, 1))
    _, grads, _ = model.loss_and_gradients(only, None, None)
    mine = ~np.isnan(only.y[-1, 0]).repeat(5)
    assert grads["decoder.bias"][mine].any()
    assert not grads["decoder.bias"][~mine].any()


def test_what_is_known_beforehand_is_read_and_asked_for():
    rng = np.random.default_rng(1)
    sale = (rng.random(300) < 0.3).astype(float)
    data = {"day": np.datetime64("2023-01-01") + np.arange(300), "sale": sale, "y": 5 + 3 * sale}
    model = Forecaster.train(data, target="y", known="sale", **SMALL | {"epochs": 12, "instance": "mean"})
    ahead = {name: column[:30].tolist() for name, column in data.items()}
    ahead["y"] = [*ahead["y"][:24], *[None] * 6]
    np.testing.assert_allclose(model.predict(ahead)[:, 0], data["y"][24:30], atol=0.5)
    short = {name: column[:26] for name, column in ahead.items()}
    with pytest.raises(ur.UnrolledError, match="the 6 steps after y need values of what is known beforehand, 'sale'"):
        model.predict(short)


def test_predictions_are_written_as_a_table(tmp_path):
    path = table(tmp_path / "load.csv")
    model = Forecaster.train(path, target="all", **SMALL)
    rows = list(csv.DictReader(io.StringIO("".join(model.predictions([str(path)])))))
    assert list(rows[0]) == ["day", "series", "forecast", "low_80", "high_80", "low_95", "high_95"]
    assert (rows[0]["day"], rows[5]["day"], rows[6]["series"]) == ("2024-04-30", "2024-05-05", "heat")
    np.testing.assert_allclose([float(row["forecast"]) for row in rows[:6]], model.predict(path)[:, 0], rtol=1e-5)


def test_a_backtest_is_told_in_figures_and_lines(tmp_path):
    path = table(tmp_path / "load.csv")
    model = Forecaster.train(path, target=["load", "heat"], **SMALL)  # as "load,heat"
    figures, lines = model.scored([str(path)])
    assert figures["mse"] == model.score(path)["mse"]
    assert [row["step"] for row in figures["steps"]] == [1, 2, 3, 4, 5, 6]
    assert np.mean([row["model"] for row in figures["steps"]]) == pytest.approx(figures["mse"])
    assert [(row["series"], row["windows"]) for row in figures["series"]] == [("load", 103), ("heat", 103)]
    said = "\n".join(lines)
    assert "206 forecasts of 6 steps" in said
    for title in ("model", "last value", "last season (12)", "linear", "the 80% band holds", "MSE at step"):
        assert title in said


def wide_table(path, columns):
    rows = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(rows) + "\n")
    return path


def test_forecasts_are_drawn_with_bands(tmp_path):
    pytest.importorskip("matplotlib")
    path = table(tmp_path / "load.csv")
    figure = Forecaster.train(path, target="all", **SMALL).draw([str(path)])
    assert [axes.get_title("left") for axes in figure.axes] == ["load", "heat"]
    for axes in figure.axes:
        assert len(axes.lines) == 3  # the series, the forecast of its end, and of what comes after
        assert len(axes.collections) == 4
    swatches = [patch.get_facecolor() for patch in figure.axes[0].get_legend().get_patches()]
    assert [tuple(area.get_facecolor()[0]) for area in figure.axes[0].collections[:2]] == swatches
    assert len(set(swatches)) == 2


def test_a_picture_says_how_many_series_it_leaves_out(tmp_path):
    pytest.importorskip("matplotlib")
    wide = {f"s{k}": np.arange(120.0) * (k + 1) for k in range(10)}
    figure = Forecaster.train(wide, target="all", **SMALL).draw([str(wide_table(tmp_path / "wide.csv", wide))])
    assert len(figure.axes) == 8
    assert figure.get_supxlabel() == "2 more series, not drawn"


class Stop(Callback):
    def __init__(self, step):
        self.step = step

    def stepped(self, progress):
        if progress.step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("step", "output"), [(30, "direct"), (77, "recurrent")])
def test_it_resumes_to_the_bit(tmp_path, step, output):
    path = table(tmp_path / "load.csv")
    how = SMALL | {"target": "heat", "output": output, "dropout": 0.3, "eval_every": 20}
    whole = Forecaster.train(path, out=tmp_path / "whole", **how)
    with pytest.raises(ur.Interrupted):
        Forecaster.train(path, out=tmp_path / "run", callbacks=[Stop(step)], **how)
    again = Forecaster.resume(tmp_path / "run")
    assert [e.val_loss for e in again.result.history] == [e.val_loss for e in whole.result.history]
    assert again.result.test == whole.result.test
    for name in (MODEL, LAST):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert whole.bands is not None
    assert ur.load(tmp_path / "run").bands == whole.bands


def test_its_file_loads_as_a_forecaster_and_gives_the_same(tmp_path):
    model = Forecaster.train(waves(), **SMALL | {"loss": "quantile"})
    model.save(tmp_path / "f.safetensors")
    again = ur.load(tmp_path / "f.safetensors")
    assert repr(again) == "Forecaster(gru_reset_after, 1 x 12, 1 series, 6 steps from 12)"
    np.testing.assert_array_equal(again.predict(waves()), model.predict(waves()))
    assert again.score(waves()) == model.score(waves())
    again.save(tmp_path / "g.safetensors")
    assert (tmp_path / "g.safetensors").read_bytes() == (tmp_path / "f.safetensors").read_bytes()
    with pytest.raises(ur.UnrolledError, match="is a forecaster, no language model"):
        files.load(tmp_path / "f.safetensors")


@pytest.mark.parametrize("loss", ["absolute", "quantile"])
def test_bands_of_other_series_or_steps_are_refused(loss):
    model = Forecaster.train(waves(), **SMALL | {"epochs": 1, "loss": loss})
    said = model.bands.to_json()
    odd = [{"factors": [[1.0], [1.0, 2.0]]}, {"factors": [[], []]}, {"before": [0.5]}]
    odd += [{"reach": None}, {"reach": [[1.0], [2.0]]}] if said["reach"] else [{"reach": [[1.0], [1.0] * 6]}]
    for change in odd:
        with pytest.raises(ur.UnrolledError, match="the bands of the forecaster are not of its 1 series and 6 steps"):
            Forecaster(model.network, model.plan, read_bands("bands", said | change))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("season", 0, "plan.season is 0; expected a whole number from 1 to 1,000,000"),
        ("loss", "hubert", "plan.loss is 'hubert'; expected one of"),
        ("names", ["a", "b"], "plan contradicts itself"),
        ("deviations", [0.0], "plan contradicts itself"),
        ("linear", [[0.5]], "plan contradicts itself"),
        ("grid", {"unit": "number", "size": 0.0}, "plan contradicts itself"),
        ("columns", {"targets": [], "time": "", "id": "", "known": []}, "plan contradicts itself"),
        ("means", [1e300], "plan.means[0] is 1e+300; expected a finite number"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(place, value, said):
    plan = Forecaster.train(waves(), **SMALL | {"epochs": 1}).plan
    assert Plan.from_json("plan", plan.to_json()) == plan
    with pytest.raises(ur.UnrolledError) as error:
        Plan.from_json("plan", plan.to_json() | {place: value})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"horizon": 5, "segment": 2}, "horizon is 5; it must be whole segments of 2"),
        ({"context": 7, "segment": 2, "horizon": 4}, "context is 7; it must be whole segments of 2"),
        ({"loss": "hubert"}, "no loss is called 'hubert'; did you mean 'huber'?"),
        ({"embedding_size": 3}, "embedding_size is 3; a forecaster reads numbers, and has no symbols"),
        ({"horizon": 10**11}, "horizon is 100000000000; it must be a whole number, from 1 to 1,000,000"),
        ({"context": 10**7, "horizon": 4}, "context is 10000000; it must be a whole number, from 0 to 1,000,000"),
        ({"horizn": 3}, "no option is called 'horizn'; did you mean 'horizon'?"),
    ],
)
def test_options_that_make_no_sense_are_refused(how, said):
    with pytest.raises(ur.UnrolledError) as error:
        Options(**how)
    assert said in str(error.value)


def test_series_that_will_not_do_are_refused(tmp_path):
    path = table(tmp_path / "load.csv")
    model = Forecaster.train(path, target="load", **SMALL)
    with pytest.raises(ur.UnrolledError, match=r"load.csv: load has 120 steps, with 100 held out to validate"):
        Forecaster.train(path, target="load", **SMALL | {"horizon": 100, "segment": 0, "context": 0})
    with pytest.raises(ur.UnrolledError, match=r"the data: load has 11 steps; the model reads a context of 12"):
        model.predict({"day": np.datetime64("2024-01-01") + np.arange(11), "load": LINE[:11]})
    with pytest.raises(ur.UnrolledError, match=r"its steps are 1 hour, those of the model 1 day"):
        model.predict({"day": np.datetime64("2024-01-01T00") + np.arange(20), "load": LINE[:20]})
    with pytest.raises(ur.UnrolledError, match=r"^the data has no window: a context of 12 and a horizon of 6 are"):
        model.score({"day": np.datetime64("2024-01-01") + np.arange(13), "load": LINE[:13]})
    with pytest.raises(ur.UnrolledError, match=r"2 files of series; give one"):
        model.scored(["a.csv", "b.csv"])


def test_a_batch_of_more_windows_than_there_are_is_all_of_them(tmp_path):
    path = table(tmp_path / "load.csv")
    model = Forecaster.train(path, target="load", **SMALL | {"epochs": 1, "batch_size": 10**9})
    assert (model.result.epochs, model.result.steps) == (1, 50)


def test_what_is_chosen_fits_the_series():
    chosen = Forecaster.train(waves(), horizon=12, epochs=1, hidden_size=4, val_fraction=0.01).plan
    assert (chosen.season, chosen.layout.segment, chosen.layout.context) == (12, 12, 48)
    assert [Options(horizon=h).segments() for h in (1, 7, 24, 96, 97, 168)] == [1, 7, 24, 24, 97, 24]
