// The page: pictures come in by drop, paste, choice, camera or sample, and are asked about in turn.

import { holdToken, meetServer, server } from "./ask.js";
import { Card, announce, saveCsv, saveJson } from "./card.js";

const AT_ONCE = 2; // requests
const MOST = 100; // pictures that are taken at a time
const at = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const cards = new Map(); // by element
let waiting = [], running = 0, batch = [];

function take(files) {
  if (!files.length) return;
  const taken = [...files].slice(0, MOST);
  tell(taken.length < files.length ? `these are too many pictures at once: the first ${MOST} of ${files.length} were taken` : "");
  const before = at("cards").firstElementChild;
  for (const file of taken) {
    const card = new Card(file);
    cards.set(card.element, card);
    at("cards").insertBefore(card.element, before);
    card.find(".remove").addEventListener("click", () => remove(card));
    card.find(".again").addEventListener("click", () => { card.find("h3").focus(); tell(""); enqueue(card); });
    enqueue(card);
  }
  bringIntoView(at("cards").firstElementChild, at("answers"));
}

function enqueue(card) {
  if (!waiting.length && !running) batch = [];
  card.answer = card.trouble = null;
  card.say("Waiting", { busy: true, state: "waiting" });
  waiting.push(card);
  batch.push(card);
  work();
}

function work() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    attend(waiting.shift());
  }
  showState();
}

async function attend(card) {
  await card.ask();
  running -= 1;
  showServer(); // a token may have come with this picture
  if (card.trouble?.token) waiting.splice(0).forEach((other) => other.fail(card.trouble));
  if (!running && !waiting.length) announceBatch();
  work();
}

function announceBatch() {
  const there = batch.filter((card) => cards.has(card.element));
  if (there.length) announce(there.length > 1 ? summary(there) : there[0].sentence);
}

/** Say how many of some cards came to what: "3 pictures: 2 named, 1 not sure". */
function summary(some) {
  const counts = ["named", "not sure", "not readable", "without an answer", "waiting"]
    .map((outcome) => [some.filter((card) => card.outcome === outcome).length, outcome]);
  const parts = counts.filter(([count]) => count).map((part) => part.join(" "));
  return `${some.length} pictures: ${parts.join(", ")}`;
}

function showState() {
  const done = batch.filter((card) => card.done).length, busy = batch.length > 1 && done < batch.length;
  at("progress").hidden = !busy;
  at("progress").firstElementChild.value = done / (batch.length || 1);
  at("progress").lastElementChild.textContent = `${done} of ${batch.length}`;
  at("sum").hidden = busy || cards.size < 2;
  at("sum").textContent = summary([...cards.values()]);
  at("all").hidden = cards.size < 2;
  at("another").hidden = !cards.size;
  at("answers").className = ["none", "one"][cards.size] ?? "several";
}

function remove(card) {
  const next = card.element.nextElementSibling ?? card.element.previousElementSibling;
  discard(card);
  announce(`${card.file.name} removed`);
  (next?.querySelector("h3") ?? at("choose")).focus();
}

function discard(card) {
  waiting = waiting.filter((other) => other !== card);
  batch = batch.filter((other) => other !== card);
  cards.delete(card.element);
  card.remove();
  showState();
}

function tell(words) {
  at("say").textContent = words;
  at("say").hidden = !words;
  if (words) announce(words);
}

function showServer() {
  const { name, version, model: { recipe, network, precision } = {} } = server;
  at("model").textContent = [name && `${name} ${version}`, recipe && `recipe ${recipe}`, network && `network ${network}`, precision].filter(Boolean).join(" · ");
}

/** Scroll to `place` if little of `card` would be seen. */
function bringIntoView(card, place) {
  const { top } = card.getBoundingClientRect();
  if (top < 0 || top > 0.35 * innerHeight) goTo(place);
}

const goTo = (place) => place.scrollIntoView({ behavior: calm.matches ? "instant" : "smooth" });

async function takeSample(name) {
  const response = await fetch(`page/sample-${name}.jpg`).catch(() => null);
  if (!response?.ok) return tell("the sample cannot be fetched; see that the server runs");
  take([new File([await response.blob()], `${name}.jpg`, { type: "image/jpeg" })]);
}

at("another").addEventListener("click", () => {
  at("choose").focus({ preventScroll: true });
  goTo(at("give"));
});
for (const [button, field] of [["choose", "files"], ["photograph", "camera"]]) {
  at(button).addEventListener("click", () => at(field).click());
}
for (const field of [at("files"), at("camera")]) {
  field.addEventListener("change", () => { take(field.files); field.value = ""; });
}
at("samples").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) takeSample(button.dataset.sample);
});
at("clear").addEventListener("click", () => {
  [...cards.values()].forEach(discard);
  announce("All removed");
  at("choose").focus();
});
at("save-all").addEventListener("click", () => saveJson({ predictions: answers() }, "answers.json"));
at("save-csv").addEventListener("click", () => saveCsv(answers(), "answers.csv"));

/** The answers that are there, in the order of the page. */
function answers() {
  const shown = [...at("cards").children].map((element) => cards.get(element));
  return shown.filter((card) => card.done).map((card) => card.json);
}

const endDrag = () => document.body.classList.remove("dragging");
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
let leaving = 0; // Safari says at each element's edge that the page is left
addEventListener("dragover", (event) => {
  event.preventDefault(); // else the browser would leave the page for the file
  clearTimeout(leaving);
  document.body.classList.toggle("dragging", holdsFiles(event));
});
addEventListener("dragleave", (event) => { if (!event.relatedTarget) leaving = setTimeout(endDrag, 100); });
addEventListener("drop", (event) => {
  event.preventDefault();
  endDrag();
  if (event.dataTransfer.files.length) take(event.dataTransfer.files);
  else tell("that was no file: save the picture first, or copy and paste it");
});
addEventListener("paste", (event) => {
  if (at("token").open) return;
  if (event.clipboardData.files.length) take(event.clipboardData.files);
  else tell("there is no picture in the clipboard: copy a picture, not its address");
});
if (/Mac|iP/.test(navigator.platform)) document.querySelector("#paste kbd").textContent = "⌘";

// A link that holds the token lets a friend in; the fragment is never sent, and it is taken away.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  holdToken(given);
  history.replaceState(null, "", location.pathname);
}
meetServer().then(showServer, (trouble) => tell(trouble.message));
