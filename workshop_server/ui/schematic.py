"""The layout of a flow's schematic: cards in layers, from the tasks that run first down to the last ones, and lines.

The four steps of Sugiyama's method: layers by the longest path, bends where a line passes a layer, fewer crossings by
sorting each layer by its neighbours, then positions as near to these neighbours as possible.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

WIDTH, HEIGHT = 264, 76   # of a card, in pixels
GAP, DROP = 28, 62        # between cards of one layer, and between layers
BEND = 18                 # width of a line that passes a layer
MARGIN = 24
SWEEPS = 12               # passes of sorting and of placing
LARGE = 4000              # from this number of cards and bends on, fewer sweeps are made


@dataclass(frozen=True)
class Drawing:
    """Cards by their upper left corner; lines as (from, to, path of an SVG)."""

    cards: dict[str, tuple[float, float]]
    lines: list[tuple[str, str, str]]
    width: float
    height: float
    card: tuple[int, int] = (WIDTH, HEIGHT)


@lru_cache(maxsize=64)
def layout(nodes: tuple[str, ...], edges: tuple[tuple[str, str], ...]) -> Drawing:
    """The drawing of a graph, without edges that close a circle and edges to unknown nodes."""
    edges = _acyclic(nodes, edges)
    layer = _layers(nodes, edges)
    layers, chains, up, down = _with_bends(nodes, edges, layer)
    sweeps = SWEEPS if sum(map(len, layers)) < LARGE else 2
    _uncross(layers, up, down, sweeps)
    x = _places(layers, up, down, sweeps)

    left = min((x[node] - _width(node) / 2 for row in layers for node in row), default=0) - MARGIN
    cards = {node: (round(x[node] - WIDTH / 2 - left, 1), MARGIN + layer[node] * (HEIGHT + DROP)) for node in nodes}
    right = max((x[node] + _width(node) / 2 for row in layers for node in row), default=0) - left
    lines = [(a, b, _path([x[node] - left for node in chain], layer[a])) for (a, b), chain in chains.items()]
    return Drawing(cards, lines, round(right + MARGIN, 1), 2 * MARGIN + len(layers) * (HEIGHT + DROP) - DROP)


def _acyclic(nodes: tuple[str, ...], edges: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The edges that are on no circle and behind none, without repetitions."""
    known, after, waits = set(nodes), defaultdict(list), dict.fromkeys(nodes, 0)
    for a, b in dict.fromkeys(edges):
        if a in known and b in known and a != b:
            after[a].append(b)
            waits[b] += 1
    ready, order = [node for node in nodes if not waits[node]], {}
    while ready:
        node = ready.pop()
        order[node] = len(order)
        for child in after[node]:
            waits[child] -= 1
            if not waits[child]:
                ready.append(child)
    return [(a, b) for a in order for b in after[a] if b in order]


def _layers(nodes: tuple[str, ...], edges: list[tuple[str, str]]) -> dict[str, int]:
    """The layer of each node: the longest path from a root; a root is just above the first node that needs it."""
    after, waits = defaultdict(list), dict.fromkeys(nodes, 0)
    for a, b in edges:
        after[a].append(b)
        waits[b] += 1
    layer, roots = dict.fromkeys(nodes, 0), [node for node in nodes if not waits[node]]
    ready = list(roots)
    while ready:
        node = ready.pop()
        for child in after[node]:
            layer[child] = max(layer[child], layer[node] + 1)
            waits[child] -= 1
            if not waits[child]:
                ready.append(child)
    for node in roots:
        layer[node] = min((layer[child] for child in after[node]), default=1) - 1
    return layer


