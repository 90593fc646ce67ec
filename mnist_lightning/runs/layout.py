"""Where the files of a run are."""

SUMMARY = "summary.json"  # written last and whole: that it is there is what finished means


def run_name(setup: str, batch_size: int, seed: int) -> str:
    """The folder of equal runs, under the folder of logs; its versions are their folders."""
    return f"{setup}/batch_size={batch_size:04d}/seed={seed}"
