"""Lights a surface and photographs it: shadows, reflections, perspective, lens, sensor.

Metal shows what stands around it: a ring light, brighter towards the lamp, and the camera's own dark opening.
"""

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.synth.surface import Layer, Surface, noise

MARGIN = 1.12  # side of the canvas beside that of the picture: room to turn it
STEEPEST = 1.6  # slopes are clipped here: a wall is a wall
LEANS = np.linspace(0, 1, 256, dtype=np.float32)  # sine of the angle between a normal and the camera's axis
RING = np.exp(-(((LEANS - 0.36) / 0.13) ** 2))  # how much of the ring light a mirror that leans so shows
ABOVE = np.exp(-((LEANS / 0.2) ** 2))
MAX_SHADOW = 26  # half-resolution steps


@dataclass(frozen=True)
class Camera:
    """Where the camera and the lamp are: homography (3, 3) canvas to picture, lamp direction xyz, looks."""

    size: int
    homography: NDArray[np.float64]
    lamp: tuple[float, float, float]
    tint: tuple[float, float, float]
    ambient: float
    exposure: float
    blur_px: float
    noise: float
    jpeg_quality: int
    glare: bool

    @classmethod
    def draw(cls, size: int, side: int, rng: np.random.Generator) -> "Camera":
        """A camera that looks at the middle of a canvas of `side` pixels and never beyond its edge."""
        spare = (side - size) / 2
        turn = float(np.deg2rad(np.clip(rng.normal(0, 1.5), -3.5, 3.5)))
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (size / 2)
        seen = corners @ rotation.T * rng.uniform(0.94, 1.0) + rng.uniform(-0.25, 0.25, (4, 2)) * spare + side / 2
        target = np.array([(0, 0), (size, 0), (size, size), (0, size)], np.float32)
        azimuth = rng.uniform(0, 2 * np.pi)
        elevation = np.deg2rad(rng.uniform(42, 68))
        flat = float(np.cos(elevation))
        return cls(
            size,
            np.asarray(cv2.getPerspectiveTransform(seen.astype(np.float32), target), np.float64),
            (float(np.cos(azimuth) * flat), float(np.sin(azimuth) * flat), float(np.sin(elevation))),
            (float(rng.normal(1.02, 0.05)), 1.0, float(rng.normal(0.97, 0.06))),
            float(rng.uniform(0.3, 0.5)),
            float(rng.uniform(0.85, 1.25)),
            float(rng.uniform(0.55, 1.05)) * size / 640,
            float(rng.uniform(0.006, 0.018)),
            int(rng.integers(82, 96)),
            bool(rng.random() < 0.25),
        )

    @property
    def pixel_matrix(self) -> NDArray[np.float64]:
        """The homography for OpenCV, whose pixel centres lie at whole numbers; here they lie at +0.5."""
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
        matrix: NDArray[np.float64] = np.linalg.inv(half) @ self.homography @ half
        return matrix

    def to_picture(self, points_xy: NDArray[np.float64]) -> NDArray[np.float64]:
        """Canvas points (N, 2) as pixels of the picture."""
        homogeneous = np.column_stack([points_xy, np.ones(len(points_xy))]) @ self.homography.T
        placed: NDArray[np.float64] = homogeneous[:, :2] / homogeneous[:, 2:]
        return placed

    def sees(self, box_xyxy: tuple[float, float, float, float]) -> bool:
        """Whether a box of the canvas lies wholly in the picture."""
        x1, y1, x2, y2 = box_xyxy
        points = self.to_picture(np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)]))
        return bool((points > 3).all() and (points < self.size - 3).all())

    def project(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A mask of the canvas as the picture shows it, 0 or 1 (size, size)."""
        warped = cv2.warpPerspective(mask, self.pixel_matrix, (self.size, self.size), flags=cv2.INTER_LINEAR)
        return (warped > 100).astype(np.uint8)


def photograph(
    surface: Surface, camera: Camera, hard_negatives: Counter[str], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture (size, size, 3) RGB."""
    light = _light(surface, camera)
    shape = (camera.size, camera.size)
    warped = cv2.warpPerspective(
        light, camera.pixel_matrix, shape, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    picture: Layer = np.asarray(warped, np.float32)
    y, x = (axis.astype(np.float32) for axis in np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j])
    slope = float(rng.uniform(0, 0.22))
    uneven = 1 + slope * (x * camera.lamp[0] + y * camera.lamp[1]) - 0.1 * (x * x + y * y)
    uneven += 0.05 * noise(shape, camera.size / 2.2, rng)
    uneven *= camera.exposure
    cv2.multiply(picture, cv2.merge([uneven * share for share in camera.tint]), dst=picture)
    if camera.glare:
        at, spread = rng.uniform(-0.9, 0.9, 2), rng.uniform(0.15, 0.4, 2)
        glare = np.exp(-(((x - at[0]) / spread[0]) ** 2) - ((y - at[1]) / spread[1]) ** 2)
        glare = (glare * rng.uniform(0.05, 0.14)).astype(np.float32)
        cv2.add(picture, cv2.merge([glare, glare, glare]), dst=picture)
        hard_negatives["reflection"] += 1
    # Bloom: a little of what is too bright spreads over its surroundings.
    small = cv2.resize(picture, (shape[1] // 4, shape[0] // 4), interpolation=cv2.INTER_AREA)
    glow = cv2.GaussianBlur(0.35 * np.maximum(small - 0.7, 0), (0, 0), 1.8)
    cv2.add(picture, cv2.resize(glow, shape, interpolation=cv2.INTER_LINEAR), dst=picture)
    cv2.GaussianBlur(picture, (0, 0), camera.blur_px, dst=picture)
    picture /= 1 + 0.25 * picture  # a soft shoulder
    picture *= 1.2 * 255 * 255
    np.sqrt(picture, out=picture)
    grain = rng.standard_normal(picture.shape, dtype=np.float32)
    grain *= camera.noise * 255
    picture += grain
    return np.clip(picture, 0, 255, out=picture).astype(np.uint8)


def _light(surface: Surface, camera: Camera) -> Layer:
    """What every point of the surface sends to the camera (H, W, 3), linear."""
    lamp_x, lamp_y, lamp_z = (np.float32(value) for value in camera.lamp)
    relief: Layer = np.asarray(
        cv2.GaussianBlur(surface.height * np.float32(surface.px_per_mm), (0, 0), 0.9), np.float32
    )
    slope_x = np.clip(cv2.Sobel(relief, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8), -STEEPEST, STEEPEST)
    slope_y = np.clip(cv2.Sobel(relief, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8), -STEEPEST, STEEPEST)
    normal_z = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    toward = -(slope_x * lamp_x + slope_y * lamp_y) * normal_z  # how far the normal leans towards the lamp
    shadow, nook = _shade(relief, camera)
    diffuse = np.maximum(toward + normal_z * lamp_z, 0) * (1 - 0.85 * shadow)
    ambient = np.float32(camera.ambient) * (1 - nook)
    lean = np.sqrt(np.maximum(1 - normal_z * normal_z, 0))
    steps = (lean * 255).astype(np.uint8)
    ring = cv2.LUT(steps, RING) * (0.55 + 0.75 * toward / (lean + 0.05))
    above = cv2.LUT(steps, ABOVE)
    mirrored = np.maximum(0.1 + 1.9 * ring + 0.4 * above, 0.04) * (1 - 0.45 * shadow)
    matte = (ambient + 0.75 * diffuse) * (1 - 0.84 * surface.gloss)
    polish = surface.gloss * mirrored
    # A coat reflects white, metal its own colour.
    metal = np.clip(2 * surface.gloss - 0.4, 0, 1)
    sheen = polish * (1 - metal) * 0.22
    own = matte + polish * metal * 1.15
    lit = cv2.multiply(surface.albedo, cv2.merge([own, own, own]))
    return np.asarray(cv2.add(lit, cv2.merge([sheen, sheen, sheen]), dst=lit), np.float32)


def _shade(relief: Layer, camera: Camera) -> tuple[Layer, Layer]:
    """How much of the lamp (H, W) and of the sky (H, W) is hidden, 0..1, worked out at half resolution."""
    half = cv2.resize(relief, (relief.shape[1] // 2, relief.shape[0] // 2), interpolation=cv2.INTER_AREA) / 2
    x, y, z = camera.lamp
    flat = float(np.hypot(x, y))
    drop, step = z / flat, 1.5  # how far a ray sinks over a pixel, and pixels between two looks
    highest = half.copy()
    reach = min(MAX_SHADOW, int(float(half.max()) / (drop * step)) + 1)
    for k in range(1, reach + 1):
        shift = np.array([[1, 0, -x / flat * k * step], [0, 1, -y / flat * k * step]])
        moved = cv2.warpAffine(half, shift, half.shape[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        np.maximum(highest, moved - np.float32(k * step * drop), out=highest)
    shadow = cv2.GaussianBlur(np.clip((highest - half - 0.4) / 1.5, 0, 1), (0, 0), 1.8)
    nook = np.clip((cv2.GaussianBlur(half, (0, 0), 5) - half) / 14, 0, 0.6)
    size = relief.shape[::-1]
    return np.asarray(cv2.resize(shadow, size), np.float32), np.asarray(cv2.resize(nook, size), np.float32)
