"""Translation of the command line to Hydra overrides, in which paths and names are text."""

import difflib
import re
from collections.abc import Sequence

from harmonizer.cli.suggest import PROGRAMS, groups

SWITCHES = frozenset({"harmonize", "overwrite", "pair", "pretrained", "probe", "trust"})  # take no value, or a bool
WORDS = dict.fromkeys(("true", "yes", "on", "1"), "true") | dict.fromkeys(("false", "no", "off", "0"), "false")
LIBRARIES = ("foolbox", "advlib")  # attack=LIBRARY:NAME
NOTHING = "${oc.decode:null}"  # null as an interpolation, which a second translation leaves unchanged

# Hydra's own options: each takes no value, any value (None), or one of the listed values if that follows.
HYDRA_OPTIONS: dict[str, tuple[str, ...] | None] = (
    dict.fromkeys(("--help", "-h", "--hydra-help", "--resolve", "--run", "-r", "--multirun", "-m"), ())
    | dict.fromkeys(("--shell-completion", "-sc"), ())
    | dict.fromkeys(("--cfg", "-c"), ("job", "hydra", "all"))
    | dict.fromkeys(("--info", "-i"), ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"))
    | dict.fromkeys(("--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"), None)
    | {"--experimental-rerun": None}
)

_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@-]*=")
_TEXT = re.compile(
    r"[+]{0,2}(ckpt|weights|model|prompts|folder|results|label|out|attack\.name|sweep\.file|data(\.sources\.\w+)?\.(folder|cache))"
)
_OPEN = re.compile(r"(attack\.settings|model_args)\.\w+")  # settings that the attack or timm defines
_QUOTED = re.compile(r"""(['"])(\\.|(?!\1)[^\\])*\1""", re.DOTALL)
_STRUCTURED = re.compile(r"""^(['"\[{]|[a-z_]+\()|\$\{""")  # quoted, list, dictionary, sweep function, interpolation
_PLAIN = re.compile(r"[\w./\\:+@?|*$% -]*", re.ASCII)  # values that Hydra's grammar accepts without quotes


def translate(arguments: Sequence[str]) -> list[str]:
    """Translate a command line to Hydra's options, which come first, and overrides.

    ``--key value`` and ``--key=value`` mean ``key=value``; a bare ``--switch`` means ``switch=true``. Hydra's own
    options and overrides pass through. Paths and names become text; an empty one becomes null. Other values that
    Hydra's grammar would reject are quoted, among them those with a comma, unless ``--multirun`` asks for several
    values. The translation is idempotent.

    Args:
        arguments: Command line without the program's name.

    Raises:
        ValueError: A ``--key`` that is not a switch has no value, or a switch has a value other than true or false.

    >>> translate(["--model", "resnet50", "--harmonize", "seed=1", "--ckpt=runs/epoch=3.ckpt", "--cfg"])
    ['--cfg', 'job', 'model=resnet50', 'harmonize=true', 'seed=1', "ckpt='runs/epoch=3.ckpt'"]
    """
    options: list[str] = []
    overrides: list[str] = []
    waiting = list(arguments)
    several = any(word in ("--multirun", "-m") for word in waiting)
    while waiting:
        word = waiting.pop(0)
        if word.split("=")[0] in HYDRA_OPTIONS:
            options += [word, *_option_value(word, waiting)]
        elif word.startswith("--") and word != "--":
            key, equals, value = word[2:].partition("=")
            key = key.replace("-", "_")
            overrides += _override(key, value if equals else _value(key, waiting), several)
        elif _OVERRIDE.match(word):
            key, _, value = word.partition("=")
            overrides += _override(key, value, several)
        else:
            overrides.append(word)
    return options + overrides


def _option_value(option: str, waiting: list[str]) -> list[str]:
    """Take the value of one of Hydra's options from the words that follow it."""
    choices = HYDRA_OPTIONS[option.split("=")[0]]
    if "=" in option or choices == ():
        return []
    if choices is None or (waiting and waiting[0] in choices):
        return [waiting.pop(0)] if waiting else []
    return [choices[0]]


def _value(key: str, waiting: list[str]) -> str:
    """Take the value of ``--key`` from the words that follow it."""
    following = waiting[0] if waiting else None
    if key in SWITCHES:
        return waiting.pop(0) if following is not None and following.lower() in WORDS else "true"
    if following is None or following.startswith("--"):
        meant = difflib.get_close_matches(key, SWITCHES, n=1)
        hint = f"did you mean --{meant[0]}?" if meant else f"try --{key} VALUE or {key}=VALUE"
        raise ValueError(f"expected a value after --{key}; {hint}")
    return waiting.pop(0)


def _override(key: str, value: str, several: bool) -> list[str]:
    """Return the overrides of a setting."""
    library = value.partition(":")[0]
    if key == "attack" and library in LIBRARIES and ":" in value:
        return ["attack=library", f"attack.name={_quoted('attack.name', value, several)}"]
    if key == "sweep" and unquoted(value).endswith((".yaml", ".yml")):  # a user's file, not a committed sweep
        key = "sweep.file"
    elif _OPEN.fullmatch(key):
        key = f"++{key}"
    return [f"{key}={_quoted(key, value, several)}"]


def unquoted(value: str) -> str:
    """Return a value of :func:`translate` without its quotes."""
    if len(value) < 2 or value[0] != "'" or value[-1] != "'":
        return value
    return re.sub(r"(\\+)(\'|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1])


def _quoted(key: str, value: str, several: bool) -> str:
    """Quote a value that Hydra's grammar would reject; a switch becomes true or false."""
    if several and "," in value:
        return value
    if key in SWITCHES:
        if value.lower() not in WORDS:
            raise ValueError(f"expected {key} to be true or false, got {value}")
        return WORDS[value.lower()]
    text = _TEXT.fullmatch(key)
    if text and not value:
        return NOTHING
    word = text or any(key.lstrip("+") in groups(program) for program in PROGRAMS)
    kept = _QUOTED.fullmatch(value) or "${" in value if text else _STRUCTURED.search(value)
    if kept or (_PLAIN.fullmatch(value) and value == value.strip() and not (word and _is_a_value(value))):
        return value
    # The grammar unescapes backslashes only before a quote.
    escaped = re.sub(r"(\\*)(\'|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def _is_a_value(word: str) -> bool:
    """Return whether Hydra parses a word as a number, a bool or null instead of text."""
    try:
        float(word)
    except ValueError:
        return word.lower() in ("null", "true", "false")
    return True
