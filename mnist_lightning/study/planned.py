"""The configs that commands would run with, by the parser that `fit` has: reads a JSON list of argument lists from
standard input and writes the list of their configs."""

import json
import sys
from typing import Any

import yaml

from mnist_lightning.cli import MNISTCLI
from mnist_lightning.views.console import silence_noise


class _ParsesAlone(MNISTCLI):
    """Makes no model, no data and no Trainer."""

    def before_instantiate_classes(self) -> None:
        pass

    def instantiate_classes(self) -> None:
        pass

    def _run_subcommand(self, subcommand: str) -> None:
        pass


def planned(commands: list[list[str]]) -> list[dict[str, Any]]:
    """The whole config of each command, as a run would save it."""
    sys.argv = ["mnist-lightning", *commands[0]]
    parser = _ParsesAlone().parser
    configs = []
    for command in commands:
        config = parser.parse_args(command)[command[0]]
        configs.append(yaml.safe_load(parser._subcommands_action._name_parser_map["fit"].dump(config)))
    return configs


if __name__ == "__main__":
    silence_noise()
    json.dump(planned(json.load(sys.stdin)), sys.stdout)
