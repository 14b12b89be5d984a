// Be the network: what somebody does to single packets, as a list that the kernel runs
// anew with. A fault is {way, number, what, seconds}; numbers count from 1, each way.

// The list with one more fault; a packet has one fate only.
export function withFault(faults, fault) {
  const other = ({ way, number }) => way !== fault.way || number !== fault.number;
  return [...faults.filter(other), fault];
}

// Buttons for what can be done to the packet that was clicked.
export function showMoves(element, packet, name, allowed, act) {
  const buttons = allowed.map(([what, words]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = what;
    button.textContent = words;
    button.setAttribute("aria-label", `${words}: ${name}`);
    button.onclick = () => act({ ...packet, what, seconds: what === "late" ? packet.late : 0 });
    return button;
  });
  element.replaceChildren(`${name}: `, ...buttons);
}

// What has been done so far, with a way back.
export function showFaults(element, faults, words, change) {
  element.replaceChildren();
  if (!faults.length) return;
  const button = (words, act) => {
    const made = document.createElement("button");
    Object.assign(made, { type: "button", textContent: words, onclick: act });
    return made;
  };
  const code = document.createElement("code");
  code.textContent = words;
  element.append(code, " ", button("Undo", () => change(faults.slice(0, -1))), " ", button("Reset", () => change([])));
}

// How two runs of the same payloads differ, in a sentence; "" if there is nothing to tell.
export function difference(before, after) {
  if (!before) return "";
  const parts = [
    [before.completeAt, after.completeAt, (at) => (isFinite(at) ? `complete after ${at.toFixed(3)} s` : "never complete")],
    [before.sends, after.sends, (n) => `${n} packets sent`],
  ];
  const told = parts.map(([was, is, words]) => [words(was), words(is)])
    .map(([was, is]) => (was === is ? `as before: ${is}` : `${is}; without it: ${was}`));
  return `With this fault: ${told.join(". ")}.`;
}
