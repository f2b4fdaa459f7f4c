"""The description of our own interface for programs."""

from __future__ import annotations

from typing import Any

from sao_onnx.serve.formats import BITS, MEDIA_TYPES
from sao_onnx.serve.guard import WITHOUT_KEY
from sao_onnx.serve.models import Models
from sao_onnx.serve.schema import request_schema
from sao_onnx.serve.settings import Settings
from sao_onnx.version import __version__

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}

_JOB = {
    "type": "object",
    "required": ["id", "state", "seed", "fraction"],
    "properties": {
        "id": {"type": "string"},
        "model": {"type": "string"},
        "prompt": {"type": "string"},
        "seed": {"type": "integer"},
        "options": {"type": "object"},
        "created": {"type": "number", "description": "Seconds since 1970."},
        "state": {"enum": ["queued", "running", "done", "failed", "cancelled"]},
        "position": {"type": "integer", "description": "In the queue; 1 is next, 0 is not in it."},
        "step": {"type": "integer"},
        "steps": {"type": "integer"},
        "fraction": {"type": "number", "minimum": 0, "maximum": 1, "description": "Of the expected time of the clip."},
        "seconds_left": {"type": "number", "description": "By what the clips before took."},
        "error": {"type": "object"},
        "seconds": {"type": "number"},
        "sample_rate": {"type": "integer"},
        "channels": {"type": "integer"},
        "timings": {"type": "object", "additionalProperties": {"type": "number"}},
        "audio": {"type": "string"},
    },
}

_ERRORS = {
    401: "The key is missing or wrong.",
    403: "The page may not call this server.",
    413: "The body is too large.",
    421: "The server is not called by that name.",
    404: "There is no such job.",
    409: "The clip is not done, or there is no estimate.",
    422: "A field is unknown or out of range, or fields do not go together.",
    429: "The queue is full; Retry-After tells when to come again.",
    500: "The clip failed.",
    503: "There is too little memory, or the server is ending.",
}

_ERROR_HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "Seconds."}},
}


_BYTES = {"schema": {"type": "string", "format": "binary"}}

_FORMAT = {
    "name": "format",
    "in": "query",
    "schema": {"enum": list(MEDIA_TYPES)},
    "description": "Of the file; comes before Accept.",
}

_BITS = {
    "name": "bits",
    "in": "query",
    "schema": {"enum": sorted({bits for offered in BITS.values() for bits in offered})},
    "description": "Of a sample, for formats that are not compressed; 32, of WAV alone, is floating point. By default 16.",
}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


_JOB_ANSWER = {"description": "The job.", "content": _json({"$ref": "#/components/schemas/Job"})}


def _errors(*codes: int) -> dict[str, Any]:
    return {
        str(code): {
            "description": _ERRORS[code],
            "content": _json({"$ref": "#/components/schemas/Error"}),
            **({"headers": _ERROR_HEADERS[code]} if code in _ERROR_HEADERS else {}),
        }
        for code in codes
    }


def _audio(description: str) -> dict[str, Any]:
    headers = {
        "X-Sao-Seed": {"schema": {"type": "string"}, "description": "Makes the clip again."},
        "X-Sao-Model": {"schema": {"type": "string"}},
        "X-Sao-Recipe": {"schema": {"type": "string"}, "description": "All that the clip was made of, as JSON."},
    }
    media = {name.split(";")[0]: _BYTES for name in MEDIA_TYPES.values()}
    return {"description": description, "headers": headers, "content": media}


def _body() -> dict[str, Any]:
    audio = {
        "type": "string",
        "contentMediaType": "application/octet-stream",
        "description": "To start from: WAV, FLAC, Ogg, Opus, MP3.",
    }
    request = {"$ref": "#/components/schemas/Request"}
    form = {
        "type": "object",
        "required": ["request"],
        "properties": {"request": request, "audio": audio},
        "additionalProperties": False,
    }
    encoding = {"request": {"contentType": "application/json"}}
    return {"required": True, "content": {**_json(request), "multipart/form-data": {"schema": form, "encoding": encoding}}}


