"""The pictures of nodes and edges: the Merkle path of an entry, and the lineage of a release.

The path is the audit path of RFC 6962 §2.1.1, the root on top. The lineage is a directed acyclic graph drawn in layers
after Sugiyama, Tagawa and Toda (1981): longest-path layering, waypoints for edges that skip a layer, barycentre
ordering. Each edge ends at its own port, so its label (the share of a fee, say) has a line to itself. On a telephone,
and for lineages too deep for one screen, the same graph is a list in order with arcs at its side.

Invariant: two texts never overlap, however long the names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from gongqi.doors.web.charts.drawing import (
    BODY,
    BOLD,
    LEADING,
    NARROW,
    SMALL,
    WIDE,
    arrow_head,
    box,
    element,
    height,
    join,
    line,
    link,
    measure,
    path,
    picture,
    shorten,
    text,
    wrap,
)

GAP = 8
MAX_LAYERS_ABREAST = 5  # deeper lineages become a list
MAX_NODES = 200  # a picture of more would be read by nobody; the table holds them all
MIN_COLUMN = 118  # pixels; a name in less is all line breaks
MAX_GAP = 190  # pixels; a longer label is shortened, and read whole in the table
MIN_BEND = 36  # an edge needs this much room to turn; its label takes the rest of the gap
ORDERING_SWEEPS = 4  # barycentre settles within a few passes on graphs of this size


# ---- evidence: the Merkle path -------------------------------------------------------------------


def merkle_siblings(index: int, size: int) -> list[tuple[str, int, int]]:
    """The audit path from the leaf up: each sibling's side and the entries [first, last) it covers."""
    if not 0 <= index < size:
        raise ValueError(f"entry {index} is not in a tree of {size}")
    first, last, down = 0, size, []
    while last - first > 1:
        middle = first + (1 << ((last - first - 1).bit_length() - 1))
        if index < middle:
            down.append(("right", middle, last))
            last = middle
        else:
            down.append(("left", first, middle))
            first = middle
    return down[::-1]


def merkle_path(
    index: int, size: int, hashes: Sequence[str], *, leaf: str, root: str, title: str, description: str
) -> Markup:
    """The inclusion proof of one entry: the entry at the foot, the root on top, on each floor the sibling hashed in.

    `hashes` are hexadecimal, from the leaf up; `leaf` and `root` are the words at the two ends. Raises ValueError when
    there are more or fewer hashes than the tree of `size` entries asks for.
    """
    siblings = merkle_siblings(index, size)
    if len(siblings) != len(hashes):
        raise ValueError(f"entry {index} of {size} has a path of {len(siblings)} hashes, not {len(hashes)}")

    def draw(width: float) -> tuple[Markup, float]:
        step, half, centre, arm = 52, 7, width / 2, width * 0.18
        end_lines = [wrap(word, width, SMALL * BOLD) for word in (root, leaf)]
        crown = height(end_lines[0]) + GAP
        foot = crown + half + step * len(siblings)
        parts: list[Markup] = []
        for floor, ((side, first, last), digest) in enumerate(zip(siblings, hashes, strict=True)):
            y, sign = foot - step * floor, -1 if side == "left" else 1
            x, bend = centre + sign * arm, y - step / 2
            room, words_x, anchor = arm_room(width, x, sign, half)
            covered = f"{first:,}" if last - first == 1 else f"{first:,}–{last - 1:,}"
            parts += [
                line((centre, y), (centre, y - step), look="line"),
                path(
                    f"M{x:.1f} {y:.1f}C{x:.1f} {bend:.1f} {centre:.1f} {bend:.1f} {centre:.1f} {y - step:.1f}", "fine"
                ),
                box(x - half, y - half, 2 * half, 2 * half),
                text([shorten(digest, min(room, 110))], words_x, y - 17, look="ink mono", anchor=anchor, whole=digest),
                text([shorten(covered, room)], words_x, y + 1, look="soft", anchor=anchor, whole=covered),
            ]
        for floor in range(len(siblings) + 1):
            y, side = foot - step * floor, half + (2 if floor in (0, len(siblings)) else -2)
            parts.append(box(centre - side, y - side, 2 * side, 2 * side, "ink"))
        parts.append(text(end_lines[0], centre, 0, look="ink bold", anchor="middle", whole=root))
        parts.append(text(end_lines[1], centre, foot + 3 * GAP, look="ink bold", anchor="middle", whole=leaf))
        return join(*parts), foot + 3 * GAP + height(end_lines[1]) + 4

    def arm_room(width: float, x: float, sign: int, half: int) -> tuple[float, float, str]:
        words_x = x + sign * (half + GAP)
        return (words_x, words_x, "end") if sign < 0 else (width - words_x, words_x, "start")

    return picture(draw, title=title, description=description, widths=(640, NARROW))


