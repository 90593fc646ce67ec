"""Settings drawn at random: `FUZZ=300 pytest -m slow tests/test_fuzz.py` tries 300 command lines, by default 40."""

import os
import random
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch
from conftest import SMALL

WITHIN = 120  # seconds
TINY = [*SMALL, "--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]


def table(text: str) -> dict[str, str]:
    """The values of each setting. A line has names of settings and values that are wrong, or right, for all of them."""
    lines = [line.split(": ") for line in text.strip().splitlines()]
    return {name: values for names, values in lines for name in names.split()}


WRONG = table("""
model.kernel_size model.pool_size model.hidden: 0 -1 2.5 many [1] 1e30 99999999999
model.learning_rate model.eps model.rho: -1 nan inf many [] 1e300
model.channels model.dropout: 3 [1] [1,2,3] [0,-1] [-1,0] a
tf32 model.compile trainer.detect_anomaly trainer.barebones: maybe 2 [] null_
trainer.max_epochs trainer.accumulate_grad_batches: 0 -2 2.5 many
trainer.limit_train_batches trainer.limit_val_batches: -1 1.5 many [1]
trainer.check_val_every_n_epoch trainer.num_nodes trainer.devices: 0 -3 1.5 [] many
trainer.precision trainer.accelerator trainer.strategy: 8 magic {} tpu
trainer.logger: 8 magic tpu
trainer.callbacks trainer.plugins trainer.profiler: os.system Nothing {class_path:x} 7
trainer.callbacks+: BatchSizeFinder LearningRateFinder ModelCheckpoint os.path [3]
data.batch_size: 0 -1 2.5 many [1] 1e30
data.source: Sample 3 [] cifar
seed_everything: -1 4294967296 1.5 true x
ckpt_path: nowhere.ckpt . last /dev/null
config: nowhere.yaml . {a:1} 3 [] {model:{seeds:3}} {data:3,trainer:4}
trainer.max_time: never 3 00:00:00:00 {weeks:x}
trainer.max_steps: 0 3 many
trainer.gradient_clip_val: many [1]
checkpoint.save_top_k: -2 many
nonsense: 1
""")
RIGHT = table("""
model.kernel_size model.pool_size: 1 2 5 9 13
model.learning_rate model.eps: 1e-30 1e-3 1 1e30
tf32 trainer.detect_anomaly trainer.inference_mode: true false
trainer.benchmark trainer.enable_checkpointing trainer.enable_model_summary trainer.enable_progress_bar: true false
trainer.accumulate_grad_batches trainer.check_val_every_n_epoch: 1 2 3
trainer.limit_train_batches trainer.limit_val_batches: 0 1 2 0.3 0.01 1.0
model.dropout: [0,0] [0.9,0.99]
model.rho: 0 0.5 1
data.batch_size: 1 2 4000 4001
seed_everything: 1 4294967295
trainer.precision: 64-true bf16-mixed 16-mixed bf16-true 16-true 32-true 32 16
trainer.strategy: auto single_device
trainer.num_sanity_val_steps: -1 0 2
trainer.gradient_clip_val: 0 0.5 1e9
trainer.gradient_clip_algorithm: norm value
trainer.deterministic: true false warn
trainer.profiler: simple
trainer.fast_dev_run: true false 2
trainer.logger: CSVLogger TensorBoardLogger true false
trainer.log_every_n_steps trainer.reload_dataloaders_every_n_epochs: 0 1
trainer.max_time: 00:00:00:01 {days:1}
trainer.callbacks+: LearningRateMonitor WeightAveraging EMAWeightAveraging DeviceStatsMonitor ModelSummary Callback
checkpoint.save_top_k: -1 0 1 2
""")


class Hang(BaseException):
    """A command takes too long."""


def hang(*_):
    raise Hang


@pytest.mark.slow
@pytest.mark.parametrize("number", range(int(os.environ.get("FUZZ", "40"))))
def test_any_command_line_ends_in_time_and_a_wrong_one_in_a_sentence(command, capfd, number):
    dice = random.Random(number)
    drawn = [(name, RIGHT[name]) for name in dice.sample(sorted(RIGHT), dice.randrange(5))]
    wrong = dice.random() < 0.5
    drawn += [(name, WRONG[name]) for name in dice.sample(sorted(WRONG), wrong)]
    line = [f"--{name}={dice.choice(values.split())}" for name, values in drawn]
    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(WITHIN)
    try:
        code = command("fit", *TINY, *line)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        torch.use_deterministic_algorithms(False)
    said = capfd.readouterr().err
    shown = f"{shlex.join(line)}\n{said}"
    assert "Traceback" not in said and (code in (1, 2) if wrong else code in (0, 2)), shown
    if code:
        assert said.splitlines()[-1].startswith("error: ") and not list(Path().iterdir()), shown
    shutil.rmtree("logs", ignore_errors=True)
