"""The ``harmonizer`` command: ``harmonizer train``, ``harmonizer evaluate``, ``harmonizer report`` and others.

``train`` and ``evaluate`` run train.py and evaluate.py. A wheel has them, with callbacks/ and configs/, in
``harmonizer/_programs``; a checkout has them at its root, so ``python train.py`` and ``harmonizer train`` are the same
program.
"""

import difflib
import os
import runpy
import sys
from collections.abc import Sequence

from harmonizer import __version__
from harmonizer.cli.programs import FOLDER, TYPED

PROGRAMS = {
    "train": "train a model, or continue an interrupted run",
    "evaluate": "measure accuracy, perturbation tolerance and alignment",
}
MODULES = {
    "report": ("harmonizer.report", "make tables, figures and a web page from results"),
    "convert": ("harmonizer.data.convert", "convert published data to shards"),
    "ceilings": ("harmonizer.data.ceilings", "measure how far people agree, as ClickMe v2 does"),
    "inspect": ("harmonizer.data.inspect", "check shards and draw a contact sheet"),
    "adopt": ("harmonizer.data.adopt", "use shards that another tool wrote"),
    "convert-weights": ("harmonizer.models.convert_weights", "convert Keras weights to a folder for timm"),
    "behaviour": ("harmonizer.evaluation.behaviour", "compare answers with people's: error consistency, shape bias"),
    "export": ("harmonizer.export", "write a model as a folder that is a name"),
}
USAGE = "\n".join(
    [
        "usage: harmonizer COMMAND ...; harmonizer COMMAND --help lists its options",
        "",
        *(f"  {name:<17}{text}" for name, text in PROGRAMS.items()),
        *(f"  {name:<17}{text}" for name, (_, text) in MODULES.items()),
        "",
        "  --completion     print the bash completion of these commands and their settings",
        "  --version",
    ]
)
COMPLETION = r"""
_harmonizer() {
    local line=${COMP_LINE#* } word=${COMP_LINE##* } words="COMMANDS"
    case "$line" in
        train\ * | evaluate\ *)
            words=$(COMP_LINE=$line COMP_POINT=${#line} harmonizer "${line%% *}" -sc query=bash) ;;
        *\ *) words= ;;
    esac
    COMPREPLY=($(compgen -o nospace -W "$words" -- "$word"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _harmonizer harmonizer
""".replace("COMMANDS", " ".join([*PROGRAMS, *MODULES]))  # the programs' settings come from Hydra


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command named by the first argument; return the exit status.

    Args:
        arguments: The command and its arguments; None means those of the process.
    """
    command, *words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in PROGRAMS:
        program = FOLDER / f"{command}.py"
        os.environ |= {TYPED.format(name.upper()): f"harmonizer {name}" for name in PROGRAMS}
        sys.argv = [str(program), *words]  # DDP starts its other processes with these
        sys.path.insert(0, str(program.parent))
        runpy.run_path(str(program), run_name="__main__")
    elif command in MODULES:
        sys.argv = [command, *words]
        runpy.run_module(MODULES[command][0], run_name="__main__", alter_sys=True)
    elif command in ("--help", "-h", "help"):
        sys.stdout.write(f"{USAGE}\n")
    elif command == "--completion":
        sys.stdout.write(COMPLETION)
    elif command == "--version":
        sys.stdout.write(f"harmonizer {__version__}\n")
    else:
        near = difflib.get_close_matches(command, [*PROGRAMS, *MODULES], n=1)
        hint = f"did you mean {near[0]}?" if near else f"try {', '.join([*PROGRAMS, *MODULES])}"
        sys.stderr.write(f"harmonizer: error: expected a command, got {command}; {hint}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
