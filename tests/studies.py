"""What the tests of `study` share: a stand-in for `fit`, and `study` in this process and outside of it."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import PROJECT, told

from mnist_lightning.study import command

CONFIGS = PROJECT / "configs"
SUMMARY = {  # of a run of one epoch
    "setup": "1xcpu",
    "batch_size": 32,
    "seed": 0,
    "machine": {"precision": "32-true", "cores": 2},
    "metrics": {"seconds/fit": 60.0, "seconds/warm_up": 0.0, "val/accuracy": 0.99, "val/loss": 0.03},
}
# A stand-in for Python that leaves what a `fit` of the same arguments leaves; batch size 13 fails.
FIT = """#!{python}
import json, os, pathlib, sys, time
if sys.argv[2] != "mnist_lightning":
    print(os.environ["GPUS"])  # how many a study finds
    sys.exit()
value = dict(zip(sys.argv[4::2], sys.argv[5::2]))
size, seed, setup = value["--data.batch_size"], value["--seed_everything"], pathlib.Path(value["--config"]).stem
with open("ran", "a") as ran:
    print(size, seed, setup, file=ran)
with open("studies", "a") as studies:
    print(os.environ["MNIST_LIGHTNING_STUDY"], os.getpid(), file=studies)
time.sleep(float(os.environ.get("SECONDS_OF_A_FIT", 0)))
if size == "13":
    sys.exit("error: data.batch_size 13 is unlucky.")
run = pathlib.Path(value["--trainer.logger.init_args.save_dir"], f"{{setup}}-b{{int(size):04d}}-s{{seed}}")
run.mkdir(parents=True, exist_ok=True)
run = run / f"version_{{len(list(run.glob('version_*')) + list(run.glob('disturbed_*')))}}"
run.mkdir()
(run / "config.yaml").write_text("trainer: {{max_epochs: 10}}")
changes = pathlib.Path("changes.json")
changes = json.loads(changes.read_text()) if changes.exists() else {{}}
(run / "summary.json").write_text(json.dumps({{**json.loads({summary!r}), **changes}}))
"""
# The command with the stand-in, on a machine that is never busy.
STUDY = """
import sys
sys.executable = sys.argv.pop(1)
from mnist_lightning import commands
from mnist_lightning.study import command
command.busy_cores = lambda: 0.0
sys.exit(commands.main())
"""


def write_fit(folder: Path) -> Path:
    """The stand-in, as a program."""
    script = folder / "python"
    script.write_text(FIT.format(python=sys.executable, summary=json.dumps(SUMMARY)))
    script.chmod(0o755)
    return script


def run(monkeypatch, *arguments: object) -> int:
    """The exit code of `study` in this process."""
    monkeypatch.setattr(sys, "argv", ["mnist-lightning", "study", *map(str, arguments)])
    return told(command.main)


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """A `study` of the stand-in outside of this process."""
    words = [sys.executable, "-c", STUDY, str(write_fit(folder)), "study", *map(str, arguments)]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
