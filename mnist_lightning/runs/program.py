"""How the running program is started, so that messages and a study can start it again."""

import shlex
import sys

# `commands.main` changes it for a script that gives a model or a data module of its own.
PROGRAM = ["python", "-m", "mnist_lightning"]


def command(*arguments: object) -> str:
    """A command of this program as a user types it."""
    return shlex.join([*PROGRAM, *map(str, arguments)])


def command_line() -> str:
    """What the user typed to start the fit: a command of this program, or a Python script of their own."""
    return command(*sys.argv[1:]) if sys.argv[1:2] == ["fit"] else shlex.join(["python", *sys.argv])
