"""Commands that are a typed function: its arguments are the command's, on the command line or in a YAML file."""

import os
import signal
import sys
from collections.abc import Callable

from jsonargparse import ArgumentParser

from mnist_lightning.errors import SettingError
from mnist_lightning.parsing.config_file import refuse_bad_configs


class Parser(ArgumentParser):
    """Says what is wrong in one sentence, without the page of options before it."""

    def error(self, message: str, ex: Exception | None = None) -> None:
        raise SettingError(message) from ex


def make_parser(function: Callable[..., int]) -> Parser:
    """The parser of the function's arguments."""
    parser = Parser(prog=f"python -m mnist_lightning {function.__name__}", allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with these arguments.")
    parser.add_function_arguments(function)
    return parser


def run(function: Callable[..., int]) -> int:
    """Calls the function with the arguments of this process's command line, after the command's name.

    Returns:
        What the function returns; 2 after one sentence on standard error if an argument is wrong.
    """
    parser = make_parser(function)
    # jsonargparse wants a value for what has two; here it is a flag.
    flags = {f"--{name}" for name, kind in function.__annotations__.items() if kind is bool}
    given = [f"{argument}=true" if argument in flags else argument for argument in sys.argv[2:]]
    try:
        refuse_bad_configs(given)
        arguments = parser.parse_args(given)
        arguments.pop("config")
        code = function(**parser.instantiate(arguments).as_dict())
        sys.stdout.flush()
        return code
    except SettingError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
