#!/usr/bin/env python3
"""embed.py OUTPUT HTML CSS JS OPENAPI: the live page as one document, its policy, and the API's description, as C++ constants.

The page may run the one script and use the one style sheet that are in it, by their hashes, and ask this server: nothing else.
"""
import base64
import hashlib
import sys
from pathlib import Path


def literal(name, text):
    assert ')embedded"' not in text
    return f'inline constexpr std::string_view {name} = R"embedded({text})embedded";\n'


def source_of(text):
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


output, html, css, js, openapi = [Path(argument) for argument in sys.argv[1:]]
style, script = "\n" + css.read_text(), "\n" + js.read_text()
assert "</style" not in style and "</script" not in script
page = html.read_text()
for place, text in (("<!-- style -->", f"<style>{style}</style>"), ("<!-- script -->", f"<script>{script}</script>")):
    assert page.count(place) == 1, place
    page = page.replace(place, text)
policy = (
    f"default-src 'none'; script-src {source_of(script)}; style-src {source_of(style)}; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
output.write_text(
    "// Made by src/admin/page/embed.py.\n#pragma once\n\n#include <string_view>\n\nnamespace ringmain {\n\n"
    + literal("kPageHtml", page)
    + literal("kPagePolicy", policy)
    + literal("kOpenApi", openapi.read_text())
    + "\n}  // namespace ringmain\n"
)
