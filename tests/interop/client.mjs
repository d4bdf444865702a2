// The npm package `centrifuge`, unchanged, against a running fleet.
//
// Started by tests/tests/interop/scripts.rs, which sets the environment and kills a worker when this
// script asks for it on its standard output. Prints a line per step; ends with 0 if all went well.

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { createInterface } from 'node:readline';
import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import { EventSource } from 'eventsource';
import WebSocket from 'ws';

const { ALICE_URL, BOB_URL, TOKEN_SECRET, FORMAT, TRANSPORT } = process.env;
const SOON_MS = 20_000;
const MESSAGES = 50;
const protobuf = FORMAT === 'protobuf';
const Centrifuge = protobuf ? ProtobufCentrifuge : JsonCentrifuge;

// In Protobuf payloads are bytes.
const encode = (value) => (protobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
const decode = (data) => (protobuf ? JSON.parse(new TextDecoder().decode(data)) : data);

function token(sub, lifetimeSeconds, secret = TOKEN_SECRET) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const exp = Math.floor(Date.now() / 1000) + lifetimeSeconds;
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ sub, exp })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

// Keeps the events of a client or a subscription until they are asked for.
class Events {
  constructor(emitter, names) {
    this.kept = Object.fromEntries(names.map((name) => [name, []]));
    this.wake = () => {};
    for (const name of names) {
      emitter.on(name, (context) => {
        this.kept[name].push(context);
        this.wake();
      });
    }
  }

  async next(name) {
    const deadline = Date.now() + SOON_MS;
    while (this.kept[name].length === 0) {
      const left = deadline - Date.now();
      assert(left > 0, `no event "${name}" came; others: ${JSON.stringify(this.kept)}`);
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left);
        this.wake = () => { clearTimeout(timer); resolve(); };
      });
    }
    return this.kept[name].shift();
  }
}

// A client of the transport that is tried; without WebSocket its commands are posted.
function construct(url, options) {
  if (TRANSPORT === 'websocket') return new Centrifuge(url, { websocket: WebSocket, ...options });
  const at = (path) => url.replace('ws:', 'http:').replace('/connection/websocket', path);
  const transports = [{ transport: TRANSPORT, endpoint: at(`/connection/${TRANSPORT}`) }];
  const emulationEndpoint = at('/emulation');
  return new Centrifuge(transports, { eventsource: EventSource, emulationEndpoint, ...options });
}

function client(url, options) {
  const centrifuge = construct(url, options);
  const events = new Events(centrifuge, ['connecting', 'connected', 'disconnected', 'error']);
  centrifuge.connect();
  return { centrifuge, events };
}

function subscription(centrifuge, channel) {
  const sub = centrifuge.newSubscription(channel);
  const names = ['subscribing', 'subscribed', 'unsubscribed', 'publication', 'error'];
  const events = new Events(sub, names);
  sub.subscribe();
  return { sub, events, next: async () => decode((await events.next('publication')).data) };
}

async function step(name, body) {
  await body();
  console.log(`ok: ${name}`);
}

const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

// Has the test do something, and waits until it has.
async function asked(what, answer) {
  console.log(what);
  assert.equal((await answers.next()).value, answer);
}

const alice = client(ALICE_URL, { token: token('alice', 600), minReconnectDelay: 50 });
const bob = client(BOB_URL, { token: token('bob', 600) });
let aliceRoom;
let bobRoom;

await step('connect with a token', async () => {
  for (const { events } of [alice, bob]) {
    const context = await events.next('connected');
    assert.match(context.client, /^[0-9a-f-]{36}$/);
  }
});

await step('subscribe', async () => {
  aliceRoom = subscription(alice.centrifuge, 'room');
  bobRoom = subscription(bob.centrifuge, 'room');
  await aliceRoom.events.next('subscribed');
  await bobRoom.events.next('subscribed');
});

