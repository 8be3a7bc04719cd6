"""Generated images, and small networks trained on them, plainly or adversarially."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 10


def draw_images(count: int, seed: int, size: int = 32) -> tuple[Tensor, Tensor]:
    """Draw one of ten shapes at a random position, size, angle and colour, on a smooth coloured background with noise.

    Args:
        count: Number of images, N.
        seed: Seed of the generator.
        size: Height and width in pixels.

    Returns:
        (N,3,size,size) float32 in [0,1], and (N,) int64 classes.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    labels = torch.randint(CLASSES, (count,), generator=generator)
    axis = torch.linspace(-1, 1, size)
    place = (uniform(2, 1, 1) - 0.5) * 0.6
    angle, scale = (uniform(1, 1) - 0.5) * math.pi / 2, 0.4 + 0.2 * uniform(1, 1)
    x, y = axis[None, None, :] - place[:, 0], axis[None, :, None] - place[:, 1]
    u, v = (angle.cos() * x + angle.sin() * y) / scale, (angle.cos() * y - angle.sin() * x) / scale
    inside = _shapes(u, v).gather(0, labels[None, :, None, None].expand(1, -1, size, size))[0]  # (N,size,size)
    ground = F.interpolate(uniform(3, 4, 4), size=size, mode="bicubic").clamp(0, 1)
    colour = (uniform(3, 1, 1) > 0.5).float() * 0.5 + uniform(3, 1, 1) * 0.5
    mixed = torch.where(inside[:, None], 0.85 * colour + 0.15 * ground, 0.5 * ground + 0.25)
    return (mixed + 0.03 * torch.randn(mixed.shape, generator=generator)).clamp(0, 1), labels


def _shapes(u: Tensor, v: Tensor) -> Tensor:
    """Return the ten indicator functions (10,N,H,W) at the object's coordinates."""
    radius, angle, box = (u**2 + v**2).sqrt(), torch.atan2(v, u), torch.maximum(u.abs(), v.abs())
    return torch.stack(
        [
            radius < 1,
            box < 0.85,
            (radius > 0.6) & (radius < 1),
            (torch.minimum(u.abs(), v.abs()) < 0.3) & (box < 1),
            (v > -0.7) & (v < 1 - 1.8 * u.abs()),
            (box < 0.9) & ((2.5 * math.pi * u).sin() > 0),
            radius < 0.65 + 0.35 * (5 * angle).cos(),
            (radius < 1) & ((u - 0.4) ** 2 + v**2 > 0.7),
            torch.minimum((u - 0.6) ** 2 + v**2, (u + 0.6) ** 2 + v**2) < 0.2,
            (box < 0.95) & ((1.6 * math.pi * u).sin() * (1.6 * math.pi * v).sin() > 0),
        ]
    )


def small_cnn() -> nn.Module:
    """Build a ReLU network of 76,000 parameters for 32-pixel images, normalisation included."""
    return nn.Sequential(
        nn.BatchNorm2d(3, affine=False),
        nn.Conv2d(3, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 32, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, CLASSES),
    )


def strided_cnn() -> nn.Module:
    """Build a ReLU network of 76,000 parameters for 32-pixel images whose layers each halve the image."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 96, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, CLASSES),
    )


def train(*, images: int = 6000, seed: int = 0) -> tuple[nn.Module, nn.Module]:
    """Train the small network on drawn images, then a copy of it adversarially.

    Args:
        images: Number of images, those of seed 1.
        seed: Seed of the weights and of the order.

    Returns:
        The plain and the adversarially trained network, in evaluation mode.
    """
    pixels, labels = draw_images(images, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        plain = small_cnn()
        _fit(plain, pixels, labels, epochs=12, peak=4e-3, radius=0.0)
        robust = copy.deepcopy(plain)
        _fit(robust, pixels, labels, epochs=5, peak=1e-3, radius=0.25)
    return plain.eval(), robust.eval()


def _fit(model: nn.Module, pixels: Tensor, labels: Tensor, *, epochs: int, peak: float, radius: float) -> None:
    """Train on images attacked within an L2 radius that grows over the first half; a radius of 0 is plain training."""
    steps = epochs * (len(pixels) // 100)
    optimiser = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps)
    model.train()
    for step in range(steps):
        rows = torch.randint(len(pixels), (100,))
        batch = pixels[rows]
        if radius:
            batch = _attacked(model, batch, labels[rows], radius * min(1, 2 * step / steps))
        loss = F.cross_entropy(model(batch), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


def _attacked(model: nn.Module, images: Tensor, labels: Tensor, radius: float, steps: int = 3) -> Tensor:
    """Return the adversarial images of a training batch, attacked in evaluation mode."""
    model.eval()
    moved = images
    for _ in range(steps):
        leaf = moved.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(leaf), labels), leaf)
        length = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        offset = leaf.detach() + 0.4 * radius * gradient / length - images
        length = torch.linalg.vector_norm(offset, dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        moved = (images + offset * (radius / length).clamp(max=1)).clamp(0, 1)
    model.train()
    return moved