# ---- lineage -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """One asset, revision, release or service. `kind` is its kind in words."""

    key: str
    label: str
    kind: str
    href: str | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """`target` was made from, or runs on, `source`; `label` says how, `carries` what flows along it, such as a share of a
    fee."""

    source: str
    target: str
    label: str = ""
    carries: str = ""

    @property
    def whole(self) -> str:
        return " · ".join(filter(None, (self.label, self.carries)))


def lineage_graph(nodes: Sequence[Node], edges: Sequence[Edge], *, title: str, description: str) -> Markup:
    """Where a release comes from and what grew out of it, sources first, with the fee split on the edges.

    Raises ValueError for a cycle, an edge to an unknown node, a repeated key, or more than MAX_NODES nodes.
    """
    layer_of = _layers(nodes, edges)

    def draw(width: float) -> tuple[Markup, float]:
        layers = max(layer_of.values()) + 1
        gap, column = _room(layers, edges, width)
        if width < WIDE or layers > MAX_LAYERS_ABREAST or column < MIN_COLUMN:
            return _lineage_down(nodes, edges, layer_of, width)
        return _lineage_across(nodes, edges, layer_of, gap, column)

    return picture(draw, title=title, description=description)


def _layers(nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, int]:
    """The length of the longest path from a source to each node."""
    layer_of = {node.key: 0 for node in nodes}
    if not 0 < len(nodes) <= MAX_NODES or len(layer_of) != len(nodes):
        raise ValueError(f"a lineage has 1 to {MAX_NODES} nodes with keys of their own, not {len(nodes)}")
    for edge in edges:
        if edge.source not in layer_of or edge.target not in layer_of:
            raise ValueError(f"the edge from {edge.source} to {edge.target} leaves the graph")
    for _ in nodes:
        settled = True
        for edge in edges:
            if layer_of[edge.target] <= layer_of[edge.source]:
                layer_of[edge.target] = layer_of[edge.source] + 1
                settled = False
        if settled:
            return layer_of
    raise ValueError("a lineage cannot have a cycle")


