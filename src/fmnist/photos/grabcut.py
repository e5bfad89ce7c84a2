"""Cut a garment off a background of any kind: GrabCut from several starts, the best kept.

GrabCut (C. Rother, V. Kolmogorov, A. Blake, SIGGRAPH 2004) finds the outline from a rough first
guess. A guess by what differs from the border loses a plain shirt for its print, and one by what
is in the middle loses a garment in the background's colours; so both are tried, and judged.
"""

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from fmnist.photos.silhouette import Mask, filled, main_parts, overlap, ring, smoothed

Lab: TypeAlias = NDArray[np.float32]  # (h, w, 3): L 0..100, a and b about -100..100
Field: TypeAlias = NDArray[np.float32]  # (h, w)
Start: TypeAlias = NDArray[np.uint8]  # (h, w) of cv2.GC_*: odd is garment, even background

SEED = 0  # of OpenCV's random numbers, one state a thread, which k-means draws from
ROUNDS = 2  # of GrabCut; the outline of 4 rounds is another by under 1 % of the area
BORDER = 0.03  # of the longest side: how wide the border is that is taken for background
MARGIN = 0.04  # of the longest side: the frame of the start that takes all inside it for garment
BORDER_COLOURS = 5  # floor, wall, furniture, shadow, and what pokes in
COLOURS = 16  # of a whole picture
RARE = 0.08  # of the border: a colour seen less there may be the garment's own, which touches it
RARE_PENALTY = 20.0  # in Lab, added to the distance from a rare colour of the border
KEEP = 0.2  # of the largest part's weight: the other shoe is kept, a shadow or a price tag is not
HOLE = 0.02  # of the garment's area: smaller holes are prints and buttons, larger ones handles
SAME = 0.9  # overlap of two answers from which a third would not be another
FULL_STEP = 25.0  # in Lab: a step of colour across the outline that leaves no doubt
# Exponents of step, parting and place in the judgement of an answer, chosen on tuning photos.
WEIGHTS = (0.7, 1.5, 0.6)


@dataclass(frozen=True)
class Answer:
    """What GrabCut took for the garment, and how far that can be believed."""

    mask: Mask
    step: float  # 0..1: how clear the step of colour along the outline is
    parting: float  # 0..1: how much of the inside has colours that the outside has not
    place: float  # 0..1: how near it is to where people put what they photograph

    @property
    def merit(self) -> float:
        """What answers are compared by, 0..1."""
        parts = np.array([self.step, self.parting, self.place])
        return float(np.prod(parts ** np.array(WEIGHTS)))

    @property
    def confidence(self) -> float:
        """How well the garment can be told from the background, 0..1."""
        return self.step * self.parting


def grab(small: NDArray[np.uint8], lab: Lab) -> Answer:
    """Return the best cut-out of a picture, (h, w, 3) uint8 RGB and the same in Lab."""
    colours = _palette(lab)
    starts = _from_border(lab), _from_middle(colours)
    answers = [_answer(small, lab, colours, start) for start in starts]
    if overlap(answers[0].mask, answers[1].mask) < SAME:
        answers.append(_answer(small, lab, colours, _from_frame(lab.shape)))
    return max(answers, key=lambda answer: answer.merit)


def _answer(small: NDArray[np.uint8], lab: Lab, colours: NDArray[np.intp], start: Start) -> Answer:
    """Return what GrabCut makes of a start, judged."""
    mask = _cut(small, start)
    mask = filled(main_parts(smoothed(mask), KEEP), HOLE)
    if not mask.any() or mask.all():
        return Answer(mask, 0.0, 0.0, 0.0)
    return Answer(mask, _step(lab, mask), _parting(colours, mask), _place(mask))


