# SPDX-License-Identifier: Apache-2.0
"""The server's description of itself is valid, and describes what the server does."""

import glob
import json
import unittest

import description
from node import Node, function

SCHEMA = "/usr/share/openapi-specification/schemas/v3.0/schema.json"


def references(value):
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


class OpenApi(Node):
    CONFIG = function("echo", "exec cat") + function("forked", "read x; echo $x", mode="forked")

    def setUp(self):
        status, text = self.get("/openapi.json")
        self.assertEqual(status, 200)
        self.document = json.loads(text)

    def test_it_is_what_the_specification_asks_for(self):
        try:
            import jsonschema
        except ImportError:
            self.skipTest("python3-jsonschema is not installed")
        if not glob.glob(SCHEMA):
            self.skipTest("openapi-specification is not installed")
        with open(SCHEMA) as file:
            schema = json.load(file)
        jsonschema.Draft4Validator.check_schema(schema)
        errors = list(jsonschema.Draft4Validator(schema).iter_errors(self.document))
        self.assertEqual([error.message[:300] for error in errors], [])

    def test_every_reference_leads_somewhere_and_every_part_is_used(self):
        used = set(references(self.document))
        for reference in used:
            self.assertTrue(description.resolve(self.document, reference), reference)
        for kind, parts in self.document["components"].items():
            if kind == "securitySchemes": continue  # those are named, not referred to
            for name in parts:
                self.assertIn(f"#/components/{kind}/{name}", used)

    def test_operations_have_names_of_their_own(self):
        names = [operation["operationId"] for item in self.document["paths"].values()
                 for method, operation in item.items() if method != "parameters"]
        self.assertEqual(len(names), len(set(names)))

    def test_the_paths_are_those_that_answer(self):
        for path, item in self.document["paths"].items():
            target = path.replace("{name}", "echo").replace("{path}", "a/b")
            if "get" in item:
                self.assertNotIn(self.get(target)[0], (404, 405), path)
            if "post" in item:
                self.assertEqual(self.call("echo", b"x").status, 200)
        self.assertEqual(self.get("/elsewhere")[0], 404)

    def test_what_functions_are_told_to_be_they_are(self):
        try:
            import jsonschema
        except ImportError:
            self.skipTest("python3-jsonschema is not installed")
        schema = self.document["components"]["schemas"]["Function"]
        for each in json.loads(self.get("/functions")[1]):
            jsonschema.Draft4Validator(schema).validate(each)
            self.assertLessEqual(set(schema["required"]), set(each))
            self.assertLessEqual(set(each), set(schema["properties"]))

    def test_what_is_not_described_is_found(self):
        check = description.check
        self.assertIn("299", check(self.document, "GET", "/healthz", 299, {}))
        self.assertIn("Brood-X", check(self.document, "POST", "/functions/a", 429,
                                       {"Brood-X": "1", "Brood-End": "refused"}))
        self.assertIn("DELETE", check(self.document, "DELETE", "/healthz", 200, {}))
        self.assertIn("no path", check(self.document, "GET", "/nowhere", 200, {}))
        self.assertIsNone(check(self.document, "POST", "/functions/a", 299, {"Brood-Path": "cold"}))


if __name__ == "__main__":
    unittest.main()
