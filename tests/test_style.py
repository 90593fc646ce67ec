import subprocess
import sys

import pytest
from conftest import PROJECT


@pytest.mark.parametrize("check", [["check"], ["format", "--check"]])
def test_ruff_has_nothing_to_say(check):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *check, "."], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