def _cut(small: NDArray[np.uint8], start: Start) -> Mask:
    """Return GrabCut's answer to a start; nothing where the start has too few of one side."""
    garment = int((start % 2).sum())
    if min(garment, start.size - garment) < 20:  # GrabCut fits five Gaussians to either side
        return np.zeros(start.shape, bool)
    cv2.setRNGSeed(SEED)
    models = np.zeros((1, 65)), np.zeros((1, 65))  # of the background's and the garment's colours
    rectangle = 0, 0, 0, 0  # not looked at, as there is a mask
    cv2.grabCut(small, start, rectangle, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return np.asarray(start % 2 == 1)


def _from_border(lab: Lab) -> Start:
    """Start from the colours that the border has not."""
    edge = _border(lab.shape)
    middle = _middle(lab.shape)
    unlike, level = _parted(_unlike_border(lab, edge) * (0.3 + 0.7 * middle))
    start = np.full(lab.shape[:2], cv2.GC_PR_BGD, np.uint8)
    start[unlike > 0.9 * level] = cv2.GC_PR_FGD
    start[(middle > 0.85) & (unlike > 0.5 * level)] = cv2.GC_PR_FGD
    start[edge & (unlike <= 1.3 * level)] = cv2.GC_BGD
    start[unlike > max(1.9 * level, 160)] = cv2.GC_FGD
    return start


def _from_middle(colours: NDArray[np.intp]) -> Start:
    """Start from the colours that the middle has more of than the border."""
    edge = _border(colours.shape)
    middle = _middle(colours.shape)
    counts = np.bincount(colours.ravel(), minlength=COLOURS) + 1
    inner = np.bincount(colours.ravel(), middle.ravel(), minlength=COLOURS) / counts
    outer = np.bincount(colours[edge], minlength=COLOURS) / counts * (counts.sum() / edge.sum())
    chances = (inner * np.exp(-0.7 * np.maximum(outer - 0.5, 0))).astype(np.float32)
    likely, level = _parted(_soft(chances[colours]) * (0.3 + 0.7 * middle))
    start = np.where(likely > level, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    start[edge & (likely <= level)] = cv2.GC_BGD
    return start


def _from_frame(shape: tuple[int, ...]) -> Start:
    """Start from all but a frame."""
    frame = ring(shape, max(2, round(MARGIN * max(shape))))
    return np.where(frame, cv2.GC_BGD, cv2.GC_PR_FGD).astype(np.uint8)


def _border(shape: tuple[int, ...]) -> Mask:
    """Return the border, which is mostly background."""
    return ring(shape, max(2, round(BORDER * max(shape))))


def _middle(shape: tuple[int, ...]) -> Field:
    """Return how likely each place is the garment's before looking, 0..1: people aim."""
    height, width = shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    away = ((x / width - 0.5) / 0.39) ** 2 + ((y / height - 0.5) / 0.41) ** 2
    return np.asarray(np.exp(-(away**1.75)), np.float32)


def _parted(field: Field) -> tuple[Field, float]:
    """Return a field stretched to 0..255, with the level that parts it best (Otsu's)."""
    least = field.min()
    stretched = np.asarray((field - least) * (255 / max(field.max() - least, 1e-6)), np.float32)
    level, _ = cv2.threshold(stretched.astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    return stretched, level


def _soft(field: Field) -> Field:
    """Return a field without its finest grain."""
    return np.asarray(cv2.GaussianBlur(field, (0, 0), 0.01 * max(field.shape)))


def _unlike_border(lab: Lab, edge: Mask) -> Field:
    """Return how far each pixel's colour is from the nearest of the border's, in Lab."""
    nearest, centres = _clusters(lab[edge], BORDER_COLOURS)
    shares = np.bincount(nearest, minlength=len(centres)) / len(nearest)
    penalties = np.where(shares > RARE, 0, RARE_PENALTY)
    far = np.stack([np.linalg.norm(lab - centre, axis=2) for centre in centres])
    return _soft((far + penalties[:, None, None]).min(axis=0).astype(np.float32))


def _palette(lab: Lab) -> NDArray[np.intp]:
    """Return which of COLOURS colours of the picture each pixel has: (h, w), 0..COLOURS-1."""
    coarse = lab[::2, ::2].reshape(-1, 3)
    _, centres = _clusters(coarse, COLOURS)
    flat = lab.reshape(-1, 3)
    # The nearest centre c to x is the one with the least |c|^2 - 2 x.c.
    far = (centres**2).sum(axis=1) - 2 * flat @ centres.T
    return np.asarray(far.argmin(axis=1).reshape(lab.shape[:2]))


def _clusters(points: NDArray[np.float32], count: int) -> tuple[NDArray[np.int32], Field]:
    """Return k-means' nearest centre of each point (n,) and the centres (count, 3)."""
    cv2.setRNGSeed(SEED)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    points = np.ascontiguousarray(points)
    nearest = np.zeros((len(points), 1), np.int32)
    colours = min(count, len(points))
    _, _, centres = cv2.kmeans(points, colours, nearest, stop, 1, cv2.KMEANS_PP_CENTERS)
    return nearest.ravel(), np.asarray(centres, np.float32)


def _step(lab: Lab, mask: Mask) -> float:
    """Return the mean step of colour across the outline, 1 where FULL_STEP or more."""
    inner = mask.astype(np.float32)
    share = cv2.blur(inner, (5, 5))
    inside = cv2.blur(lab * inner[..., None], (5, 5)) / np.maximum(share, 1e-3)[..., None]
    rest = np.maximum(1 - share, 1e-3)[..., None]
    outside = cv2.blur(lab * (1 - inner[..., None]), (5, 5)) / rest
    outline = (share > 0.25) & (share < 0.75)
    steps = np.linalg.norm((inside - outside)[outline], axis=1) / FULL_STEP
    return float(np.minimum(steps, 1).mean()) if steps.size else 0.0


def _parting(colours: NDArray[np.intp], mask: Mask) -> float:
    """Return 1 less what the histograms of colours inside and outside have in common."""
    inside = np.bincount(colours[mask], minlength=COLOURS) / mask.sum()
    outside = np.bincount(colours[~mask], minlength=COLOURS) / (~mask).sum()
    return float(1 - np.minimum(inside, outside).sum())


def _place(mask: Mask) -> float:
    """Return the overlap with where garments mostly are, 0..1."""
    middle = _middle(mask.shape)
    return float(np.minimum(middle, mask).sum() / np.maximum(middle, mask).sum())
