"""The PyPI package `cent`, unchanged, as a back end of a running fleet.

Started by tests/tests/interop/back_end.rs, which sets the environment and reads what arrives.
Prints a line per step; ends with 0 if all went well.
"""

import os

from cent import (
    BatchRequest,
    BlockUserRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    ConnectionsRequest,
    Disconnect,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    InvalidateUserTokensRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    RevokeTokenRequest,
    SubscribeRequest,
    UnblockUserRequest,
    UnsubscribeRequest,
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

for method, request in (
    (client.history, HistoryRequest(channel="news:1", limit=1)),
    (client.history_remove, HistoryRemoveRequest(channel="news:1")),
):
    error = refused(lambda: method(request), CentApiResponseError)
    check(f"{request.api_method} is not available", error.code == 108)

client.subscribe(SubscribeRequest(user="nobody", channel="news:1"))
client.refresh(RefreshRequest(user="nobody"))
check("subscribe and refresh", True)

presence = client.presence(PresenceRequest(channel="news:1")).presence
check("presence", len(presence) == 2 and all(info.client == key for key, info in presence.items()))

stats = client.presence_stats(PresenceStatsRequest(channel="news:1"))
check("presence_stats", (stats.num_clients, stats.num_users) == (2, 2))

channels = client.channels(ChannelsRequest(pattern="news:*")).channels
check("channels", channels["news:1"].num_clients == 2)

connections = client.connections(ConnectionsRequest(user="", expression="")).connections
users = {info.user for info in connections.values()}
check("connections", len(connections) == 2 and len(users) == 2)

nodes = client.info(InfoRequest()).nodes
check("info", sorted(node.uid for node in nodes) == ["worker-0", "worker-1"])

client.block_user(BlockUserRequest(user="troll"))
client.unblock_user(UnblockUserRequest(user="troll"))
client.revoke_token(RevokeTokenRequest(uid="some token"))
client.invalidate_user_tokens(InvalidateUserTokensRequest(user="troll", issued_before=1))
check("revocations", True)

refused(
    lambda: Client(URL, "wrong").publish(PublishRequest(channel="news:1", data=1)),
    CentUnauthorizedError,
)
check("a wrong key", True)

for user in users:
    client.unsubscribe(UnsubscribeRequest(user=user, channel="news:1"))
    client.disconnect(DisconnectRequest(user=user, disconnect=Disconnect(code=4000, reason="bye")))
check("unsubscribe and disconnect", True)
