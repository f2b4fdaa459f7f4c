"""How much audio the encoder is given at once."""

from __future__ import annotations

from sao_onnx.bundle.manifest import Latents

ENCODER_TILE = 40
"""The most latents that a tile of the encoder is for, where its margins are small. The released model has margins of 8. Its
window of 256 latents is encoded in 6 tiles of 56, a third more than there is, in half a gigabyte instead of one and a half."""


def encoder_tile(latents: Latents, count: int) -> tuple[int, int]:
    """How latents are encoded.

    Args:
        latents: What they are.
        count: How many there are, at least 1.

    Returns:
        Latents of a tile with its margins, and of the margin on each of its sides.
    """
    if latents.margin is None:
        return count, 0
    # Tiles that are small beside their margins would encode everything several times.
    inner, most = count - 2 * latents.margin, max(ENCODER_TILE, 4 * latents.margin)
    return (count if inner <= most else 2 * latents.margin + -(-inner // -(-inner // most))), latents.margin
