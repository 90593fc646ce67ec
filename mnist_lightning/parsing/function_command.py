"""Makes a command from a typed function: its arguments are given on the command line or in a YAML file."""

import sys
from collections.abc import Callable

from jsonargparse import ArgumentParser

from mnist_lightning.parsing.command_line import parse
from mnist_lightning.runs.program import command


def run(function: Callable[..., int]) -> int:
    """Calls the function with the arguments of this process's command line, after the command's name.

    Returns:
        What the function returns.

    Raises:
        SettingError: If an argument is wrong.
    """
    parser = ArgumentParser(prog=command(function.__name__), exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with these arguments.")
    parser.add_function_arguments(function)
    # jsonargparse wants a value for a bool; here a bool is a flag.
    flags = {f"--{name}" for name, kind in function.__annotations__.items() if kind is bool}
    given = [f"{argument}=true" if argument in flags else argument for argument in sys.argv[2:]]
    arguments = parse(parser, given)
    arguments.pop("config")
    return function(**parser.instantiate(arguments).as_dict())
