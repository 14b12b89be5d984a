// A room of many peers: a map with each peer as a disc that fills, the messages on their
// way, and below it who has which piece. All at the cursor's moment.

import { isData, isLost, lastBefore } from "./scene.mjs";
import { spread } from "./lifelines.mjs";

const LINES = 6; // lifelines that are readable side by side

// When each peer got each thing, one row of the table for a peer; Infinity: never.
export function addHoldings(scene) {
  const { at, who, thing } = scene.has;
  scene.gotAt = new Float64Array(scene.lifelines.length * scene.things).fill(Infinity);
  for (let i = 0; i < at.length; i++) {
    const place = who[i] * scene.things + thing[i];
    scene.gotAt[place] = Math.min(scene.gotAt[place], at[i]);
  }
  return scene;
}

// The share of all things that a peer has at a moment, 0 to 1.
export function shareOf(scene, peer, now) {
  let count = 0;
  for (let i = peer * scene.things; i < (peer + 1) * scene.things; i++) count += scene.gotAt[i] <= now;
  return count / scene.things;
}

// Whether a peer is there at a moment: it comes, and it may leave or die.
export function isThere(scene, peer, now) {
  const { at, who, there } = scene.changes;
  let found = true;
  for (let i = 0; i < at.length && at[i] <= now; i++) if (who[i] === peer) found = Boolean(there[i]);
  return found;
}

// Where the peers stand: on a circle, or where the room says (shares of a turn).
export function mapPlaces(scene, width, height) {
  const radius = Math.min(width, height) / 2 - 34, count = scene.lifelines.length;
  return scene.lifelines.map((_, peer) => {
    const turn = 2 * Math.PI * (scene.turns?.[peer] ?? peer / count) - Math.PI / 2;
    return { x: width / 2 + radius * Math.cos(turn), y: height / 2 + radius * Math.sin(turn) };
  });
}

export const ROOM_LEGEND = "A disc fills with what its peer has; green: all of it. Thick lines: pieces; " +
  "thin ones: short messages; broken ones: lost. Below: a row for a peer, a column for a piece. Click a peer.";

export const discSize = (scene, width, height) =>
  Math.max(3, Math.min(16, Math.min(width, height) * 1.1 / scene.lifelines.length));

export function drawMap(context, scene, { width, height, now, chosen, ink }) {
  const places = mapPlaces(scene, width, height), size = discSize(scene, width, height);
  context.clearRect(0, 0, width, height);
  drawMessages(context, scene, places, now, ink);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  places.forEach(({ x, y }, peer) => {
    const there = isThere(scene, peer, now), share = shareOf(scene, peer, now);
    context.globalAlpha = there ? 1 : 0.35;
    context.fillStyle = ink.paper;
    context.strokeStyle = peer === chosen ? ink.plain : ink.line;
    context.lineWidth = peer === chosen ? 3 : 1.2;
    context.setLineDash(there ? [] : [3, 3]);
    circle(context, x, y, size, 1);
    context.fill();
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = share < 1 ? ink.data : ink.ack;
    circle(context, x, y, size - 1.5, share);
    context.fill();
    if (size < 6) return;
    context.fillStyle = ink.plain;
    const [across, down] = [x - width / 2, y - height / 2], away = (size + 4) / Math.hypot(across, down);
    context.textAlign = Math.abs(across) < size ? "center" : across > 0 ? "left" : "right";
    context.fillText(scene.lifelines[peer], x + across * away, y + down * 1.3 * away);
  });
  context.globalAlpha = 1;
}

function circle(context, x, y, radius, share) { // a share of it, from the top on
  context.beginPath();
  if (share < 1) context.moveTo(x, y);
  context.arc(x, y, radius, -Math.PI / 2, -Math.PI / 2 + 2 * Math.PI * share);
  context.closePath();
}

