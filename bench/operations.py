"""How many operations a clip takes, reckoned from a model's configuration, and the least time for it on some boards.

    python -m bench.operations [--model models/stable-audio-open-small] [--tokens 10] [--write]

With `--write`, the tables of `bench/BOARDS.md` are made anew. An operation is a multiplication or an addition of a matmul, a
convolution or attention, in the form of the model itself: what 8 bits add (rotations) and the overlap of tiles are not counted.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.common import FULL_SIZE, ROOT, STEPS
from sao_onnx.measuring.operations import Operations

PAGE = ROOT / "bench" / "BOARDS.md"

FOURIER = 256
"""Features of a number and of the time in stable-audio-tools; the embedder of a number has the number itself besides."""

FEED_FORWARD = 4
"""Width of the DiT's feed-forward layers in widths of the DiT; twice as much goes in, because they are gated."""

SHARE = 0.56
"""Share of the units' peak that this engine reaches, from x86: 2.58 TOP in 4.83 s on two cores of a Zen 4 are 535 GOP/s; their
peak is 2 × 3.7 GHz × 128 = 947, if they ran at 3.7 GHz, which that machine does not tell."""


def configured_operations(model: dict[str, Any], t5: dict[str, Any], tokens: int, steps: int = STEPS) -> Operations:
    """Operations of a clip of the whole window.

    Args:
        model: A `model_config.json` of Stable Audio Open's family.
        t5: The configuration of its text encoder.
        tokens: Tokens of the prompt.
        steps: Of the sampler.
    """
    config, diffusion = model["model"], model["model"]["diffusion"]
    window = model["sample_size"] // config["pretransform"]["config"]["downsampling_ratio"]
    ids, numbers = (
        diffusion["cross_attention_cond_ids"],
        [c for c in config["conditioning"]["configs"] if c["type"] == "number"],
    )
    (prompt,) = [c for c in config["conditioning"]["configs"] if c["type"] == "t5"]
    context = prompt["config"]["max_length"] + len(ids) - 1
    width = config["conditioning"]["cond_dim"]
    return Operations(
        _t5(t5, tokens) + len(numbers) * 2 * (FOURIER + 1) * width,
        _context(diffusion["config"], context),
        _step(diffusion["config"], window, context),
        steps,
        _decoder(config["pretransform"]["config"]["decoder"]["config"], window),
    )


def _t5(config: dict[str, Any], tokens: int) -> int:
    inner = config["num_heads"] * config["d_kv"]
    attention = 8 * tokens * config["d_model"] * inner + 4 * tokens**2 * inner
    # A gated feed-forward, as in later T5s, has three matrices.
    matrices = 3 if config["feed_forward_proj"].startswith("gated") else 2
    return int(config["num_layers"]) * int(attention + 2 * matrices * tokens * config["d_model"] * config["d_ff"])


def _context(dit: dict[str, Any], tokens: int) -> int:
    """Tokens to the DiT's width, and keys and values of them for every block."""
    width = dit["embed_dim"]
    return int(2 * tokens * width * (dit["cond_token_dim"] + width + dit["depth"] * 2 * width))


