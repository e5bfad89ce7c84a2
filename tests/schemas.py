"""What an OpenAPI document says of an answer, held against the answer."""

from typing import Any

TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


def conforms(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> str:
    """Why a value is not as an OpenAPI schema has it; empty where it is."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        return conforms(value, document["components"]["schemas"][name], document)
    if "anyOf" in schema:
        faults = [conforms(value, each, document) for each in schema["anyOf"]]
        return "" if "" in faults else "; ".join(faults)
    kind = schema.get("type")
    if isinstance(kind, list):
        faults = [conforms(value, {**schema, "type": each}, document) for each in kind]
        return "" if "" in faults else "; ".join(faults)
    if kind is None:
        return ""
    if not isinstance(value, TYPES[kind]) or (kind != "boolean" and isinstance(value, bool)):
        return f"{value!r:.80} is no {kind}"
    if kind == "array":
        within = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        items = schema.get("items", {})
        faults = [conforms(each, items, document) for each in value]
        return "; ".join(filter(None, faults)) if within else f"{len(value)} items"
    if kind == "object":
        return object_conforms(value, schema, document)
    low, high = schema.get("minimum"), schema.get("maximum")
    outside = (low is not None and value < low) or (high is not None and value > high)
    return f"{value} is out of bounds" if outside else ""


def object_conforms(value: dict[str, Any], schema: dict[str, Any], document: Any) -> str:
    """As `conforms`; a key that the document does not name is a fault too."""
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    missing = set(schema.get("required", ())) - set(value)
    if missing or (others is None and set(value) - set(known)):
        return f"keys {sorted(value)}, where {sorted(known)} are known"
    faults = [conforms(each, known.get(key, others), document) for key, each in value.items()]
    return "; ".join(filter(None, faults))
