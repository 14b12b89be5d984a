// The stage's layout without a browser: places, labels, stories, boxes, faults as code.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

const [folder, scenes] = process.argv.slice(2);
const load = (name) => import(`${folder}/${name}.mjs`);
const { lineOf, places, spread, thinned, ticks, visible } = await load("lifelines");
const { inWords, lastBefore, stepFrom, storyOf } = await load("scene");
const { receiverBoxes, senderBoxes } = await load("strips");
const { difference, withFault } = await load("faults");
const { fates } = await load("picture");
const { curveWords, seriesOf } = await load("curves");
const { tableRows } = await load("table");
const { isThere, mapPlaces, peerAt, shareOf, withNeighbours } = await load("map");
const { sceneOf, words } = await load("stage");

const sent = JSON.parse(readFileSync(scenes, "utf-8"));
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64")).buffer;
const scene = (name) => sceneOf(sent[name].header, bytes(sent[name].columns), bytes(sent[name].picture));
const view = { from: 0, until: 1 };

test("a moment's place and the place's moment are the same", () => {
  const at = places(400, 300, 2, { from: 2, until: 5 });
  for (const time of [2, 3.5, 5]) assert.ok(Math.abs(at.time(at.y(time)) - time) < 1e-9);
  assert.ok(at.x(0) < at.x(1));
});

test("no label stands over another of its side, and the first ones win", () => {
  const labels = [0, 5, 11, 12, 30, 31].map((y) => ({ side: 0, y }));
  assert.deepEqual(thinned([...labels, { side: 1, y: 5 }]).map(({ side, y }) => [side, y]),
    [[0, 0], [0, 12], [0, 30], [1, 5]]);
});

test("ticks are round and inside the view", () => {
  assert.deepEqual(ticks({ from: 0.13, until: 0.58 }, 5).map(({ text }) => text), ["0.2 s", "0.3 s", "0.4 s", "0.5 s"]);
});

test("packets of one moment are drawn apart, in their order", () => {
  const run = scene("go_back_n");
  const later = spread(run), { sent: times, from } = run.messages;
  for (let i = 1; i < later.length; i++) {
    if (times[i] === times[i - 1] && from[i] === from[i - 1]) assert.ok(later[i] > later[i - 1]);
    assert.ok(later[i] < run.flight);
  }
});

test("every message that touches the view is drawn, and none is missed", () => {
  const run = scene("selective_repeat"), { sent: times, ended } = run.messages;
  const part = { from: 0.3, until: 0.5 };
  const [first, last] = visible(run, part);
  times.forEach((time, i) => {
    const touches = time <= part.until && Math.max(ended[i], time) >= part.from;
    if (touches) assert.ok(first <= i && i < last);
  });
});

test("an arrow grows while its packet is on its way, and a lost one ends half-way", () => {
  const run = scene("selective_repeat"), { messages: m } = run;
  const at = places(500, 400, 2, view);
  const lost = m.fate.indexOf(2), here = m.fate.indexOf(1);
  const middle = (m.sent[here] + m.ended[here]) / 2;
  assert.ok(!lineOf(run, here, middle, at).ended);
  assert.equal(lineOf(run, here, m.ended[here], at).x1, at.x(m.to[here]));
  const { x0, x1 } = lineOf(run, lost, run.end, at);
  assert.equal(x1, (x0 + at.x(m.to[lost])) / 2);
});

test("steps go to the next moment of their kind, and stop at the end", () => {
  const times = Float64Array.from([1, 2, 3]);
  assert.equal(stepFrom(times, 1, 1), 2);
  assert.equal(stepFrom(times, 2, -1), 1);
  assert.equal(stepFrom(times, 3, 1), undefined);
  assert.equal(lastBefore(times, 0.5), -1);
});

test("a story has the copies, the timeout that repeated it, and the answer", () => {
  const run = scene("selective_repeat"), { messages: m } = run;
  const lost = m.fate.findIndex((fate, i) => fate === 2 && m.payload[i] >= 0);
  const story = storyOf(run, lost);
  const copies = story.messages.filter((i) => m.payload[i] === m.payload[lost]);
  assert.ok(copies.length >= 2);
  assert.ok(story.timeouts.length >= 1);
  assert.match(inWords(run, story), /lost; timeout at .*sent again.*ACK/);
});

