"""Which texts can be names of samples."""

from unicodedata import category


def is_name(text: str) -> bool:
    r"""Return whether a text can stand for an image: valid Unicode without control characters and line breaks.

    A line break would make a torn line look whole, and a control character is an instruction to a terminal.

    >>> is_name("a b\u202fc"), is_name("a\nb"), is_name("a\udcff")
    (True, False, False)
    """
    return text.isprintable() or not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text)
