// The ladder: a lifeline for each who takes part, time downwards, an arrow for each
// message. Only what can be seen is drawn, so a long run costs no more than a short one.

import { ACK, arrives, DELIVER, isData, isLost, lastBefore, nameOf, TIMEOUT } from "./scene.mjs";

export const MARGIN = { top: 22, left: 104, right: 64 }; // for names and labels [px]
const LABEL = 12; // the height of a line of text [px]

// Where things are: x of a lifeline, y of a moment, and back. All in CSS pixels.
export function places(width, height, count, view) {
  const step = count > 1 ? (width - MARGIN.left - MARGIN.right) / (count - 1) : 0;
  const scale = (height - MARGIN.top) / (view.until - view.from);
  return {
    x: (line) => MARGIN.left + line * step,
    y: (time) => MARGIN.top + (time - view.from) * scale,
    time: (y) => view.from + (y - MARGIN.top) / scale,
  };
}

// The messages that touch a stretch of time: from the first to behind the last index.
export function visible(scene, view) {
  const { sent } = scene.messages;
  return [lastBefore(sent, view.from - scene.longest) + 1, lastBefore(sent, view.until) + 1];
}

// Moments to write beside the lifelines, a round number apart, about `count` of them.
export function ticks(view, count) {
  const rough = (view.until - view.from) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((each) => each >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  const found = [];
  for (let n = Math.max(0, Math.ceil(view.from / step)); n * step < view.until; n++) {
    found.push({ time: n * step, text: `${(n * step).toFixed(digits)} s` });
  }
  return found;
}

// What leaves at the same moment is drawn one below the other, so that each can be seen:
// how much later a message is drawn than it was sent [s].
export function spread(scene) {
  const { messages: m } = scene;
  const later = new Float64Array(m.sent.length);
  for (let first = 0; first < later.length;) {
    let end = first;
    while (end < later.length && m.sent[end] - m.sent[first] < scene.flight / 500) end++;
    const step = Math.min(0.12, 0.8 / (end - first)) * scene.flight;
    const counts = {};
    for (let i = first; i < end; i++) {
      const copy = i > first && m.number[i] === m.number[i - 1] && m.from[i] === m.from[i - 1];
      const place = counts[m.from[i]] ?? -1;
      counts[m.from[i]] = copy ? place : place + 1;
      later[i] = counts[m.from[i]] * step;
    }
    first = end;
  }
  return later;
}

// The line on which a message is drawn; a lost one ends half-way, one that met a full
// queue near its sender. Nothing is drawn that has not happened yet.
export function lineOf(scene, i, now, at) {
  const { messages: m } = scene;
  const share = m.fate[i] === 2 ? 0.5 : m.fate[i] === 3 ? 0.15 : 1;
  const whole = arrives(m, i) || m.fate[i] === 4 ? m.ended[i] - m.sent[i] : scene.flight;
  const grown = whole > 0 ? Math.min((now - m.sent[i]) / whole, share) : share;
  const [x0, x1] = [at.x(m.from[i]), at.x(m.to[i])];
  return {
    x0, y0: at.y(m.sent[i] + scene.later[i]),
    x1: x0 + (x1 - x0) * grown, y1: at.y(m.sent[i] + scene.later[i] + whole * grown),
    ended: grown >= share,
  };
}

// Which labels fit: none over another, those first in the list before later ones.
export function thinned(labels, height = LABEL) {
  const taken = new Map();
  return labels.filter(({ side, y }) => {
    const ys = taken.get(side) ?? [];
    if (ys.some((other) => Math.abs(other - y) < height)) return false;
    taken.set(side, [...ys, y]);
    return true;
  });
}

// Draw what happened until `now`. lit: the messages of a story, if one is lit up.
export function drawLifelines(context, scene, { width, height, view, now, lit, ink }) {
  const { messages: m, marks, lifelines } = scene;
  const at = places(width, height, lifelines.length, view);
  context.clearRect(0, 0, width, height);
  context.font = `${LABEL - 1}px system-ui, sans-serif`;
  context.save();
  context.beginPath();
  context.rect(0, MARGIN.top, width, height - MARGIN.top);
  context.clip();
  const labels = [];
  const [first, last] = visible(scene, view);
  const onTop = []; // no loss is hidden by what arrived
  const draw = (i, line) => {
    const bright = !lit || lit.messages.includes(i);
    context.globalAlpha = bright ? 1 : 0.15;
    drawArrow(context, m, i, line, ink, lit && bright ? 2.5 : 1.3);
    if (bright) labels.push({ side: m.from[i], y: line.y0, text: nameOf(scene, i), again: m.again[i] });
  };
  for (let i = first; i < last; i++) {
    if (m.sent[i] > now) break; // they are in the order of sending
    const line = lineOf(scene, i, now, at);
    if (Math.max(line.y0, line.y1) < 0) continue;
    if (isLost(m, i) || lit?.messages.includes(i)) onTop.push([i, line]);
    else draw(i, line);
  }
  for (const [i, line] of onTop) draw(i, line);
  context.globalAlpha = 1;
  for (let i = lastBefore(marks.at, view.from) + 1; i < marks.at.length; i++) {
    if (marks.at[i] > Math.min(now, view.until)) break;
    const bright = !lit || marks.what[i] === DELIVER || lit.timeouts.includes(i);
    context.globalAlpha = bright ? 1 : 0.15;
    drawMark(context, marks.what[i], at.x(marks.line[i]), at.y(marks.at[i]), ink);
    if (bright && marks.what[i] === TIMEOUT) labels.unshift({ side: marks.line[i], y: at.y(marks.at[i]), text: "timeout", timeout: true });
  }
  context.globalAlpha = 1;
  drawTicks(context, view, at, ink);
  drawCursor(context, width, at.y(now), ink);
  for (const label of thinned(labels)) drawLabel(context, label, at, lifelines.length, ink);
  context.restore();
  drawNames(context, lifelines, at, height, ink);
}

function drawArrow(context, m, i, { x0, y0, x1, y1, ended }, ink, width) {
  const lost = isLost(m, i) || m.fate[i] === 4;
  context.strokeStyle = context.fillStyle =
    lost && ended ? ink.loss : m.again[i] ? ink.again : isData(m, i) ? ink.data : m.kind[i] === ACK ? ink.ack : ink.plain;
  context.lineWidth = width;
  context.setLineDash(lost && ended ? [6, 3, 1, 3] : m.again[i] ? [6, 3] : []);
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
  context.setLineDash([]);
  if (isLost(m, i) && ended) drawCross(context, x1, y1);
  else if (m.fate[i] === 4 && ended) drawDiamond(context, x1, y1, ink.paper);
  else drawTip(context, x0, y0, x1, y1, m.fate[i] === 5);
}

function drawTip(context, x0, y0, x1, y1, open) {
  const angle = Math.atan2(y1 - y0, x1 - x0), size = 7;
  context.beginPath();
  context.moveTo(x1 - size * Math.cos(angle - 0.4), y1 - size * Math.sin(angle - 0.4));
  context.lineTo(x1, y1);
  context.lineTo(x1 - size * Math.cos(angle + 0.4), y1 - size * Math.sin(angle + 0.4));
  if (open) context.stroke(); // a copy that the network made
  else context.fill();
}

function drawCross(context, x, y) {
  context.lineWidth = 2;
  context.beginPath();
  for (const side of [-1, 1]) {
    context.moveTo(x - 4, y - 4 * side);
    context.lineTo(x + 4, y + 4 * side);
  }
  context.stroke();
}

function drawDiamond(context, x, y, paper) {
  context.beginPath();
  context.moveTo(x, y - 5);
  context.lineTo(x + 5, y);
  context.lineTo(x, y + 5);
  context.lineTo(x - 5, y);
  context.closePath();
  context.fillStyle = paper;
  context.fill();
  context.stroke();
}

function drawMark(context, what, x, y, ink) {
  context.lineWidth = 1.3;
  context.beginPath();
  if (what === DELIVER) { // a small triangle that points out of the lifeline
    context.fillStyle = ink.plain;
    context.moveTo(x + 2, y);
    context.lineTo(x + 8, y - 3);
    context.lineTo(x + 8, y + 3);
    context.fill();
    return;
  }
  context.fillStyle = ink.timeout;
  context.strokeStyle = ink.plain;
  context.arc(x, y, 5, 0, 2 * Math.PI); // a clock
  context.fill();
  context.moveTo(x, y - 3);
  context.lineTo(x, y);
  context.lineTo(x + 2, y);
  context.stroke();
}

function drawLabel(context, { side, y, text, again, timeout }, at, count, ink) {
  const right = count > 1 && side === count - 1;
  context.textAlign = right ? "left" : "right";
  context.textBaseline = "middle";
  context.fillStyle = timeout ? ink.timeoutText : again ? ink.again : ink.plain;
  context.strokeStyle = ink.paper; // so that no line goes through it
  context.lineWidth = 3;
  const x = at.x(side) + (right ? 12 : -9);
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function drawTicks(context, view, at, ink) {
  context.fillStyle = ink.cursor;
  context.textAlign = "left";
  context.textBaseline = "middle";
  for (const { time, text } of ticks(view, 8)) {
    if (at.y(time) > MARGIN.top + LABEL / 2) context.fillText(text, 2, at.y(time));
  }
}

function drawCursor(context, width, y, ink) {
  context.strokeStyle = ink.cursor;
  context.lineWidth = 1;
  context.setLineDash([4, 3]);
  context.beginPath();
  context.moveTo(0, y);
  context.lineTo(width, y);
  context.stroke();
  context.setLineDash([]);
}

function drawNames(context, lifelines, at, height, ink) {
  context.strokeStyle = ink.line;
  context.fillStyle = ink.plain;
  context.lineWidth = 1.2;
  context.textAlign = "center";
  context.textBaseline = "top";
  lifelines.forEach((name, line) => {
    context.fillText(name, at.x(line), 4);
    context.beginPath();
    context.moveTo(at.x(line), MARGIN.top);
    context.lineTo(at.x(line), height);
    context.stroke();
  });
}

// The message that is drawn at a point, or nearest to it within a few pixels; -1: none.
export function messageAt(scene, x, y, { width, height, view, now }) {
  const at = places(width, height, scene.lifelines.length, view);
  const [first, last] = visible(scene, view);
  let best = -1, nearest = 8;
  for (let i = first; i < last && scene.messages.sent[i] <= now; i++) {
    const onTop = isLost(scene.messages, i) ? 2 : 0; // as it is drawn [px]
    const distance = distanceTo(lineOf(scene, i, now, at), x, y) - onTop;
    if (distance < nearest) [best, nearest] = [i, distance];
  }
  return best;
}

function distanceTo({ x0, y0, x1, y1 }, x, y) {
  const [dx, dy] = [x1 - x0, y1 - y0];
  const along = Math.max(0, Math.min(1, ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
}