def _ordered(
    nodes: Sequence[Node], edges: Sequence[Edge], layer_of: dict[str, int]
) -> tuple[list[list[str]], list[list[str]]]:
    """The keys of each layer from top to bottom, and each edge's stations; a waypoint is named by edge and layer."""
    rows: list[list[str]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for node in nodes:
        rows[layer_of[node.key]].append(node.key)
    routes: list[list[str]] = []
    for number, edge in enumerate(edges):
        between = range(layer_of[edge.source] + 1, layer_of[edge.target])
        waypoints = [f"\0{number}/{layer}" for layer in between]
        for layer, waypoint in zip(between, waypoints, strict=True):
            rows[layer].append(waypoint)
        routes.append([edge.source, *waypoints, edge.target])
    before: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for route in routes:
        for source, target in pairwise(route):
            before.setdefault(target, []).append(source)
            after.setdefault(source, []).append(target)
    for sweep in range(ORDERING_SWEEPS):
        place = {key: number / len(row) for row in rows for number, key in enumerate(row)}
        neighbours = before if sweep % 2 == 0 else after
        for row in rows if sweep % 2 == 0 else reversed(rows):
            row.sort(
                key=lambda key: (
                    sum(place[n] for n in neighbours[key]) / len(neighbours[key]) if key in neighbours else place[key]
                )
            )
            place |= {key: number / len(row) for number, key in enumerate(row)}
    return rows, routes


def _room(layers: int, edges: Sequence[Edge], width: float) -> tuple[float, float]:
    """(gap, column): between two layers the longest label has its room, and the names share what is left."""
    longest = max((measure(word, SMALL) for edge in edges for word in (edge.label, edge.carries)), default=0.0)
    gap = max(96.0 if layers > 3 else 150.0, min(longest + MIN_BEND + 28, MAX_GAP))
    return gap, min(240.0, (width - gap * (layers - 1)) / layers)


def _lineage_across(
    nodes: Sequence[Node], edges: Sequence[Edge], layer_of: dict[str, int], gap: float, column: float
) -> tuple[Markup, float]:
    rows, routes = _ordered(nodes, edges, layer_of)
    by_key = {node.key: node for node in nodes}
    lines = 2 if any(edge.label and edge.carries for edge in edges) else 1
    step, port, apart = column + gap, lines * SMALL * LEADING + 4, 20.0
    names = {node.key: wrap(node.label, column - 20, lines=3) for node in nodes}
    entering: dict[str, list[int]] = {key: [] for row in rows for key in row}
    for number, route in enumerate(routes):
        entering[route[-1]].append(number)
    tall = {
        key: max(height(names[key]) + SMALL * LEADING + 18, port * len(entering[key]) + 12) if key in by_key else port
        for row in rows
        for key in row
    }
    total = max(sum(tall[key] + apart for key in row) - apart for row in rows)
    top: dict[str, float] = {}
    left: dict[str, float] = {}
    for layer, row in enumerate(rows):
        y = (total - sum(tall[key] + apart for key in row) + apart) / 2
        for key in row:
            top[key], left[key] = y, layer * step
            y += tall[key] + apart

    def middle(key: str) -> float:
        return top[key] + tall[key] / 2

    parts: list[Markup] = []
    for key in by_key:
        entering[key].sort(key=lambda number: middle(routes[number][-2]))
        room = gap - MIN_BEND - 14
        above = [shorten(edges[number].label or edges[number].carries, room) for number in entering[key]]
        below = [shorten(edges[number].carries, room) if edges[number].label else "" for number in entering[key]]
        # a straight end for the labels to stand on
        run = max((measure(word, SMALL) for word in (*above, *below)), default=0.0) + 14
        for slot, number in enumerate(entering[key]):
            end = middle(key) + (slot - (len(above) - 1) / 2) * port
            parts.append(_curve(routes[number], end, run, left, middle, column))
            for word, y, look in (
                (above[slot], end - SMALL * LEADING, "ink halo"),
                (below[slot], end + 2, "bold halo ink"),
            ):
                if word:
                    whole = edges[number].whole
                    parts.append(text([word], left[key] - 12, y, look=look, anchor="end", whole=whole))
    for key, node in by_key.items():
        parts.append(_node(node, names[key], left[key], top[key], column, tall[key]))
    return join(*parts), total + 2


def _curve(
    route: list[str], end: float, run: float, left: dict[str, float], middle: Callable[[str], float], column: float
) -> Markup:
    """One edge through its stations to its port at height `end`, straight for the last `run`, with an arrow head."""
    commands = f"M{left[route[0]] + column:.1f} {middle(route[0]):.1f}"
    for source, target in pairwise(route):
        arriving = target == route[-1]
        x0, y0 = left[source] + column, middle(source)
        x1, y1 = (left[target] - run, end) if arriving else (left[target], middle(target))
        bend = (x0 + x1) / 2
        commands += f"C{bend:.1f} {y0:.1f} {bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
        commands += f"H{left[target] - 8:.1f}" if arriving else f"H{x1 + column:.1f}"
    return path(commands) + arrow_head(left[route[-1]] - 1, end, "right")


def _node(node: Node, name: list[str], x: float, top: float, column: float, tall: float) -> Markup:
    inside = height(name) + SMALL * LEADING
    y = top + (tall - inside) / 2
    return link(
        node.href,
        box(x, top, column, tall),
        text([shorten(node.kind, column - 20)], x + 10, y, look="soft"),
        text(name, x + 10, y + SMALL * LEADING, look="ink go", whole=node.label),
    )


def _lineage_down(
    nodes: Sequence[Node], edges: Sequence[Edge], layer_of: dict[str, int], width: float
) -> tuple[Markup, float]:
    """The graph as a list, sources first: a dot a node, an arc an edge, and under each node what it draws from."""
    order = sorted(nodes, key=lambda node: layer_of[node.key])
    place = {node.key: number for number, node in enumerate(order)}
    lane = 44.0
    left, dots, top = lane + 18, [], 0.0
    parts: list[Markup] = []
    for node in order:
        name = wrap(node.label, width - left, BODY)
        sources = [edge for edge in edges if edge.target == node.key and edge.whole]
        y = top
        dots.append(y + SMALL * LEADING + BODY * 0.62)
        parts.append(
            link(
                node.href,
                text([shorten(node.kind, width - left)], left, y, look="soft"),
                text(name, left, y + SMALL * LEADING, size=BODY, look="ink go", whole=node.label),
            )
        )
        y += SMALL * LEADING + height(name, BODY)
        for edge in sources:
            said = f"← {order[place[edge.source]].label} · {edge.whole}"
            share = measure(f" · {edge.whole}", SMALL)
            short = shorten(f"← {order[place[edge.source]].label}", max(width - left - share, 60))
            parts.append(text([shorten(f"{short} · {edge.whole}", width - left)], left, y, look="soft", whole=said))
            y += SMALL * LEADING
        top = y + 18
    for edge in edges:
        y0, y1 = dots[place[edge.source]], dots[place[edge.target]]
        reach = lane * min(1.0, 0.35 + 0.2 * (place[edge.target] - place[edge.source] - 1))
        x = lane - 2
        parts.append(
            path(
                f"M{x:.1f} {y0:.1f}C{x - reach * 1.3:.1f} {y0:.1f} {x - reach * 1.3:.1f} {y1:.1f} {x - 9:.1f} {y1:.1f}",
                "line",
            )
        )
        parts.append(arrow_head(x - 4, y1, "right"))
    parts += [element("circle", cx=lane, cy=y, r=4, class_="ink") for y in dots]
    return join(*parts), top - 12
