"""Checks HTTP exchanges against an OpenAPI document: one JSON object a line in, one complaint a line out, each with the
number of its exchange."""

import json
import re
import sys

from openapi_core import Config, OpenAPI
from openapi_core.testing import MockRequest, MockResponse

document = json.load(open(sys.argv[1]))


def mend(node, pointer):
    """Bundling the document into one file has left the mappings of discriminators pointing to the files there were: they
    stand in the order of the alternatives."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            mend(item, f"{pointer}/{number}")
    elif isinstance(node, dict):
        mapping = node.get("discriminator", {})
        mapping = mapping.get("mapping", {}) if isinstance(mapping, dict) else {}
        for key in ("anyOf", "oneOf"):
            if len(node.get(key, ())) == len(mapping) and not all(to.startswith("#") for to in mapping.values()):
                for number, word in enumerate(mapping):
                    mapping[word] = f"#{pointer}/{key}/{number}"
        for key, item in node.items():
            escaped = key.replace("~", "~0").replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
            mend(item, f"{pointer}/{escaped}")


mend(document["paths"], "/paths")
server = document["servers"][0]["url"].rstrip("/")
# The document is DigitalOcean's to check; what is checked here are the exchanges.
api = OpenAPI.from_dict(document, config=Config(spec_validator_cls=None))


def resolve(node):
    while "$ref" in node:
        target = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            part = part.replace("%7B", "{").replace("%7D", "}").replace("~1", "/").replace("~0", "~")
            target = target[int(part)] if isinstance(target, list) else target[part]
        node = target
    return node


def parts(schema):
    """Every schema that describes the same value."""
    schema = resolve(schema)
    yield schema
    for key in ("allOf", "anyOf", "oneOf"):
        for sub in schema.get(key, ()):
            yield from parts(sub)


def unknown(schemas, value, where):
    """What a value has that no schema describes. OpenAPI allows it; a mistyped name looks like this."""
    schemas = [part for schema in schemas for part in parts(schema)]
    if isinstance(value, list):
        items = [schema["items"] for schema in schemas if "items" in schema]
        for item in value if items else ():
            yield from unknown(items, item, where + "[]")
    if isinstance(value, dict):
        known = {}
        for schema in schemas:
            for name, sub in schema.get("properties", {}).items():
                known.setdefault(name, []).append(sub)
        for name, item in value.items():
            if name not in known:
                yield f"{where}.{name} is not described"
            else:
                yield from unknown(known[name], item, f"{where}.{name}")


def operation(method, path):
    """The operation that a request means: the path with the fewest parameters that fits."""
    given = path.split("/")
    fits = []
    for pattern, item in document["paths"].items():
        words = pattern.split("/")
        same = all(word == part or word.startswith("{") for word, part in zip(words, given))
        if len(words) == len(given) and same and method in item:
            fits.append((pattern.count("{"), pattern, item))
    if not fits:
        return None
    _, _, item = min(fits, key=lambda fit: fit[0])
    return item[method], item.get("parameters", [])


def content(described):
    """The schema of a JSON body."""
    return resolve(described).get("content", {}).get("application/json", {}).get("schema")


def reasons(error):
    """An error with what it comes from."""
    while error is not None:
        yield str(error) or repr(error)
        yield from (inner.message for inner in getattr(error, "schema_errors", ()))
        error = error.__cause__


def check(exchange):
    method, path = exchange["method"].lower(), exchange["path"]
    found = operation(method, path)
    if found is None:
        yield "no such operation is described"
        return
    described, shared = found
    known = {resolve(parameter)["name"] for parameter in described.get("parameters", []) + shared}
    yield from (f"the parameter {name} is not described" for name in exchange["query"] if name not in known)

    body = exchange["body"].encode()
    headers = exchange["headers"]
    request = MockRequest(
        server, method, path, path_pattern=None, args=exchange["query"], headers=headers,
        data=body or None, content_type=headers.get("content-type", ""),
    )
    try:
        api.validate_request(request)
    except Exception as error:
        yield "request: " + ": ".join(reasons(error))
    schema = content(described.get("requestBody", {}))
    if body and schema is None:
        yield "request: a body where none is described"
    elif body:
        yield from unknown([schema], json.loads(body), "request")

    status, answer = exchange["status"], exchange["answer"].encode()
    headers = exchange["answer_headers"]
    responses = described["responses"]
    response = MockResponse(answer, status, headers=headers, content_type=headers.get("content-type", ""))
    try:
        api.validate_response(request, response)
    except Exception as error:
        yield f"answer {status}: " + ": ".join(reasons(error))
    schema = content(responses.get(str(status)) or responses["default"])
    if answer and schema is None:
        yield f"answer {status}: a body where none is described"
    elif answer:
        yield from unknown([schema], json.loads(answer), "answer")


# An exchange that differs from one before only in its ids is not checked again.
IDS = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|token=[0-9a-f]{32}|-[0-9a-f]{8}\b|/actions/\d+|id\\?":\d+')
seen = set()
for number, line in enumerate(sys.stdin):
    shape = IDS.sub(lambda found: f"<{len(found[0])}>", line)
    if shape in seen:
        continue
    seen.add(shape)
    exchange = json.loads(line)
    for complaint in check(exchange):
        print(f"{number}: {exchange['method']} {exchange['path']}: {complaint}")
