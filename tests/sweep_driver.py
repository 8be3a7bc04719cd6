"""Import everything once, then run evaluate.py in forked children that are killed when a test requests it.

Usage: python sweep_driver.py PLAN, a JSON list of steps. A step {"argv": [...], "log": FILE} runs evaluate.py to the
end. "kill": S kills it with SIGKILL after S times the duration of the first step, and "with_next": true starts the next
step at once. Prints a JSON list with the exit status of each step, -9 if killed.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import callbacks.results
import callbacks.table  # noqa: F401 - what the configs name, imported before the forks
import harmonizer.evaluation.sweep  # noqa: F401 - the same
from evaluate import command_line, main


def start(step):
    """Fork a child that runs evaluate.py; return its process id."""
    child = os.fork()
    if child:
        return child
    log = os.open(step["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    sys.argv = ["evaluate.py", *step["argv"]]
    status = 0
    try:
        command_line(main)
    except SystemExit as left:
        status = left.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 70
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(status)


def finish(child, since, kill):
    """Wait for a child, and kill it when its time is up; return its exit status."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if kill is not None and time.monotonic() - since > kill:
            os.kill(child, signal.SIGKILL)
            kill = None
        time.sleep(0.005)


if __name__ == "__main__":
    running, outcomes, usual = [], [], None
    for step in json.loads(Path(sys.argv[1]).read_text()):
        began = time.monotonic()
        running.append((start(step), began, step["kill"] * usual if "kill" in step else None))
        if not step.get("with_next"):
            outcomes += [finish(*one) for one in running]
            usual, running = usual or time.monotonic() - began, []
    sys.stdout.write(json.dumps(outcomes))
