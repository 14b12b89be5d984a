// Curves over the whole run, above the slider that moves the cursor: what was delivered,
// the window, or the round trips; with a stroke for each loss and each timeout.

import { lastBefore } from "./scene.mjs";

export const CURVES = { delivered: "Delivered", window: "Window", trips: "Round trips" };

// What a curve is made of: steps (a value holds until the next one) or dots, each with
// the name of its colour; `most` is the upper end of the scale.
export function seriesOf(scene, kind) {
  const all = { delivered, window: inFlight, trips }[kind](scene);
  const found = all.filter(({ times }) => times.length || kind === "delivered");
  const values = found.flatMap((series) => [...series.values].filter(isFinite));
  return { series: found, most: kind === "delivered" ? scene.payloads : Math.max(...values, 0) };
}

function delivered(scene) {
  const times = Float64Array.from(scene.hereAt).filter(isFinite).sort();
  return [{ name: scene.things ? "pieces delivered" : "payloads delivered", colour: "data", times, values: times.map((_, i) => i + 1) }];
}

function inFlight(scene) {
  const told = scene.states[0], [base, next, size] = ["send_base", "next_seq_num", "window.size"].map((name) => told[name]);
  const used = base && next ? base.map((n, i) => next[i] - n) : [];
  return [
    { name: "packets in flight", colour: "data", times: base && next ? told.time : [], values: used },
    { name: "window", colour: "plain", times: size ? told.time : [], values: size ?? [] },
  ];
}

function trips(scene) {
  const told = scene.states[0], { at = [], seconds: took = [] } = scene.trips ?? {};
  return [
    { name: "round trip [s]", colour: "ack", times: at, values: took, dots: true },
    { name: "timeout (RTO)", colour: "timeout", times: told["rtt.rto"] ? told.time : [], values: told["rtt.rto"] ?? [] },
  ];
}

// What the curves say at a moment, in words.
export function curveWords({ series }, now) {
  if (!series.length) return "This run does not tell it.";
  return series.map(({ name, times, values }) => {
    const at = lastBefore(times, now);
    return `${name}: ${at < 0 || !isFinite(values[at]) ? "none" : Number(values[at].toPrecision(4))}`;
  }).join(", ");
}

export function drawCurves(context, scene, { width, height, now, kind, ink }) {
  context.clearRect(0, 0, width, height);
  const { series, most } = seriesOf(scene, kind);
  const x = (time) => (time / scene.end) * width;
  const y = (value) => height - 7 - (value / (most || 1)) * (height - 14);
  for (const { colour, times, values, dots } of series) {
    context.strokeStyle = context.fillStyle = ink[colour];
    context.lineWidth = 1.8;
    context.beginPath();
    for (let i = 0; i < times.length; i++) {
      if (!isFinite(values[i])) continue;
      if (dots) context.fillRect(x(times[i]) - 1, y(values[i]) - 1, 2.5, 2.5);
      else {
        context.lineTo(x(times[i]), y(values[i - 1] ?? values[i]));
        context.lineTo(x(times[i]), y(values[i]));
      }
    }
    if (!dots && times.length) context.lineTo(width, y(values[values.length - 1]));
    context.stroke();
  }
  strokes(context, scene.events.loss, x, height - 6, 6, ink.loss);
  strokes(context, scene.events.timeout, x, 0, 6, ink.timeout);
  context.strokeStyle = ink.cursor;
  context.lineWidth = 1;
  context.strokeRect(x(now), 0, 0.01, height);
}

function strokes(context, times, x, y, length, colour) {
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  for (const time of times) {
    context.moveTo(x(time), y);
    context.lineTo(x(time), y + length);
  }
  context.stroke();
}