def _asking(settings: Settings) -> dict[str, Any]:
    """Operations that ask for a clip."""
    links = {
        name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
        for name in ("getJob", "cancelJob", "getEvents", "getAudio", "getPreview")
    }
    location = {"Location": {"schema": {"type": "string"}, "description": "Of the job."}}
    asked = {"202": {**_JOB_ANSWER, "headers": location, "links": links}}
    refused = _common(settings) | _errors(413, 422, 429, 503)
    return {
        "/v1/jobs": {
            "post": {"operationId": "ask", "summary": "Ask for a clip.", "requestBody": _body(), "responses": asked | refused}
        },
        "/v1/generate": {
            "parameters": [_FORMAT, _BITS],
            "post": {
                "operationId": "generate",
                "summary": "Make a clip and wait for it.",
                "requestBody": _body(),
                "responses": {"200": _audio("The clip.")} | refused | _errors(500),
            },
        },
    }


def _jobs(settings: Settings) -> dict[str, Any]:
    """Operations on a job."""
    found = _common(settings) | _errors(404)
    parameters = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
    range = {"name": "Range", "in": "header", "schema": {"type": "string"}, "description": "bytes=FIRST-LAST"}
    part = {"Content-Range": {"schema": {"type": "string"}}}
    whole = _audio("The whole file.")
    ranges = {
        "200": whole,
        "206": {**whole, "description": "The range.", "headers": whole["headers"] | part},
        "416": {"description": "There is no such range.", "headers": part},
    }
    operations: dict[str, dict[str, Any]] = {
        "": {
            "get": {"operationId": "getJob", "summary": "Where a job stands.", "responses": {"200": _JOB_ANSWER}},
            "delete": {
                "operationId": "cancelJob",
                "summary": "Cancel a job, or drop its clip.",
                "responses": {"200": _JOB_ANSWER, "202": _JOB_ANSWER},
            },
        },
        "/events": {
            "get": {
                "operationId": "getEvents",
                "summary": "Server-sent events: queued, running, preview, done, failed, cancelled.",
                "responses": {"200": {"description": "Events.", "content": {"text/event-stream": {}}}},
            }
        },
        "/audio": {
            "get": {
                "operationId": "getAudio",
                "summary": "The clip, or a range of its bytes.",
                "parameters": [_FORMAT, _BITS, range],
                "responses": ranges | _errors(409, 422),
            }
        },
        "/preview": {
            "get": {
                "operationId": "getPreview",
                "summary": "The latest estimate, two seconds.",
                "responses": {"200": {"description": "WAV.", "content": {"audio/wav": _BYTES}}} | _errors(409),
            }
        },
    }
    for each in operations.values():
        for operation in each.values():
            operation["responses"] |= found
    return {f"/v1/jobs/{{id}}{path}": {"parameters": parameters, **each} for path, each in operations.items()}


def _telling(settings: Settings) -> dict[str, Any]:
    """Operations that tell of the server; probes need no key."""
    about = {
        "/v1/models": ("getModels", "Models."),
        "/v1/options": ("getOptions", "The schema of a request."),
        "/healthz": ("getHealth", "The server answers."),
        "/readyz": ("getReadiness", "Clips can be made."),
    }
    paths: dict[str, Any] = {}
    for path, (name, summary) in about.items():
        responses = {"200": {"description": summary, "content": _json({"type": "object"})}} | _common(settings)
        paths[path] = {"get": {"operationId": name, "summary": summary, "responses": responses}}
        if path in WITHOUT_KEY:
            paths[path]["get"]["security"] = []
            responses.pop("401", None)
    ending = {"description": "The server is ending.", "content": _json({"type": "object"})}
    paths["/readyz"]["get"]["responses"]["503"] = ending
    return paths


def _common(settings: Settings) -> dict[str, Any]:
    return _errors(*([401] if settings.key else []), 403, 421)


def document(models: Models, settings: Settings) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server."""
    schemas = {"Request": request_schema(list(models.bundles), settings.limits), "Job": _JOB, "Error": _ERROR}
    key = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if settings.key else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": "sao-onnx", "version": __version__, "description": "Text to audio."},
        "paths": _asking(settings) | _jobs(settings) | _telling(settings),
        "components": {"schemas": schemas, **key},
        "security": [{"key": []}] if settings.key else [],
    }
