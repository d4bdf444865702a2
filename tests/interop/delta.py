"""Deltas with the PyPI package `centrifuge-python`, unchanged, against a running fleet.

Started by tests/tests/interop/delta.rs, which sets the environment. Prints a line per step; ends with 0 if all went
well.
"""

import asyncio
import json
import os

from centrifuge import Client, DeltaType, SubscriptionEventHandler

URL, TOKEN, CHANNEL = (os.environ[name] for name in ("URL", "TOKEN", "CHANNEL"))
PROTOBUF = os.environ["FORMAT"] == "protobuf"
KEPT = int(os.environ["KEPT"])


def encode(value):
    return json.dumps(value).encode() if PROTOBUF else value


def decode(data):
    return json.loads(data) if PROTOBUF else data


def document(version):
    return {"text": "Où est le café? ⚓ It stays where it is.", "version": version}


def done(step):
    print("ok:", step, flush=True)


async def connect():
    client = Client(URL, token=TOKEN, use_protobuf=PROTOBUF, proxy=None, min_reconnect_delay=0.05)
    await client.connect()
    return client


async def publish(client, first, last):
    for version in range(first, last + 1):
        await client.publish(CHANNEL, encode(document(version)))


class Reader(SubscriptionEventHandler):
    def __init__(self):
        self.publications = asyncio.Queue()
        self.subscribed = asyncio.Queue()

    async def on_publication(self, context):
        self.publications.put_nowait(decode(context.pub.data))

    async def on_subscribed(self, context):
        self.subscribed.put_nowait(context)

    async def reads(self, first, last):
        """The next publications are these versions."""
        for version in range(first, last + 1):
            assert await self.publications.get() == document(version)


async def subscribe(client, **options):
    reader = Reader()
    await client.new_subscription(CHANNEL, events=reader, **options).subscribe()
    await reader.subscribed.get()
    return reader


async def main():
    publisher, client, other = await connect(), await connect(), await connect()
    reader = await subscribe(client, delta=DeltaType.FOSSIL, recoverable=True, positioned=True)
    plain = await subscribe(other)

    await publish(publisher, 1, 20)
    await reader.reads(1, 20)
    done("deltas make what was published")

    await client.disconnect()
    await publish(publisher, 21, 25)
    await client.connect()
    assert (await reader.subscribed.get()).recovered
    await reader.reads(21, 25)
    await publish(publisher, 26, 28)
    await reader.reads(26, 28)
    done("the chain goes on behind what was missed")

    await client.disconnect()
    await client.connect()
    assert (await reader.subscribed.get()).recovered
    await publish(publisher, 29, 30)
    await reader.reads(29, 30)
    done("and where nothing was missed")

    await client.disconnect()
    last = 31 + KEPT
    await publish(publisher, 31, last)
    await client.connect()
    assert not (await reader.subscribed.get()).recovered
    await publish(publisher, last + 1, last + 3)
    await reader.reads(last + 1, last + 3)
    done("a base that is lost is replaced by a whole publication")

    await plain.reads(1, last + 3)
    done("who does not ask for deltas gets what was published")


asyncio.run(asyncio.wait_for(main(), 60))