def _step(dit: dict[str, Any], window: int, context: int) -> int:
    width, tokens = dit["embed_dim"], window + 1
    # The time's angles, features and embedding; the global condition's embedding. They make one token.
    token = 2 * (FOURIER // 2 + FOURIER * width + width**2 + dit["global_cond_dim"] * width + width**2)
    ends = 2 * 2 * window * dit["io_channels"] * width
    # Query, key, value and output; query and output of the cross-attention; both ways of the feed-forward.
    matmuls = 2 * tokens * width**2 * (4 + 2 + 3 * FEED_FORWARD)
    attention = 4 * tokens * width * (tokens + context)
    return int(token + ends + dit["depth"] * (matmuls + attention))


def _decoder(config: dict[str, Any], window: int) -> int:
    """The Oobleck decoder: each block an upsampling of two strides' width, and three units of seven taps and one."""
    widths = [config["channels"] * multiple for multiple in (1, *config["c_mults"])]
    made = 2 * 7 * window * config["latent_dim"] * widths[-1]
    frames = window
    for i in reversed(range(len(config["strides"]))):
        wide, narrow, stride = widths[i + 1], widths[i], config["strides"][i]
        made += 2 * frames * wide * narrow * 2 * stride
        frames *= stride
        made += 3 * 2 * frames * narrow**2 * (7 + 1)
    return int(made + 2 * 7 * frames * widths[0] * config["out_channels"])


@dataclass(frozen=True)
class Board:
    """A machine, as its makers and those who measured its cores describe it.

    Attributes:
        name: Of the machine.
        cores: Those that count, with their clock in gigahertz, by kind: (number, clock, name).
        units: What multiplies 8-bit numbers.
        per_cycle: Operations of those units for each core in a cycle.
    """

    name: str
    cores: tuple[tuple[int, float, str], ...]
    units: str
    per_cycle: tuple[int, ...]

    @property
    def peak(self) -> float:
        """Operations in a second."""
        return sum(count * clock * 1e9 * each for (count, clock, _), each in zip(self.cores, self.per_cycle, strict=True))


BOARDS = (
    Board("Raspberry Pi 4", ((4, 1.8, "Cortex-A72"),), "no dot products; `smlal` on 8 lanes of 16 bits, one in a cycle", (16,)),
    Board("Raspberry Pi 5", ((4, 2.4, "Cortex-A76"),), "two `sdot` of 128 bits in a cycle", (64,)),
    Board("Intel N100", ((4, 2.9, "Gracemont"),), "AVX-VNNI, two units of 128 bits", (64,)),
    Board("Apple M1", ((4, 3.2, "Firestorm"),), "four `sdot` of 128 bits in a cycle; no i8mm", (128,)),
    Board("Apple M2", ((4, 3.5, "Avalanche"),), "four `sdot` of 128 bits in a cycle; i8mm besides", (128,)),
)


def board_table(clip: int) -> list[str]:
    """The table of boards in Markdown.

    Args:
        clip: Operations of a clip.
    """
    lines = [
        "| machine | cores | units for 8-bit products | operations a cycle and core | peak, GOP/s | a clip at the peak "
        f"| at {SHARE} of it | measured |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for board in BOARDS:
        cores = ", ".join(f"{count} {name} at {clock:g} GHz" for count, clock, name in board.cores)
        least = clip / board.peak
        lines.append(
            f"| {board.name} | {cores} | {board.units} | {', '.join(map(str, board.per_cycle))} | {board.peak / 1e9:.0f} "
            f"| {least:.1f} s | {least / SHARE:.1f} s | |"
        )
    return lines


def operations_table(operations: Operations) -> list[str]:
    """The table of parts in Markdown."""
    rows = [
        ("text encoder and numbers", operations.text),
        ("what the DiT reads of the prompt, once", operations.context),
        (f"DiT, {operations.steps} steps of {operations.step / 1e9:.1f} GOP", operations.steps * operations.step),
        ("decoder", operations.decoder),
        ("**a clip**", operations.clip),
    ]
    return [
        "| part | GOP |",
        "|---|---|",
        *(f"| {name} | {count / 1e9:.{1 if count < 1e11 else 0}f} |" for name, count in rows),
    ]


def with_tables(page: str, operations: Operations) -> str:
    """A page with its tables made anew: each stands between a comment with its name and one with "end"."""
    for name, lines in (("operations", operations_table(operations)), ("boards", board_table(operations.clip))):
        table = "\n".join(lines)
        before, rest = page.split(f"<!-- {name} -->\n")
        page = f"{before}<!-- {name} -->\n{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    return page


def released(tokens: int = 10, folder: Path = FULL_SIZE) -> Operations:
    """Operations of a model whose two configurations lie in a folder."""
    model, t5 = (json.loads((folder / name).read_text(encoding="utf-8")) for name in ("model_config.json", "t5_config.json"))
    return configured_operations(model, t5, tokens)


def main() -> None:
    """Print the tables, or write them into the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=FULL_SIZE, help="folder with model_config.json and t5_config.json")
    parser.add_argument("--tokens", type=int, default=10, help="tokens of the prompt")
    parser.add_argument("--write", action="store_true", help="make the tables of bench/BOARDS.md anew")
    arguments = parser.parse_args()
    found = released(arguments.tokens, arguments.model)
    if arguments.write:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    else:
        print("\n".join([*operations_table(found), "", *board_table(found.clip)]))


if __name__ == "__main__":
    main()
