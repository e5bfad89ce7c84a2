"""Test images as photos: a garment of Fashion-MNIST laid on a floor, a bed or among other things.

    python benchmarks/photo_simulator.py --out simulated.png

draws a sheet of examples. Real photos have a class; simulated ones have a kind of background too.
No code is shared with fmnist.photos, so that neither profits from the other's assumptions.

Arrays are float32, (h, w) or (3, h, w) sRGB, 0 black to 1 white; sizes are (width, height) in
pixels. Colours come first, since numpy is slow where the last axis is short. Constants
without a source were set by eye, beside phone photos of senders that are not held out.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

KINDS = ("plain", "textured", "cluttered")
FRAMES = ((270, 360), (300, 360), (360, 270), (320, 320))
MARGIN = 6  # empty pixels put around a 28x28 image, so that its outline can be smooth
FINE = 5  # times larger, before a garment is turned
EMPTY = 4  # up to this, a pixel (0..255) that hangs together with the border is background
HOLE = 20  # more flat pixels than these are a hole to look through (a handle's), not white cloth
SPECK = 0.4  # of a pixel's surroundings are garment at least, else it is a left-over
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
VISIBLE = 0.14  # least distance between the mean colours of a garment and what it lies on

Size: TypeAlias = tuple[int, int]
Floats: TypeAlias = NDArray[np.float32]
Random: TypeAlias = np.random.Generator

# Colours (red, green, blue in percent) of dyed cloth, of what things lie on, and of wood.
DYES = (
    (75, 15, 20), (95, 60, 65), (90, 45, 15), (90, 75, 25), (45, 50, 25), (20, 50, 30),
    (20, 55, 60), (35, 55, 85), (15, 25, 55), (45, 30, 60), (55, 20, 35), (50, 35, 25),
    (75, 65, 50), (60, 60, 62),
)  # fmt: skip
GROUNDS = (
    (80, 80, 80), (72, 73, 74), (95, 95, 94), (90, 88, 85), (88, 80, 68), (60, 12, 28),
    (50, 62, 72), (55, 65, 50), (35, 38, 45), (12, 12, 14), (20, 17, 15), (45, 25, 20),
)  # fmt: skip
WOODS = ((85, 76, 63), (80, 74, 68), (68, 50, 33), (50, 30, 18), (35, 22, 15))


def simulate(image: NDArray[np.uint8], kind: str, random: Random) -> bytes:
    """Return a photo (JPEG) of a test image (28, 28), 0 = background, on a background of a kind.

    The same image, kind and state of `random` give the same bytes (with the same libraries).
    """
    assert kind in KINDS, kind
    size = FRAMES[random.integers(len(FRAMES))]
    tones, cover = lay(image, size, random)
    garment = dye(tones, random)
    scene = background(kind, mean_colour(garment, cover), size, random)
    scene *= 1 - shadow(cover, random)
    scene += (garment - scene) * cover
    return shoot(scene, random)


# The garment


def lay(image: NDArray[np.uint8], size: Size, random: Random) -> tuple[Floats, Floats]:
    """Return tones and cover (0..1), both (h, w), of a garment enlarged, turned and put down.

    Half of the garments are mirrored, so half of the shoes point right.
    """
    worn = np.pad(image[:, ::-1] if random.random() < 0.5 else image, MARGIN)
    cover = outline(worn)
    back = placement(cover, size, random)
    tones = enlarge(bleed(floats(1 - worn / 255), cover), size, back)
    edge = enlarge(blur(cover), size, back) + 0.01 * noise(size, 50, random)
    return np.clip(tones, 0, 1), np.clip(edge * 6 - 2, 0, 1)


def outline(image: NDArray[np.uint8]) -> Floats:
    """Return cover 0..1 of an image (h, w) with an empty border.

    No garment is what hangs together with the border, big flat holes, and specks. A pixel of the
    edge that is much lighter than its darkest neighbour is partly background: taken for cloth, it
    would be a white seam.
    """
    near = Image.fromarray(image).filter(ImageFilter.MaxFilter(3))
    darkest = np.asarray(near, np.float32)
    empty = image <= np.maximum(EMPTY, 0.12 * darkest)
    border = np.ones_like(empty)
    border[1:-1, 1:-1] = False
    outside = grow(border, empty)
    holes = empty & ~outside
    if holes.sum() > HOLE:
        outside |= grow(holes & (blur(holes.astype(np.float32)) == 1), holes)
    outside |= blur((~outside).astype(np.float32)) < SPECK
    edge = ~outside & (blur(outside.astype(np.float32)) > 0)
    part = np.minimum(1.5 * image / np.maximum(darkest, 1), 1)
    return np.where(edge, part, ~outside).astype(np.float32)


def grow(seed: NDArray[np.bool_], within: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what hangs together by edges with `seed`, a part of `within`, inside of that."""
    while True:
        more = seed.copy()
        more[1:] |= seed[:-1]
        more[:-1] |= seed[1:]
        more[:, 1:] |= seed[:, :-1]
        more[:, :-1] |= seed[:, 1:]
        more &= within
        if (more == seed).all():
            return seed
        seed = more


