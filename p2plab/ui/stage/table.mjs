// The packets that the lifelines show, as a table, for whoever reads or listens.

import { FATES, nameOf, seconds } from "./scene.mjs";
import { visible } from "./lifelines.mjs";

const ROWS = 200; // more would hold up the page
const HEAD = ["Sent", "By", "Packet", "What became of it", "At"];

export function tableRows(scene, view, now) {
  const { messages: m, lifelines } = scene, [first, last] = visible(scene, view), rows = [];
  for (let i = first; i < last && m.sent[i] <= now && rows.length < ROWS; i++) {
    const ended = m.ended[i] >= 0 && m.ended[i] <= now;
    const fate = m.ended[i] < 0 || ended ? FATES[m.fate[i]] : "on its way";
    rows.push([seconds(m.sent[i]), lifelines[m.from[i]], `${nameOf(scene, i)}${m.again[i] ? ", again" : ""}`,
      fate, ended ? seconds(m.ended[i]) : ""]);
  }
  return rows;
}

export function showTable(element, rows) {
  const line = (cells, kind) => {
    const row = document.createElement("tr");
    for (const text of cells) row.append(Object.assign(document.createElement(kind), { textContent: text }));
    return row;
  };
  element.replaceChildren(line(HEAD, "th"), ...rows.map((cells) => line(cells, "td")));
}
