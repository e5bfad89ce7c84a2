"""The JSON API's requests and answers as /openapi.json describes them; docs/json.md in types."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

Index = Annotated[int, Field(ge=0, le=9)]
Probability = Annotated[float, Field(ge=0, le=1)]
PNG = Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})]


class Guess(BaseModel):
    """One class, and how likely it is."""

    label: str
    class_index: Index
    probability: Probability


class Steps(BaseModel):
    """The picture's way to the answer, each step a PNG in base64: those that were asked for."""

    original: PNG = Field(default="", description="upright, at most 640 pixels long")
    cutout: PNG = Field(default="", description="the garment alone, on light grey")
    image: PNG = Field(default="", description="28x28, grey: what the network saw")
    explained: PNG = Field(
        default="", description="the picture, orange where it speaks for the class, blue against it"
    )


class Answer(BaseModel):
    """What is to be said of a picture, as `fmnist predict --json` has it."""

    path: str = Field(description="the file's name as sent; empty for a raw body")
    label: str
    class_index: Index
    probability: Probability
    accepted: bool = Field(description="false: not sure, or no garment was found")
    top: list[Guess] = Field(min_length=1, max_length=10, description="likeliest first")
    warnings: list[str] = Field(description="advice in plain words")
    steps: Steps | None = Field(default=None, description="only where asked for")


class Unread(BaseModel):
    """A picture that cannot be read."""

    path: str
    error: str = Field(description="what is wrong and what to do, in one line")


class Answers(BaseModel):
    """An answer for each file, in the order of the files; at least one could be read."""

    predictions: list[Answer | Unread]


class Refused(BaseModel):
    """A request that was turned down."""

    error: str = Field(description="what is wrong and what to do, in one line")


class AllUnread(Refused):
    """None of the pictures could be read; `error` is the first one's."""

    predictions: list[Unread] | None = None


class Limits(BaseModel):
    """What a request may hold."""

    files: int = Field(description="pictures in one request")
    body_bytes: int = Field(description="of a request, before and after decompression")
    pixels: int = Field(description="of one picture")
    images: int = Field(description="28x28, in one request of the Open Inference Protocol")
    deadline_seconds: float = Field(description="from a whole request to its answer")


class Model(BaseModel):
    """The network that answers; null where its file does not say."""

    recipe: str | None
    network: str | None
    precision: str | None
    temperature: float


class About(BaseModel):
    """What answers here, and what it takes."""

    name: str
    version: str
    model: Model
    class_names: list[str] = Field(min_length=10, max_length=10)
    least_probability: Probability
    limits: Limits
    token_needed: bool


# Why a request is turned down, whatever it asks.
DESCRIPTIONS = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    403: "The request comes from another site's page.",
    408: "The body did not arrive in time.",
    413: "The body or a picture is too large.",
    415: "A picture is of no kind that is read, or the body of no coding that is.",
    422: "A picture is damaged.",
    429: "Too many requests; wait as Retry-After says.",
    503: "Too many requests wait; try again as Retry-After says.",
    504: "No answer within the deadline.",
}
_UNREAD = {413, 415, 422}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": DESCRIPTIONS[status]} for status in (400, 401, 429)
}
ERRORS_OF_PREDICT: dict[int | str, dict[str, Any]] = {
    status: {"model": AllUnread if status in _UNREAD else Refused, "description": reason}
    for status, reason in DESCRIPTIONS.items()
}

_FILE = {"type": "string", "format": "binary"}
REQUEST_BODY = {
    "required": True,
    "description": "Files of a form, under any field names, or the bytes of one picture.",
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "array", "items": _FILE, "minItems": 1}},
                "additionalProperties": {"oneOf": [_FILE, {"type": "array", "items": _FILE}]},
            }
        },
        "image/*": {"schema": _FILE},
        "application/octet-stream": {"schema": _FILE},
    },
}
