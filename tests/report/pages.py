"""Pages for the tests, and a parser of what they hold."""

from html.parser import HTMLParser

import torch

from restore_cli.report.page import Cell, Chart, Page, Point, Table
from restore_cli.report.views import view_of


def small_page(**changes):
    """A page with everything in it: 3 images in the table, one of them before and after."""
    before, after = torch.zeros(3, 60, 90), torch.ones(3, 60, 90)
    values = [("b.png", 2.0), ("a.png", 10.0), ("c.png", None)]
    parts = {
        "title": "restore bench quality",
        "facts": {"command": "restore bench quality --html page.html"},
        "summary": [
            Table(
                "set5",
                ("weights", "PSNR"),
                [
                    [Cell("espcn.x2"), Cell("36.61", 36.61, best=True)],
                    [Cell("bicubic"), Cell("33")],
                ],
            )
        ],
        "charts": [
            Chart(
                "set5",
                "CPU seconds per megapixel",
                "PSNR (dB)",
                (Point("espcn.x2", 0.2, 36.6, "network"), Point("other", 20.0, 37.0, "other")),
                ("bicubic", 33.6),
            )
        ],
        "images": Table(
            "Images",
            ("image", "PSNR"),
            [
                [Cell(name), Cell("" if value is None else f"{value}", value)]
                for name, value in values
            ],
        ),
        "views": [view_of("b.png", "worst", ("before", before), ("after", after), after)],
    }
    return Page(**parts | changes)


class Elements(HTMLParser):
    """All elements of a page as (name, attributes), and the text in each <b>."""

    def __init__(self, html: bytes):
        super().__init__()
        self.found, self.bold, self._inside = [], [], ""
        self.feed(html.decode())

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self._inside = tag

    def handle_data(self, data):
        if self._inside == "b":
            self.bold.append(data)
        self._inside = ""

    def all(self, name):
        return [attributes for tag, attributes in self.found if tag == name]
