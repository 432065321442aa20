"""Draws docs/timeline.svg, the README's picture, from a measurement of `gothreads compare`.

    gothreads compare background --quick --out /tmp/report
    python -m tests.docs.timeline /tmp/report/report.json > docs/timeline.svg

A goroutine works in the background, a ticker ticks every 10 ms, and calls come, stop coming, and come again. The
picture has its own background, so it is readable wherever it is shown.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIDTH, LEFT, RIGHT = 560, 104, 548
CASES = (("threaded-2", "Case 1: it runs on, on threads"), ("single", "Case 2: stock Go, one thread"))
STYLE = """
    .page { fill: #ffffff; stroke: #d0d7de } text { fill: #1f2328; font: 17px system-ui, sans-serif }
    .title { font-weight: 600 } .call { fill: #57606a } .work { fill: #1a7f64 } .tick { stroke: #9a6700; stroke-width: 2 }
    .line { stroke: #d0d7de }
    @media (prefers-color-scheme: dark) {
      .page { fill: #0d1117; stroke: #3d444d } text { fill: #f0f6fc }
      .call { fill: #9198a1 } .work { fill: #3fb68b } .tick { stroke: #e3b341 } .line { stroke: #3d444d }
    }"""


def picture(report: Mapping[str, Any]) -> str:
    """The picture, as SVG."""
    results = {result["design"]: result for result in report["workloads"][0]["results"]}
    parts, top = [], 12
    for design, title in CASES:
        drawn, top = _case(title, results[design]["series"], top)
        parts += drawn
    parts.append(f'<text x="{RIGHT}" y="{top + 12}" text-anchor="end">time →</text>')
    height = top + 24
    description = ("Two timelines of a module that is called, left alone, and called again. On threads its goroutine "
                   "works and its ticker ticks all the time; in single-threaded Go both stand still unless a call is "
                   "in.")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n'
        f"  <title>{description}</title>\n  <style>{STYLE}\n  </style>\n"
        f'  <rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>\n  '
        + "\n  ".join(parts)
        + "\n</svg>\n"
    )


def _case(title: str, series: Mapping[str, Any], top: int) -> tuple[list[str], int]:
    def across(seconds: float) -> float:
        return round(LEFT + (RIGHT - LEFT) * min(seconds / float(series["seconds"]), 1.0), 1)

    calls, work, ticks = top + 44, top + 84, top + 106  # the lines on which they are drawn
    parts = [f'<text class="title" x="12" y="{top + 16}">{title}</text>']
    parts += [f'<text x="12" y="{y}">{name}</text>'
              for name, y in (("calls", calls), ("goroutine", work), ("ticker", ticks))]
    parts += [f'<rect class="call" x="{across(begin)}" y="{calls - 12}" '
              f'width="{max(across(end) - across(begin), 1.5):.1f}" height="12"/>'
              for begin, end in series["calls"] if begin > 0]  # the first call asks how the module is
    most = max(series["steps"])
    corners: list[tuple[float, float]] = [(LEFT, work)]
    for at, steps in enumerate(series["steps"]):
        y = round(work - 30 * (steps / most) ** 0.5, 1)
        corners += [(across(at * series["bucket"]), y), (across((at + 1) * series["bucket"]), y)]
    corners.append((RIGHT, work))
    parts.append(f'<polygon class="work" points="{" ".join(f"{x},{y}" for x, y in corners)}"/>')
    parts.append(f'<path class="line" d="M{LEFT} {work}H{RIGHT}"/>')
    parts.append(f'<path class="tick" d="{"".join(f"M{across(tick)} {ticks - 12}v12" for tick in series["ticks"])}"/>')
    return parts, top + 122


if __name__ == "__main__":
    print(picture(json.loads(Path(sys.argv[1]).read_text())), end="")
