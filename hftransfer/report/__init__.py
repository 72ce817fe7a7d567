"""What a run leaves to read: a page, a model card, and the lines printed at its end.

`page` draws with matplotlib and is imported when a page is rendered; the rest is light.
"""

from pathlib import Path

from hftransfer.report.card import card
from hftransfer.report.machine import environment
from hftransfer.report.terminal import summary, summary_table

__all__ = ["card", "environment", "render", "summary", "summary_table"]


def render(run_folder: Path) -> Path:
    """Writes `report.html` of a run folder, whole or not at all, and returns its path.

    The page stands alone: no network, no script, no file beside it. Raises HFTransferError when the folder is
    missing or a record in it does not parse.
    """
    from hftransfer.report.page import render_page

    return render_page(run_folder)
