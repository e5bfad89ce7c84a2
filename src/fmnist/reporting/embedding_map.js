"use strict";
(() => {
  const map = document.getElementById("map");
  const find = (selector) => map.querySelector(selector);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const names = JSON.parse(map.dataset.names);
  const columns = Number(map.dataset.columns), pitch = Number(map.dataset.pitch);
  const answers = bytes(map.dataset.answers); // true class, predicted class, confidence of each
  const places = new DataView(bytes(map.dataset.places).buffer);
  const count = answers.length / 3;
  const x = new Float32Array(count), y = new Float32Array(count); // 0..1
  for (let i = 0; i < count; i++) {
    x[i] = places.getUint16(4 * i, true) / 65535;
    y[i] = places.getUint16(4 * i + 2, true) / 65535;
  }
  const isWrong = (i) => answers[3 * i] !== answers[3 * i + 1];
  const field = find(".field"), canvas = find(".points"), picture = find(".picture");
  const said = find("[role=status]"), sheet = find(".sheet");
  const layer = document.createElement("canvas"); // all points, drawn once for each size and choice
  let chosen = -1, shown = "all", sheetPixels = null;

  const isShown = (i) => shown === "all" || (shown === "wrong" ? isWrong(i) : answers[3 * i] === Number(shown));

  function drawPoints() {
    const style = getComputedStyle(map), colors = names.map((_, k) => style.getPropertyValue(`--class-${k}`));
    const side = Math.round(canvas.clientWidth * devicePixelRatio), dot = Math.max(2, side / 320);
    if (!side) return; // not shown, as in print
    layer.width = layer.height = canvas.width = canvas.height = side;
    const context = layer.getContext("2d");
    const put = (i, size, color) => {
      context.fillStyle = color;
      context.fillRect(x[i] * side - size / 2, y[i] * side - size / 2, size, size);
    };
    const grey = style.getPropertyValue("--line"), ink = style.getPropertyValue("--ink");
    for (let i = 0; i < count; i++) if (!isShown(i)) put(i, dot * 0.8, grey);
    for (let i = 0; i < count; i++) if (isShown(i) && !isWrong(i)) put(i, dot, colors[answers[3 * i]]);
    for (let i = 0; i < count; i++) {
      if (!isShown(i) || !isWrong(i)) continue;
      put(i, dot * 1.9, ink);
      put(i, dot * 1.1, colors[answers[3 * i]]);
    }
    drawChoice();
  }

  function drawChoice() {
    const context = canvas.getContext("2d"), side = canvas.width;
    context.clearRect(0, 0, side, side);
    context.drawImage(layer, 0, 0);
    if (chosen < 0) return;
    context.strokeStyle = getComputedStyle(map).getPropertyValue("--ink");
    context.lineWidth = 2 * devicePixelRatio;
    context.beginPath();
    context.arc(x[chosen] * side, y[chosen] * side, 7 * devicePixelRatio, 0, 7);
    context.stroke();
  }

  async function drawPicture(i) {
    sheetPixels ??= sheet.decode().then(() => createImageBitmap(sheet)); // decoded once, not at each point
    const pixels = await sheetPixels;
    if (i !== chosen) return;
    const left = (i % columns) * pitch, top = Math.floor(i / columns) * pitch;
    picture.getContext("2d").drawImage(pixels, left, top, 28, 28, 0, 0, 28, 28);
  }

  function choose(i) {
    if (i < 0 || i === chosen) return;
    chosen = i;
    const share = answers[3 * i + 2] / 255;
    const sure = share > 0.995 ? ">0.99" : share < 0.005 ? "<0.01" : share.toFixed(2);
    const is = names[answers[3 * i]], answer = names[answers[3 * i + 1]];
    said.textContent = `#${i}: is ${is}, said ${answer} (${sure})${isWrong(i) ? ", wrong" : ""}`;
    map.classList.toggle("wrong", isWrong(i));
    drawChoice();
    drawPicture(i);
  }

  function nearest(atX, atY, reach) {
    let best = -1, least = reach * reach;
    for (let i = 0; i < count; i++) {
      const distance = (x[i] - atX) ** 2 + (y[i] - atY) ** 2;
      if (distance < least && isShown(i)) [best, least] = [i, distance];
    }
    return best;
  }

  // The nearest point ahead, where what lies aside counts twice.
  function towards(right, down) {
    if (chosen < 0) return nearest(0.5, 0.5, 2);
    let best = -1, least = Infinity;
    for (let i = 0; i < count; i++) {
      const across = x[i] - x[chosen], along = y[i] - y[chosen];
      const ahead = across * right + along * down, aside = Math.abs(across * down + along * right);
      const distance = ahead + 2 * aside;
      if (ahead > 0.002 && distance < least && isShown(i)) [best, least] = [i, distance];
    }
    return best;
  }

  function step(by) {
    for (let k = 1; k <= count; k++) {
      const i = (Math.max(chosen, by < 0 ? 0 : -1) + by * k + 2 * count) % count;
      if (isWrong(i) && isShown(i)) return choose(i);
    }
  }

  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  field.addEventListener("keydown", (event) => {
    if (!(event.key in arrows) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    choose(towards(...arrows[event.key]));
  });
  const follow = (event) => {
    const box = canvas.getBoundingClientRect();
    const reach = event.type === "pointermove" ? 0.04 : 0.1;
    choose(nearest((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height, reach));
  };
  field.addEventListener("pointermove", follow);
  field.addEventListener("pointerdown", follow);
  for (const button of map.querySelectorAll("button")) button.addEventListener("click", () => step(Number(button.value)));
  find("fieldset").addEventListener("change", (event) => {
    shown = event.target.value;
    drawPoints();
  });

  map.classList.add("live");
  new ResizeObserver(drawPoints).observe(field);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawPoints);
  step(1);
})();
