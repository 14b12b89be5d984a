// The stage: one run, one cursor in time, and every part shows that moment.

import { decode, inWords, isData, isLost, nameOf, numberAt, seconds, stepFrom, storyOf } from "./scene.mjs";
import { drawLifelines, messageAt, places, spread, MARGIN } from "./lifelines.mjs";
import { addFirsts, BOXES, firstBox, receiverBoxes, senderBoxes, showStrip } from "./strips.mjs";
import { drawPicture } from "./picture.mjs";
import { CURVES, curveWords, drawCurves, seriesOf } from "./curves.mjs";
import { difference, showFaults, showMoves, withFault } from "./faults.mjs";
import { addHoldings, drawMap, drawPieces, peerAt, ROOM_LEGEND, roomWords, withNeighbours } from "./map.mjs";
import { showTable, tableRows } from "./table.mjs";

const PLAY_FOR = 8; // how long a run takes on the stage at first [s]
const SPAN = 10; // how many flights the lifelines show at first
const SHORT = 40; // messages
const ABOVE = 0.03; // the share of a view that is free above the beginning
const BOX = 27; // the width of one in a window strip [px]

// Everything that has to be known of a run before it is drawn.
export function sceneOf(header, columns, picture) {
  const scene = addFirsts(decode(header, columns, picture));
  if (scene.things) addHoldings(scene);
  scene.longest = scene.messages.sent.reduce(
    (most, sent, i) => Math.max(most, (scene.messages.ended[i] || 0) - sent), scene.flight);
  scene.later = spread(scene);
  scene.completeAt = scene.hereAt.reduce((most, at) => Math.max(most, at), 0);
  scene.sends = scene.messages.kind.filter((_, i) => isData(scene.messages, i) && scene.messages.fate[i] !== 5).length;
  return scene;
}

// What is shown of a run at a moment, in words: for people who do not see the picture.
export function words(scene, now) {
  if (scene.things) return `${seconds(now)} of ${seconds(scene.end)}: ${roomWords(scene, now)}`;
  const { messages: m } = scene;
  let sent = 0, lost = 0, damaged = 0, again = 0, here = 0;
  for (let i = 0; i < m.sent.length && m.sent[i] <= now; i++) {
    if (!isData(m, i) || m.fate[i] === 5) continue;
    sent++;
    const ended = m.sent[i] + scene.flight / 2 <= now; // where the lifelines show it
    lost += ended && isLost(m, i);
    damaged += ended && m.fate[i] === 4;
    again += m.again[i];
  }
  for (const at of scene.hereAt) here += at <= now;
  return `${seconds(now)} of ${seconds(scene.end)}: ${here} of ${scene.payloads} payloads are here; ` +
    `${sent} packets sent, ${lost} lost, ${damaged} damaged, ${again} sent again.`;
}

const LEGEND = [
  ["data", "―", "DATA"], ["again", "╌", "sent again"], ["ack", "―", "ACK"], ["loss", "✕", "lost"],
  ["loss", "◇", "damaged"], ["timeout", "●", "timeout"], ["plain", "◂", "delivered"],
].map(([colour, sign, name]) => `<span><i style="color:var(--${colour})">${sign}</i> ${name}</span>`).join(" ")
  + BOXES.map((what) => `<span><i class="box ${what.replace(" ", "-")}"></i> ${what}</span>`).join(" ");

class Stage {
  constructor(model, root) {
    this.model = model;
    this.root = root;
    this.now = 0;
    this.playing = false;
    this.had = 0; // faults
    this.pinned = null; // the message that was clicked
    this.still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.build();
    this.load();
    const again = () => this.load();
    model.on("change:header", again);
    const mark = () => this.root.classList.toggle("stale", Boolean(model.get("stale")));
    model.on("change:stale", mark);
    mark();
    const resized = new ResizeObserver(() => this.draw());
    resized.observe(root);
    const themed = new MutationObserver(() => this.draw());
    themed.observe(document.body, { attributes: true });
    this.close = () => {
      this.playing = false;
      model.off("change:header", again);
      model.off("change:stale", mark);
      resized.disconnect();
      themed.disconnect();
    };
  }

