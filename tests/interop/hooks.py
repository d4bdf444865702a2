"""The PyPI package `centrifuge-python`, unchanged, with a back end that answers hooks.

Started by tests/tests/interop/hooks.rs, which is the back end. Prints a line per step; ends with 0 if
all went well.
"""

import asyncio
import json
import os

from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler

PROTOBUF = os.environ["FORMAT"] == "protobuf"
SOON_SECONDS = 20

events = asyncio.Queue()


class OfClient(ClientEventHandler):
    async def on_connected(self, context):
        await events.put(("connected", context.data))


class OfChannel(SubscriptionEventHandler):
    async def on_subscribed(self, context):
        await events.put(("subscribed", context.data))

    async def on_publication(self, context):
        await events.put(("publication", context.pub))


def encode(value):
    """In Protobuf payloads are bytes."""
    return json.dumps(value).encode() if PROTOBUF else value


def decode(data):
    return json.loads(data) if PROTOBUF else data


async def happened(kind):
    name, what = await asyncio.wait_for(events.get(), SOON_SECONDS)
    assert name == kind, (name, what)
    return what


def check(step, condition):
    assert condition, step
    print("ok:", step, flush=True)


async def main():
    client = Client(os.environ["URL"], events=OfClient(), use_protobuf=PROTOBUF, proxy=None)
    await client.connect()
    check("connect without a token", decode(await happened("connected")) == {"welcome": 1})

    answer = await client.rpc("sum", encode([1, 2]))
    check("rpc", decode(answer.data) == {"sum": 3})
    try:
        await client.rpc("divide", encode([1, 0]))
    except ReplyError as error:
        check("an error of the back end", error.code == 1000 and error.message == "no such method")

    channel = client.new_subscription("asked:1", events=OfChannel())
    await channel.subscribe()
    check("subscribe by the back end's leave", decode(await happened("subscribed")) == "come in")
    await channel.publish(encode({"text": "<b>"}))
    publication = await happened("publication")
    check("publish what the back end makes of it", decode(publication.data) == {"text": "b"})
    check("as the back end's user", publication.info.user == "ann")
    await client.disconnect()


asyncio.run(main())
