"""Makes a command from a typed function: its arguments are given on the command line or in a YAML file."""

import os
import signal
import sys
from collections.abc import Callable

from jsonargparse import ArgumentError, ArgumentParser

from mnist_lightning.errors import SettingError, tell
from mnist_lightning.parsing.config_file import refuse_bad_configs
from mnist_lightning.runs.program import command


def run(function: Callable[..., int]) -> int:
    """Calls the function with the arguments of this process's command line, after the command's name.

    Returns:
        What the function returns; 2 after one sentence on standard error if an argument is wrong.
    """
    parser = ArgumentParser(prog=command(function.__name__), exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with these arguments.")
    parser.add_function_arguments(function)
    # jsonargparse wants a value for a bool; here a bool is a flag.
    flags = {f"--{name}" for name, kind in function.__annotations__.items() if kind is bool}
    given = [f"{argument}=true" if argument in flags else argument for argument in sys.argv[2:]]
    try:
        refuse_bad_configs(given)
        arguments = parser.parse_args(given)
        arguments.pop("config")
        code = function(**parser.instantiate(arguments).as_dict())
        sys.stdout.flush()
        return code
    except (SettingError, ArgumentError) as error:
        return tell(error)
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
