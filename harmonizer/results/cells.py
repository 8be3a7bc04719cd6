"""Text in cells of CSV files: names come from shards, tables and results folders, and no spreadsheet may run them."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula
MARK = "'"  # makes a cell text; spreadsheets do not show it


def text_cell(text: str) -> str:
    """Return text that no spreadsheet takes for a formula; :func:`cell_text` undoes it.

    Reference:
        OWASP, "CSV Injection".

    >>> text_cell("=HYPERLINK(1)"), text_cell("resnet50"), text_cell("'=1")
    ("'=HYPERLINK(1)", 'resnet50', "''=1")
    """
    return MARK + text if text.lstrip(MARK).startswith(FORMULA) else text


def cell_text(cell: str) -> str:
    """Return the text that :func:`text_cell` made a cell of.

    >>> cell_text("'=HYPERLINK(1)"), cell_text("'quoted'")
    ('=HYPERLINK(1)', "'quoted'")
    """
    return cell[1:] if cell.startswith(MARK) and cell.lstrip(MARK).startswith(FORMULA) else cell
