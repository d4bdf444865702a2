// A tags filter with the npm package `centrifuge`, unchanged, against a running fleet.
//
// Started by tests/tests/interop/filter.rs, which sets the environment and publishes when this script is subscribed.
// Prints a line when it has got what it wants; ends with 0 if all went well.

import assert from 'node:assert/strict';
import { on } from 'node:events';
import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

const { URL, TOKEN, FORMAT, CHANNEL } = process.env;
const protobuf = FORMAT === 'protobuf';
const Centrifuge = protobuf ? ProtobufCentrifuge : JsonCentrifuge;
const signal = AbortSignal.timeout(60_000);
const decode = (data) => (protobuf ? JSON.parse(new TextDecoder().decode(data)) : data);

const client = new Centrifuge(URL, { websocket: WebSocket, token: TOKEN });
const sub = client.newSubscription(CHANNEL, {
  tagsFilter: {
    op: 'and',
    nodes: [
      { key: 'symbol', cmp: 'in', vals: ['A', 'B'] },
      { op: 'or', nodes: [{ key: 'price', cmp: 'gt', val: '10' }, { key: 'kind', cmp: 'sw', val: 'ind' }] },
      { op: 'not', nodes: [{ key: 'test', cmp: 'ex' }] },
    ],
  },
});
const publications = on(sub, 'publication', { signal });
sub.on('subscribed', () => console.log('subscribed'));
client.connect();
sub.subscribe();

const got = [];
while (got.at(-1) !== 'last') got.push(decode((await publications.next()).value[0].data));
assert.deepEqual(got, ['above', 'index', 'last']);
console.log('ok: what passes the filter, and nothing else');
process.exit(0);
