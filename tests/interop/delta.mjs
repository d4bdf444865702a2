// Deltas with the npm package `centrifuge`, unchanged, against a running fleet.
//
// Started by tests/tests/interop/delta.rs, which sets the environment. Prints a line per step; ends with 0 if all went
// well.

import assert from 'node:assert/strict';
import { on } from 'node:events';
import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

const { URL, TOKEN, FORMAT, CHANNEL, KEPT } = process.env;
const protobuf = FORMAT === 'protobuf';
const Centrifuge = protobuf ? ProtobufCentrifuge : JsonCentrifuge;
const signal = AbortSignal.timeout(60_000);

const encode = (value) => (protobuf ? new TextEncoder().encode(JSON.stringify(value)) : value);
const decode = (data) => (protobuf ? JSON.parse(new TextDecoder().decode(data)) : data);
const document = (version) => ({ text: 'Où est le café? ⚓ It stays where it is.', version });

function connect() {
  const client = new Centrifuge(URL, { websocket: WebSocket, token: TOKEN, minReconnectDelay: 50 });
  client.connect();
  return client;
}

function subscribe(client, options) {
  const sub = client.newSubscription(CHANNEL, options);
  const [publications, subscribed] = ['publication', 'subscribed'].map((name) => on(sub, name, { signal }));
  const next = async (events) => (await events.next()).value[0];
  sub.subscribe();
  return {
    sub,
    subscribed: () => next(subscribed),
    // The next publications are these versions.
    async reads(from, to) {
      for (let version = from; version <= to; version += 1) {
        assert.deepEqual(decode((await next(publications)).data), document(version));
      }
    },
  };
}

const publisher = connect();
async function publish(from, to) {
  for (let version = from; version <= to; version += 1) {
    await publisher.publish(CHANNEL, encode(document(version)));
  }
}

const [client, other] = [connect(), connect()];
const reader = subscribe(client, { delta: 'fossil', recoverable: true, positioned: true });
const plain = subscribe(other, {});
await reader.subscribed();
await plain.subscribed();

await publish(1, 20);
await reader.reads(1, 20);
const { numFullPayloads, numDeltaPayloads } = reader.sub.deltaStats();
assert.deepEqual([numFullPayloads, numDeltaPayloads], [1, 19]);
console.log('ok: all but the first come as deltas');

client.disconnect();
await publish(21, 25);
client.connect();
assert((await reader.subscribed()).recovered);
await reader.reads(21, 25);
await publish(26, 28);
await reader.reads(26, 28);
assert(reader.sub.deltaStats().numDeltaPayloads > 22);
console.log('ok: the chain goes on behind what was missed');

client.disconnect();
client.connect();
assert((await reader.subscribed()).recovered);
await publish(29, 30);
await reader.reads(29, 30);
console.log('ok: and where nothing was missed');

client.disconnect();
const last = 31 + Number(KEPT);
await publish(31, last);
client.connect();
assert(!(await reader.subscribed()).recovered);
await publish(last + 1, last + 3);
await reader.reads(last + 1, last + 3);
console.log('ok: a base that is lost is replaced by a whole publication');

await plain.reads(1, last + 3);
console.log('ok: who does not ask for deltas gets what was published');
process.exit(0);