def blur(values: Floats) -> Floats:
    """Return values (h, w) averaged by 1, 2, 1 along both axes."""
    padded = np.pad(values, 1, "edge")
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    result: Floats = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 16
    return result


def bleed(tones: Floats, cover: Floats) -> Floats:
    """Return tones (h, w) continued from where cover is whole to beyond the outline."""
    weight = (cover == 1).astype(np.float32)
    known = tones * weight
    for _ in range(MARGIN):
        reach = blur(weight)
        fresh = (weight == 0) & (reach > 0)
        known = np.where(fresh, blur(known) / np.maximum(reach, 1e-6), known)
        weight = np.maximum(weight, floats(fresh))
    return floats(known)


def placement(cover: Floats, size: Size, random: Random) -> tuple[float, ...]:
    """Return the affine map of a photo's pixels back to those of a padded image.

    The garment is turned by some degrees, sheared a little, and fills 65 to 97 % of the frame.
    """
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    low, high = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]]) + 1
    angle = np.radians(np.clip(random.normal(0, 6), -15, 15))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turn = turn @ np.array([[1, random.uniform(-0.06, 0.06)], [0, random.uniform(0.92, 1.08)]])
    extent = np.abs(turn) @ (high - low)
    scale = random.uniform(0.65, 0.97) * (np.array(size) / extent).min()
    slack = (np.array(size) - scale * extent) / 2
    centre = np.array(size) / 2 + slack * random.uniform(-0.8, 0.8, 2)
    inverse = np.linalg.inv(scale * turn)
    shift = (low + high) / 2 - inverse @ centre
    return (*inverse[0], shift[0], *inverse[1], shift[1])


def enlarge(values: Floats, size: Size, back: tuple[float, ...]) -> Floats:
    """Return values under an affine map from the new pixels to the old.

    Most of the way is a bicubic resize, after which the map may be bilinear, which is faster.
    """
    old = Image.fromarray(values)
    fine = old.resize((old.width * FINE, old.height * FINE), Image.Resampling.BICUBIC)
    finer = tuple(FINE * value for value in back)
    affine, bilinear = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(fine.transform(size, affine, finer, bilinear))


def dye(tones: Floats, random: Random) -> Floats:
    """Return cloth (3, h, w) of some colour, with folds and weave; one in seven white, or black."""
    size = tones.shape[1], tones.shape[0]
    least, most = ((0.7, 0.96), (0.04, 0.24), (0.06, 0.94))[random.choice(3, p=(0.15, 0.15, 0.7))]
    folds = 0.05 * noise(size, 5, random) + 0.035 * noise(size, 18, random)
    weave = 0.03 * noise(size, 130, random)
    cloth = (least + (most - least) * tones) * (1 + folds + weave)
    tint = colour(DYES, random)
    strength = random.uniform(0.2, 0.9) if most - least > 0.5 else random.uniform(0, 0.25)
    result = paint(cloth, floats(1 + strength * (tint / (tint @ LUMA) - 1)))
    return np.clip(result, 0, 1, out=result)


def mean_colour(garment: Floats, cover: Floats) -> Floats:
    """Return the mean colour (3,) where cover is."""
    return floats(np.tensordot(garment, cover, 2) / max(cover.sum(), 1))


