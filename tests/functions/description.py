# SPDX-License-Identifier: Apache-2.0
"""Holds answers against what /openapi.json says of them."""

import re


def check(document, method, target, status, headers):
    """A sentence about what the document does not say of an answer; None if it says it all.

    `headers` are an answer's fields by name."""
    path = target.split("?")[0]
    found = [each for each in document["paths"]
             if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each.replace("{path}", ".*")), path)]
    if not found:
        # Refused before anybody looked at the path, which any request may be.
        known = status == 404 or status >= 400 and all(
            str(status) in operation["responses"] for item in document["paths"].values()
            for method, operation in item.items() if method == "get")
        return None if known else f"there is no path {path}, yet it answers {status}"
    # Of two that fit, the one without a parameter is meant.
    item = document["paths"][min(found, key=lambda each: "{" in each)]
    operations = [item[each] for each in ("get", "head", "post", "delete") if each in item]
    known = method.lower() in item
    if not known and status < 400:
        return f"{method} {path} is not described, yet it answers {status}"
    responses = (item[method.lower()] if known else operations[0])["responses"]
    # A function may answer as it likes, but not in the server's name.
    own = ("Brood-Path" in headers or "Trailer" in headers) and "Brood-End" not in headers
    response = responses.get(str(status)) or (own and responses.get(f"{status // 100}XX"))
    if not response:
        return f"{method} {path} answers {status}, which is not described"
    if "$ref" in response:
        response = resolve(document, response["$ref"])
    allowed = {name.lower() for name in response.get("headers", {})}
    for name in headers:
        if re.match("brood-|allow$|retry-after$|location$", name.lower()):
            if name.lower() not in allowed and not own:
                return f"{method} {path} answers {status} with {name}, which is not described"
    return None


def resolve(document, reference):
    """What a reference of the document stands for."""
    for part in reference.removeprefix("#/").split("/"):
        document = document[part.replace("~1", "/").replace("~0", "~")]
    return document
