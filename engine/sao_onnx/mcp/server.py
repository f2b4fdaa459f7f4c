"""The server: tools are listed and called, clips are queued and made, and what becomes of them is told."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

from sao_onnx.bundle.manifest import DURATION
from sao_onnx.bundle.names import BUILT_IN, default_name, named_models
from sao_onnx.bundle.prompts import OWN, bundle_prompts
from sao_onnx.clip import Clip
from sao_onnx.errors import SaoOnnxError
from sao_onnx.mcp.folder import Folder
from sao_onnx.mcp.tools import LIST_MODELS, TOOLS, Call, as_long_as_its_source, call, schema
from sao_onnx.planning.planner import uses_encoder
from sao_onnx.reading import parse_json
from sao_onnx.request import Request
from sao_onnx.runtime.memory import require_memory
from sao_onnx.serve.job import Job, Status
from sao_onnx.serve.jobs import Jobs
from sao_onnx.serve.models import Models
from sao_onnx.serve.service import statuses
from sao_onnx.serve.settings import Settings
from sao_onnx.version import __version__

logger = logging.getLogger(__name__)

INSTRUCTIONS = (
    "Makes sounds and music from descriptions and saves them as audio files in one folder of the user's. The same prompt, "
    "options, seed and model make the same clip. Clips are made one after the other, which takes a while on a small machine."
)

GRACE = 1.0
"""Seconds that a step may still take when the client has gone."""

EXAMPLES = 10
"""Prompts that are told of a model."""


def all_models() -> tuple[str, ...]:
    """The names of all models that this machine has, the default first."""
    names = (model.name for model in named_models() if model.bundle is not None)
    return tuple(dict.fromkeys((default_name() or BUILT_IN, *names)))


async def serve(settings: Settings, path: Path) -> bool:
    """Serve on stdin and stdout until the client closes them.

    Args:
        settings: Models and limits.
        path: Folder of the clips.

    Returns:
        Whether all work has ended. A step that takes longer than `GRACE` goes on in its thread, which cannot be stopped.

    Raises:
        BundleError: A model cannot be opened.
        RequestError: It lacks the precision.
        FileError: The folder cannot be used.
    """
    folder, models = Folder(path), Models(settings)
    jobs = Jobs(
        models.engine,
        workers=settings.jobs,
        waiting=settings.queue,
        keep_seconds=0,
        idle=None if settings.unload_after is None else models.unload,
        idle_seconds=settings.unload_after or 0,
    )
    try:
        server = made(_Studio(settings, models, jobs, folder))
        # Whatever is printed by others, now or in a buffer until the end, must not reach the client.
        async with stdio_server() as (read, write):
            with contextlib.redirect_stdout(sys.stderr):
                await server.run(read, write, server.create_initialization_options())
    finally:
        jobs.close(GRACE)
    return not jobs.counts()["running"]


def made(studio: _Studio) -> Server[Any]:
    """The server of a studio."""

    async def list_tools(context: Any, asked: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=studio.tools())

    async def call_tool(context: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        return await studio.call(asked.name, asked.arguments or {}, context.session)

    return Server(
        "sao-onnx",
        version=__version__,
        title="Sounds",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


class _Studio:
    """Makes clips for one client."""

    def __init__(self, settings: Settings, models: Models, jobs: Jobs, folder: Folder) -> None:
        self._settings, self._models, self._jobs, self._folder = settings, models, jobs, folder

    def tools(self) -> list[types.Tool]:
        """All tools, as the protocol describes them."""
        names, limits = list(self._models.bundles), self._settings.limits
        makes = types.ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False)
        listing = types.ToolAnnotations(read_only_hint=True, open_world_hint=False)
        found = [
            types.Tool(
                name=name,
                title=tool.title,
                description=tool.description,
                input_schema=schema(tool, names, limits),
                annotations=makes,
            )
            for name, tool in TOOLS.items()
        ]
        about = "List the models that can make clips: their lengths, numbers that they know, and prompts that suit them."
        nothing = {"type": "object", "properties": {}, "additionalProperties": False}
        listed = types.Tool(
            name=LIST_MODELS, title="List the models", description=about, input_schema=nothing, annotations=listing
        )
        return [*found, listed]

    async def call(self, name: str, arguments: Mapping[str, Any], session: Any) -> types.CallToolResult:
        """Call a tool. What a call can be wrong in is told as a result, so that an assistant can mend it.

        Raises:
            MCPError: There is no such tool.
        """
        if name != LIST_MODELS and name not in TOOLS:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {name[:60]!r}; known: {', '.join([*TOOLS, LIST_MODELS])}")
        try:
            if name == LIST_MODELS:
                about = {"models": await anyio.to_thread.run_sync(self._listed)}
                return _result(_lines(about["models"]), about)
            asked = await anyio.to_thread.run_sync(call, TOOLS[name], arguments, self._folder, self._settings.limits)
            return await self._made(asked, session)
        except SaoOnnxError as error:
            return types.CallToolResult(content=[types.TextContent(text=str(error))], is_error=True)
        except Exception:
            logger.exception("a call of %s failed", name)
            problem = "this call failed for a reason that is no mistake of yours; the log of the server has it"
            return types.CallToolResult(content=[types.TextContent(text=problem)], is_error=True)

    async def _made(self, asked: Call, session: Any) -> types.CallToolResult:
        """Make a clip and save it. A call that is cancelled ends the work before its next step."""
        model = asked.model or self._models.default
        # It reads and resamples what the clip starts from.
        job = Job(model, await anyio.to_thread.run_sync(self._checked, model, asked.request))
        self._jobs.submit(job)
        try:
            status = await self._followed(job, session)
        finally:
            self._jobs.cancel(job)
            self._jobs.forget(job)
        if job.clip is None:
            raise SaoOnnxError(status.error or "the clip was cancelled")
        path = await anyio.to_thread.run_sync(self._folder.save, job.clip, asked.name, asked.suffix)
        about = _about(job.clip, path, model)
        said = f"{path} holds {job.clip.seconds:.2f} s of sound, made by {model} with seed {job.clip.seed}. How it was made: "
        return _result(said + job.clip.provenance.to_json(), about)

    def _checked(self, model: str, request: Request) -> Request:
        """The whole request; what cannot be made is refused before the work."""
        bundle, engine = self._models.bundle(model), self._models.engine(model)
        request = as_long_as_its_source(request, bundle.manifest.window_seconds)
        engine.plan(request)
        encoder, jobs = uses_encoder(bundle.manifest, request), self._settings.jobs
        require_memory(bundle, engine.precision, tuning=engine.tuning, keep_loaded=True, encoder=encoder, jobs=jobs)
        return request

    @staticmethod
    async def _followed(job: Job, session: Any) -> Status:
        """Tell how far a clip is, to its end. What is told always rises, as the protocol wants it."""
        told = -1.0
        async with contextlib.aclosing(statuses(job)) as changes:
            async for status in changes:
                if status.fraction > told:
                    told = status.fraction
                    await session.report_progress(told, 1.0, _progress(status))
        return job.status

    def _listed(self) -> list[dict[str, Any]]:
        return [self._model(name) for name in self._models.bundles]

    def _model(self, name: str) -> dict[str, Any]:
        bundle = self._models.bundle(name)
        manifest = bundle.manifest
        own = [prompt for group in bundle_prompts(bundle).values() for prompt in group]
        numbers = [number for number in manifest.conditioning.numbers if number.id != DURATION]
        return {
            "name": name,
            "default": name == self._models.default,
            "window_seconds": round(manifest.window_seconds, 3),
            "sample_rate": manifest.audio.sample_rate,
            "channels": manifest.audio.channels,
            "steps": manifest.sampling.steps,
            "numbers": {number.id: [number.minimum, number.maximum] for number in numbers},
            "prompts": list((own or OWN.get(manifest.model.name, OWN[""]))[:EXAMPLES]),
        }


def _about(clip: Clip, path: Path, model: str) -> dict[str, Any]:
    (recipe,) = parse_json(clip.provenance.to_json()).values()
    return {
        "file": str(path),
        "clip": path.name,
        "seed": clip.seed,
        "seconds": round(clip.seconds, 3),
        "model": model,
        "recipe": recipe,
    }


def _lines(models: list[dict[str, Any]]) -> str:
    """Models as text, a line each."""
    return "\n".join(
        f"{model['name']}{' (the default)' if model['default'] else ''}: windows of {model['window_seconds']} s, "
        f"{model['channels']} channels at {model['sample_rate']} Hz, {model['steps']} steps"
        + "".join(f", {name} from {low:g} to {high:g}" for name, (low, high) in model["numbers"].items())
        + f". Prompts such as: {'; '.join(model['prompts'])}."
        for model in models
    )


def _progress(status: Status) -> str:
    if status.state == "queued":
        return f"waiting at place {status.position} of the queue" if status.position else "waiting"
    return f"step {status.step} of {status.steps}" if status.steps else "beginning"


def _result(text: str, about: dict[str, Any]) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], structured_content=about)