function drawMessages(context, scene, places, now, ink) {
  const { messages: m } = scene;
  const first = lastBefore(m.sent, now - scene.longest) + 1, last = lastBefore(m.sent, now);
  for (let i = first; i <= last; i++) {
    const end = isLost(m, i) ? m.sent[i] + scene.flight : m.ended[i];
    const grown = (now - m.sent[i]) / (end - m.sent[i] || 1);
    if (grown > 1) continue;
    const lost = isLost(m, i) && grown > 0.5, [from, to] = [places[m.from[i]], places[m.to[i]]];
    context.strokeStyle = lost ? ink.loss : isData(m, i) ? ink.data : ink.ack;
    context.lineWidth = isData(m, i) ? 2.5 : 1;
    context.globalAlpha = isData(m, i) || lost ? 1 : 0.3;
    context.setLineDash(lost ? [3, 3] : []);
    context.beginPath();
    context.moveTo(from.x, from.y);
    const share = lost ? 0.5 : grown;
    context.lineTo(from.x + (to.x - from.x) * share, from.y + (to.y - from.y) * share);
    context.stroke();
  }
  context.setLineDash([]);
  context.globalAlpha = 1;
}

// Who has which piece: a row for a peer, a column for a piece.
export function drawPieces(context, scene, { width, height, now, ink }) {
  context.clearRect(0, 0, width, height);
  const across = width / scene.things, down = height / scene.lifelines.length;
  for (let peer = 0; peer < scene.lifelines.length; peer++) {
    for (let thing = 0; thing < scene.things; thing++) {
      context.fillStyle = scene.gotAt[peer * scene.things + thing] <= now ? ink.data : ink.empty;
      context.fillRect(thing * across, peer * down, across - (across > 3), down - (down > 3));
    }
  }
}

// The peer that is drawn at a point; -1: none.
export function peerAt(scene, x, y, { width, height }) {
  const size = discSize(scene, width, height) + 4;
  return mapPlaces(scene, width, height).findIndex((place) => Math.hypot(place.x - x, place.y - y) < size);
}

// A peer's lifeline beside those of the peers with whom it exchanged most.
export function withNeighbours(scene, peer) {
  const { messages: m } = scene, counts = new Array(scene.lifelines.length).fill(0);
  for (let i = 0; i < m.sent.length; i++) {
    if (m.from[i] === peer) counts[m.to[i]]++;
    if (m.to[i] === peer) counts[m.from[i]]++;
  }
  const others = counts.map((_, i) => i).filter((i) => counts[i] && i !== peer).sort((a, b) => counts[b] - counts[a]);
  const lines = [peer, ...others.slice(0, LINES - 1)], kept = [];
  const line = new Map(lines.map((each, place) => [each, place]));
  for (let i = 0; i < m.sent.length; i++) {
    if ((m.from[i] === peer || m.to[i] === peer) && line.has(m.from[i]) && line.has(m.to[i])) kept.push(i);
  }
  const messages = Object.fromEntries(Object.entries(m).map(([name, column]) => [name, column.constructor.from(kept, (i) => column[i])]));
  messages.from = messages.from.map((each) => line.get(each));
  messages.to = messages.to.map((each) => line.get(each));
  const part = { ...scene, lifelines: lines.map((each) => scene.lifelines[each]), messages };
  part.later = spread(part);
  return part;
}

export function roomWords(scene, now) {
  const peers = scene.lifelines.map((_, peer) => peer);
  const whole = peers.filter((peer) => shareOf(scene, peer, now) === 1).length;
  const there = peers.filter((peer) => isThere(scene, peer, now)).length;
  const mean = peers.reduce((sum, peer) => sum + shareOf(scene, peer, now), 0) / peers.length;
  const sent = lastBefore(scene.messages.sent, now) + 1;
  return `${there} of ${peers.length} peers are there, ${whole} have all; ` +
    `${Math.round(100 * mean)} % of the pieces are where they shall be; ${sent} messages sent.`;
}
