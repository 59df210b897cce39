# SPDX-License-Identifier: Apache-2.0
"""JSON on stdin, an answer with status and head on stdout."""

import json
import os
import sys


def handle(event):
    return {"message": f"{os.environ['GREETING']}, {event['name']}"}


text = sys.stdin.buffer.read()
try:
    status, answer = 200, handle(json.loads(text))
except (ValueError, KeyError, TypeError) as error:
    status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
print(f"Status: {status}\nContent-Type: application/json\n\n{json.dumps(answer)}", flush=True)
# As a forked child should: to take the interpreter down would copy all that it shares.
os._exit(0)