  build() {
    this.root.classList.add("p2p-stage");
    this.root.innerHTML = `
      <div class="controls" role="toolbar" aria-label="Playing the run"></div>
      <div class="curve part-curves">
        <span class="speed"></span><select aria-label="Curve"></select><span class="curve-words"></span>
        <canvas class="curves" role="img"></canvas>
      </div>
      <input class="cursor" type="range" min="0" max="1000" step="any" aria-label="Moment">
      <div class="parts">
        <figure class="part-map">
          <canvas class="map" role="img"></canvas><canvas class="pieces" aria-hidden="true"></canvas>
        </figure>
        <canvas class="lifelines part-lifelines" tabindex="0" role="img"></canvas>
        <figure class="part-picture"><canvas class="picture" role="img"></canvas></figure>
      </div>
      <div class="strips part-strips">
        <span>Sender</span><div class="strip sender"></div>
        <span>Receiver</span><div class="strip receiver"></div>
      </div>
      <p class="counts" role="status"></p>
      <p class="story" aria-live="polite"></p>
      <p class="moves"></p>
      <p class="faults"></p>
      <p class="change" aria-live="polite"></p>
      <p class="legend" aria-hidden="true">${LEGEND}</p>
      <details><summary>The packets in sight, as a table</summary><table></table></details>`;
    const find = (name) => this.root.querySelector(name);
    this.parts = { select: find("select"), table: find("table"), details: find("details") };
    for (const name of ["controls", "speed", "curves", "curve-words", "cursor", "map", "pieces", "lifelines", "picture", "sender", "receiver",
      "counts", "story", "moves", "faults", "change"]) this.parts[name] = find(`.${name}`);
    for (const [value, textContent] of Object.entries(CURVES)) {
      this.parts.select.append(Object.assign(document.createElement("option"), { value, textContent }));
    }
    this.parts.select.onchange = this.parts.details.ontoggle = () => this.draw();
    const buttons = [
      ["first", "|◂", "To the start (Home)", () => this.jump(0)],
      ["loss-back", "◂ loss", "Previous loss (Shift+L)", () => this.step("loss", -1)],
      ["back", "◂", "Previous event (left arrow)", () => this.step("event", -1)],
      ["play", "▶", "Play or pause (space)", () => this.toggle()],
      ["on", "▸", "Next event (right arrow)", () => this.step("event", 1)],
      ["loss", "loss ▸", "Next loss (L)", () => this.step("loss", 1)],
      ["timeout", "timeout ▸", "Next timeout (T)", () => this.step("timeout", 1)],
      ["last", "▸|", "To the end (End)", () => this.jump(this.scene.end)],
      ["slower", "½×", "Slower (-)", () => this.faster(1 / 2)],
      ["faster", "2×", "Faster (+)", () => this.faster(2)],
    ];
    for (const [name, sign, title, act] of buttons) {
      const button = document.createElement("button");
      Object.assign(button, { className: name, textContent: sign, title, type: "button", onclick: act });
      button.setAttribute("aria-label", title);
      this.parts.controls.append(button);
    }
    this.parts.cursor.oninput = () => this.jump((this.parts.cursor.value / 1000) * this.scene.end);
    this.root.onkeydown = (event) => this.key(event);
    this.listenToPointer(this.parts.lifelines);
    this.parts.map.onclick = (event) => {
      const peer = peerAt(this.scene, event.offsetX, event.offsetY, this.size(this.parts.map));
      if (peer >= 0) this.lookAt(peer);
    };
  }

