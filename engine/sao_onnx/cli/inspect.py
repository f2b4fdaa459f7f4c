"""`sao-onnx inspect`: what is in a bundle."""

from __future__ import annotations

import json
from dataclasses import asdict

from sao_onnx.cli.command_options import Bundle, Json
from sao_onnx.cli.streams import printable
from sao_onnx.cli.terminal import closeness, megabytes


def inspect(bundle: Bundle = None, as_json: Json = False) -> None:
    """Show what is in a bundle."""
    from sao_onnx.bundle.bundle import open_bundle
    from sao_onnx.bundle.manifest import DURATION
    from sao_onnx.bundle.names import find

    opened = open_bundle(find(bundle))
    manifest = opened.manifest
    if as_json:
        print(json.dumps(asdict(manifest)))
        return
    model, audio, latents, sampling = manifest.model, manifest.audio, manifest.latents, manifest.sampling
    tools = ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
    print(printable(f"model       {model.name} from {model.source}" + (f" at {model.revision}" if model.revision else "")))
    print(f"audio       {audio.channels} channels at {audio.sample_rate} Hz, window {manifest.window_seconds:.2f} s")
    print(f"latents     {latents.channels} channels, one for {latents.ratio} frames, {manifest.window_latents} in the window")
    print(f"prompt      up to {manifest.conditioning.prompt.max_length} tokens")
    for number in manifest.conditioning.numbers:
        otherwise = "the length" if number.id == DURATION else f"{number.default:g}"
        print(printable(f"number      {number.id} {number.minimum:g} to {number.maximum:g} (by default {otherwise})"))
    print(f"sampling    {sampling.objective}: {sampling.steps} steps of {sampling.sampler}, guidance {sampling.cfg_scale:g}")
    for precision in manifest.precisions:
        print(precision)
        for graph in (graph for graph in manifest.graphs if graph.precision == precision):
            print(f"  {graph.role:<20} {megabytes(opened.weight(graph)):>10}  {closeness(graph)}")
    print(f"size        {megabytes(opened.size)} in {len(manifest.files)} files")
    print(printable(f"made with   {tools}"))
    for file in manifest.files:
        if file.role == "license":
            print(f"licence     {opened.path(file.path)}")
