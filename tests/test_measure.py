"""What a run says of its machine, and whether its times can be trusted."""

from importlib.metadata import version
from time import perf_counter

import pytest
import torch
from test_fit import RUNS, SMALL_FIT, summary_in

from mnist_lightning.measure import calibration
from mnist_lightning.measure.disturbance import disturbances

QUIET = {"own_cores": 2.0, "other_cores": 0.05, "stolen_cores": 0.05}
RATES = {"before": {"fp32_gflops": 100.0, "bf16_gflops": 400.0}, "after": {"fp32_gflops": 104.0, "bf16_gflops": 200.0}}


def test_a_rate_is_that_of_the_product_and_of_the_copy(monkeypatch):
    monkeypatch.setattr(calibration, "REPEATS", 40)
    monkeypatch.setattr(calibration, "COPIED", 64 << 20)
    one = torch.ones(512, 512)
    begin = perf_counter()
    for _ in range(50):
        one @ one
    by_hand = 50 * 2 * 512**3 / (perf_counter() - begin) / 1e9
    assert by_hand / 3 < calibration.product_rate(torch.device("cpu"), torch.float32) < 30 * by_hand
    assert 0.5 < calibration.copy_rate(torch.device("cpu")) < 2000


def test_a_fit_tells_its_machine(command):
    assert command(*SMALL_FIT, "--trainer.max_epochs=1") == 0
    summary = summary_in(RUNS / "version_0")
    machine = summary["machine"]
    assert machine["threads"] == torch.get_num_threads() and machine["precision"] == "32-true"
    assert machine["torch"] == version("torch") and machine["processor"] and machine["cores"] >= 1
    assert len(machine["commit"].rstrip("+")) == 12 and len(machine["code"].rstrip("+")) == 12
    for moment in ("before", "after"):
        rates = summary["calibration"][moment]
        assert rates.keys() == {"fp32_gflops", "bf16_gflops", "copy_gb_per_second"}
        assert min(rates.values()) > 0
    assert summary["neighbours"].keys() == {"own_cores", "other_cores", "stolen_cores"}
    assert 0 < summary["neighbours"]["own_cores"] <= 1.5 * machine["cores"]


@pytest.mark.parametrize(
    ("neighbours", "after", "found"),
    [
        ({}, 104.0, 0),
        ({"other_cores": 1.01}, 104.0, 1),
        ({"stolen_cores": 0.2}, 104.0, 1),
        ({}, 94.0, 1),  # a drift is one in fp32, whatever the run's precision
        ({"other_cores": 1.01, "stolen_cores": 0.2}, 106.0, 3),
    ],
)
def test_a_time_is_not_to_be_trusted_from_five_percent_on(neighbours, after, found):
    rates = {**RATES, "after": {**RATES["after"], "fp32_gflops": after}}
    summary = {"neighbours": {**QUIET, **neighbours}, "calibration": rates, "machine": {"precision": "bf16-mixed"}}
    assert len(disturbances(summary)) == found
