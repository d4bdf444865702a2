// The npm package `centrifuge`, unchanged, over each of its transports, against the profile `insecure`: what such client
// suites do that expect a server on one port, with its API, and without tokens.
//
// Started by tests/tests/interop/insecure.rs, which sets the environment. Prints a line per step; ends with 0 if all went
// well.

import assert from 'node:assert/strict';
import { on, setMaxListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';

const { ADDRESS, API_KEY, TRANSPORT, FORMAT } = process.env;
const SOON_MS = 20_000;
const signal = AbortSignal.timeout(60_000);
setMaxListeners(0, signal);
const protobuf = FORMAT === 'protobuf';
const Centrifuge = protobuf ? ProtobufCentrifuge : JsonCentrifuge;
const scheme = TRANSPORT === 'websocket' ? 'ws' : 'http';

const encode = (value) => (protobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
const decode = (data) => (protobuf ? JSON.parse(new TextDecoder().decode(data)) : data);

let channels = 0;
const channel = (namespace) => `${namespace}:${TRANSPORT}-${FORMAT}-${(channels += 1)}`;

function call(method, request, key) {
  const headers = { 'Content-Type': 'application/json', 'X-API-Key': key };
  return fetch(`http://${ADDRESS}/api/${method}`, { method: 'POST', headers, body: JSON.stringify(request) });
}

async function api(method, request) {
  const answer = await call(method, request, API_KEY);
  assert.equal(answer.status, 200, method);
  const { result, error } = await answer.json();
  assert(!error, `${method}: ${error?.message}`);
  return result;
}

function create(options) {
  const endpoint = `${scheme}://${ADDRESS}/connection/${TRANSPORT}`;
  return new Centrifuge([{ transport: TRANSPORT, endpoint }], {
    websocket: WebSocket,
    eventsource: EventSource,
    fetch,
    readableStream: ReadableStream,
    emulationEndpoint: `http://${ADDRESS}/emulation`,
    minReconnectDelay: 50,
    ...options,
  });
}

async function connect(options) {
  const client = create(options);
  client.connect();
  await client.ready(SOON_MS);
  return client;
}

// A subscription, and what happens to it in the order in which it does.
function subscription(client, name, options) {
  const sub = client.newSubscription(name, options);
  const [subscribed, publications] = ['subscribed', 'publication'].map((event) => on(sub, event, { signal }));
  const next = async (events) => (await events.next()).value[0];
  return {
    sub,
    subscribed: () => next(subscribed),
    reads: async (...expected) => {
      for (const data of expected) assert.deepEqual(decode((await next(publications)).data), data);
    },
  };
}

async function eventually(what, condition) {
  const deadline = Date.now() + SOON_MS;
  while (!(await condition())) {
    assert(Date.now() < deadline, what);
    await sleep(50);
  }
}

async function step(name, body) {
  await body();
  console.log(`ok: ${name}`);
}

await step('connect without a token, and disconnect', async () => {
  const client = await connect();
  client.disconnect();
  for (let times = 0; times < 10; times += 1) {
    client.connect();
    client.disconnect();
  }
  assert.equal(client.state, 'disconnected');
});

await step('a token that is sent has to be a good one', async () => {
  const client = create({ token: 'nonsense' });
  const disconnected = on(client, 'disconnected', { signal });
  client.connect();
  assert.equal((await disconnected.next()).value[0].code, 3500);
});

await step('publish, and read it', async () => {
  const client = await connect();
  const room = subscription(client, channel('delta'));
  room.sub.subscribe();
  await room.subscribed();
  await room.sub.publish(encode({ my: 'data' }));
  await room.reads({ my: 'data' });
  client.disconnect();
});

await step('an application without methods', async () => {
  const client = create();
  // Before it is connected.
  const answer = client.rpc('method', encode({}));
  client.connect();
  await assert.rejects(answer, { code: 108 });
  client.disconnect();
});

await step('presence follows who subscribes, unsubscribes and goes', async () => {
  const name = channel('recovery');
  const [client, observer] = [await connect(), await connect()];
  const { sub } = subscription(client, name);
  const counts = async (expected) => {
    const { numClients, numUsers } = await observer.presenceStats(name);
    return numClients === expected && numUsers === expected;
  };
  for (let times = 0; times < 10; times += 1) {
    sub.subscribe();
    sub.unsubscribe();
  }
  sub.subscribe();
  await sub.ready(SOON_MS);
  const stats = await sub.presenceStats();
  assert.deepEqual([stats.numClients, stats.numUsers], [1, 1]);
  assert.equal(Object.keys((await sub.presence()).clients).length, 1);
  sub.unsubscribe();
  await eventually('nobody is left after unsubscribe', () => counts(0));
  sub.subscribe();
  await sub.ready(SOON_MS);
  client.disconnect();
  await eventually('nobody is left after disconnect', () => counts(0));
  observer.disconnect();
});

await step('many subscriptions at once', async () => {
  const client = await connect();
  const rooms = Array.from({ length: 50 }, () => subscription(client, channel('recovery')));
  for (const { sub } of rooms) sub.subscribe();
  await Promise.all(rooms.map(({ sub }) => sub.ready(SOON_MS)));
  for (const { sub } of rooms) sub.unsubscribe();
  client.disconnect();
});

await step('recover what a back end published meanwhile', async () => {
  const name = channel('recovery');
  const client = await connect();
  const room = subscription(client, name);
  room.sub.subscribe();
  assert.equal((await room.subscribed()).recoverable, true);
  await api('publish', { channel: name, data: 1 });
  await room.reads(1);

  client.disconnect();
  for (const data of [2, 3]) await api('publish', { channel: name, data });
  client.connect();
  let context = await room.subscribed();
  assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
  await room.reads(2, 3);

  room.sub.unsubscribe();
  await api('publish', { channel: name, data: 4 });
  room.sub.subscribe();
  context = await room.subscribed();
  assert.equal(context.recovered, true);
  await api('publish', { channel: name, data: 5 });
  await room.reads(4, 5);
  client.disconnect();
});

await step('a small history is not enough for everyone', async () => {
  const name = channel('smallhistory');
  const client = await connect();
  let asked = 0;
  const room = subscription(client, name, {
    minResubscribeDelay: 50,
    maxResubscribeDelay: 50,
    getState: async () => {
      asked += 1;
      const { offset, epoch } = await api('history', { channel: name });
      return { offset, epoch };
    },
  });
  room.sub.subscribe();
  await room.subscribed();
  client.disconnect();
  for (let data = 1; data <= 5; data += 1) await api('publish', { channel: name, data });
  client.connect();
  await room.subscribed();
  assert.equal(asked, 2);
  await api('publish', { channel: name, data: 6 });
  await room.reads(6);
  client.disconnect();
});

await step('deltas of what a back end publishes', async () => {
  const name = channel('delta');
  const client = await connect();
  const room = subscription(client, name, { delta: 'fossil' });
  room.sub.subscribe();
  await room.subscribed();
  const documents = Array.from({ length: 10 }, (_, index) => ({ index, padding: 'x'.repeat(500) }));
  for (const data of documents) await api('publish', { channel: name, data });
  await room.reads(...documents);
  const { numFullPayloads, numDeltaPayloads } = room.sub.deltaStats();
  assert.deepEqual([numFullPayloads, numDeltaPayloads], [1, 9]);
  client.disconnect();
});

await step('the API wants its key', async () => {
  assert.equal((await call('publish', { channel: 'test', data: 1 }, 'wrong')).status, 401);
});

process.exit(0);
