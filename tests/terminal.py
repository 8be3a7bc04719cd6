"""A minimal terminal: run a program in a pseudo-terminal, and record what a user would see."""

import fcntl
import os
import pty
import re
import struct
import termios
from threading import Thread

import programs

HEIGHT = 60
UNFINISHED = re.compile(rb"\x1b(\[[?\d;]*|\][^\x07]*)?$")  # a control sequence that the next read completes
TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|\x1b\][^\x07]*\x07|(\r)|(\n)|([^\x1b\r\n])")


class Screen:
    """Lines of text and a cursor, with rich's control sequences and wrapping at the last column."""

    def __init__(self, width):
        self.width, self.row, self.column = width, 0, 0
        self.lines = [""]

    def feed(self, text):
        for parameters, command, back, down, letter in TOKEN.findall(text):
            if command == "A":
                self.row = max(self.row - int(parameters or 1), 0)
            elif command == "K":
                self.lines[self.row] = ""
            elif back:
                self.column = 0
            elif down:
                self._next_line()
            elif letter:
                if self.column == self.width:
                    self._next_line()
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + letter + line[self.column + 1 :]
                self.column += 1

    def _next_line(self):
        self.row, self.column = self.row + 1, 0
        self.lines += [""] * (self.row + 1 - len(self.lines))


def run_in_terminal(words, width, place):
    """Run ``python WORDS`` in a terminal of a given width; return its status, the last screen, and all before it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color"}
    name, statuses = os.ttyname(theirs), []

    def run():
        try:
            statuses.append(programs.run_into(name, name, words, place, environment))
        finally:
            os.close(theirs)  # ends the loop below

    program = Thread(target=run)
    program.start()
    screen, screens, rest = Screen(width), [], b""
    try:
        while True:
            try:
                rest += os.read(ours, 65536)
            except OSError:  # on Linux: the other end is closed
                break
            cut = UNFINISHED.search(rest)
            whole = cut.start() if cut else len(rest)
            try:
                screen.feed(rest[:whole].decode())
            except UnicodeDecodeError:  # a character that was split between two reads
                continue
            rest = rest[whole:]
            screens.append([line.rstrip() for line in screen.lines])
    finally:
        os.close(ours)
        program.join()
    screen.feed(rest.decode())
    return statuses[0], [line.rstrip() for line in screen.lines], screens
