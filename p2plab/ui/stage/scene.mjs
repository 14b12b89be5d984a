// What the kernel sends, made into a scene: who takes part, what went from whom to whom,
// what happened at whom, and the numbers that each one kept.

export const FATES = ["vanished", "arrive", "loss", "overflow", "corrupt", "duplicate"];
export const DATA = 1, ACK = 2; // kinds that are drawn in a colour of their own
export const TIMEOUT = 0, DELIVER = 1; // what a mark is

const ARRAYS = { f8: Float64Array, i4: Int32Array, u1: Uint8Array };

// header: {lifelines, end, payloads, picture, columns: {name: [type, offset, length]}, …}
// columns, picture: an ArrayBuffer or DataView each, with the columns in it.
export function decode(header, columns, picture) {
  const tables = { ...read(header.columns, columns), ...read(header.picture_columns, picture) };
  const scene = { ...header, messages: tables.messages, marks: tables.marks, trips: tables.trips, has: tables.has, changes: tables.changes };
  scene.picture = { ...header.picture, ...tables.picture };
  scene.hereAt = tables.payloads.here; // when each payload was delivered [s]
  scene.states = header.lifelines.map((_, line) => tables[`states${line}`] ?? { time: [] });
  scene.flight = flightTimes(scene);
  scene.events = eventTimes(scene);
  scene.ackedAt = whenAcknowledged(scene);
  return scene;
}

function read(places, buffer) {
  const bytes = ArrayBuffer.isView(buffer)
    ? buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength)
    : buffer;
  const tables = {};
  for (const [name, [type, offset, length]] of Object.entries(places)) {
    const [table, column] = name.split("/");
    (tables[table] ??= {})[column] = new ARRAYS[type](bytes, offset, length);
  }
  return tables;
}

// How long a message is usually on its way, for those that never arrive [s].
function flightTimes({ messages: m, end }) {
  const times = [];
  for (let i = 0; i < m.sent.length; i++) {
    if (arrives(m, i) && m.ended[i] >= m.sent[i]) times.push(m.ended[i] - m.sent[i]);
  }
  times.sort((a, b) => a - b);
  return times.length ? times[times.length >> 1] : end / 20;
}

export const arrives = (m, i) => m.fate[i] === 1 || m.fate[i] === 5;
export const isData = (m, i) => m.kind[i] === DATA;
export const isLost = (m, i) => m.fate[i] === 2 || m.fate[i] === 3;

// The moments to step to: each kind of event has a sorted list of its own.
function eventTimes({ messages: m, marks }) {
  const all = [], losses = [], timeouts = [];
  for (let i = 0; i < m.sent.length; i++) {
    all.push(m.sent[i]);
    if (m.ended[i] >= 0) all.push(m.ended[i]);
    if (isLost(m, i) || m.fate[i] === 4) losses.push(m.sent[i]);
  }
  for (let i = 0; i < marks.at.length; i++) {
    all.push(marks.at[i]);
    if (marks.what[i] === TIMEOUT) timeouts.push(marks.at[i]);
  }
  const sorted = (times) => Float64Array.from(new Set(times)).sort();
  return { event: sorted(all), loss: sorted(losses), timeout: sorted(timeouts) };
}

// When the sender first heard of each payload's arrival. An ACK names a number on the
// wire; it stands for the last payload that was sent with it.
function whenAcknowledged({ messages: m, payloads }) {
  const at = new Float64Array(payloads).fill(Infinity);
  const sends = [], acks = [];
  for (let i = 0; i < m.sent.length; i++) {
    if (m.payload[i] >= 0) sends.push(i);
    else if (m.kind[i] === ACK && arrives(m, i)) acks.push(i);
  }
  acks.sort((a, b) => m.ended[a] - m.ended[b]);
  const meaning = new Map();
  let next = 0;
  for (const ack of acks) {
    while (next < sends.length && m.sent[sends[next]] < m.ended[ack]) {
      meaning.set(m.seq[sends[next]], m.payload[sends[next]]);
      next++;
    }
    const payload = meaning.get(m.seq[ack]);
    if (payload !== undefined) at[payload] = Math.min(at[payload], m.ended[ack]);
  }
  return at;
}

// The index of the last time that is not later than `now`; -1 if there is none.
export function lastBefore(times, now) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= now) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

// What one who takes part had in a field at a moment; undefined if it has no such field.
export function numberAt(scene, line, name, now) {
  const states = scene.states[line];
  const at = lastBefore(states.time, now);
  return at < 0 ? undefined : states[name]?.[at];
}

// The next (step 1) or previous (step -1) moment in a sorted list; undefined at its end.
export function stepFrom(times, now, step) {
  const slack = 1e-9;
  return step > 0
    ? times[lastBefore(times, now + slack) + 1]
    : times[lastBefore(times, now - slack)];
}

// Everything that belongs to one message: copies, ACKs, and the timeouts between them.
export function storyOf(scene, chosen) {
  const { messages: m, marks } = scene;
  if (m.kind[chosen] === ACK) return { messages: [chosen], timeouts: [] };
  const payload = m.payload[chosen], seq = m.seq[chosen];
  const copies = [], acks = [], timeouts = [];
  for (let i = 0; i < m.sent.length; i++) {
    const alike = payload >= 0 ? m.payload[i] === payload : m.kind[i] === m.kind[chosen] && m.seq[i] === seq;
    if (alike) copies.push(i);
  }
  const heard = copies.filter((i) => arrives(m, i)).map((i) => m.ended[i]);
  for (const moment of heard) {
    for (let i = 0; i < m.sent.length; i++) {
      if (m.from[i] === m.to[chosen] && m.sent[i] === moment && m.seq[i] === seq) acks.push(i);
    }
  }
  for (let i = 0; i < marks.at.length; i++) {
    if (marks.what[i] !== TIMEOUT || marks.line[i] !== m.from[chosen]) continue;
    if (copies.some((c) => m.again[c] && m.sent[c] === marks.at[i])) timeouts.push(i);
  }
  return { messages: [...new Set([...copies, ...acks])], timeouts };
}

export function nameOf(scene, i) {
  const { messages: m } = scene;
  return [scene.kinds[m.kind[i]] ?? "packet", scene.things && m.seq[i] < 0 ? "" : m.seq[i]].join(" ").trim();
}

// A story in a sentence, in the order in which it happened.
export function inWords(scene, story) {
  const { messages: m, marks } = scene;
  const parts = story.messages.map((i) => [m.sent[i], fateInWords(scene, i)]);
  for (const i of story.timeouts) parts.push([marks.at[i] - 1e-9, `timeout at ${seconds(marks.at[i])}`]);
  return parts.sort((a, b) => a[0] - b[0]).map(([, words]) => words).join("; ") + ".";
}

function fateInWords(scene, i) {
  const { messages: m, lifelines } = scene;
  const sent = `${nameOf(scene, i)} sent ${m.again[i] ? "again " : ""}at ${seconds(m.sent[i])}`;
  const end = {
    vanished: "still on its way at the end",
    arrive: `at ${lifelines[m.to[i]]} at ${seconds(m.ended[i])}`,
    loss: "lost",
    overflow: "lost: the queue was full",
    corrupt: `damaged on the way, dropped at ${seconds(m.ended[i])}`,
    duplicate: `a second copy at ${lifelines[m.to[i]]} at ${seconds(m.ended[i])}`,
  };
  return `${sent}, ${end[FATES[m.fate[i]]]}`;
}

export const seconds = (t) => `${t.toFixed(3)} s`;
