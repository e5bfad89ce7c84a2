// One picture's card: it waits, is asked about, and shows the answer or why there is none.

import { Trouble, ask, server } from "./ask.js";

export const percent = (share) =>
  (share > 0.995 ? "> 99" : share < 0.005 ? "< 1" : Math.round(100 * share)) + "\u00a0%";

// Below it a name is said to be probable only. Of 190 photos of held-out senders, 67 of 70 answers at 95 %
// and above were right, and 29 of 68 between 57 and 95 %: docs/log.md.
const SURE = 0.95;

const named = ({ label, probability }) => (probability < SURE ? `Probably ${label}` : label);

export class Card {
  constructor(file) {
    this.file = file;
    this.answer = null;
    this.trouble = null;
    this.heated = false; // the heat map is shown in place of the photo
    this.urls = {}; // of the images on show, by class; freed with the card
    this.gone = new AbortController();
    this.element = document.getElementById("card").content.firstElementChild.cloneNode(true);
    this.find(".name bdi").textContent = file.name;
    this.find(".remove span span").textContent = file.name;
    this.find(".copy").hidden = !navigator.clipboard; // there on https and localhost only
    this.find(".heat").addEventListener("click", () => this.toggleHeat());
    this.find(".save").addEventListener("click", () => saveJson(this.json, `${this.file.name}.json`));
    this.find(".copy").addEventListener("click", () => this.copy());
  }

  find(selector) { return this.element.querySelector(selector); }

  get done() { return Boolean(this.answer || this.trouble); }

  /** The answer as `fmnist predict --json` prints it. */
  get json() {
    if (this.trouble) return { path: this.file.name, error: this.trouble.message };
    const { steps, ...rest } = this.answer;
    return rest;
  }

  /** What it has come to, for a count. */
  get outcome() {
    if (this.trouble) return this.trouble.again ? "without an answer" : "not readable";
    if (!this.answer) return "waiting";
    return this.answer.accepted ? "named" : "not sure";
  }

  /** What a screen reader says when the answer is there. */
  get sentence() {
    const { file: { name }, trouble, answer } = this;
    if (trouble) return `${name}: no answer: ${trouble.message}`;
    const verdict = answer.accepted ? named(answer) : `not sure, perhaps ${answer.label}`;
    return [`${name}: ${verdict}, ${percent(answer.probability)}`, ...answer.warnings].join(". ");
  }

  /** Ask about the picture; never throws. */
  async ask() {
    const began = performance.now();
    this.say("Looking", { busy: true, state: "looking" });
    this.show("photo", URL.createObjectURL(this.file));
    try {
      const wait = (words) => this.explainWhy(words);
      this.answer = await ask(this.file, { signal: this.gone.signal, wait });
      this.showAnswer();
      this.find(".time").textContent = `· ${((performance.now() - began) / 1000).toFixed(2)} s`;
    } catch (error) {
      if (!this.gone.signal.aborted) this.fail(error);
    }
  }

  say(verdict, { busy = false, share = "", state = "" } = {}) {
    this.find(".verdict").textContent = verdict;
    this.find(".share").textContent = share;
    this.element.setAttribute("aria-busy", busy);
    this.element.className = `card ${state}`;
    this.find(".again").hidden = true;
    this.explainWhy("");
  }

  explainWhy(words) {
    this.find(".why").textContent = words;
    this.find(".why").hidden = !words;
  }

  explainVerdict() {
    this.explainWhy(this.answer.accepted ? "" : whyNotSure(this.answer));
  }

  fail(error) {
    this.trouble = error instanceof Trouble ? error : new Trouble("the answer cannot be shown; reload the page", { again: true });
    if (error !== this.trouble) console.error(error);
    this.say("No answer", { state: "failed" });
    this.explainWhy(this.trouble.message);
    this.find(".again").hidden = !this.trouble.again;
  }

  showAnswer() {
    const { label, probability, accepted, warnings, steps = {} } = this.answer;
    if (accepted) this.say(named(this.answer), { share: percent(probability) });
    else this.say("Not sure", { share: `perhaps ${label}`, state: "unsure" });
    this.explainVerdict();
    if (steps.original) this.show("photo", pngUrl(steps.original));
    if (steps.cutout) this.show("cutout", pngUrl(steps.cutout));
    if (steps.image) this.show("pixels", pngUrl(steps.image));
    const advice = this.find(".advice");
    advice.replaceChildren(...warnings.map((words) => make("li", words)));
    advice.hidden = !warnings.length;
    this.showGuesses();
    this.find(".legend .label").textContent = label;
    for (const buttons of this.element.querySelectorAll(":scope > .buttons")) buttons.hidden = false;
  }

