"""A tags filter with the PyPI package `centrifuge-python`, unchanged, against a running fleet.

Started by tests/tests/interop/filter.rs, which sets the environment and publishes when this script is subscribed. Prints
a line when it has got what it wants; ends with 0 if all went well.
"""

import asyncio
import json
import os

from centrifuge import Client, Filter, SubscriptionEventHandler

URL, TOKEN, CHANNEL = (os.environ[name] for name in ("URL", "TOKEN", "CHANNEL"))
PROTOBUF = os.environ["FORMAT"] == "protobuf"

FILTER = Filter.all(
    Filter.is_in("symbol", ["A", "B"]),
    Filter.any(Filter.gt("price", "10"), Filter.starts_with("kind", "ind")),
    Filter.negate(Filter.exists("test")),
)


class Reader(SubscriptionEventHandler):
    def __init__(self):
        self.publications = asyncio.Queue()

    async def on_subscribed(self, context):
        print("subscribed", flush=True)

    async def on_publication(self, context):
        data = context.pub.data
        self.publications.put_nowait(json.loads(data) if PROTOBUF else data)


async def main():
    client = Client(URL, token=TOKEN, use_protobuf=PROTOBUF, proxy=None)
    await client.connect()
    reader = Reader()
    await client.new_subscription(CHANNEL, events=reader, tags_filter=FILTER).subscribe()
    got = []
    while "last" not in got:
        got.append(await reader.publications.get())
    assert got == ["above", "index", "last"], got
    print("ok: what passes the filter, and nothing else", flush=True)


asyncio.run(asyncio.wait_for(main(), 60))
