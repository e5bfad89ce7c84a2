"""The Open Inference Protocol's endpoints as /openapi.json describes them (OpenAPI 3.1)."""

from typing import Any

from fmnist.serving.api_openapi import DESCRIPTIONS
from fmnist.serving.protocol import HEADER_LENGTH, MODELS, VERSION

_Part = dict[str, Any]  # of an OpenAPI document

_REFUSED = {404: "There is no such model or version.", **DESCRIPTIONS}


def openapi_paths() -> _Part:
    """Return the protocol's paths, for `paths` of an OpenAPI document."""
    ready = _readiness("Whether requests are answered", _flags("live", "ready"), 503)
    paths: _Part = {
        "/v2/health/live": {"get": _operation("Whether the server is live", _flags("live"), 503)},
        "/v2/health/ready": {"get": ready},
    }
    paths["/v2"] = {"get": _operation("What answers, and its extensions", _SERVER, 401)}
    for path, parameters in _MODEL_PATHS.items():
        told: _Part = {"parameters": parameters}
        paths[path] = told | {"get": _operation("What a model takes and gives", _MODEL, 401, 404)}
        told_as_tritons = _operation("The same as Triton's configuration", _CONFIG, 401, 404)
        paths[f"{path}/config"] = told | {"get": told_as_tritons}
        flag = _object(name=_STRING, ready=_FLAG)
        ready = _readiness("Whether a model is ready", flag, 401, 404, 503)
        paths[f"{path}/ready"] = told | {"get": ready}
        paths[f"{path}/infer"] = told | {"post": _infer()}
    return paths


def _operation(summary: str, schema: _Part, *refused: int) -> _Part:
    """Return an operation whose answer is JSON."""
    answers: dict[int, _Part] = {200: {"description": "The answer.", "content": _json(schema)}}
    answers |= {
        status: {"description": _REFUSED[status], "content": _json(_object(error=_STRING))}
        for status in refused
    }
    return {
        "tags": ["Open Inference Protocol v2"],
        "summary": summary,
        "responses": {str(status): answer for status, answer in answers.items()},
    }


def _readiness(summary: str, schema: _Part, *refused: int) -> _Part:
    operation = _operation(summary, schema, *refused)
    unready = _object("error", error=_STRING, ready=_FLAG)
    operation["responses"]["503"]["content"] = _json(unready)
    return operation


def _infer() -> _Part:
    operation = _operation("Ask a model", _ANSWER, *_REFUSED)
    answer = operation["responses"]["200"]
    answer["content"] |= _BINARY
    answer["headers"] = {HEADER_LENGTH: {"schema": _LENGTH, "description": "of the JSON, if any"}}
    return operation | {
        "description": "JSON, or JSON with binary tensors behind it, or (length 0) a tensor alone.",
        "parameters": [{"name": HEADER_LENGTH, "in": "header", "schema": _LENGTH}],
        "requestBody": {"required": True, "content": _json(_REQUEST) | _BINARY},
    }


def _json(schema: _Part) -> _Part:
    return {"application/json": {"schema": schema}}


def _object(*required: str, **properties: _Part) -> _Part:
    return {"type": "object", "required": list(required or properties), "properties": properties}


def _flags(*names: str) -> _Part:
    return _object(**dict.fromkeys(names, _FLAG))


def _list(items: _Part, **limits: int) -> _Part:
    return {"type": "array", "items": items, **limits}


def _in_path(name: str, values: list[str]) -> _Part:
    schema = {"type": "string", "enum": values}
    return {"name": name, "in": "path", "required": True, "schema": schema}


_STRING, _FLAG, _LENGTH = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_SHAPE = _list({"type": "integer"}, minItems=1)
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_DESCRIBED = _object(name=_STRING, datatype=_STRING, shape=_SHAPE)
_INPUT = _object(
    *("name", "datatype", "shape"),
    name=_STRING,
    datatype=_STRING,
    shape=_SHAPE,
    parameters={
        **_PARAMETERS,
        "description": "content_type base64: in JSON its data are files in base64",
    },
)
_TENSOR = _object(
    *("name", "shape", "datatype"),
    name=_STRING,
    shape=_SHAPE,
    datatype=_STRING,
    parameters=_PARAMETERS,
    data={"type": "array", "description": "files of fmnist_photo in base64"},
)
_REQUEST = _object(
    "inputs",
    id=_STRING,
    parameters=_PARAMETERS,
    inputs=_list(_TENSOR, minItems=1, maxItems=1),
    outputs=_list(_object("name", name=_STRING, parameters=_PARAMETERS)),
)
_ANSWER = _object(
    *("model_name", "model_version", "outputs"),
    model_name=_STRING,
    model_version=_STRING,
    id=_STRING,
    outputs=_list(_TENSOR),
)
_SERVER = _object(name=_STRING, version=_STRING, extensions=_list(_STRING))
_MODEL = _object(
    name=_STRING,
    versions=_list(_STRING),
    platform=_STRING,
    inputs=_list(_INPUT),
    outputs=_list(_DESCRIBED),
)
_CONFIGURED = _list(_object(name=_STRING, data_type=_STRING, dims=_list({"type": "integer"})))
_CONFIG = _object(
    name=_STRING,
    platform=_STRING,
    max_batch_size={
        **_LENGTH,
        "description": "images in a request; 0: dims begin with the number of files",
    },
    input=_CONFIGURED,
    output=_CONFIGURED,
)
_NAMED = [_in_path("model", list(MODELS))]
_MODEL_PATHS = {
    "/v2/models/{model}": _NAMED,
    "/v2/models/{model}/versions/{version}": [*_NAMED, _in_path("version", [VERSION])],
}
