"""Figures as SVG text: the same data gives the same bytes, and colours follow the page they stand in.

Labels are English only, since a renderer's fonts may lack Chinese. Colours are CSS variables with a fallback, so one
file works in the report's light and dark mode and alone as an image.
"""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"zh": "#d9480f", "en": "#1c7ed6", "zh-Hant": "#9c36b5", "mixed": "#2b8a3e"}
SPARE = ("#0c8599", "#b08900", "#c2255c", "#495057")
# Nobody can tell more lines apart.
SERIES = 4
INK, GRID = "#667085", "#d0d5dd"
LOSSES = {"continue": "#1c7ed6", "denoise": "#d9480f", "restore": "#2b8a3e"}
STYLE: dict[Any, Any] = {
    # Letters stay text: small, sharp and readable by machines.
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    # This font comes with matplotlib, so the layout is the same everywhere.
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.unicode_minus": False,
    "path.simplify": False,
}


def loss_curve(curve: Sequence[Mapping[str, float]], validation: Sequence[Mapping[str, float]]) -> str:
    """Return training losses (nats a token) above validation (bits per byte by language), over tokens seen.

    Points have `step`, `tokens` and one value a loss or language; `total` is a weighted sum of losses and left out.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 4.2), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
        _lines(upper, curve, LOSSES, "loss, nats a token")
        _lines(lower, validation, COLOURS, "held-out bits per byte", marker="o")
        lower.set_xlabel("tokens trained on this night, millions")
        return _svg(figure, "loss")


def _lines(
    axes: Axes, points: Sequence[Mapping[str, float]], colours: Mapping[str, str], label: str, marker: str = ""
) -> None:
    names = sorted({name for point in points for name in point} - {"step", "tokens", "total"})
    for position, name in enumerate(names):
        pairs = [(point["tokens"] / 1e6, point[name]) for point in points if name in point]
        colour = colours.get(name, SPARE[position % len(SPARE)])
        axes.plot(*zip(*pairs, strict=True), color=colour, linewidth=1.8, marker=marker, markersize=4, label=name)
    _dress(axes, label)


def length_histogram(edges: Sequence[float], counts: Mapping[str, Sequence[int]]) -> str:
    """Return how many kept documents have which length in characters, by language; see `corpus.length_counts`."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 2.7), layout="constrained")
        axes = figure.subplots()
        for position, (name, values) in enumerate(_largest(counts)):
            colour = COLOURS.get(name, SPARE[position % len(SPARE)])
            axes.stairs(values, edges, color=colour, fill=True, alpha=0.22)
            axes.stairs(values, edges, color=colour, linewidth=1.6, label=name)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("characters in a document")
        axes.set_ylim(bottom=0)
        _dress(axes, "documents")
        return _svg(figure, "lengths")


def cluster_plot(sizes: Sequence[Mapping[str, int]]) -> str:
    """Return how many clusters have which size, both on logarithmic scales; clusters of one are left out."""
    points = [(row["size"], row["clusters"]) for row in sizes if row["size"] > 1]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 2.7), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*points, strict=True), color=COLOURS["en"], linestyle="", marker="o", markersize=4)
        axes.set(xscale="log", yscale="log", xlabel="documents in a cluster")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axis.set_minor_formatter("")
        _dress(axes, "clusters")
        return _svg(figure, "clusters")


def _largest(counts: Mapping[str, Sequence[int]]) -> list[tuple[str, list[int]]]:
    """Return the largest series first, those beyond SERIES added up as `other`."""
    ranked = sorted(counts.items(), key=lambda item: (-sum(item[1]), item[0]))
    shown = [(name, list(values)) for name, values in ranked[:SERIES]]
    rest = [sum(column) for column in zip(*(values for _, values in ranked[SERIES:]), strict=True)]
    return [*shown, ("other", rest)] if rest else shown


def _dress(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, color=INK)
    axes.xaxis.label.set_color(INK)
    axes.tick_params(which="both", colors=INK, length=0)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    if axes.get_legend_handles_labels()[0]:
        above: dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
        axes.legend(frameon=False, labelcolor=INK, ncols=5, handlelength=1.2, **above)


def _svg(figure: Figure, name: str) -> str:
    """Return the figure as an `<svg>` element with ids of its own, without date, prolog or metadata."""
    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
    sink = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = sink.getvalue().decode()
    svg = re.sub(r"<(metadata|style).*?</\1>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    # Several figures share one page, so their ids must differ.
    svg = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    return re.sub(r"#[0-9a-f]{6}\b", _variable, svg).strip()


def _variable(match: re.Match[str]) -> str:
    names: dict[str, Any] = {INK: "ink", GRID: "grid"}
    names |= {colour: f"s{number}" for number, colour in enumerate((*COLOURS.values(), *SPARE))}
    return f"var(--{names[match[0]]}, {match[0]})" if match[0] in names else match[0]
