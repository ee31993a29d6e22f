"""Where the gather-trade-build world takes place: layout files, procedural maps, the places and skills with which an episode starts.

All of it happens at reset, on whole arrays; only `gather_trade_build` knows State. A map is an array (B, rows, columns) of tile codes
EMPTY, STONE, WOOD, WATER; stone and wood stand for a source that carries one unit. Layout files are text: rows end with ';', W is a wood
source, S a stone source, @ water, anything else is empty. Params are numbers, so a file reaches a world as the Params that `named` makes of
it: adjust(Params(), **named("my_map.txt")).
"""
from __future__ import annotations

import difflib
import functools
from pathlib import Path
from typing import Any

import numpy as np

from kernels.core.rng import Draws

EMPTY, STONE, WOOD, WATER = range(4)  # codes of tiles
LAYOUT, SPLIT, UNIFORM, MULTI_ZONE, QUADRANT, ONE_STEP = range(6)  # scenarios
NO_SKILL, PARETO, LOGNORMAL = range(3)  # distributions of skills
LETTERS = {"S": STONE, "W": WOOD, "@": WATER}
FOLDER = Path(__file__).parent / "layouts"
SHIPPED = ("open_quadrant", "open_quadrant_dry", "closed_quadrant", "mixed_15x15", "mixed_25x25", "mixed_40x40", "quadrant_40x40",
           "quadrant_40x40_dry", "small_9x9", "top_wood_bottom_stone_14x14", "scattered_25x25")
TILES, GROWTH, PLACES, SKILLS, RANKS = range(5)  # streams of random numbers at reset
ZONES = 8  # partitions of a multi-zone map in each direction
MIXED, WOODED, STONY = 4, 6, 6  # of them with both resources, with wood, with stone
FIT = 1.4  # a procedural map covers what it should within this factor
RANKED_DRAWS = 100_000  # samples behind the mean payment of each rank


# -- layouts

