"""Completion of all commands and their settings in a shell, as a script that jsonargparse and shtab write."""

import sys
from importlib.util import find_spec
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import ArgsType

from mnist_lightning import cli
from mnist_lightning.commands import COMMANDS
from mnist_lightning.parsing import function_command
from mnist_lightning.report.command import report
from mnist_lightning.study.command import study

PROGRAM = "mnist-lightning"  # shells complete the names of programs, which `python -m …` is not
TOO_DEEP = ("trainer.strategy",)  # all settings of all its classes, and theirs, are 70 MB


class AllCommands(cli.Parser):
    """The Trainer's commands with the two that are functions."""

    def add_subcommands(self, *args: Any, **kwargs: Any) -> Any:
        commands = super().add_subcommands(*args, **kwargs)
        for function in (study, report):
            command = function_command.make_parser(function)
            command.description = COMMANDS[function.__name__].help
            commands.add_subcommand(function.__name__, command)
        return commands


class Completion(cli.MNISTCLI):
    """Prints the script in the place of parsing a command line."""

    parser_class = AllCommands

    def parse_arguments(self, parser: ArgumentParser, args: ArgsType) -> None:
        import shtab

        parser.prog = PROGRAM
        for name, command in self._subcommand_parsers.items():
            command.description = COMMANDS[name].help  # shtab needs one for zsh
            for action in command._actions:
                if action.dest in TOO_DEEP:
                    action.complete = shtab.FILE
        print(parser.get_completion_script(f"shtab-{sys.argv[2]}"))
        sys.exit()


def main() -> int:
    """Prints the completion script for the shell that the second argument names."""
    if find_spec("shtab") is None:
        print("error: --print_completion needs the package shtab: run pip install shtab.", file=sys.stderr)
        return 2
    Completion()
    return 0
