"""Runs all that the report's tables are of, ours and Keras's in turn: by seed, and in a shuffled order within a seed.

python benchmarks/readings.py --logs logs/readings --hours 2.5     # goes on where it stopped
"""

import argparse
import json
import os
import random
import subprocess
import sys
from itertools import product
from pathlib import Path
from time import monotonic

from mnist_lightning import paper
from mnist_lightning.run_files import SUMMARY, run_name

HERE = Path(os.path.relpath(Path(__file__).parent))  # as a summary's command has it, which others type, too
COLUMNS = {
    "fp32": ("1xcpu", "32-true"),
    "bf16": ("1xcpu", "bf16-mixed"),
    "bf16-2": ("2xcpu", "bf16-mixed"),
    "keras": ("1xcpu", ""),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--columns", nargs="+", choices=list(COLUMNS), default=list(COLUMNS))
    parser.add_argument("--hours", type=float, default=24.0, help="No run is begun after so many.")
    parser.add_argument("--data_dir", type=Path, default=Path("data"))
    parser.add_argument("--keras_python", type=Path, default=HERE / ".keras" / "bin" / "python")
    options = parser.parse_args()
    begin = monotonic()
    for seed in options.seeds:
        cells = list(product(options.columns, paper.BATCH_SIZES))
        random.Random(seed).shuffle(cells)
        for name, size in cells:
            setup, precision = COLUMNS[name]
            cell = options.logs / name / run_name(setup, size, seed)
            if any(cell.glob(f"version_*/{SUMMARY}")):
                continue
            if monotonic() - begin > 3600 * options.hours:
                return 0
            print(f"{(monotonic() - begin) / 60:.0f} min: {cell}", flush=True)
            if name == "keras":
                command = [HERE / "keras_run.py", f"--batch_size={size}", f"--seed={seed}"]
                command += [f"--keras_python={options.keras_python}", f"--data_dir={options.data_dir}"]
                command += [f"--logs={options.logs / name}"]
            else:
                fit = {"trainer.precision": precision, "data.source": "mnist", "data.data_dir": str(options.data_dir)}
                command = ["-m", "mnist_lightning", "study", f"--name={name}", f"--setups=[configs/{setup}.yaml]"]
                command += [f"--batch_sizes=[{size}]", f"--seeds=[{seed}]", f"--fit={json.dumps(fit)}", "--retry=0"]
                command += [f"--logs={options.logs}"]
            subprocess.run([sys.executable, *command], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
