"""`/docs`: the API as a plain page, made from its own description and nothing else."""

from html import escape
from typing import Any


def reference(openapi: dict[str, Any]) -> str:
    """The page for an OpenAPI description."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>{escape(openapi['info']['title'])}: API</title>",
        "<link rel=stylesheet href=/style.css><body class=docs><main>",
        f"<h1>{escape(openapi['info']['title'])}: API</h1>",
        f"<p>{escape(openapi['info']['description'])} For programs: ",
        "<a href=/openapi.json>openapi.json</a>. The page: <a href=/>/</a>.</p>",
    ]
    for path, methods in openapi["paths"].items():
        for method, told in methods.items():
            parts += _operation(path, method, told)
    for name, schema in openapi.get("components", {}).get("schemas", {}).items():
        if name not in ("HTTPValidationError", "ValidationError"):
            parts += _schema(name, schema)
    return "\n".join([*parts, "</main></body></html>"])


def _operation(path: str, method: str, told: dict[str, Any]) -> list[str]:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2>"]
    parts.append(f"<p>{escape(told.get('description', ''))}</p>")
    given = [
        f"<li><code>{escape(one['name'])}</code> ({one['in']}"
        f"{', needed' if one.get('required') else ''})</li>"
        for one in told.get("parameters", ())
    ]
    parts += ["<ul>", *given, "</ul>"] if given else []
    content = told.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    parts += [f"<p>Body: JSON, <a href=#{escape(name)}>{escape(name)}</a></p>"] if name else []
    return parts


def _schema(name: str, schema: dict[str, Any]) -> list[str]:
    parts = [f"<h2 id={escape(name)}>{escape(name)}</h2><p>{escape(schema.get('description', ''))}"]
    parts.append("</p><ul>")
    for key, value in schema.get("properties", {}).items():
        needed = " (needed)" if key in schema.get("required", ()) else ""
        default = f" = {escape(repr(value['default']))}" if "default" in value else ""
        said = escape(value.get("description", ""))
        parts.append(f"<li><code>{escape(key)}{default}</code>{needed} {said}</li>")
    return [*parts, "</ul>"]
