"""`sao-onnx inspect`: what is in a bundle."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from sao_onnx.cli.command_options import Bundle, Json
from sao_onnx.cli.streams import printable
from sao_onnx.cli.terminal import closeness, megabytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sao_onnx.bundle import bundle as bundles
    from sao_onnx.bundle.manifest import Base, Model

RELEASED = "stabilityai/stable-audio-open-small"
"""The repository of the released model."""

SHOWN = 3
"""Prompts of a model that are shown."""

LONGEST = 80
"""Characters of a title or a prompt that are shown."""


def inspect(bundle: Bundle = None, as_json: Json = False) -> None:
    """Show what is in a bundle."""
    from sao_onnx.bundle.bundle import open_bundle
    from sao_onnx.bundle.names import find

    opened = open_bundle(find(bundle))
    manifest = opened.manifest
    if as_json:
        print(json.dumps(asdict(manifest)))
        return
    audio, latents, sampling = manifest.audio, manifest.latents, manifest.sampling
    tools = ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
    for line in _what(opened):
        print(printable(line))
    print(f"audio       {audio.channels} channels at {audio.sample_rate} Hz, window {manifest.window_seconds:.2f} s")
    print(f"latents     {latents.channels} channels, one for {latents.ratio} frames, {manifest.window_latents} in the window")
    print(f"prompt      up to {manifest.conditioning.prompt.max_length} tokens")
    for line in (*_numbers(opened), *_prompts(opened)):
        print(printable(line))
    print(f"sampling    {sampling.objective}: {sampling.steps} steps of {sampling.sampler}, guidance {sampling.cfg_scale:g}")
    for precision in manifest.precisions:
        print(precision)
        for graph in (graph for graph in manifest.graphs if graph.precision == precision):
            print(f"  {graph.role:<20} {megabytes(opened.weight(graph)):>10}  {closeness(graph)}")
    print(f"size        {megabytes(opened.size)} in {len(manifest.files)} files")
    print(printable(f"made with   {tools}"))
    for line in _licences(opened):
        print(printable(line))


def _what(opened: bundles.Bundle) -> Iterator[str]:
    """What kind of model it is, and where it comes from."""
    manifest, model = opened.manifest, opened.manifest.model
    yield f"model       {model.name} from {_place(model)}"
    if model.weights:
        yield f"weights     {model.weights}"
    if model.base:
        yield f"base        {', '.join(model.base.parts)} from {_place(model.base)}"
    for lora in manifest.loras:
        yield f"lora        {lora.name} at strength {lora.strength:g}, SHA-256 {lora.sha256[:12]}"
    kind = "another model of the family: a fine-tune, or one trained anew"
    if model.source.lower() == RELEASED:
        kind = "the released model"
    elif model.base:
        kind = f"a fine-tune of {model.base.source}"
    yield f"kind        {kind}{', with LoRAs merged into it' if manifest.loras else ''}"


def _place(origin: Model | Base) -> str:
    return origin.source + (f" at {origin.revision}" if origin.revision else "")


def _numbers(opened: bundles.Bundle) -> Iterator[str]:
    from sao_onnx.bundle.manifest import DURATION

    for number in opened.manifest.conditioning.numbers:
        otherwise = "the length" if number.id == DURATION else f"{number.default:g}"
        yield f"number      {number.range}, by default {otherwise}"


def _prompts(opened: bundles.Bundle) -> Iterator[str]:
    """Prompts that the model brings. One that cannot be read hides nothing else."""
    from sao_onnx.bundle.prompts import bundle_prompts
    from sao_onnx.errors import BundleError

    try:
        groups = bundle_prompts(opened)
    except BundleError as error:
        yield f"prompts     cannot be used: {error}"
        return
    if groups:
        counts = ", ".join(f"{len(prompts)} of {name}" for name, prompts in groups.items())
        yield f"prompts     {_short(counts)}, which gen --surprise draws from"
        first = [prompt for prompts in groups.values() for prompt in prompts][:SHOWN]
        yield from (f"            {_short(prompt)}" for prompt in first)


def _licences(opened: bundles.Bundle) -> Iterator[str]:
    """The licences: their first line, and the file."""
    from sao_onnx.errors import FileError
    from sao_onnx.reading import read_small

    for file in opened.manifest.files:
        if file.role == "license":
            path = opened.path(file.path)
            try:
                text = read_small(path, 10_000_000).decode("utf-8", "replace")
            except (FileError, FileNotFoundError):
                text = ""
            title = next((line.strip(" #*=\t") for line in text.splitlines() if line.strip(" #*=\t")), "")
            yield f"licence     {_short(title)}, in {path}" if title else f"licence     {path}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
