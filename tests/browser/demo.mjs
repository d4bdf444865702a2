// The demo page of `flotilla dev --nats` in a headless Chromium: two tabs on two workers, and a phone.
//
// Started by tests/tests/browser.rs, which sets the environment. Prints a line per step; ends with 0 if all went well.

import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const { DEMO_URL, CHROMIUM = '/usr/bin/chromium' } = process.env;
const TABS_MAX = 12;
const TRIES_MAX = 10;
const PHONE = { width: 360, height: 640 };

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  // No sandbox, because tests may run as root; the rest keeps the browser to itself.
  args: ['--no-sandbox', '--disable-quic', '--disable-component-update', '--disable-sync'],
});
const complaints = [];

async function step(name, body) {
  await body();
  console.log(`ok: ${name}`);
}

// A tab with the demo page, once it has joined its room.
async function open(context) {
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  page.on('pageerror', (error) => complaints.push(`error: ${error}`));
  page.on('console', (message) => {
    if (message.type() === 'error') complaints.push(`console: ${message.text()}`);
  });
  await page.goto(DEMO_URL);
  await page.locator('#status[data-state=connected]').waitFor();
  await page.locator('#log li', { hasText: 'joined' }).waitFor();
  return page;
}

const node = async (page) => (await page.locator('#node').innerText()).replace(/^on /, '');

async function say(page, text) {
  await page.locator('#text').fill(text);
  await page.locator('#send').click();
}

async function join(page, room) {
  await page.locator('#room').fill(room);
  await page.locator('#room').press('Enter');
  await page.locator('#log li', { hasText: `joined ${room}` }).waitFor();
}

// The line in which this tab shows a message.
const heard = (page, text, kind) => page.locator(`#log li.${kind}`, { hasText: text });

async function scrollsSideways(page) {
  return page.evaluate(() => {
    const root = document.scrollingElement;
    return Math.max(root.scrollWidth, document.body.scrollWidth) > root.clientWidth;
  });
}

const context = await browser.newContext();
let here;
let there;

await step('two tabs are on two workers', async () => {
  here = await open(context);
  for (let tabs = 1; tabs < TABS_MAX; tabs += 1) {
    const other = await open(context);
    if ((await node(other)) !== (await node(here))) { there = other; return; }
    await other.close();
  }
  assert.fail(`${TABS_MAX} tabs are all on ${await node(here)}`);
});

await step('they exchange messages, and show through which worker', async () => {
  for (const [from, to, text] of [[here, there, 'hello there'], [there, here, 'hello back']]) {
    await say(from, text);
    await heard(from, text, 'mine').waitFor();
    await heard(to, text, 'theirs').waitFor();
    const line = await heard(to, text, 'theirs').innerText();
    assert(line.includes(await node(from)), `${line} does not name ${await node(from)}`);
  }
});

await step('what is received is text, whatever it looks like', async () => {
  const text = '<img src=x onerror="document.title=1"><b>bold</b>';
  await say(here, text);
  await heard(there, text, 'theirs').waitFor();
  assert.equal(await there.locator('#log img, #log b').count(), 0);
});

await step('another room is another room', async () => {
  for (const page of [here, there]) await join(page, 'harbour');
  await say(here, 'only in the harbour');
  await heard(there, 'only in the harbour', 'theirs').waitFor();
});

// In a page, without a WebSocket: hears one message in the harbour, says one, and resolves to what it heard.
async function overHttp(told) {
  const { url, token, channel } = await (await fetch('token?user=Smoke%20Signal')).json();
  const harbour = `${channel.slice(0, channel.indexOf(':') + 1)}harbour`;
  const at = (path) => url.replace(/^ws/, 'http').replace('/connection/websocket', path);
  const lines = (...commands) => commands.map((command) => JSON.stringify(command)).join('\n');
  const first = lines({ id: 1, connect: { token } }, { id: 2, subscribe: { channel: harbour } });
  const source = new EventSource(`${at('/connection/sse')}?cf_connect=${encodeURIComponent(first)}`);
  const messages = [];
  let wake;
  source.onmessage = ({ data }) => { messages.push(JSON.parse(data)); wake?.(); };
  source.onerror = () => { messages.push({ error: 'the stream is gone' }); wake?.(); };
  const find = async (wanted) => {
    for (;;) {
      const found = messages.find((message) => message.error || wanted(message));
      if (found) return found;
      await new Promise((resolve) => { wake = resolve; });
    }
  };
  const { connect } = await find((message) => message.connect);
  await find((message) => message.subscribe);
  const publish = { channel: harbour, data: { text: 'smoke', via: connect.node } };
  const answer = await fetch(at('/emulation'), {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ ...connect, data: lines({ id: 3, publish }) }),
  });
  await find((message) => message.id === 3);
  console.info(told);
  const heard = await find((message) => message.push?.pub?.data.text === 'smoke seen');
  source.close();
  return { status: answer.status, heard: heard.push.pub.data.text };
}

