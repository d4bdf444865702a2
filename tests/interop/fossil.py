"""The decoder of fossil deltas in the PyPI package `centrifuge-python`, unchanged, on deltas of ours.

Started by tests/tests/interop/fossil.rs, which writes the file of cases. Prints a line per case; ends
with 0 if all went well.
"""

import base64
import json
import os

from centrifuge.fossil import apply_delta

with open(os.environ["CASES"], encoding="utf-8") as cases:
    for line in cases:
        case = json.loads(line)
        source, target, delta = (base64.b64decode(case[name]) for name in ("source", "target", "delta"))
        assert apply_delta(source, delta) == target, case["name"]
        print(f"ok: {case['name']}", flush=True)
