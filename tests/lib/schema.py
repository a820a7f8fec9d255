# SPDX-License-Identifier: Apache-2.0
"""Hold answers against docs/openapi.yaml: the part of JSON Schema that the file uses; a word that is not known here is an
error, so that nothing passes unseen."""
import re

import yaml

KNOWN = {"type", "properties", "required", "additionalProperties", "items", "enum", "pattern", "minimum", "maximum",
         "minItems", "$ref", "description", "default", "format"}


class Spec:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            self.doc = yaml.safe_load(f)
        self.seen = set()

    def resolve(self, x):
        while "$ref" in x:
            target = self.doc
            for part in x["$ref"].lstrip("#/").split("/"):
                target = target[part]
            x = target
        return x

    def operation(self, method, path):
        for pattern, item in self.doc["paths"].items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path) and method.lower() in item:
                return pattern, item[method.lower()]
        raise SystemExit(f"no such operation: {method} {path}")

    def answer(self, method, path, status, kind, value):
        """Check one answer; @value: parsed JSON, or None for what is none."""
        pattern, op = self.operation(method, path.split("?")[0])
        where = f"{method} {pattern} {status}"
        if status >= 400:
            content = self.resolve(op["responses"]["default"])["content"]
        else:
            if str(status) not in op["responses"]:
                raise SystemExit(f"{where}: the file does not have this status")
            content = op["responses"][str(status)].get("content", {})
        self.seen.add((method, pattern, status < 400))
        if not content and status == 101:
            return
        if kind.split(";")[0] not in content:
            raise SystemExit(f"{where}: {kind} and not one of {list(content)}")
        if value is not None:
            self.check(where, content[kind.split(";")[0]]["schema"], value)

    def check(self, where, schema, v):
        schema = self.resolve(schema)
        if set(schema) - KNOWN:
            raise SystemExit(f"{where}: words of the schema that are not known: {set(schema) - KNOWN}")
        types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
        kind = types[schema["type"]]
        if not isinstance(v, kind) or (kind is int and isinstance(v, bool)):
            raise SystemExit(f"{where}: {v!r} is no {schema['type']}")
        if "enum" in schema and v not in schema["enum"]:
            raise SystemExit(f"{where}: {v!r} is none of {schema['enum']}")
        if "pattern" in schema and not re.search(schema["pattern"], v):
            raise SystemExit(f"{where}: {v!r} does not match {schema['pattern']}")
        if not schema.get("minimum", v) <= v <= schema.get("maximum", v) if kind is int else False:
            raise SystemExit(f"{where}: {v} is out of bounds")
        if kind is list:
            if len(v) < schema.get("minItems", 0):
                raise SystemExit(f"{where}: too few")
            for i, x in enumerate(v):
                self.check(f"{where}[{i}]", schema["items"], x)
        if kind is dict:
            members, more = schema.get("properties", {}), schema.get("additionalProperties", True)
            for name in schema.get("required", []):
                if name not in v:
                    raise SystemExit(f"{where}: {name} is missing")
            for name, x in v.items():
                if name in members:
                    self.check(f"{where}.{name}", members[name], x)
                elif more is False:
                    raise SystemExit(f"{where}: {name} is not in the file")
                elif isinstance(more, dict):
                    self.check(f"{where}.{name}", more, x)

    def unseen(self):
        every = {(m.upper(), p, True) for p, item in self.doc["paths"].items() for m in item if m != "parameters"}
        return sorted(every - self.seen)
