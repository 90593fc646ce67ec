"""Another network and other images with the same callbacks."""

import json
import re
import runpy
import sys

import pytest
import torch
from conftest import PROJECT, QUICK
from test_fit import same_weights
from test_python import ONE, RUNS, make_trainer, small

from mnist_lightning import MNISTDataModule, commands
from mnist_lightning.data import Digits
from mnist_lightning.runs.program import PROGRAM

OWN = PROJECT / "docs" / "own_network.py"


@pytest.mark.slow
def test_another_network_has_its_clock_its_record_its_study_and_its_report(command, tmp_path, monkeypatch, capsys):
    assert len(OWN.read_text().splitlines()) < 40

    perceptron = runpy.run_path(str(OWN))["Perceptron"]
    program = list(PROGRAM)

    def run(*args: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(OWN), *args])
        try:
            assert commands.main(model=perceptron) == 0
        finally:
            PROGRAM[:] = program
        return capsys.readouterr().out

    fit = json.dumps({"data.source": "sample", "trainer.max_epochs": 1})
    study = [
        "study",
        "--name=own",
        f"--setups=[{PROJECT}/configs/1xcpu.yaml]",
        "--batch_sizes=[480]",
        f"--fit={fit}",
        "--retry=0",
    ]
    assert "[1/1] 1xcpu, batch size 480, seed 0: " in run(*study)
    assert "finished before" in run(*study)
    (last,) = tmp_path.glob("logs/own/1xcpu/batch_size=0480/seed=0/version_0/checkpoints/last.ckpt")
    state = torch.load(last, weights_only=True)
    assert {name: tuple(each.shape) for name, each in state["state_dict"].items()} == {
        "dense1.weight": (64, 784),
        "dense1.bias": (64,),
        "dense2.weight": (10, 64),
        "dense2.bias": (10,),
    }
    summary = json.loads((last.parent.parent / "summary.json").read_text())
    assert (summary["network"], summary["parameters"]) == ("Perceptron", 64 * 785 + 10 * 65)
    assert summary["command"].startswith(f"python {OWN} fit --config ")
    # A run of the paper's network beside it is another column.
    assert command("fit", *QUICK, *ONE) == 0
    assert "of 2 runs" in run("report")
    header = (tmp_path / "report" / "report.md").read_text().split("| batch size |")[1].splitlines()[0]
    header = re.sub(r", machine \d", "", header)  # other programs may have slowed one of the two calibrations
    assert "1xcpu, MNISTClassifier" in header and "1xcpu, Perceptron" in header


class Negatives(MNISTDataModule):
    """The sample with dark digits on light ground."""

    def load(self) -> tuple[Digits, Digits]:
        train, test = super().load()
        return Digits(255 - train.images, train.labels), Digits(255 - test.images, test.labels)


def test_other_images_with_the_same_batches(command):
    make_trainer().fit(*small())
    network, _ = small()
    make_trainer().fit(network, Negatives(source="sample", batch_size=480))
    light, dark = (json.loads((RUNS / f"version_{n}" / "summary.json").read_text()) for n in (0, 1))
    assert light["data_fingerprint"] != dark["data_fingerprint"]
    assert not same_weights(RUNS / "version_0", RUNS / "version_1")
    # Its state is under its own name, and a run of the other images is refused.
    trainer = make_trainer(max_epochs=2)
    trainer.ckpt_path = RUNS / "version_1" / "checkpoints" / "last.ckpt"
    trainer.fit(small()[0], Negatives(source="sample", batch_size=480))
    assert json.loads((RUNS / "version_1" / "summary.json").read_text())["epochs"] == 2