  load() {
    const [header, columns, picture] = ["header", "columns", "picture"].map((name) => this.model.get(name));
    this.root.hidden = !header?.columns;
    if (this.root.hidden) return;
    const before = this.scene, faults = this.model.get("faults") ?? [];
    const atEnd = !before || this.now >= before.end;
    this.scene = this.lines = sceneOf(header, columns, picture);
    if (this.scene.things) this.lookAt(0);
    this.light(null);
    this.offer(null);
    const room = Boolean(this.scene.things);
    if (room) this.root.querySelector(".legend").textContent = ROOM_LEGEND;
    for (const part of ["map", "lifelines", "picture", "strips", "curves"]) {
      const there = header.parts.includes(part) && (part !== "picture" || this.scene.picture.width) &&
        (room ? part !== "strips" : part !== "map");
      this.root.querySelector(`.part-${part}`).hidden = !there;
    }
    showFaults(this.parts.faults, faults, header.code, (list) => this.meddle(list));
    const more = this.meddled && faults.length >= Math.max(1, this.had); // not taken back
    this.had = faults.length;
    this.parts.change.textContent = [header.words, more && header.picture ? difference(before, this.scene) : ""].join(" ").trim();
    this.meddled = false;
    if (!this.zoomed) this.view = this.viewAtFirst();
    const empty = !this.scene.messages.sent.length; // a machine that could not even be built
    this.root.classList.toggle("empty", empty && Boolean(header.words));
    if (header.run !== before?.run || before.live) this.speed = Math.max(this.scene.end / PLAY_FOR, 1e-6);
    if (header.playing && header.run !== before?.run && !this.still) this.play(0);
    else this.go(header.live || atEnd ? this.scene.end : this.now);
  }

  // Show the lifeline of a peer of many.
  lookAt(peer) {
    this.peer = peer;
    this.lines = withNeighbours(this.scene, peer);
    this.light(null);
  }

  go(moment) {
    this.now = Math.max(0, Math.min(moment, this.scene.end));
    this.follow();
    this.draw();
  }

  // A short run as a whole; of a long one, what can be told apart.
  viewAtFirst() {
    const { messages, end, flight } = this.scene;
    const whole = 1.2 * end || 1;
    const span = messages.sent.length <= SHORT ? whole : Math.min(whole, SPAN * flight);
    return { from: -ABOVE * span, until: (1 - ABOVE) * span };
  }

  jump(moment) {
    this.playing = false;
    this.go(moment);
  }

  // Keep the cursor inside what the lifelines show.
  follow() {
    const span = this.view.until - this.view.from;
    if (this.now < this.view.from || this.now > this.view.until - 0.1 * span) {
      this.view.from = Math.max(-ABOVE * span, this.now - 0.9 * span);
    }
    this.view.until = this.view.from + span;
  }

  step(kind, direction) {
    this.jump(stepFrom(this.scene.events[kind], this.now, direction) ?? this.now);
  }

  faster(factor) {
    this.speed *= factor;
    this.draw();
  }

  toggle() {
    if (!this.playing) return this.play();
    this.playing = false;
    return this.draw();
  }

  play(from = this.now < this.scene.end ? this.now : 0) {
    this.now = from;
    if (this.playing) return;
    this.playing = true;
    let before = performance.now();
    const frame = (at) => {
      if (!this.playing || !this.root.isConnected) return;
      this.go(this.now + ((at - before) / 1000) * this.speed);
      before = at;
      if (this.now >= this.scene.end) this.playing = false;
      else requestAnimationFrame(frame);
      if (!this.playing) this.draw();
    };
    requestAnimationFrame(frame);
  }

