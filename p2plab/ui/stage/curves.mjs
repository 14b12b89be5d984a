// Curves over the whole run, above the slider that moves the cursor: how much has been
// delivered, and where losses and timeouts were.

import { lastBefore } from "./scene.mjs";

// The share of the payloads that is here at each of `count` moments, 0 to 1.
export function shares(scene, count) {
  const times = Float64Array.from(scene.hereAt).filter(isFinite).sort();
  return Array.from({ length: count }, (_, i) => {
    const moment = (scene.end * i) / (count - 1);
    return (lastBefore(times, moment) + 1) / scene.payloads;
  });
}

export function drawCurves(context, scene, { width, height, now, ink }) {
  context.clearRect(0, 0, width, height);
  const x = (time) => (time / scene.end) * width;
  const values = shares(scene, Math.max(2, Math.min(width, 400)));
  context.strokeStyle = ink.data;
  context.lineWidth = 2;
  context.beginPath();
  values.forEach((share, i) => {
    context.lineTo((i / (values.length - 1)) * width, height - 2 - share * (height - 12));
  });
  context.stroke();
  context.fillStyle = ink.plain;
  context.font = "10px system-ui, sans-serif";
  context.textBaseline = "top";
  context.fillText("share delivered, losses below, timeouts above", 4, 8);
  strokes(context, scene.events.loss, x, height - 5, 5, ink.loss);
  strokes(context, scene.events.timeout, x, 0, 5, ink.timeout);
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