for (const name of ["go_back_n", "selective_repeat"]) {
  test(`${name}: boxes agree with the numbers that its machines had`, () => {
    const run = scene(name);
    for (let now = 0; now < run.end; now += run.end / 50) {
      const [base, next, window] = ["send_base", "next_seq_num", "window.size"]
        .map((field) => run.states[0][field][lastBefore(run.states[0].time, now)]);
      for (const { number, what, markers } of senderBoxes(run, now, 0, run.payloads)) {
        if (number < base) assert.equal(what, "acknowledged");
        if (number >= next && number < base + window) assert.equal(what, "usable");
        if (number >= Math.max(next, base + window)) assert.equal(what, "not usable");
        assert.equal(markers.includes("send_base"), number === base);
      }
      const expected = run.states[1].expected_seq_num[lastBefore(run.states[1].time, now)];
      for (const { number, what } of receiverBoxes(run, now, 0, run.payloads)) {
        assert.equal(what === "in order", number < expected);
        if (name === "go_back_n") assert.notEqual(what, "early"); // it drops these
      }
    }
  });
}

test("the picture is here when its last payload is, and holes are told from what comes", () => {
  const run = scene("best_effort");
  const end = new Set(fates(run, run.end));
  assert.deepEqual([...end].sort(), ["here", "lost"]);
  assert.ok(fates(run, Math.min(...run.hereAt)).includes("not yet"));
  const whole = scene("selective_repeat");
  assert.deepEqual([...new Set(fates(whole, whole.end))], ["here"]);
  assert.match(words(whole, whole.end), new RegExp(`${whole.payloads} of ${whole.payloads} payloads`));
});

test("a packet has one fate only, and each way counts for itself", () => {
  let faults = withFault([], { way: 0, number: 3, what: "lose" });
  faults = withFault(faults, { way: 1, number: 3, what: "late" });
  faults = withFault(faults, { way: 0, number: 3, what: "corrupt" });
  assert.deepEqual(faults.map(({ way, what }) => [way, what]), [[1, "late"], [0, "corrupt"]]);
});

test("curves say what the machines had and what was measured", () => {
  const run = scene("selective_repeat");
  const windowed = seriesOf(run, "window"), trips = seriesOf(run, "trips");
  assert.equal(windowed.most, 8);
  assert.match(curveWords(seriesOf(run, "delivered"), run.end), new RegExp(`: ${run.payloads}$`));
  assert.equal(curveWords(seriesOf(run, "delivered"), 0), "payloads delivered: none");
  assert.ok(trips.series.some(({ dots, values }) => dots && values.every((seconds) => seconds >= 0.04)));
  assert.equal(curveWords(seriesOf(scene("best_effort"), "window"), 1), "This run does not tell it.");
});

test("the table has what the lifelines show, and no future", () => {
  const run = scene("selective_repeat"), now = run.end / 2;
  const rows = tableRows(run, { from: 0, until: run.end }, now);
  assert.equal(rows.length, Math.min(200, [...run.messages.sent].filter((at) => at <= now).length));
  for (const [sentAt, , , fate, ended] of rows) {
    assert.ok(parseFloat(sentAt) <= now + 0.001);
    assert.ok(ended === "" || parseFloat(ended) <= now + 0.001 || fate === "on its way");
  }
});

test("a map has a place for each peer, found by a click, and tells what each one has", () => {
  const run = scene("room"), size = { width: 400, height: 300 };
  mapPlaces(run, 400, 300).forEach(({ x, y }, peer) => assert.equal(peerAt(run, x, y, size), peer));
  assert.equal(peerAt(run, 200, 150, size), -1);
  assert.equal(shareOf(run, 0, 0), 1);
  assert.equal(shareOf(run, 1, 0), 0);
  assert.equal(shareOf(run, 1, run.end), 1);
  assert.deepEqual([isThere(run, 4, 0.4), isThere(run, 4, 0.6)], [true, false]);
  assert.match(words(run, run.end), /4 of 5 peers are there/);
});

test("the lifelines of a room are one peer's and those of whom it talks with", () => {
  const run = scene("room"), part = withNeighbours(run, 2);
  assert.equal(part.lifelines[0], "p2");
  assert.equal(new Set(part.lifelines).size, 5);
  part.messages.sent.forEach((_, i) => assert.ok(part.messages.from[i] === 0 || part.messages.to[i] === 0));
  const own = [...run.messages.from].filter((from, i) => from === 2 || run.messages.to[i] === 2).length;
  assert.equal(part.messages.sent.length, own);
});

test("two runs are told apart in words, and what looks alike is called the same", () => {
  const before = { completeAt: 2.76, sends: 204 };
  assert.equal(difference(before, { completeAt: 2.7600001, sends: 205 }),
    "With this fault: as before: complete after 2.760 s. 205 packets sent; without it: 204 packets sent.");
  assert.match(difference(before, { completeAt: Infinity, sends: 204 }), /^With this fault: never complete; without/);
});
