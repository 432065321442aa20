"""Flame graphs: one SVG file, without anything from elsewhere.

A box is a function in the stacks that are the same down to it, as wide as what was sampled there; what it called is
above it. In a browser, a click enlarges a box to the whole width, and Ctrl-F searches; without scripts, all is shown.
Names come from the module: they are escaped, and never part of the script or the style.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from gothreads.profiles.samples import Line, Sample, ValueType, amount

_WIDTH, _ROW, _TOP, _LETTER = 1200.0, 17, 52, 6.6
#: Boxes that are narrower than this, in pixels, are left out; the most rows; the most boxes.
_NARROWEST, _MOST_ROWS, _MOST_BOXES = 0.3, 400, 20_000
_SCRIPT = (Path(__file__).parent / "flame.js").read_text()
_STYLE = """text { font: 11px ui-monospace, Menlo, Consolas, monospace; pointer-events: none; fill: #111 }
.title { font-size: 14px } .sub { fill: #555 } rect { cursor: pointer; stroke: #fff; stroke-width: .5 }
g.found rect { fill: #b18cff !important } g.past rect { opacity: .45 } input { font: 12px sans-serif; width: 200px }"""


@dataclass
class _Box:
    """A function in a stack. `own`: its callees, by their names."""

    line: Line
    value: int = 0
    own: dict[str, _Box] = field(default_factory=dict)


def _tree(samples: Sequence[Sample]) -> _Box:
    root = _Box(Line("all"))
    for sample in samples:
        value = sample.values[-1]
        if value <= 0:  # of a difference
            continue
        root.value += value
        box = root
        for line in reversed(sample.stack[-_MOST_ROWS:]):
            box = box.own.setdefault(line.function, _Box(line))
            box.value += value
    return root


def _placed(root: _Box) -> Iterator[tuple[_Box, float, float, int]]:
    """The boxes that are wide enough, with x, width and depth, from the bottom up."""
    waiting = [(root, 0.0, 0)]
    scale = _WIDTH / (root.value or 1)
    for _ in range(_MOST_BOXES):
        if not waiting:
            return
        box, x, depth = waiting.pop()
        yield box, x, box.value * scale, depth
        for callee in sorted(box.own.values(), key=lambda callee: callee.line.function):
            if callee.value * scale >= _NARROWEST:
                waiting.append((callee, x, depth + 1))
            x += callee.value * scale


def _colour(function: str) -> str:
    """Warm colours for the program, cold ones for Go's runtime; the same for all functions of a package."""
    package = function.rpartition("/")[2].partition(".")[0]
    number = zlib.crc32(package.encode(errors="replace"))
    hue = 200 + number % 30 if package in ("runtime", "gcWriteBarrier") or function.startswith("internal/runtime") \
        else 10 + number % 45
    return f"hsl({hue},{60 + number // 64 % 25}%,{66 + number // 4096 % 12}%)"


def svg(samples: Sequence[Sample], of: ValueType, title: str) -> str:
    """The flame graph of a profile's samples. of: what their last values are."""
    root = _tree(samples)
    boxes = list(_placed(root))
    rows = 1 + max(depth for *_, depth in boxes)
    height = _TOP + rows * _ROW + 12
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height}" width="100%" '
           'preserveAspectRatio="xMidYMin meet" '
           f'data-width="{_WIDTH:g}" data-letter="{_LETTER}">',
           f"<title>{escape(title)}</title><style>{_STYLE}</style>",
           f'<rect width="100%" height="100%" style="fill:#fff;stroke:none;cursor:auto"/>'
           f'<text class="title" x="8" y="20">{escape(title)}</text>'
           f'<text class="sub" id="about" x="8" y="40">a click enlarges a box; all is at the bottom</text>'
           f'<foreignObject x="{_WIDTH - 220:g}" y="6" width="216" height="28">'
           '<input xmlns="http://www.w3.org/1999/xhtml" id="search" placeholder="search" aria-label="search"/>'
           "</foreignObject>"]
    for box, x, width, depth in boxes:
        y = height - 10 - (depth + 1) * _ROW
        name = escape(box.line.function)
        where = f"\n{box.line.file}" if box.line.file else ""
        told = escape(f"{box.line.function}: {amount(box.value, of)}, {box.value / (root.value or 1):.1%}{where}")
        letters = int((width - 4) / _LETTER)
        text = (name if len(box.line.function) <= letters else escape(box.line.function[:letters - 1]) + "…") \
            if letters >= 3 else ""
        out.append(f'<g data-name="{name}" data-x="{x:.2f}" data-w="{width:.2f}" data-d="{depth}"><title>{told}</title>'
                   f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_ROW - 1}" '
                   f'style="fill:{_colour(box.line.function)}"/>'
                   f'<text x="{x + 3:.2f}" y="{y + 12}">{text}</text></g>')
    out.append(f"<script><![CDATA[\n{_SCRIPT}]]></script></svg>\n")
    return "".join(out)