def shadow(cover: Floats, random: Random) -> Floats:
    """Return how much light (0..1) a garment keeps from what it lies on."""
    height, width = cover.shape
    small = Image.fromarray((cover[::4, ::4] * 255).astype(np.uint8))
    kept = np.zeros((small.height, small.width), np.float32)
    for reach, strength in ((1.0, random.uniform(0.1, 0.4)), (4.0, random.uniform(0, 0.3))):
        shift = tuple(reach * random.uniform(-1, 1, 2))
        moved = small.transform(
            small.size, Image.Transform.AFFINE, (1, 0, shift[0], 0, 1, shift[1])
        )
        kept += strength * np.asarray(moved.filter(ImageFilter.GaussianBlur(reach))) / 255
    large = Image.fromarray(kept).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(large)


# What it lies on


def background(kind: str, garment: Floats, size: Size, random: Random) -> Floats:
    """Return a background (3, h, w) on which a garment of a mean colour (3,) can be seen."""
    if kind == "plain":
        return plain(garment, size, random)
    surfaces = (wood, cloth, carpet, tiles)
    if kind == "textured":
        return surfaces[random.integers(4)](garment, size, random)
    return clutter((plain, plain, *surfaces)[random.integers(6)](garment, size, random), random)


def plain(garment: Floats, size: Size, random: Random) -> Floats:
    """Return a wall, a table or a sheet without folds."""
    shade = 1 + 0.02 * noise(size, 4, random) + 0.01 * noise(size, 90, random)
    return paint(shade, apart(GROUNDS, garment, random))