def read(name: str | Path) -> np.ndarray:
    """Tile codes (rows, columns) of a shipped layout or of any file in the format; ValueError says what is wrong with it."""
    file = FOLDER / f"{name}.txt" if str(name) in SHIPPED else Path(name)
    if not file.is_file():
        near = difflib.get_close_matches(str(name), SHIPPED, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"give the path of a file or one of {', '.join(SHIPPED)}"
        raise ValueError(f"there is no layout {str(name)!r}; {hint}")
    rows = [row.strip("\r\n") for row in file.read_text(encoding="utf-8").split(";")]
    rows = [row for row in rows if row]
    if not rows or {len(row) for row in rows} != {len(rows[0])}:
        lengths = sorted({len(row) for row in rows})
        raise ValueError(f"layout {file.name} must have rows of one length, each ended by ';', got lengths {lengths}")
    return np.array([[LETTERS.get(letter, EMPTY) for letter in row] for row in rows], np.int64)


def named(name: str | Path) -> dict[str, Any]:
    """Params of the world on a layout, by its name or file: {"height": 25, "width": 25, "layout": (0, 1, ...)}."""
    codes = read(name)
    layout = (SHIPPED.index(str(name)),) if str(name) in SHIPPED else tuple(codes.ravel().tolist())
    return {"height": codes.shape[0], "width": codes.shape[1], "layout": layout}


@functools.lru_cache(maxsize=32)
def layout_tiles(layout: tuple[int, ...], height: int, width: int) -> np.ndarray:
    """Tile codes (height, width) of a Param `layout`: the number of a shipped one, or the codes themselves."""
    if len(layout) == 1 and height * width != 1:
        if not 0 <= layout[0] < len(SHIPPED):
            raise ValueError(f"params.layout must be the number of a shipped layout, 0 to {len(SHIPPED) - 1}, or the codes of all tiles")
        codes = read(SHIPPED[int(layout[0])])
    elif len(layout) == height * width:
        codes = np.array(layout, np.int64).reshape(height, width)
    else:
        raise ValueError(f"params.layout has {len(layout)} tiles, the world {height} x {width}; set params.height and params.width "
                         "to match")
    if codes.shape != (height, width):
        raise ValueError(f"layout {SHIPPED[int(layout[0])]} has {codes.shape[0]} x {codes.shape[1]} tiles; set params.height and "
                         "params.width to match")
    return codes


# -- maps of a new episode

def tiles(p: Any, replicas: int, draws: Any) -> np.ndarray:
    """Tile codes (B, height, width) of new episodes."""
    if p.scenario in (UNIFORM, MULTI_ZONE, QUADRANT):
        return np.stack([procedural(p, generator(draws, b)) for b in range(replicas)])
    if p.scenario == ONE_STEP:
        return np.zeros((replicas, p.height, p.width), np.int64)
    codes = layout_tiles(p.layout, p.height, p.width).copy()
    if p.scenario == SPLIT:
        codes[water_row(p)] = WATER
    return np.broadcast_to(codes, (replicas, *codes.shape)).copy()


def generator(draws: Any, b: int) -> np.random.Generator:
    """A generator for one replica's map: procedural maps take draws until they fit, so their number is not known beforehand."""
    word = [int(part[b, 0]) for part in draws.bits(TILES, 1)]
    return np.random.Generator(np.random.Philox(key=np.array([word[0] << 32 | word[1], word[2] << 32 | word[3]], np.uint64)))


def water_row(p: Any) -> int:
    """The row of a split world that is water."""
    return p.height // 2 if p.water_row < 0 else int(p.water_row)


def procedural(p: Any, random: np.random.Generator) -> np.ndarray:
    """Tile codes (height, width) of one map, drawn again until both resources cover what they should within a factor of 1.4, at most 100
    times."""
    tiles_ = p.height * p.width
    wanted = {WOOD: p.wood_coverage, STONE: p.stone_coverage}
    wanted = {good: share / tiles_ if share >= 1 else share for good, share in wanted.items()}
    likely = {UNIFORM: _gradient, MULTI_ZONE: _zones, QUADRANT: _corner}[int(p.scenario)](p, wanted[WOOD], random)
    codes = ground = _cross(p) if p.scenario == QUADRANT else np.zeros((p.height, p.width), np.int64)
    for _ in range(100):
        codes = ground.copy()
        for good, clumpiness in ((WOOD, p.wood_clumpiness), (STONE, p.stone_clumpiness)):
            codes[_grow(p, codes == EMPTY, likely[good], wanted[good], clumpiness, random)] = good
        if all(share / FIT <= (codes == good).mean() <= FIT * share for good, share in wanted.items()):
            break
    return codes


def _grow(p: Any, empty: np.ndarray, likely: np.ndarray, coverage: float, clumpiness: float, random: np.random.Generator) -> np.ndarray:
    """Tiles of one resource: seeds where it is likely until they cover clump * coverage, then clumps around them until all is covered."""
    checkered = p.checker and np.indices(empty.shape).sum(0) % 2 == 1
    coverage = min(2 * coverage, 1.0) if p.checker else coverage
    clump = 1 - np.clip(clumpiness, 0, 0.99)
    source, threshold = np.zeros(empty.shape, bool), random.random(empty.shape)
    for _ in range(200):
        source |= empty & (threshold < 0.1 * clump * likely)
        if source.mean() >= coverage * clump:
            break
        threshold *= 0.9
    for _ in range(200):
        if source.mean() >= coverage:
            break
        field = source + 0.2 * random.normal(size=empty.shape) - 0.25
        source |= empty & (_convolve(field, random.random((7, 7)) > 0.5) > 0)
    return source & checkered if p.checker else source


def _convolve(field: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Sum of the field over the kernel around each tile, zero outside the map."""
    half = kernel.shape[0] // 2
    padded, total = np.pad(field, half), np.zeros(field.shape)
    for down, right in np.argwhere(kernel):
        total += padded[down:down + field.shape[0], right:right + field.shape[1]]
    return total


def _gradient(p: Any, coverage: float, random: np.random.Generator) -> dict[int, np.ndarray]:
    """Chances of a uniform map: wood grows likelier downwards, stone is its mirror image, and both use the coverage of wood."""
    rows = np.arange(p.height, dtype=float)[:, None] ** p.gradient_steepness * np.ones(p.width)
    wood = rows / rows.mean() * coverage
    return {WOOD: wood, STONE: wood[::-1]}


def _corner(p: Any, coverage: float, random: np.random.Generator) -> dict[int, np.ndarray]:
    """Chances of a quadrant map: wood towards the top, stone towards the left."""
    steep = p.gradient_steepness / 2
    top = (p.height - np.arange(p.height, dtype=float))[:, None] ** steep * np.ones(p.width)
    left = (p.width - np.arange(p.width, dtype=float))[None, :] ** steep * np.ones((p.height, 1))
    return {WOOD: top / top.mean() * coverage, STONE: left / left.mean() * coverage}


def _zones(p: Any, coverage: float, random: np.random.Generator) -> dict[int, np.ndarray]:
    """Chances of a multi-zone map: 8 x 8 zones, some with wood, some with stone, some with both, shuffled."""
    kinds = np.zeros((ZONES * ZONES, 2), bool)
    kinds[:WOODED + MIXED, 0] = True
    kinds[WOODED:WOODED + MIXED + STONY, 1] = True
    random.shuffle(kinds)
    rows, columns = (np.minimum(np.arange(n) * ZONES // n, ZONES - 1) for n in (p.height, p.width))
    zone = rows[:, None] * ZONES + columns
    chance = {WOOD: kinds[zone, 0].astype(float), STONE: kinds[zone, 1].astype(float)}
    return {good: here / max(here.mean(), 1 / here.size) * coverage for good, here in chance.items()}


def _cross(p: Any) -> np.ndarray:
    """Tile codes of the water of a quadrant map: a cross with gaps between 0.2 and 0.35 of its arms, and mirrored."""
    codes = np.zeros((p.height, p.width), np.int64)
    for line, n in ((codes[p.height // 2], p.width), (codes[:, p.width // 2], p.height)):
        place = np.arange(n) / n
        away = np.minimum(place, 1 - place)
        line[...] = np.where((away > 0.2) & (away <= 0.35), line, WATER)
    return codes


def lay_out(p: Any, s: Any, codes: np.ndarray) -> None:
    """The map of every replica (B, height, width): sources carry a unit, nobody owns anything. Writes ground, units, source, sources."""
    grid = np.zeros((len(codes), p.height + 2 * p.margin, p.stride), np.uint8)
    inner = grid[:, p.margin:p.margin + p.height, p.margin:p.margin + p.width]
    inner[...] = np.array([64, 64 | 16 | 1, 64 | 32 | 2, 64 | 8], np.uint8)[codes]  # inside; with a source and a unit; water
    s.ground[...] = grid.reshape(s.ground.shape)
    is_source = (s.ground & 48) > 0
    s.units[...] = is_source
    s.sources[...] = is_source.sum(-1)
    place = np.argsort(~is_source, -1, kind="stable")[:, :p.n_sources]
    s.source[...] = np.where(np.arange(p.n_sources) < s.sources[:, None], place, 0)


# -- skills

def equip(p: Any, s: Any, draws: Draws) -> None:
    """Classes, coins and skills of the agents. Writes kind, coin, build_skill, build_payment, bonus, skill."""
    n = p.n_agents
    s.kind[...] = np.repeat(np.arange(p.n_classes), list(map(int, p.class_sizes)) or [n])
    s.coin[...] = np.asarray(p.starting_coin)[np.minimum(s.kind, len(p.starting_coin) - 1)]
    u, x = draws.uniform(SKILLS, 2 * n, np.float64), draws.normal(SKILLS + 1, 2 * n, np.float64)
    skill = {NO_SKILL: np.ones((1, n)), PARETO: lomax(u[:, :n], 4), LOGNORMAL: np.exp(-1 + 0.5 * x[:, :n])}
    s.build_skill[...] = skill[int(p.build_skill)]
    s.build_payment[...] = p.build_payment * (multiple(s.build_skill, p.skill_cap) if p.build_skill != NO_SKILL else 1)
    talent = {NO_SKILL: np.zeros((1, n)), PARETO: lomax(u[:, n:], 3), LOGNORMAL: np.exp(-2.022 + 0.938 * x[:, n:])}[int(p.gather_skill)]
    s.bonus[...] = np.minimum(talent, 2) / 2
    s.skill[...] = ranked(n, p.labor_skill_cap, 1000, 0)


def lomax(u: np.ndarray, shape: float) -> np.ndarray:
    """Pareto draws less one, from uniforms."""
    return (1 - u) ** (-1 / shape) - 1


def multiple(skill: np.ndarray, cap: float) -> np.ndarray:
    """Payment over its base: min(m, (m - 1) s + 1)."""
    return np.minimum(cap, (cap - 1) * skill + 1)


@functools.lru_cache(maxsize=32)
def ranked(n: int, cap: float, samples: int, seed: int) -> np.ndarray:
    """Mean multiple of every rank among n agents, least first (n,): of sorted Lomax(4) samples, drawn as in the original program."""
    skills = np.random.RandomState(seed).pareto(4, (samples, n))
    return np.sort(multiple(skills, cap), -1).mean(0)


# -- starts

def settle(p: Any, s: Any, draws: Draws) -> None:
    """Agents find their places: in the corners, on their side of the water, or anywhere. Writes row, col, occupant, build_payment."""
    if not p.has_map:
        return
    n, b = p.n_agents, np.arange(len(s.period))
    rank = np.argsort(draws.bits(RANKS, n)[0], -1, kind="stable")  # of each agent
    if p.scenario == SPLIT or (p.scenario == LAYOUT and p.fixed_four):
        payment = ranked(n, p.skill_cap, RANKED_DRAWS, 1) * p.build_payment
        s.build_payment[...] = (payment[::-1] if p.scenario == SPLIT else payment)[rank]
    u = draws.uniform(PLACES, n, np.float64)
    corners = np.array(corner_starts(n, p.height, p.width))
    grid = (len(s.period), p.height + 2 * p.margin, p.stride)
    for i in range(n):
        if p.scenario == LAYOUT and p.fixed_four:
            row, col = corners[rank[:, i]].T
            if not free(s).reshape(grid)[b, row + p.margin, col + p.margin].all():
                raise ValueError("params.fixed_four needs corners without water; set it to false for this layout")
        else:
            allowed = free(s).reshape(grid)
            if p.scenario == SPLIT:
                above = np.isin(rank[:, i], p.top_ranks)[:, None] == (np.arange(grid[1]) < water_row(p) + p.margin)
                allowed = allowed & above[:, :, None]
            place = nth(allowed.reshape(len(u), -1), u[:, i])
            row, col = place // p.stride - p.margin, place % p.stride - p.margin
        s.row[:, i], s.col[:, i] = row, col
        s.occupant[b, (row + p.margin) * p.stride + col + p.margin] = i + 2


def free(s: Any) -> np.ndarray:
    """Tiles on which an agent without a house could start (B, T)."""
    return ((s.ground & (64 | 8 | 4)) == 64) & (s.occupant == 0)


def nth(allowed: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One of the allowed places (B, T), each as likely: (B,)."""
    found = allowed.sum(-1)
    if not found.all():
        raise ValueError("there is no free tile left to start on; make the world larger or params.n_agents smaller")
    return np.argmax(np.cumsum(allowed, -1) > np.floor(u * found)[:, None], -1)


def corner_starts(n: int, height: int, width: int) -> list[tuple[int, int]]:
    """Where each rank starts: quarters of the ranks at top right, bottom left, top left, bottom right, four to a row."""
    place, met = [], [0, 0, 0, 0]
    for rank in range(n):
        group = 4 * rank // n
        inward, down = met[group] % 4, met[group] // 4
        met[group] += 1
        row = down if group in (0, 2) else height - 1 - down
        place.append((row, inward if group in (1, 2) else width - 1 - inward))
    return place