def _with_bends(nodes: tuple[str, ...], edges: list[tuple[str, str]], layer: dict[str, int]) -> tuple:
    """The layers, with a bend where a line passes a layer; each line as a chain of points; and all neighbours."""
    layers: list[list[Hashable]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for node in nodes:
        layers[layer[node]].append(node)
    chains, up, down = {}, defaultdict(list), defaultdict(list)
    for a, b in edges:
        chain = [a]
        for depth in range(layer[a] + 1, layer[b]):
            chain.append((a, depth))  # lines from one card share their bends
            if (a, depth) not in up:
                layers[depth].append((a, depth))
        chain.append(b)
        chains[a, b] = chain
        for one, other in pairwise(chain):
            if other not in down[one]:
                down[one].append(other)
                up[other].append(one)
    return layers, chains, up, down


def _uncross(layers: list[list], up: dict, down: dict, sweeps: int) -> None:
    """Sort each layer by the mean place of its neighbours, down and up; keeps the order with the fewest crossings."""
    best, fewest = [list(row) for row in layers], _crossings(layers, down)
    place = {node: index for row in layers for index, node in enumerate(row)}
    for sweep in range(sweeps):
        if not fewest:
            break
        beside = up if sweep % 2 == 0 else down
        for row in layers if sweep % 2 == 0 else reversed(layers):
            mean = {node: _mean([place[other] for other in beside.get(node, ())], place[node]) for node in row}
            row.sort(key=mean.__getitem__)
            place.update({node: index for index, node in enumerate(row)})
        crossings = _crossings(layers, down)
        if crossings < fewest:
            best, fewest = [list(row) for row in layers], crossings
    layers[:] = best


def _crossings(layers: list[list], down: dict) -> int:
    """The number of pairs of lines that cross, between all neighbouring layers."""
    total = 0
    for row, below in pairwise(layers):
        place = {node: index for index, node in enumerate(below)}
        ends = [place[other] for node in row for other in sorted(down.get(node, ()), key=place.__getitem__)]
        total += _inversions(ends)
    return total


def _inversions(values: list[int]) -> int:
    """The number of pairs in the wrong order, counted by merge sort."""
    if len(values) < 2:
        return 0
    middle = len(values) // 2
    left, right = values[:middle], values[middle:]
    count, i, j = _inversions(left) + _inversions(right), 0, 0
    left.sort()
    right.sort()
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            i += 1
        else:
            count, j = count + len(left) - i, j + 1
    return count


def _places(layers: list[list], up: dict, down: dict, sweeps: int) -> dict[Hashable, float]:
    """The middle of each card: as near to its neighbours as the order of its layer allows."""
    x: dict[Hashable, float] = {}
    for row in layers:
        wanted = {node: 0.0 for node in row}
        x.update(_apart(row, wanted))
    for sweep in range(2 * sweeps):
        beside = up if sweep % 2 == 0 else down
        for row in layers if sweep % 2 == 0 else reversed(layers):
            x.update(_apart(row, {node: _mean([x[other] for other in beside.get(node, ())], x[node]) for node in row}))
    both = {node: [*up.get(node, ()), *down.get(node, ())] for row in layers for node in row}
    for row in layers:
        x.update(_apart(row, {node: _mean([x[other] for other in both[node]], x[node]) for node in row}))
    return x


def _apart(row: list, wanted: dict[Hashable, float]) -> dict[Hashable, float]:
    """The places nearest to the wanted ones, in the order of the row and without overlap (pool adjacent violators)."""
    blocks: list[tuple[float, int]] = []  # the mean of the wanted places, minus the offset; number of cards
    offsets, offset = [], 0.0
    for index, node in enumerate(row):
        if index:
            offset += (_width(row[index - 1]) + _width(node)) / 2 + GAP
        offsets.append(offset)
        mean, size = wanted[node] - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, count = blocks.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        blocks.append((mean, size))
    found = [mean for mean, size in blocks for _ in range(size)]
    return {node: mean + away for node, mean, away in zip(row, found, offsets, strict=True)}


def _path(places: list[float], layer: int) -> str:
    """A line from the foot of the first card to the head of the last, smooth through its bends."""
    y = MARGIN + layer * (HEIGHT + DROP) + HEIGHT
    path = f"M{places[0]:.1f} {y}"
    for index, x in enumerate(places[1:]):
        if index:  # straight past the cards of this layer
            path += f"V{y + HEIGHT}"
            y += HEIGHT
        path += f"C{places[index]:.1f} {y + DROP * 0.55:.1f} {x:.1f} {y + DROP * 0.45:.1f} {x:.1f} {y + DROP}"
        y += DROP
    return path


def _width(node: Hashable) -> float:
    return BEND if isinstance(node, tuple) else WIDTH


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
