"""One self-contained HTML page: text, tables and pictures in one file, legible on a phone and in the dark."""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.export.files import write_whole

INK = "#010203"  # stands for the page's own text colour in pictures
STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --paper: #fff; --faint: #6a737d; --line: #d8dee4; --bad: #b42318; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ea; --paper: #14171a; --faint: #9aa4ae; --line: #333a41; --bad: #ff8a7a; }
}
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p, li { max-width: 45rem; } .faint { color: var(--faint); } .bad { color: var(--bad); font-weight: 600; }
figure { margin: 1rem 0; } figcaption { color: var(--faint); font-size: .9rem; }
svg, img { max-width: 100%; height: auto; color: var(--ink); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
"""


class Page:
    """Sections in order. Texts are escaped; what is added as a picture is not."""

    def __init__(self, title: str, below: str = ""):
        self.title = title
        self.parts = [f"<h1>{html.escape(title)}</h1>", f'<p class="faint">{html.escape(below)}</p>' if below else ""]

    def heading(self, text: str) -> None:
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, kind: str = "") -> None:
        """kind: "", "faint" or "bad"."""
        self.parts.append(f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        head = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        self.parts.append(f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>')

    def pairs(self, values: Mapping[str, Any]) -> None:
        self.table(("", ""), values.items())

    def figure(self, picture: str, caption: str) -> None:
        """picture: of svg(), or of image()."""
        self.parts.append(f"<figure>{picture}<figcaption>{html.escape(caption)}</figcaption></figure>")

    def __str__(self) -> str:
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        title = f"<title>{html.escape(self.title)}</title>"
        return f'<!doctype html><html lang="en"><head>{head}{title}<style>{STYLE}</style></head><body>' + (
            "\n".join(filter(None, self.parts)) + "</body></html>\n"
        )

    def write(self, path: Path) -> Path:
        write_whole(path, str(self).encode())
        return path


def svg(figure: Any) -> str:
    """A matplotlib Figure as inline SVG whose ink is the page's text colour."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace(INK, "currentColor")


def image(content: bytes, kind: str, words: str) -> str:
    """A picture or an animation. kind: png, webp. words: for who does not see it."""
    return f'<img src="data:image/{kind};base64,{base64.b64encode(content).decode()}" alt="{html.escape(words)}">'
