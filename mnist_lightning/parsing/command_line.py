"""Parses a command line with its configs, and names the settings that are to blame for an error."""

from collections.abc import Sequence
from contextlib import AbstractContextManager

from jsonargparse import ArgumentParser, Namespace

from mnist_lightning.errors import SettingError, caused_by
from mnist_lightning.parsing import words
from mnist_lightning.parsing.config_file import AS_WRITTEN, flat, options, refuse_bad_configs


def parse(parser: ArgumentParser, arguments: Sequence[str], settings: ArgumentParser | None = None) -> Namespace:
    """The settings of a command line.

    Args:
        parser: It knows them.
        arguments: The command line, without the program's name.
        settings: The parser of the command, if the command line starts with its name.

    Raises:
        SettingError: If one cannot be parsed, or is read as another number than it looks.
    """
    refuse_bad_configs(arguments)
    with caused_by(lambda error: words.of_the_parser(error, flat((settings or parser).get_defaults().as_dict()))):
        config = parser.parse_args(list(arguments))
        given = config[config.subcommand] if settings else config
        # Parsing takes null for a setting that is not given.
        (settings or parser).validate(given, skip_unset=False, skip_required=True)
    for option, value in options(arguments):
        if (
            not AS_WRITTEN.fullmatch(value)
            and isinstance(number := given.get(option), int)
            and value[:1] in "+-0123456789"
        ):
            raise SettingError(f"{option} is {value}, which is read as {number}: write that.")
    return config


def blamed_on(config: Namespace, parser: ArgumentParser, *groups: str) -> AbstractContextManager[None]:
    """Marks a block that makes objects from settings, which alone can be the cause of an error.

    Args:
        config: The settings.
        parser: It knows their defaults.
        groups: Their first names, such as `trainer`.

    Raises:
        SettingError: In the place of each error; it names the settings of these groups that are not the defaults.
    """

    def told(error: Exception) -> str:
        defaults = flat(parser.get_defaults().as_dict())
        # Of a class its name says enough.
        given = {
            name.removesuffix(".class_path"): value
            for name, value in flat(config.as_dict()).items()
            if name.startswith(groups) and not name.endswith(".seed") and value != defaults.get(name)
            if ".init_args" not in name
        }
        return words.of_a_library(error, given)

    return caused_by(told)
