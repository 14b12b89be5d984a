// A button that brings a file to the kernel in pieces, each of which is acknowledged: a
// front end drops its connection when one message is larger than its limit (10 MB).

const PIECE = 1 << 20; // bytes

async function send(model, file, show) {
  if (file.size > model.get("limit")) {
    model.send({ name: file.name, size: file.size, start: -1 });
    return;
  }
  for (let start = 0; start < file.size || start === 0; start += PIECE) {
    show(Math.floor((100 * start) / Math.max(file.size, 1)));
    const piece = await file.slice(start, start + PIECE).arrayBuffer();
    const taken = new Promise((resolve) => {
      const hear = (message) => {
        if (message.got !== start) return;
        model.off("msg:custom", hear);
        resolve();
      };
      model.on("msg:custom", hear);
    });
    model.send({ name: file.name, size: file.size, start }, undefined, [piece]);
    await taken;
  }
}

export default {
  render({ model, el }) {
    const button = document.createElement("button");
    const input = document.createElement("input");
    button.type = "button";
    button.className = "jupyter-button widget-button";
    button.style.cssText = "width: auto; padding: 0 10px; margin: 2px";
    input.type = "file";
    input.hidden = true;
    input.accept = model.get("accept");
    const show = (share) => {
      button.disabled = share !== null;
      button.textContent = share === null ? model.get("label") : `Uploading: ${share} %`;
    };
    button.onclick = () => input.click();
    input.onchange = async () => {
      const [file] = input.files;
      input.value = ""; // or nobody would hear of the same file again
      if (!file) return;
      try {
        await send(model, file, show);
      } finally {
        show(null);
      }
    };
    show(null);
    el.append(button, input);
  },
};
