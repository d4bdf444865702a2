// The decoder of fossil deltas in the npm package `centrifuge`, unchanged, on deltas of ours.
//
// Started by tests/tests/interop/fossil.rs, which writes the file of cases. Prints a line per case; ends
// with 0 if all went well.
//
// The package does not export its decoder, but its codecs, which call it, can be reached through a
// client that never connects.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';

const codecOf = (Centrifuge) => new Centrifuge('ws://127.0.0.1:1')._codec;
const json = codecOf(JsonCentrifuge);
const protobuf = codecOf(ProtobufCentrifuge);
const bytes = (text) => new Uint8Array(Buffer.from(text, 'base64'));

const lines = readFileSync(process.env.CASES, 'utf8').trim().split('\n');
for (const line of lines) {
  const { name, is_json: isJson, ...fields } = JSON.parse(line);
  const [source, target, delta] = [fields.source, fields.target, fields.delta].map(bytes);
  const binary = protobuf.applyDeltaIfNeeded({ data: delta, delta: true }, source);
  assert.deepEqual(binary.newPrevValue, target, name);
  if (isJson) {
    // In JSON a delta is a string, which has to survive being one.
    const data = new TextDecoder('utf-8', { fatal: true }).decode(delta);
    const sent = JSON.parse(JSON.stringify({ data, delta: true }));
    const text = json.applyDeltaIfNeeded(sent, source);
    assert.deepEqual(text.newPrevValue, target, name);
    assert.deepEqual(text.newData, JSON.parse(new TextDecoder().decode(target)), name);
  }
  console.log(`ok: ${name}`);
}
process.exit(0);