  key(event) {
    const acts = {
      " ": () => this.toggle(),
      ArrowRight: () => this.step("event", 1), ArrowLeft: () => this.step("event", -1),
      l: () => this.step("loss", 1), L: () => this.step("loss", -1),
      t: () => this.step("timeout", 1), T: () => this.step("timeout", -1),
      Home: () => this.jump(0), End: () => this.jump(this.scene.end),
      "+": () => this.faster(2), "-": () => this.faster(1 / 2),
      ArrowDown: () => this.pan(0.2), ArrowUp: () => this.pan(-0.2),
      PageDown: () => this.zoom(1 / 1.5), PageUp: () => this.zoom(1.5),
      n: () => this.choose(1), p: () => this.choose(-1),
      Enter: () => this.offer(this.chosen ?? null),
      Escape: () => { this.light(null); this.offer(null); },
    };
    const typed = event.target === this.parts.cursor && event.key.startsWith("Arrow");
    if (!acts[event.key] || typed || event.ctrlKey || event.metaKey || event.altKey) return;
    if ([" ", "Enter"].includes(event.key) && event.target.tagName === "BUTTON") return; // a click
    event.preventDefault();
    event.stopPropagation(); // from the notebook's own keys
    acts[event.key]();
  }

  pan(share) {
    const move = share * (this.view.until - this.view.from);
    this.view.from += move;
    this.view.until += move;
    this.draw();
  }

  // Show less (factor above 1) or more, around the moment at height `y`.
  zoom(factor, y = this.size(this.parts.lifelines).height / 2) {
    const moment = this.at().time(y);
    const from = moment - (moment - this.view.from) / factor;
    const span = (this.view.until - this.view.from) / factor;
    if (span > 2 * this.scene.end || span < 1e-6) return;
    this.view = { from, until: from + span };
    this.zoomed = true;
    this.draw();
  }

  // Light up the story of the next or previous message that has been sent.
  choose(step) {
    const chosen = this.chosen ?? (step > 0 ? -1 : this.lines.messages.sent.length);
    const next = chosen + step;
    if (!(this.lines.messages.sent[next] >= 0)) return;
    this.light(next);
    if (this.lines.messages.sent[next] > this.now) this.go(this.lines.messages.sent[next]);
  }

  light(chosen) {
    this.chosen = chosen;
    this.story = chosen === null ? null : storyOf(this.lines, chosen);
    this.parts.story.textContent = this.story ? inWords(this.lines, this.story) : "";
    this.draw();
  }

  // Ask for the same run with other faults.
  meddle(faults) {
    this.meddled = true;
    this.playing = false;
    this.model.set("faults", faults);
    this.model.save_changes();
  }

  // Offer what can be done to a packet; only a run in virtual time can be made anew.
  offer(chosen) {
    this.pinned = chosen;
    if (!this.scene.moves?.length || chosen === null) return this.parts.moves.replaceChildren();
    const { messages: m } = this.scene;
    const packet = { way: m.from[chosen], number: m.number[chosen] + 1, late: Number((3 * this.scene.flight).toFixed(4)) };
    showMoves(this.parts.moves, packet, nameOf(this.scene, chosen), this.scene.moves, (fault) => {
      this.meddle(withFault(this.model.get("faults") ?? [], fault));
    });
  }

