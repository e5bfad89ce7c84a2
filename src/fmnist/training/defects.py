"""What goes wrong between a photo and its 28x28 image, done to images of Fashion-MNIST.

Cut-outs miss pieces and keep some of the background, light is uneven, cloth has folds, garments are
light or dark, lie askew, face either way; shoes stand in pairs and are seen from above. All is
drawn from one generator, so that an epoch can be repeated.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 28
UNTOUCHED = 0.6  # share of the images that are at most mirrored: the test split has no defects
PAIRS = 0.35  # share of the shoes that are shown as seen from above
CLOTH = 0.04  # of 1: what is brighter belongs to the garment
SHOES = (5, 7, 9)  # sandal, sneaker, ankle boot


class Luck:
    """Random numbers for a batch of images, drawn on the CPU so that a GPU sees the same."""

    def __init__(self, generator: torch.Generator, images: int, device: torch.device) -> None:
        self.generator, self.images, self.device = generator, images, device

    def between(self, low: float, high: float) -> Tensor:
        """Return a number an image, (n, 1, 1, 1)."""
        drawn = torch.rand(self.images, 1, 1, 1, generator=self.generator)
        return (low + (high - low) * drawn).to(self.device)

    def happens(self, share: float) -> Tensor:
        """Return which images are struck, (n, 1, 1, 1) bool."""
        return self.between(0, 1) < share

    def cloud(self, knots: int) -> Tensor:
        """Return smooth noise of mean 0 and variance about 1, (n, 1, 28, 28)."""
        coarse = torch.randn(self.images, 1, knots, knots, generator=self.generator)
        fine = F.interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=False)
        return fine.to(self.device)

    def grain(self) -> Tensor:
        """Return noise of variance 1 in each pixel, (n, 1, 28, 28)."""
        drawn = torch.randn(self.images, 1, SIDE, SIDE, generator=self.generator)
        return drawn.to(self.device)


def with_defects(images: Tensor, labels: Tensor, real: Tensor, seed: torch.Generator) -> Tensor:
    """Return images (n, 1, 28, 28) in 0..1 with the defects of photos.

    `labels` (n,) tell shoes; `real` (n,) bool are photos and drawings already, which have defects
    of their own: half of them are only turned, moved and mirrored.
    """
    luck = Luck(seed, len(images), images.device)
    real = real.view(-1, 1, 1, 1)
    mirrored = torch.where(luck.happens(0.5), images.flip(3), images)
    shoes = torch.isin(labels, torch.tensor(SHOES, device=labels.device)).view(-1, 1, 1, 1)
    from_above = shoes & ~real & luck.happens(PAIRS)
    moved = _move(torch.where(from_above, _pair(images, luck), mirrored), luck)
    garment = _close(moved)
    worn = _leave_residue(_bite(_light(moved, garment, luck), luck), garment, luck)
    worn = _blur_or_sharpen(worn, luck)
    worn = (worn + luck.grain() * luck.between(0, 0.04) * (worn > 0)).clamp(0, 1)
    worn = torch.where(real & luck.happens(0.5), _blur_or_sharpen(moved, luck), worn)
    return torch.where(~real & luck.happens(UNTOUCHED), mirrored, worn)


def _move(images: Tensor, luck: Luck) -> Tensor:
    """Turn by up to 12 degrees (one in ten: 30), stretch, shear and shift."""
    angle = luck.between(-1, 1) * math.radians(12) * torch.where(luck.happens(0.1), 2.5, 1.0)
    wide, high = luck.between(-0.15, 0.15).exp(), luck.between(-0.15, 0.15).exp()
    slant = luck.between(-0.15, 0.15)
    right, down = luck.between(-1, 1) * 4 / SIDE, luck.between(-1, 1) * 4 / SIDE  # 4 / 28 = 2 px
    rows = [
        [angle.cos() * wide, (slant - angle.sin()) * wide, right],
        [angle.sin() * high, angle.cos() * high, down],
    ]
    return _warp(images, rows)


def _pair(images: Tensor, luck: Luck) -> Tensor:
    """Turn shoes upright; most get a mirror image at their side."""
    toes_up = luck.happens(0.5)
    upright = torch.where(toes_up, images.rot90(1, (2, 3)), images.rot90(-1, (2, 3)))
    width, apart, splay = (
        luck.between(low, high) for low, high in ((0.7, 1.1), (0.22, 0.45), (-0.25, 0.25))
    )
    alike = torch.where(luck.happens(0.55), -1.0, 1.0)
    left = _slim(upright, width, -apart, splay)
    right = _slim(upright.flip(3), width, apart, splay * alike)
    alone = _slim(upright, width, luck.between(-0.1, 0.1), splay)
    return torch.where(luck.happens(0.8), torch.maximum(left, right), alone)


def _slim(images: Tensor, width: Tensor, aside: Tensor, angle: Tensor) -> Tensor:
    """Scale images to a share of their width, turn them and move them aside (1: half a side)."""
    one = torch.ones_like(width)
    rows = [
        [angle.cos() / width, -angle.sin() * one, -aside / width],
        [angle.sin() * one, angle.cos() * one, 0 * one],
    ]
    return _warp(images, rows)


def _light(images: Tensor, garment: Tensor, luck: Luck) -> Tensor:
    """Change how light the garment is, evenly and not, and its folds; the background stays 0."""
    tones = images.clamp_min(1e-4) ** luck.between(-0.7, 0.7).exp()
    brightest = (tones * garment).amax((1, 2, 3), keepdim=True)
    turned = (1.05 * brightest - tones).clamp_min(0.03) * garment  # a light print on dark cloth
    tones = torch.where(luck.happens(0.15), turned, tones)
    darkest = luck.between(0, 0.6) * luck.happens(0.6)
    tones = darkest + luck.between(0.25, 1) * tones
    tones = tones + luck.cloud(3) * luck.between(0, 0.15)
    tones = tones + luck.cloud(9) * luck.between(0, 0.15) * luck.happens(0.5)
    tones = tones + luck.cloud(24) * luck.between(0, 0.12) * luck.happens(0.4)
    return torch.where(luck.happens(0.2), images, (tones * garment).clamp(0, 1))


def _bite(images: Tensor, luck: Luck) -> Tensor:
    """Take pieces away, as a cut-out does that misses them."""
    pieces = (luck.cloud(6) > luck.between(1, 2.5)) & luck.happens(0.5)
    return images * ~pieces


def _leave_residue(images: Tensor, garment: Tensor, luck: Luck) -> Tensor:
    """Add what a cut-out left of the surroundings: patches, mostly at the outline; a faint grey."""
    around = torch.where(luck.happens(0.7), F.max_pool2d(garment, 7, 1, 3), 1.0) * (1 - garment)
    patches = (luck.cloud(7) > luck.between(0.8, 2.2)) & luck.happens(0.4) & (around > 0)
    grey = (luck.between(0.05, 0.8) + 0.1 * luck.cloud(14)).clamp(0, 1)
    faint = (luck.between(0, 0.1) + 0.04 * luck.cloud(5)).clamp_min(0) * luck.happens(0.15)
    return torch.maximum(torch.where(patches, grey, images), faint)


def _blur_or_sharpen(images: Tensor, luck: Luck) -> Tensor:
    row = torch.tensor([1.0, 2.0, 1.0], device=images.device) / 4
    blurred = F.conv2d(images, torch.outer(row, row)[None, None], padding=1)
    return (images + (blurred - images) * luck.between(-0.7, 0.9)).clamp(0, 1)


def _close(images: Tensor) -> Tensor:
    """Return where the garment is, small gaps in it included: (n, 1, 28, 28), 0 or 1."""
    grown = F.max_pool2d((images > CLOTH).float(), 3, 1, 1)
    return -F.max_pool2d(-grown, 3, 1, 1)


def _warp(images: Tensor, rows: list[list[Tensor]]) -> Tensor:
    """Sample images at an affine map's places; `rows` are its 2x3 numbers, each (n, 1, 1, 1)."""
    matrix = torch.stack([torch.cat(row, dim=1)[..., 0, 0] for row in rows], dim=1)  # (n, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