await step('publish across workers, both ways, in order', async () => {
  for (const [publisher, room] of [['alice', aliceRoom], ['bob', bobRoom]]) {
    for (let n = 0; n < MESSAGES; n += 1) {
      await room.sub.publish(encode({ from: publisher, n, text: 'ahoi ⚓' }));
    }
    for (const receiver of [aliceRoom, bobRoom]) {
      for (let n = 0; n < MESSAGES; n += 1) {
        const context = await receiver.events.next('publication');
        assert.deepEqual(decode(context.data), { from: publisher, n, text: 'ahoi ⚓' });
        assert.equal(context.info.user, publisher);
      }
    }
  }
});

await step('unsubscribe, and subscribe again', async () => {
  aliceRoom.sub.unsubscribe();
  assert.equal((await aliceRoom.events.next('unsubscribed')).code, 0);
  // The answer to a later command says that the worker has taken in the earlier one.
  await alice.centrifuge.publish('elsewhere', encode(1));
  await bobRoom.sub.publish(encode('while alice was away'));
  await bobRoom.next();
  // Until then what was published before could still be on its way to the worker.
  await asked('wait until the worker of alice has left the room', 'left');
  aliceRoom.sub.subscribe();
  await aliceRoom.events.next('subscribed');
  await bobRoom.sub.publish(encode('welcome back'));
  await bobRoom.next();
  assert.equal(await aliceRoom.next(), 'welcome back');
});

await step('what is not allowed is refused', async () => {
  const closed = subscription(alice.centrifuge, 'closed:1');
  const { code, reason } = await closed.events.next('unsubscribed');
  assert.deepEqual([code, reason], [103, 'permission denied']);
  await assert.rejects(alice.centrifuge.publish('news:1', encode(1)), { code: 103 });
  await assert.rejects(alice.centrifuge.rpc('method', encode(1)), { code: 108 });
});

await step('a forged token ends the connection for good', async () => {
  const mallory = client(BOB_URL, { token: token('mallory', 600, 'another secret') });
  const { code, reason } = await mallory.events.next('disconnected');
  assert.deepEqual([code, reason], [3500, 'invalid token']);
});

await step('an expired token is exchanged for a new one', async () => {
  const getToken = async () => token('carol', 600);
  const carol = client(BOB_URL, { token: token('carol', -60), getToken, minReconnectDelay: 50 });
  await carol.events.next('connected');
  carol.centrifuge.disconnect();
});

await step('a token is renewed before it expires', async () => {
  const asked = new EventEmitter();
  const requests = new Events(asked, ['token']);
  const getToken = async () => {
    asked.emit('token');
    return token('dave', 2);
  };
  const { centrifuge, events } = client(ALICE_URL, { getToken });
  // One to connect, and three to stay.
  for (let n = 0; n < 4; n += 1) await requests.next('token');
  assert.equal(events.kept.connecting.length, 1, 'it did not have to reconnect');
  assert.deepEqual(events.kept.error, []);
  centrifuge.disconnect();
});

await step('after its worker was killed a client goes on elsewhere', async () => {
  alice.events.kept.connecting = [];
  await asked('kill the worker of alice', 'killed');
  // The SDK's own code for a lost connection: it shows the server's from 3000 on.
  assert.equal((await alice.events.next('connecting')).code, 1);
  await alice.events.next('connected');
  await aliceRoom.events.next('subscribed');
  await bobRoom.sub.publish(encode('still here'));
  assert.equal(await aliceRoom.next(), 'still here');
  assert.equal(await bobRoom.next(), 'still here');
  await aliceRoom.sub.publish(encode('so am I'));
  assert.equal(await bobRoom.next(), 'so am I');
  assert.equal(bob.events.kept.connecting.length, 1, 'bob noticed nothing');
});

await step('disconnect', async () => {
  for (const { centrifuge, events } of [alice, bob]) {
    centrifuge.disconnect();
    assert.equal((await events.next('disconnected')).code, 0);
  }
});

process.exit(0);