  listenToPointer(canvas) {
    let held = null;
    const where = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      held = { y: where(event)[1], moved: false };
    };
    canvas.onpointerup = (event) => {
      if (held && !held.moved) this.click(...where(event));
      held = null;
    };
    canvas.onpointermove = (event) => {
      const [x, y] = where(event);
      if (held) {
        held.moved ||= Math.abs(y - held.y) > 3;
        if (!held.moved) return;
        const move = this.at().time(held.y) - this.at().time(y);
        held.y = y;
        this.view = { from: this.view.from + move, until: this.view.until + move };
        return this.draw();
      }
      const found = messageAt(this.lines, x, y, this.frame());
      if (this.pinned === null && found !== (this.chosen ?? -1)) this.light(found < 0 ? null : found);
    };
    canvas.onpointerleave = () => !held && this.pinned === null && this.light(null);
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      if (event.ctrlKey) this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, where(event)[1]);
      else this.pan(event.deltaY / 600);
    }, { passive: false });
  }

  // A click on a packet pins its story; a click beside all of them moves the cursor.
  click(x, y) {
    const found = messageAt(this.lines, x, y, this.frame());
    if (found >= 0) {
      this.playing = false;
      this.light(found);
      return this.offer(found);
    }
    this.light(null);
    this.offer(null);
    return this.go(this.at().time(Math.max(MARGIN.top, y)));
  }

  size(canvas) {
    return { width: canvas.clientWidth, height: canvas.clientHeight };
  }

  frame() {
    return { ...this.size(this.parts.lifelines), view: this.view, now: this.now };
  }

  at() {
    const { width, height } = this.size(this.parts.lifelines);
    return places(width, height, this.lines.lifelines.length, this.view);
  }

  // A canvas as sharp as the screen, to be drawn on in CSS pixels.
  context(canvas) {
    const { width, height } = this.size(canvas), ratio = devicePixelRatio || 1;
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    return context;
  }

  draw() {
    if (!this.scene || this.waiting) return;
    this.waiting = true; // however often it is asked for, once a frame is enough
    requestAnimationFrame(() => {
      this.waiting = false;
      if (this.root.isConnected) this.drawNow();
    });
  }

  drawNow() {
    const { scene, now, parts } = this, ink = inkOf(this.root);
    drawLifelines(this.context(parts.lifelines), this.lines, { ...this.frame(), lit: this.story, ink });
    const kind = parts.select.value;
    drawCurves(this.context(parts.curves), scene, { ...this.size(parts.curves), now, kind, ink });
    parts["curve-words"].textContent = curveWords(seriesOf(scene, kind), now);
    parts.curves.setAttribute("aria-label", `${CURVES[kind]}. ${parts["curve-words"].textContent}`);
    if (scene.things) {
      drawMap(this.context(parts.map), scene, { ...this.size(parts.map), now, chosen: this.peer, ink });
      drawPieces(this.context(parts.pieces), scene, { ...this.size(parts.pieces), now, ink });
      parts.map.setAttribute("aria-label", `A map of the room. ${words(scene, now)}`);
    }
    if (scene.picture.width) {
      parts.picture.width = scene.picture.width;
      parts.picture.height = scene.picture.height;
      drawPicture(parts.picture.getContext("2d"), scene, now, ink.pixels);
    }
    const count = Math.max(6, Math.floor(parts.sender.clientWidth / BOX));
    const first = firstBox(scene, now, count);
    const shown = [[parts.sender, "Sender", senderBoxes, 0], [parts.receiver, "Receiver", receiverBoxes, 1]];
    for (const [element, title, boxes] of shown) {
      showStrip(element, `${title}'s numbers`, boxes(scene, now, first, count));
    }
    const counts = words(scene, now);
    parts.counts.textContent = counts;
    parts.lifelines.setAttribute("aria-label", `The packets of the run. ${counts}`);
    parts.picture.setAttribute("aria-label", `The picture as received. ${counts}`);
    parts.cursor.value = (1000 * now) / scene.end;
    parts.cursor.setAttribute("aria-valuetext", seconds(now));
    parts.speed.textContent = `${Number(this.speed.toPrecision(2))} × real time`;
    if (parts.details.open) showTable(parts.table, tableRows(this.lines, this.view, now));
    const play = parts.controls.querySelector(".play");
    play.textContent = this.playing ? "❚❚" : "▶";
    this.root.dataset.now = now.toFixed(6);
    this.root.dataset.playing = this.playing;
  }
}

// The colours of the style sheet: light and dark pages have their own.
function inkOf(root) {
  const style = getComputedStyle(root);
  const ink = { plain: style.color };
  for (const name of ["data", "ack", "loss", "timeout", "timeoutText", "again", "cursor", "line", "paper", "empty"]) {
    ink[name] = style.getPropertyValue(`--${name}`).trim();
  }
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  ink.pixels = { loss: rgb(ink.loss), empty: rgb(ink.empty) };
  return ink;
}

export default {
  render({ model, el }) {
    const root = document.createElement("section");
    root.setAttribute("aria-label", "A run, packet by packet");
    el.append(root);
    const stage = new Stage(model, root);
    root.stage = stage; // for whoever wants to drive it from the page
    return () => stage.close();
  },
};
