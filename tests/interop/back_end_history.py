"""The PyPI package `cent`, unchanged and this time asynchronous, as a back end of channels with history.

Started by tests/tests/interop/back_end.rs, which sets the environment and reads what arrives.
Prints a line per step; ends with 0 if all went well.
"""

import asyncio
import os

from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    ChannelOptionsOverride,
    HistoryRemoveRequest,
    HistoryRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
)
from cent.dto import BoolValue

URL = os.environ["API_URL"]
KEY = os.environ["API_KEY"]


def check(step, condition):
    assert condition, step
    print(f"ok: {step}", flush=True)


async def main():
    client = AsyncClient(URL, KEY)

    first = await client.publish(PublishRequest(channel="kept:1", data={"n": 1}, idempotency_key="k"))
    again = await client.publish(PublishRequest(channel="kept:1", data={"n": 1}, idempotency_key="k"))
    check("publish once by its key", first.offset == 1 and first.epoch and again == first)

    result = await client.broadcast(BroadcastRequest(channels=["kept:1", "kept:2"], data={"n": 2}))
    offsets = [response.result.offset for response in result.responses]
    check("broadcast", offsets == [2, 1])

    result = await client.publish(PublishRequest(channel="kept:1", data={"n": 3}, skip_history=True))
    check("publish without history", result.offset == 0)

    history = await client.history(HistoryRequest(channel="kept:1"))
    check("history's end", (history.offset, history.epoch, history.publications) == (2, first.epoch, []))

    history = await client.history(HistoryRequest(channel="kept:1", limit=10))
    check("history", [(row.offset, row.data) for row in history.publications] == [(1, {"n": 1}), (2, {"n": 2})])

    since = StreamPosition(offset=1, epoch=first.epoch)
    history = await client.history(HistoryRequest(channel="kept:1", limit=10, since=since))
    check("history since", [row.offset for row in history.publications] == [2])

    history = await client.history(HistoryRequest(channel="kept:1", limit=1, reverse=True))
    check("history in reverse", [row.offset for row in history.publications] == [2])

    try:
        since = StreamPosition(offset=1, epoch="another")
        await client.history(HistoryRequest(channel="kept:1", limit=1, since=since))
    except CentApiResponseError as error:
        check("history of another epoch", error.code == 112)

    requests = [HistoryRequest(channel="kept:1", limit=1), HistoryRequest(channel="kept:2", limit=1)]
    result = await client.batch(BatchRequest(requests=requests, parallel=True))
    check("batch", [reply.offset for reply in result.replies] == [2, 1])

    await client.refresh(RefreshRequest(user="ann", expire_at=4102444800))
    request = SubscribeRequest(
        user="ann",
        channel="kept:1",
        info={"role": "reader"},
        data={"greeting": "welcome"},
        recover_since=StreamPosition(offset=1, epoch=first.epoch),
        override=ChannelOptionsOverride(force_recovery=BoolValue(value=True)),
    )
    await client.subscribe(request)
    check("subscribe", True)

    await client.history_remove(HistoryRemoveRequest(channel="kept:1"))
    history = await client.history(HistoryRequest(channel="kept:1", limit=10))
    # The removal has a place of its own, behind the two publications.
    check("history_remove", (history.offset, history.publications) == (3, []))

    await client.publish(PublishRequest(channel="kept:1", data={"n": 4}))
    check("publish after that", True)


asyncio.run(main())