await step('a page without WebSocket hears and is heard', async () => {
  const told = 'it has said something';
  // The demo page itself may open WebSockets only.
  const page = await open(await browser.newContext({ bypassCSP: true }));
  const hasSaid = page.waitForEvent('console', { predicate: (line) => line.text() === told });
  const said = page.evaluate(overHttp, told);
  await hasSaid;
  await heard(there, 'smoke', 'theirs').waitFor();
  await say(there, 'smoke seen');
  assert.deepEqual(await said, { status: 204, heard: 'smoke seen' });
  await page.context().close();
});

// What the page shows of a worker.
const worker = (page, name) => page.locator('#workers li', { hasText: name });

// Says something until it is heard: what is said while somebody is on the way to another worker is not kept.
async function getsThrough(from, to, text) {
  for (let tries = 1; tries <= TRIES_MAX; tries += 1) {
    await say(from, `${text} (${tries})`);
    const is = heard(to, text, 'theirs').first();
    if (await is.waitFor({ timeout: 2_000 }).then(() => true, () => false)) return;
  }
  assert.fail(`${text}: not heard`);
}

// Whether the tab connects again or its session is moved, it is on another worker soon, and the chat goes on; and the
// worker can be had back.
async function goesOnWithout(action) {
  const lost = await node(here);
  await worker(here, lost).getByRole('button', { name: `${action} ${lost}` }).click();
  await here.locator('#log li', { hasText: `moved from ${lost}` }).last().waitFor();
  await here.locator('#status[data-state=connected]').waitFor();
  assert.notEqual(await node(here), lost);
  await getsThrough(there, here, `are you well after the ${action}?`);
  await getsThrough(here, there, `better than before the ${action}`);
  await worker(there, lost).getByRole('button', { name: `start ${lost}` }).click();
  for (const page of [here, there]) {
    await page.locator('#workers li[data-state=up]', { hasText: lost }).waitFor();
  }
}

await step('a person kills the worker of a tab, the chat goes on, and the worker is started again', async () => {
  await goesOnWithout('kill');
});

await step('a person drains the worker of a tab, the chat goes on, and the worker is started again', async () => {
  await goesOnWithout('drain');
});

await step('with the keyboard a person stays with the worker that was killed', async () => {
  const other = await here.evaluate(() => [...rows.keys()].find((name) => name !== node));
  await worker(here, other).locator('.kill').focus();
  await here.keyboard.press('Enter');
  await here.locator('#workers .start:focus').press('Enter');
  await worker(here, other).locator('.kill:focus').waitFor();
  await here.locator('#workers li[data-state=up]', { hasText: other }).waitFor();
});

// A tab that is given these answers instead of the launcher's.
async function openWith(answers) {
  const other = await browser.newContext();
  for (const [url, json] of Object.entries(answers)) await other.route(url, (route) => route.fulfill({ json }));
  return open(other);
}

await step('a tab whose session moves says so, and that the connection stayed', async () => {
  const page = await openWith({ '**/where?client=*': { worker: 'worker-9' } });
  await page.locator('#log li', { hasText: /^moved from worker-\d to worker-9; the connection stayed$/ }).waitFor();
  assert.equal(await node(page), 'worker-9');
  await join(page, 'harbour');
  await getsThrough(page, there, 'I have not noticed anything');
  assert.equal(await page.locator('#log li', { hasText: 'moved' }).count(), 1);
  assert.equal(await page.locator('#log li', { hasText: 'connection lost' }).count(), 0);
  await page.context().close();
});

await step('workers that are not processes have no buttons', async () => {
  const workers = [{ name: 'worker-1', state: 'up', connections: 1 }];
  const page = await openWith({ '**/workers': { controls: false, workers } });
  await worker(page, 'worker-1').getByText('1 connection').waitFor();
  assert.equal(await page.locator('#workers button:visible').count(), 0);
  await page.context().close();
});

await step('on a phone nothing has to be scrolled sideways', async () => {
  const phone = await open(
    await browser.newContext({ viewport: PHONE, isMobile: true, hasTouch: true }),
  );
  assert.equal(await scrollsSideways(phone), false, 'the empty page');
  const long = 'Donaudampfschifffahrtsgesellschaft'.repeat(20);
  await say(phone, long);
  await heard(phone, long, 'mine').waitFor();
  assert.equal(await scrollsSideways(phone), false, 'with a long word');
  for (const id of ['#text', '#send', '#room', '#log', '#status', '#workers']) {
    const box = await phone.locator(id).boundingBox();
    const inside = box.x >= 0 && box.x + box.width <= PHONE.width && box.y + box.height <= PHONE.height;
    assert(inside, `${id} is not on the screen: ${JSON.stringify(box)}`);
  }
  for (const button of ['#send', '.kill:visible', '.drain:visible']) {
    const { height, width } = await phone.locator(button).first().boundingBox();
    assert(Math.min(height, width) >= 44, `a finger does not hit ${width} x ${height} pixels of ${button}`);
  }
});

await step('the page has nothing to complain about', async () => {
  // That a WebSocket was cut is what the kill was for.
  const others = complaints.filter((text) => !/WebSocket connection to .* failed/.test(text));
  assert.deepEqual(others, []);
});

await browser.close();
process.exit(0);
