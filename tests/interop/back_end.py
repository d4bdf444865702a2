"""The PyPI package `cent`, unchanged, as a back end of a running fleet.

Started by tests/tests/interop/back_end.rs, which sets the environment and reads what arrives.
Prints a line per step; ends with 0 if all went well.
"""

import os

from cent import (
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    Client,
    HistoryRequest,
    PublishRequest,
)

URL = os.environ["API_URL"]
KEY = os.environ["API_KEY"]


def check(step, condition):
    assert condition, step
    print(f"ok: {step}", flush=True)


def refused(call, kind):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("not refused")


client = Client(URL, KEY)

result = client.publish(PublishRequest(channel="news:1", data={"n": 1}, tags={"kind": "test"}))
check("publish", not result.offset)

result = client.broadcast(BroadcastRequest(channels=["news:1", "nowhere:1"], data={"n": 2}))
first, second = result.responses
check("broadcast", first.error is None and second.error.code == 102)

requests = [PublishRequest(channel="news:1", data={"n": n}) for n in (3, 4)]
result = client.batch(BatchRequest(requests=requests))
check("batch", len(result.replies) == 2)

error = refused(lambda: client.publish(PublishRequest(channel="nowhere:1", data=1)), CentApiResponseError)
check("an unknown namespace", error.code == 102)

error = refused(lambda: client.history(HistoryRequest(channel="news:1", limit=1)), CentApiResponseError)
check("a method that is not available", error.code == 108)

refused(
    lambda: Client(URL, "wrong").publish(PublishRequest(channel="news:1", data=1)),
    CentUnauthorizedError,
)
check("a wrong key", True)