def wood(garment: Floats, size: Size, random: Random) -> Floats:
    """Return planks of different shades, with grain and seams."""
    along, across = plane(size, random)
    broad, long = random.uniform(35, 90), random.uniform(250, 500)
    row = (across // broad).astype(int)
    start = random.uniform(0, long, 64).astype(np.float32)[row % 64]
    plank = row * 7 + ((along + start) // long).astype(int)
    grain = noise((256, 256), (4, 100), random)
    streaks = grain[across.astype(int) & 255, (along + 3 * start).astype(int) & 255]
    shade = 1 + random.normal(0, 0.06, 61).astype(np.float32)[plank % 61] + 0.06 * streaks
    seams = (across % broad < 1.6) | ((along + start) % long < 1.6)
    shade -= random.uniform(0.1, 0.4) * seams
    return paint(shade, apart(WOODS, garment, random))


def cloth(garment: Floats, size: Size, random: Random) -> Floats:
    """Return a bedspread with folds, half of them striped or checked."""
    along, across = plane(size, random)
    weave = 0.03 * np.sin(along * 2.1) * np.sin(across * 2.1)
    ridges = np.exp(-((noise(size, 4, random) / 0.12) ** 2)) * random.uniform(0.05, 0.25)
    shade = 1 + weave - ridges + 0.05 * noise(size, 5, random)
    ground, other = apart(GROUNDS, garment, random), apart(GROUNDS, garment, random)
    period, broad = random.uniform(15, 60), random.uniform(0.2, 0.6)
    share = 0.5 * (along % period < period * broad) + 0.5 * (across % period < period * broad)
    pattern = share * random.choice((0.0, 1.0)) * random.uniform(0.3, 1)
    return paint(shade * (1 - pattern), ground) + paint(shade * pattern, other)


def carpet(garment: Floats, size: Size, random: Random) -> Floats:
    """Return tufts, and spots where they lie another way."""
    tufts = noise(size, 160, random) + 0.6 * noise(size, 70, random)
    shade = 1 + random.uniform(0.05, 0.16) * tufts + 0.06 * noise(size, 9, random)
    return paint(shade, apart(GROUNDS, garment, random))


def tiles(garment: Floats, size: Size, random: Random) -> Floats:
    """Return tiles of slightly different shades between joints."""
    along, across = plane(size, random)
    side, joint = random.uniform(60, 150), random.uniform(1.5, 4)
    number = (along // side).astype(int) * 5 + (across // side).astype(int)
    shade = 1 + random.normal(0, 0.025, 47).astype(np.float32)[number % 47]
    shade += 0.03 * noise(size, 14, random)
    joints = (along % side < joint) | (across % side < joint)
    shade *= 1 + random.uniform(-0.45, 0.25) * joints
    return paint(shade, apart(GROUNDS, garment, random))


def clutter(ground: Floats, random: Random) -> Floats:
    """Return a ground with furniture, other clothes, cables and edges on it."""
    drawn = to_image(255 * ground)
    pen = ImageDraw.Draw(drawn)
    if random.random() < 0.4:
        wall(pen, drawn.size, random)
    for _ in range(random.integers(4, 11)):
        (box, box, blob, disc, cable)[random.integers(5)](pen, drawn.size, random)
    soft = to_floats(drawn.filter(ImageFilter.BoxBlur(0.8))) / 255
    return soft * (1 + 0.04 * noise(drawn.size, 12, random))


def wall(pen: ImageDraw.ImageDraw, size: Size, random: Random) -> None:
    """Draw a wall above the floor, with a skirting board."""
    width, height = size
    left, right = height * (random.uniform(0.2, 0.7) + random.uniform(-0.05, 0.05, 2))
    pen.polygon([(0, 0), (width, 0), (width, right), (0, left)], ink(GROUNDS, random))
    pen.line([(0, left), (width, right)], ink(WOODS, random), int(random.integers(1, 9)))


def box(pen: ImageDraw.ImageDraw, size: Size, random: Random) -> None:
    """Draw a book, a board or a cupboard with drawers: a rectangle somewhat turned."""
    across, along = random.uniform(20, 110, 2)
    angle = random.normal(0, 0.2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    centre, fill, line = spot(size, random), ink(GROUNDS + WOODS, random), ink(WOODS, random)
    drawers = random.integers(1, 4)
    for at in range(drawers):
        low, high = along * (2 * at / drawers - 1), along * (2 * (at + 1) / drawers - 1)
        front = np.array([[-across, low], [across, low], [across, high], [-across, high]])
        pen.polygon(points(front @ turn + centre), fill, line)


def blob(pen: ImageDraw.ImageDraw, size: Size, random: Random) -> None:
    """Draw a heap of clothes or a toy: a patch with a crooked, rounded outline."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)[:, None]
    waves = angles * np.arange(1, 5) + random.uniform(0, 2 * np.pi, 4)
    rays = random.uniform(15, 65) * (1 + np.sin(waves) @ random.uniform(0, 0.22, 4))
    outline = np.hstack([np.cos(angles), np.sin(angles)]) * rays[:, None]
    pen.polygon(
        points(outline * random.uniform(0.6, 1.4, 2) + spot(size, random)), ink(DYES, random)
    )


def disc(pen: ImageDraw.ImageDraw, size: Size, random: Random) -> None:
    """Draw a plate, a ball or a lamp."""
    x, y = spot(size, random)
    across, along = random.uniform(8, 50, 2)
    pen.ellipse(
        (x - across, y - along, x + across, y + along), ink(DYES, random), ink(WOODS, random)
    )


def cable(pen: ImageDraw.ImageDraw, size: Size, random: Random) -> None:
    """Draw a cable, a strap or an edge."""
    ends = [tuple(spot(size, random)) for _ in range(random.integers(2, 5))]
    pen.line(ends, ink(GROUNDS, random), int(random.integers(1, 7)), "curve")


def spot(size: Size, random: Random) -> NDArray[np.float64]:
    """Return a place (x, y) in the frame, more often near its border."""
    share = random.beta(0.6, 0.6, 2)
    result: NDArray[np.float64] = share * size
    return result


def points(corners: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Return corners (n, 2) as Pillow takes them."""
    return [(float(x), float(y)) for x, y in corners]


# Colour, noise and the camera


def colour(palette: Sequence[Sequence[int]], random: Random) -> Floats:
    """Return a colour (3,) near one of a palette."""
    chosen = np.array(palette[int(random.integers(len(palette)))], np.float32) / 100
    return np.clip(chosen + random.normal(0, 0.03, 3).astype(np.float32), 0.02, 1)


def ink(palette: Sequence[Sequence[int]], random: Random) -> tuple[int, ...]:
    """Return such a colour as Pillow takes it, 0..255."""
    return tuple(int(value * 255) for value in colour(palette, random))


def apart(palette: Sequence[Sequence[int]], garment: Floats, random: Random) -> Floats:
    """Return such a colour that differs from the garment's; after 20 draws the last one."""
    for _ in range(20):
        chosen = colour(palette, random)
        if np.sqrt(np.mean((chosen - garment) ** 2)) > VISIBLE:
            break
    return chosen


def noise(size: Size, cells: int | tuple[int, int], random: Random) -> Floats:
    """Return smooth noise (h, w) of about unit variance: `cells` bumps along each edge."""
    columns, rows = (cells, cells) if isinstance(cells, int) else cells
    coarse = random.standard_normal((rows, columns), np.float32)
    return np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))


def paint(shade: NDArray[np.floating[Any]], hue: Floats) -> Floats:
    """Return a surface (3, h, w) of a colour (3,) times shade (h, w)."""
    return floats(shade) * hue[:, None, None]


def floats(values: NDArray[Any]) -> Floats:
    """Return values as float32."""
    return values.astype(np.float32, copy=False)


def to_image(scene: Floats) -> Image.Image:
    """Return a scene (3, h, w), 0..255, as Pillow has it; what is out of range is clipped."""
    pixels = np.clip(scene, 0, 255, out=scene).astype(np.uint8)
    return Image.merge("RGB", [Image.fromarray(plane) for plane in pixels])


def to_floats(image: Image.Image) -> Floats:
    """Return the colours (3, h, w), 0..255, of what Pillow has."""
    return np.stack([np.asarray(band, np.float32) for band in image.split()])


def plane(size: Size, random: Random) -> tuple[Floats, Floats]:
    """Return coordinates (h, w) in pixels along and across a floor, turned by some degrees."""
    angle = random.normal(0, 0.15) + np.pi / 2 * random.integers(2)
    x, y = np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)[:, None]
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * x + sin * y + 1000, cos * y - sin * x + 1000


def shoot(scene: Floats, random: Random) -> bytes:
    """Return a scene (3, h, w) as a phone shows it: light, white balance, blur, noise, JPEG."""
    size = scene.shape[2], scene.shape[1]
    gains = random.uniform(0.8, 1.12) * random.uniform((0.95, 0.97, 0.87), (1.06, 1.03, 1.04))
    photo = to_image(scene * paint(daylight(size, random), floats(255 * gains)))
    photo = photo.filter(ImageFilter.BoxBlur(random.uniform(0.2, 1.6)))
    grain = random.standard_normal(scene.shape[1:], np.float32) * random.uniform(0.5, 6)
    noisy = to_floats(photo) + paint(grain, floats(random.uniform(0.7, 1, 3)))
    file = io.BytesIO()
    to_image(noisy).save(file, "JPEG", quality=int(random.integers(40, 93)))
    return file.getvalue()


def daylight(size: Size, random: Random) -> Floats:
    """Return light (h, w) around 1 that falls off to one side and to the corners."""
    x = np.linspace(-1, 1, size[0], dtype=np.float32)
    y = np.linspace(-1, 1, size[1], dtype=np.float32)[:, None]
    slope, corners = random.uniform(-0.18, 0.18, 2), random.uniform(0, 0.2)
    light: Floats = 1 + np.float32(slope[0]) * x + np.float32(slope[1]) * y
    light -= np.float32(corners) * (x * x + y * y)
    return light


def main() -> None:
    """Draw two rows of photos of each kind, of one test image of each class a row."""
    from fmnist.data import load_dataset

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a PNG")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    data, random = load_dataset(), np.random.default_rng(chosen.seed)
    sheet = Image.new("RGB", (10 * 150, 2 * len(KINDS) * 150))
    for row in range(2 * len(KINDS)):
        for label in range(10):
            image = data.test_images[random.choice(np.flatnonzero(data.test_labels == label))]
            photo = Image.open(io.BytesIO(simulate(image, KINDS[row // 2], random)))
            photo.thumbnail((148, 148))
            sheet.paste(photo, (150 * label, 150 * row))
    sheet.save(chosen.out)


if __name__ == "__main__":
    main()
