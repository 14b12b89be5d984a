// The picture at a moment: what is here, what was lost on its way, what has not come yet.

import { isLost, lastBefore } from "./scene.mjs";

const STRIPE = 4; // of what was lost [pixels]

// What each payload of the picture is at a moment: "here", "lost" or "not yet".
export function fates(scene, now) {
  const { messages: m } = scene;
  const found = new Array(scene.payloads).fill("not yet");
  const last = lastBefore(m.sent, now);
  for (let i = 0; i <= last; i++) {
    const n = m.payload[i];
    const harmed = isLost(m, i) || m.fate[i] === 4;
    if (n >= 0) found[n] = harmed && m.sent[i] + scene.flight / 2 <= now ? "lost" : "not yet";
  }
  for (let n = 0; n < scene.payloads; n++) if (scene.hereAt[n] <= now) found[n] = "here";
  return found;
}

// Draw the picture into a canvas of its own size. ink: red, green, blue of the colours.
export function drawPicture(context, scene, now, ink) {
  const { width, height, pixels, places } = scene.picture;
  const image = context.createImageData(width, height);
  const what = fates(scene, now);
  const from = new Uint32Array(pixels.buffer, pixels.byteOffset, width * height);
  const to = new Uint32Array(image.data.buffer);
  const colour = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const [empty, dark, stripe] = [ink.empty, [0, 0, 0], ink.loss].map(colour);
  for (let i = 0; i < to.length; i++) {
    const fate = what[places[i]];
    if (fate === "here") to[i] = from[i];
    else if (fate === "lost") to[i] = (i % width + Math.floor(i / width)) & STRIPE ? stripe : dark;
    else to[i] = empty;
  }
  context.putImageData(image, 0, 0);
  return what;
}