  showGuesses() {
    const least = server.least_probability;
    const guesses = this.answer.top.map(({ label, probability }) => {
      const line = make("li"), bar = make("i");
      bar.style.setProperty("--share", probability < 0.005 ? 0 : probability); // less would be a speck
      bar.style.setProperty("--least", least || -1);
      line.append(make("span", label), bar, make("span", percent(probability)));
      return line;
    });
    this.find(".guesses").replaceChildren(...guesses);
    const { accepted, probability } = this.answer;
    const doubt = accepted && probability < SURE ? " “Probably” says that a name is often wrong." : "";
    this.find(".needed").textContent = `The line marks ${percent(least)}: what a class needs to be named.${doubt}`;
    this.find(".needed").hidden = !least;
  }

  /** Put an image in its place; `url` is an object URL, which the card frees. */
  show(kind, url) {
    URL.revokeObjectURL(this.urls[kind]);
    this.urls[kind] = url;
    const image = this.find(`.${kind}`);
    image.onload = () => { image.hidden = false; image.classList.toggle("tiny", image.naturalWidth <= 56); };
    image.onerror = () => { image.hidden = true; }; // what the browser cannot draw, the server may read
    image.src = url;
  }

  async toggleHeat() {
    const button = this.find(".heat");
    if (button.getAttribute("aria-disabled") === "true") return; // disabled, it would lose the focus
    button.setAttribute("aria-disabled", true);
    try {
      if (!this.heated) this.answer.steps.explained ??= await this.askForHeat();
      this.explainVerdict();
      this.showHeat(!this.heated);
    } catch (error) {
      if (!this.gone.signal.aborted) this.lackHeat(error);
    }
    button.setAttribute("aria-disabled", false);
  }

  async askForHeat() {
    const wait = (words) => this.explainWhy(words);
    const { steps } = await ask(this.file, { explain: true, signal: this.gone.signal, wait });
    return steps.explained;
  }

  lackHeat(error) {
    const words = `There is no heat map: ${error.message}`;
    this.explainWhy(words);
    announce(words);
    if (error.again) this.find(".heat").textContent = "Try the heat map again";
  }

  showHeat(on) {
    const { steps: { original, explained }, label } = this.answer, image = this.find(".photo");
    this.heated = on;
    this.show("photo", pngUrl(on ? explained : original));
    image.alt = on ? `The picture, orange where it speaks for ${label} and blue where it speaks against` : "The picture";
    image.closest("figure").lastElementChild.textContent = on ? "What counted" : "Picture";
    this.find(".legend").hidden = !on;
    this.find(".heat").textContent = on ? "Show the photo" : "Show what counted";
    announce(on ? this.find(".legend").textContent : "The photo is shown");
  }

  async copy() {
    const button = this.find(".copy");
    const copied = navigator.clipboard.writeText(JSON.stringify(this.json, null, 2));
    button.textContent = await copied.then(() => "Copied", () => "The browser does not allow it");
    announce(button.textContent);
    setTimeout(() => { button.textContent = "Copy JSON"; }, 2000);
  }

  remove() {
    this.gone.abort();
    Object.values(this.urls).forEach((url) => URL.revokeObjectURL(url));
    this.element.remove();
  }
}

function whyNotSure({ label, probability }) {
  const least = server.least_probability;
  if (probability >= least) return `No garment was found in the picture, so its likeliest class, ${label} with ${percent(probability)}, is only a guess.`;
  const needed = least ? `, and ${percent(least)} are needed to name a class` : "";
  return `The likeliest class, ${label}, has ${percent(probability)}${needed}. It may be none of the ten.`;
}

/** Have a screen reader say something. */
export function announce(words) {
  document.getElementById("live").textContent = words;
}

export const saveJson = (content, name) => save(JSON.stringify(content, null, 2), name, "application/json");

/** Save answers, as `json` of a card gives them, in the columns of `fmnist predict --csv`. */
export function saveCsv(answers, name) {
  const columns = ["path", "label", "class_index", "probability", "accepted", "warnings", "error"];
  const rows = answers.map(({ warnings = [], ...rest }) => ({ ...rest, warnings: warnings.join("; ") }));
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column] ?? ""))];
  save(lines.map((line) => `${line.map(cell).join(",")}\n`).join(""), name, "text/csv");
}

const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

function save(text, name, type) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // a phone asks first whether to save
}

function pngUrl(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
}

function make(name, text = "") {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
