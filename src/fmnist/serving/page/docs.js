// The examples name this server, and can be copied; the limits are those that it has.

import { meetServer, server, tokenLacks } from "./ask.js";

const UNITS = { body_bytes: 2 ** 20, pixels: 1e6 };
const root = new URL(".", location.href).href.replace(/\/$/, ""); // a proxy's path may be in it
const live = document.getElementById("live");

for (const code of document.querySelectorAll("pre code[data-run]")) {
  code.textContent = code.textContent
    .replaceAll("http://127.0.0.1:8000", root)
    .replaceAll('"127.0.0.1:8000"', `"${root.replace(/^https?:\/\//, "")}"${location.protocol === "https:" ? ", ssl=True" : ""}`);
  if (navigator.clipboard) addCopy(code); // there on https and localhost only
}

if (!tokenLacks()) meetServer().then(showLimits, () => {}); // without an answer the defaults stay, and say so

function showLimits() {
  const places = [...document.querySelectorAll("[data-limit]")];
  if (places.some(({ dataset: { limit } }) => !(limit in server.limits))) return;
  for (const place of places) {
    const { limit } = place.dataset;
    place.textContent = (server.limits[limit] / (UNITS[limit] ?? 1)).toLocaleString("en", { maximumSignificantDigits: 3 });
  }
  document.getElementById("whose-limits").textContent = "As this server is set";
}

function addCopy(code) {
  const frame = document.createElement("div"), button = document.createElement("button");
  frame.className = "code";
  button.type = "button";
  button.className = "small";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy the example: ${code.dataset.run}`);
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = live.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; live.textContent = ""; }, 2000);
  });
  const block = code.parentElement;
  block.replaceWith(frame);
  frame.append(block, button);
}
