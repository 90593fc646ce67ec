"""What a library says of a wrong setting, as one sentence that names the setting."""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST = 200  # characters of a library's own words, or of a value
KEY = re.compile(r'Parser key "([^"]+)":|argument (?:-\w/)?--([\w.]+)')
IN_A_CLASS = re.compile(
    r"Problem with given class_path '(?:[\w.]*\.)?(\w+)':\s*(.+?)(?=\n\s*(?:- |Given value)|\Z)", re.DOTALL
)
# Of a value that may be of several kinds, what was wrong with it as a class; that it is of no other kind says nothing.
UNION = re.compile(r"Union subtypes\n.*?\n\s*- (?!Expected a|Not a valid subclass)(.+?)(?=\n|\Z)", re.DOTALL)
EXPECTED = re.compile(
    r"Expected an? (?:<class '(?:[\w.]*\.)?|typing\.|(?=dot|tuple))(Literal\[.*?\]|dot import path|tuple with \d+ elements|\w+)"
)
UNKNOWN = re.compile(r"unrecognized arguments: (.*)|does not accept option '([^']*)'", re.DOTALL)
VALUE = re.compile(r"(?:Got|Given) value: (.*)")
NESTED = re.compile(r"NestedArg\(key='(\w+)', val=(.*)\)")  # a setting of a class, where no class is
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "list": "a list",
    "tuple": "a list",
    "Iterable": "a list",
    "NoneType": "null",
    "dot import path": "the name of a class",
}
OWN_NETWORK = "give a class of your own to commands.main, as docs/own_network.py does"
REMEDIES = {
    "model": f"name one of its settings, such as --model.hidden; for another network {OWN_NETWORK}",
    "data": f"name one of its settings, such as --data.batch_size; for other images {OWN_NETWORK}",
    "trainer": "name one of its settings, such as --trainer.max_epochs",
    "optimizer": f"it is Adadelta with model.learning_rate, model.rho and model.eps; for another one {OWN_NETWORK}",
    "lr_scheduler": f"the learning rate is constant; for another one {OWN_NETWORK}",
}


def of_the_parser(error: Exception, names: Iterable[str]) -> str:
    """The error of a command line or a config that cannot be parsed.

    Args:
        error: Of the parser, or of a library that it asked.
        names: Of all settings.
    """
    text = NESTED.sub(r"{\1: \2}", str(error))
    key = KEY.search(text)
    name = key[1] or key[2] if key else "a setting"
    if unknown := UNKNOWN.search(text):
        return _unknown(unknown[1] or f"--{unknown[2]}", names)
    if name in REMEDIES:
        return f"{name} cannot be set as a whole: {REMEDIES[name]}."
    if problem := IN_A_CLASS.search(text):
        return f"{name} cannot be {problem[1]} ({_first_sentence(problem[2])}): give another value."
    kinds, value = EXPECTED.findall(text), VALUE.search(text)
    if "Not a valid subclass" in text:
        kinds.insert(0, "dot import path")
    if kinds and value:
        accepted = dict.fromkeys(
            KINDS.get(kind, kind.replace("Literal[", "one of ").replace("tuple", "a list").removesuffix("]"))
            for kind in kinds
        )
        return f"{name} is {short(value[1])}: give {' or '.join(accepted)}."
    if "expected one argument" in text:
        return f"{name} has no value: give one."
    words = short(text.removeprefix(key[0]).lstrip(" :") if key else text) or type(error).__name__
    return f"{words}." if key is None or name in words else f"{name} cannot be used ({words}): give another value."


def of_a_library(error: Exception, given: Mapping[str, Any]) -> str:
    """The error of a library that was given settings which parse and do not work.

    Args:
        error: Of the library.
        given: The settings that the user gave.
    """
    problem = IN_A_CLASS.search(str(error))
    of_a_class = UNION.search(str(error))
    text = problem[2] if problem else of_a_class[1] if of_a_class else str(error)
    reason = _first_sentence(text) or type(error).__name__
    blamed = {name: value for name, value in given.items() if problem and problem[1] in str(value)} or given
    settings = ", ".join(f"{name} {short(_classes(value))}" for name, value in blamed.items())
    return f"{settings or 'the environment'} cannot be used ({reason}): give another value."


def short(text: object) -> str:
    """A text on one line, without its last full stop, of a length that one reads."""
    words = " ".join(str(text).split()).removesuffix(".")
    return words if len(words) <= LONGEST else f"{words[: LONGEST - 1]}…"


def _unknown(arguments: str, names: Iterable[str]) -> str:
    option = next(iter(arguments.split()), "").partition("=")[0]
    name = option.lstrip("-")
    if name in REMEDIES:
        return f"{option} is no setting: {REMEDIES[name]}."
    of, _, part = name.partition(".")
    if of in REMEDIES and part.startswith(("class_path", "init_args")):
        return f"{option} is no setting, since the class of {of} cannot be chosen: {REMEDIES[of]}."
    names = list(names)
    near = [each for each in names if each.partition(".")[2] == name] or difflib.get_close_matches(name, names, 1)
    remedy = f"did you mean --{near[0]}?" if near and option.startswith("-") else "see --help for the settings."
    return f"unrecognized arguments: {short(arguments) or repr(arguments)}: {remedy}"


def _first_sentence(text: str) -> str:
    """What is wrong; the sentences after it are advice for other programs."""
    return short(re.split(r"\.\s", text, maxsplit=1)[0])


def _kind(kind: str) -> str:
    return KINDS.get(kind) or kind.replace("Literal[", "one of ").replace("tuple", "a list").removesuffix("]")


def _classes(value: Any) -> Any:
    """A value, with classes by their names alone."""
    if isinstance(value, list):
        return ", ".join(str(_classes(each)) for each in value)
    return value["class_path"].rpartition(".")[2] if isinstance(value, dict) and "class_path" in value else value
