"""The description of our own interface for programs."""

from __future__ import annotations

from typing import Any

from sao_onnx.serve.formats import MEDIA_TYPES
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
    422: "A field is unknown or out of range.",
    429: "The queue is full; Retry-After tells when to come again.",
    500: "The clip failed.",
    503: "There is too little memory.",
}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _errors(*codes: int) -> dict[str, Any]:
    return {
        str(code): {
            "description": _ERRORS.get(code, "There is no such job."),
            "content": _json({"$ref": "#/components/schemas/Error"}),
        }
        for code in codes
    }


def _audio(description: str) -> dict[str, Any]:
    headers = {
        "X-Sao-Seed": {"schema": {"type": "string"}, "description": "Makes the clip again."},
        "X-Sao-Model": {"schema": {"type": "string"}},
        "X-Sao-Recipe": {"schema": {"type": "string"}, "description": "All that the clip was made of, as JSON."},
    }
    media = {name.split(";")[0]: {"schema": {"type": "string", "format": "binary"}} for name in MEDIA_TYPES.values()}
    return {"description": description, "headers": headers, "content": media}


def document(models: Models, settings: Settings) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server."""
    job = {"description": "The job.", "content": _json({"$ref": "#/components/schemas/Job"})}
    body = {
        "required": True,
        "content": {
            **_json({"$ref": "#/components/schemas/Request"}),
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["request"],
                    "properties": {
                        "request": {"type": "string", "description": "The request as JSON."},
                        "audio": {
                            "type": "string",
                            "format": "binary",
                            "description": "To start from: WAV, FLAC, Ogg, Opus, MP3.",
                        },
                    },
                }
            },
        },
    }
    id = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    format = {"name": "format", "in": "query", "schema": {"enum": list(MEDIA_TYPES)}, "description": "Comes before Accept."}
    common = _errors(401, 403, 421)
    refused = common | _errors(413, 422, 429, 503)
    found = common | _errors(404)
    paths: dict[str, Any] = {
        "/v1/jobs": {"post": {"summary": "Ask for a clip.", "requestBody": body, "responses": {"202": job} | refused}},
        "/v1/jobs/{id}": {
            "parameters": [id],
            "get": {"summary": "Where a job stands.", "responses": {"200": job} | found},
            "delete": {"summary": "Cancel a job, or drop its clip.", "responses": {"200": job, "202": job} | found},
        },
        "/v1/jobs/{id}/events": {
            "parameters": [id],
            "get": {
                "summary": "Server-sent events: queued, running, preview, done, failed, cancelled.",
                "responses": {"200": {"description": "Events.", "content": {"text/event-stream": {}}}} | found,
            },
        },
        "/v1/jobs/{id}/audio": {
            "parameters": [id, format],
            "get": {
                "summary": "The clip, or a range of its bytes.",
                "responses": {
                    "200": _audio("The whole file."),
                    "206": _audio("The range."),
                    "409": {"description": "It is not done.", "content": _json({"$ref": "#/components/schemas/Error"})},
                    "416": {"description": "There is no such range."},
                }
                | found
                | _errors(422),
            },
        },
        "/v1/jobs/{id}/preview": {
            "parameters": [id],
            "get": {"summary": "The latest estimate, two seconds.", "responses": {"200": _audio("WAV.")} | found},
        },
        "/v1/generate": {
            "parameters": [format],
            "post": {
                "summary": "Make a clip and wait for it.",
                "requestBody": body,
                "responses": {"200": _audio("The clip.")} | refused | _errors(500),
            },
        },
    }
    for path, summary in (
        ("/v1/models", "Models."),
        ("/v1/options", "The schema of a request."),
        ("/healthz", "The server answers."),
        ("/readyz", "Clips can be made."),
    ):
        answer = {"description": summary, "content": _json({"type": "object"})}
        paths[path] = {"get": {"summary": summary, "responses": {"200": answer} | common}}
    schemas = {"Request": request_schema(list(models.bundles), settings.limits), "Job": _JOB, "Error": _ERROR}
    return {
        "openapi": "3.1.0",
        "info": {"title": "sao-onnx", "version": __version__, "description": "Text to audio."},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{"key": []}] if settings.key else [],
    }
