"""The PyPI package `centrifuge-python`, unchanged, against a running fleet.

Started by tests/tests/interop/scripts.rs, which sets the environment and kills a worker when this
script asks for it on its standard output. Prints a line per step; ends with 0 if all went well.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import defaultdict

from centrifuge import Client, ClientEventHandler, ReplyError, SubscriptionEventHandler

ALICE_URL = os.environ["ALICE_URL"]
BOB_URL = os.environ["BOB_URL"]
SECRET = os.environ["TOKEN_SECRET"]
PROTOBUF = os.environ["FORMAT"] == "protobuf"
SOON_SECONDS = 20
MESSAGES = 50


def encode(value):
    """In Protobuf payloads are bytes."""
    return json.dumps(value).encode() if PROTOBUF else value


def decode(data):
    return json.loads(data) if PROTOBUF else data


def token(sub, lifetime_seconds, secret=SECRET):
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"sub": sub, "exp": int(time.time()) + lifetime_seconds}
    signed = ".".join(part(json.dumps(o).encode()) for o in ({"alg": "HS256"}, claims))
    return signed + "." + part(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))


class Events:
    """Keeps the events of a client or a subscription until they are asked for."""

    def __init__(self):
        self.kept = defaultdict(asyncio.Queue)
        self.counts = defaultdict(int)

    def add(self, name, context=None):
        self.counts[name] += 1
        self.kept[name].put_nowait(context)

    async def next(self, name):
        try:
            return await asyncio.wait_for(self.kept[name].get(), SOON_SECONDS)
        except asyncio.TimeoutError:
            raise AssertionError(f"no event {name!r} came; others: {dict(self.counts)}") from None

    def handler(self, base, names):
        """An event handler of the SDK that keeps the events with these names."""

        def method(name):
            async def keep(_, context):
                self.add(name, context)

            return keep

        return type("Handler", (base,), {f"on_{name}": method(name) for name in names})()


async def connect(url, **options):
    events = Events()
    names = ["connecting", "connected", "disconnected", "error"]
    handler = events.handler(ClientEventHandler, names)
    client = Client(url, events=handler, use_protobuf=PROTOBUF, proxy=None, **options)
    await client.connect()
    return client, events


async def subscribe(client, channel):
    events = Events()
    names = ["subscribing", "subscribed", "unsubscribed", "publication", "error"]
    sub = client.new_subscription(channel, events=events.handler(SubscriptionEventHandler, names))
    await sub.subscribe()
    return sub, events


async def payload(events):
    return decode((await events.next("publication")).pub.data)


def done(step):
    print("ok:", step, flush=True)


async def asked(what, answer):
    """Has the test do something, and waits until it has."""
    print(what, flush=True)
    assert (await asyncio.to_thread(sys.stdin.readline)).strip() == answer


async def refused(operation, code):
    try:
        await operation
    except ReplyError as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"not refused with {code}")


async def messages(alice_room, bob_room):
    for user, (sub, _) in (("alice", alice_room), ("bob", bob_room)):
        for n in range(MESSAGES):
            await sub.publish(encode({"from": user, "n": n, "text": "ahoi ⚓"}))
        for _, events in (alice_room, bob_room):
            for n in range(MESSAGES):
                publication = (await events.next("publication")).pub
                assert decode(publication.data) == {"from": user, "n": n, "text": "ahoi ⚓"}
                assert publication.info.user == user, publication
    done("publish across workers, both ways, in order")


async def unsubscribing(alice, alice_room, bob_room):
    await alice_room[0].unsubscribe()
    assert (await alice_room[1].next("unsubscribed")).code == 0
    # The answer to a later command says that the worker has taken in the earlier one.
    await alice.publish("elsewhere", encode(1))
    await bob_room[0].publish(encode("while alice was away"))
    await payload(bob_room[1])
    # Until then what was published before could still be on its way to the worker.
    await asked("wait until the worker of alice has left the room", "left")
    await alice_room[0].subscribe()
    await alice_room[1].next("subscribed")
    await bob_room[0].publish(encode("welcome back"))
    await payload(bob_room[1])
    assert await payload(alice_room[1]) == "welcome back"
    done("unsubscribe, and subscribe again")


async def refusals(alice):
    _, events = await subscribe(alice, "closed:1")
    context = await events.next("unsubscribed")
    assert (context.code, context.reason) == (103, "permission denied"), context
    await refused(alice.publish("news:1", encode(1)), 103)
    await refused(alice.rpc("method", encode(1)), 108)
    done("what is not allowed is refused")


async def tokens():
    _, events = await connect(BOB_URL, token=token("mallory", 600, "another secret"))
    context = await events.next("disconnected")
    assert (context.code, context.reason) == (3500, "invalid token"), context
    done("a forged token ends the connection for good")

    async def new_token():
        return token("carol", 600)

    carol, events = await connect(BOB_URL, token=token("carol", -60), get_token=new_token)
    await events.next("connected")
    await carol.disconnect()
    done("an expired token is exchanged for a new one")

    requests = Events()

    async def short_token():
        requests.add("token")
        return token("dave", 2)

    dave, events = await connect(ALICE_URL, get_token=short_token)
    for _ in range(4):  # One to connect, and three to stay.
        await requests.next("token")
    assert events.counts["connecting"] == 1, "it did not have to reconnect"
    assert events.counts["error"] == 0, await events.next("error")
    await dave.disconnect()
    done("a token is renewed before it expires")


async def killed_worker(alice_events, alice_room, bob_events, bob_room):
    await alice_events.next("connecting")
    await asked("kill the worker of alice", "killed")
    # The SDK's own code for a lost connection: it shows the server's from 3000 on.
    assert (await alice_events.next("connecting")).code == 1
    await alice_events.next("connected")
    await alice_room[1].next("subscribed")
    await bob_room[0].publish(encode("still here"))
    assert await payload(alice_room[1]) == "still here"
    assert await payload(bob_room[1]) == "still here"
    await alice_room[0].publish(encode("so am I"))
    assert await payload(bob_room[1]) == "so am I"
    assert bob_events.counts["connecting"] == 1, "bob noticed nothing"
    done("after its worker was killed a client goes on elsewhere")


async def main():
    alice, alice_events = await connect(ALICE_URL, token=token("alice", 600))
    bob, bob_events = await connect(BOB_URL, token=token("bob", 600))
    for events in (alice_events, bob_events):
        assert (await events.next("connected")).client
    done("connect with a token")

    alice_room, bob_room = await subscribe(alice, "room"), await subscribe(bob, "room")
    for _, events in (alice_room, bob_room):
        await events.next("subscribed")
    done("subscribe")

    await messages(alice_room, bob_room)
    await unsubscribing(alice, alice_room, bob_room)
    await refusals(alice)
    await tokens()
    await killed_worker(alice_events, alice_room, bob_events, bob_room)

    for client, events in ((alice, alice_events), (bob, bob_events)):
        await client.disconnect()
        assert (await events.next("disconnected")).code == 0
    done("disconnect")


asyncio.run(main())
