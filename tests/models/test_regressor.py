import numpy as np
import pytest

import unrolled as ur
from unrolled.models import files
from unrolled.models.regressor import Regressor

FAST = {"hidden_size": 6, "epochs": 40, "learning_rate": 0.03, "batch_size": 8}
rng = np.random.default_rng(0)
SERIES = [rng.standard_normal((n, 2)) + 5 for n in rng.integers(3, 9, 40)]
NUMBERS = np.array([[100 + len(x), 3 * x.mean()] for x in SERIES])


@pytest.fixture(scope="module")
def model():
    return Regressor.train((SERIES, NUMBERS), **FAST)


def test_numbers_of_any_scale_are_learnt(model):
    found = model.predict(SERIES)
    assert found.shape == (40, 2)
    share = ((found - NUMBERS) ** 2).mean(axis=0) / NUMBERS.var(axis=0)
    assert (share < 0.3).all()  # of the squared error of their means
    scores = model.score((SERIES, NUMBERS))
    assert scores["mse"] == pytest.approx(((found - NUMBERS) ** 2).mean())
    assert scores["mae"] == pytest.approx(np.abs(found - NUMBERS).mean())
    scaled = (found - NUMBERS) / model.targets.scale
    assert scores["loss"] == pytest.approx((scaled**2).mean(), rel=1e-5)  # float32


def test_the_mean_is_guessed_at_a_loss_of_1(model):
    level = np.tile(model.targets.mean, (40, 1))
    scaled = (level - NUMBERS) / model.targets.scale
    assert (scaled**2).mean() == pytest.approx(model.guess, rel=0.2)  # a tenth is not learnt from


def test_a_file_brings_it_back(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    again = ur.load(tmp_path / "model.safetensors")
    assert isinstance(again, Regressor)
    assert repr(again) == repr(model)
    assert again.details()[0] == ("says", "2 numbers, squared loss")
    np.testing.assert_array_equal(again.predict(SERIES), model.predict(SERIES))
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "model.safetensors").read_bytes()


def test_files_get_their_numbers_beside_them(tmp_path):
    texts = ["good", "very good", "bad", "so bad"] * 9
    model = Regressor.train((texts, [2, 3, -2, -3] * 9), **FAST, loss="huber")
    table = tmp_path / "new.csv"
    table.write_text("text,from\ngood,a\nso bad,b\n")
    lines = "".join(model.predictions([str(table)])).splitlines()
    assert lines[0] == "text,from,predicted"
    assert [line.rpartition(",")[0] for line in lines[1:]] == ["good,a", "so bad,b"]
    assert [float(line.rpartition(",")[2]) for line in lines[1:]] == model.predict(["good", "so bad"])[:, 0].tolist()
    with pytest.raises(ur.UnrolledError, match="has not a score of files"):
        model.scored([str(table)])


def test_it_is_no_task_of_the_command():
    assert Regressor.kind not in {kind.name for kind in files.kinds().values()}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (["good", "bad"], "expected|learns from a pair"),
        ((SERIES, NUMBERS[:5]), r"y has shape \(5, 2\); expected finite numbers, \(40,\) or \(40, K\)"),
        ((SERIES, np.full(40, np.nan)), "expected finite numbers"),
        (([np.zeros((0, 2))], [1.0]), "series 0 is empty"),
    ],
)
def test_odd_data_is_one_line(source, said):
    with pytest.raises(ur.UnrolledError, match=said) as caught:
        Regressor.train(source, **FAST)
    assert "\n" not in str(caught.value)
