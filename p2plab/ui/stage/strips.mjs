// Window strips, as in Kurose & Ross, figures 3.19 and 3.23: packet numbers as boxes,
// and what each one is for the sender and for the receiver at a moment.

import { arrives, lastBefore, numberAt } from "./scene.mjs";

// What a box can be, for the legend; the same look means the same at both sides.
export const BOXES = ["acknowledged", "in flight", "usable", "not usable", "early"];

// What each payload in a stretch of numbers is. A number that a protocol does not tell
// (no window, no early packets) is not drawn.
export function senderBoxes(scene, now, first, count) {
  const base = numberAt(scene, 0, "send_base", now);
  const next = numberAt(scene, 0, "next_seq_num", now);
  const window = numberAt(scene, 0, "window.size", now);
  return boxes(scene, first, count, (n) => {
    if (n < (base ?? 0) || scene.ackedAt[n] <= now) return "acknowledged";
    if (next === undefined ? scene.firstSent[n] <= now : n < next) return "in flight";
    if (window === undefined || base === undefined) return "not sent";
    return n < base + window ? "usable" : "not usable";
  }, { send_base: base, next_seq_num: next });
}

export function receiverBoxes(scene, now, first, count) {
  const expected = numberAt(scene, 1, "expected_seq_num", now);
  const keeps = numberAt(scene, 1, "window", now) !== undefined;
  return boxes(scene, first, count, (n) => {
    if (expected === undefined) return scene.hereAt[n] <= now ? "received" : "not here";
    if (n < expected) return "in order";
    if (keeps && scene.firstHeard[n] <= now) return "early";
    return n === expected ? "expected" : "not here";
  }, { expected_seq_num: expected });
}

function boxes(scene, first, count, what, markers) {
  const found = [];
  for (let n = first; n < Math.min(first + count, scene.payloads); n++) {
    const names = Object.keys(markers).filter((name) => markers[name] === n);
    found.push({ number: n, what: what(n), markers: names });
  }
  return found;
}

// The stretch of numbers to show: the window is in it, with some of what lies behind.
export function firstBox(scene, now, count) {
  const base = numberAt(scene, 0, "send_base", now) ?? newest(scene, now) - (count >> 1);
  return Math.max(0, Math.min(Math.round(base) - 3, scene.payloads - count));
}

function newest({ messages: m }, now) {
  const last = lastBefore(m.sent, now);
  for (let i = last; i >= 0; i--) if (m.payload[i] >= 0) return m.payload[i];
  return 0;
}

// When each payload was first sent, first arrived, for looking up later.
export function addFirsts(scene) {
  const { messages: m, payloads } = scene;
  scene.firstSent = new Float64Array(payloads).fill(Infinity);
  scene.firstHeard = new Float64Array(payloads).fill(Infinity);
  for (let i = 0; i < m.sent.length; i++) {
    const n = m.payload[i];
    if (n < 0 || n >= payloads) continue;
    scene.firstSent[n] = Math.min(scene.firstSent[n], m.sent[i]);
    if (arrives(m, i)) scene.firstHeard[n] = Math.min(scene.firstHeard[n], m.ended[i]);
  }
  return scene;
}

// Fill an element with a strip: a box for each number, its name for screen readers.
export function showStrip(element, title, found) {
  const row = document.createElement("ol");
  for (const { number, what, markers } of found) {
    const box = document.createElement("li");
    box.className = what.replace(" ", "-");
    box.textContent = number;
    box.title = `${number}: ${[what, ...markers].join(", ")}`;
    for (const marker of markers) box.append(Object.assign(document.createElement("b"), { className: marker, textContent: marker }));
    row.append(box);
  }
  row.setAttribute("aria-label", title);
  element.replaceChildren(row);
}
