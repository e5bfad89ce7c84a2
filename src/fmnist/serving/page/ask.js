// A picture to the server and the answer back; what can go wrong between, in plain words.
// Addresses are relative, here as in the pages: a proxy may hand the server out below a path of its own.

const TRIES = 6; // of a picture that a busy server sends away
const LONGEST_WAIT = 30; // seconds between two of them
const PATIENCE = 90_000; // ms, for a request: over a slow line too
const IN_OTHER_WORDS = {
  413: "the picture is too large for this server; send a smaller copy",
  429: "you have asked too often; wait a minute and try again",
  502: "the server cannot be reached; try again later",
  503: "the server is busy; try again later",
  504: "the server took too long; try again later",
};

// One site may hand out several servers, each below its path and with its token, to the same tab.
const TOKEN = `fmnist token of ${new URL(".", location.href).pathname}`;
let held = null; // as a browser may keep nothing, or no more

const heldToken = () => { try { return held || sessionStorage.getItem(TOKEN); } catch { return null; } };

/** Keep the token until the tab is closed, or the page where there is no storage. */
export function holdToken(token) {
  held = token;
  try { sessionStorage.setItem(TOKEN, token); } catch { /* it is held */ }
}

/** Tell whether the server needs a token, as it wrote into the page, and none is there yet. */
export const tokenLacks = () =>
  document.querySelector("meta[name=token-needed]")?.content === "yes" && !heldToken();

/** Why there is no answer. `again`: it may be worth another try; `token`: none was given. */
export class Trouble extends Error {
  constructor(message, { again = false, token = false } = {}) {
    super(message);
    Object.assign(this, { again, token });
  }
}

/** What the server says of itself; empty until it was asked. */
export const server = {};

let meeting = null;

/** Ask the server once what it is; what went wrong is tried again at the next call. */
export function meetServer() {
  const forget = (trouble) => { meeting = null; throw trouble; };
  meeting ??= knock("api/about").then((about) => Object.assign(server, about), forget);
  return meeting;
}

/** Return the answer to a File. `wait` is told in words when the server is busy. */
export async function ask(file, { explain = false, signal, wait = () => {} } = {}) {
  await meetServer();
  await checkFile(file);
  const body = new FormData();
  body.append("file", file, file.name);
  const url = `api/predict?top=10&steps=${!explain}&explain=${explain}`;
  const { predictions: [answer] } = await knock(url, { method: "POST", body, signal }, wait);
  if (answer.error) throw new Trouble(answer.error);
  return answer;
}

async function checkFile(file) {
  const most = server.limits?.body_bytes;
  if (most && file.size > most) {
    throw new Trouble(`the picture has ${megabytes(file.size)}, and this server takes ${megabytes(most)}; send a smaller copy`);
  }
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Trouble("this cannot be read; choose the pictures in a folder, not the folder");
  }
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MB`;

/** Return the JSON at `url`, however often it has to be asked for. */
async function knock(url, options = {}, wait = () => {}) {
  for (let tries = 1; ; tries++) {
    if (tokenLacks()) await newToken(null); // a refusal would be an error in the console
    const token = heldToken();
    const response = await reach(url, options, token);
    if (response.ok) return JSON.parse(response.text);
    if (response.status === 401) await newToken(token);
    else if ((response.status === 429 || response.status === 503) && tries < TRIES) {
      await pause(response, tries, wait, options.signal);
    } else throw reason(response);
  }
}

async function reach(url, { signal, ...options }, token) {
  signal?.throwIfAborted();
  const end = new AbortController(), stop = () => end.abort(); // AbortSignal.any is too new for many phones
  const late = setTimeout(stop, PATIENCE);
  signal?.addEventListener("abort", stop);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    const response = await fetch(url, { ...options, headers, signal: end.signal });
    const { ok, status } = response;
    return { ok, status, wait: Number(response.headers.get("Retry-After")), text: await response.text() };
  } catch {
    signal?.throwIfAborted();
    throw new Trouble("the server cannot be reached; see that it runs and that you are connected", { again: true });
  } finally {
    clearTimeout(late);
    signal?.removeEventListener("abort", stop);
  }
}

async function pause(response, tries, wait, signal) {
  const seconds = Math.min(LONGEST_WAIT, Math.max(response.wait || 1, 2 ** (tries - 2)));
  wait(`The server is busy: trying again in ${seconds} s`);
  await new Promise((resolve) => {
    setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", resolve);
  });
}

function reason({ status, text }) {
  const message = errorIn(text) || IN_OTHER_WORDS[status] || `the server answered with status ${status}`;
  return new Trouble(message, { again: status === 429 || status >= 500 });
}

function errorIn(text) {
  try {
    return JSON.parse(text).error;
  } catch {
    return null; // a proxy's page
  }
}

let asking = null; // the one dialog that all requests wait for

/** Have the visitor give a token in place of one that was refused. */
async function newToken(refused) {
  if (heldToken() !== refused) return; // given while this request was away
  asking ??= openDialog(refused).finally(() => { asking = null; });
  await asking;
}

function openDialog(refused) {
  const dialog = document.getElementById("token");
  const field = document.getElementById("token-field");
  const why = document.getElementById("token-why");
  if (refused) why.textContent = "The server does not take that token. Is it complete?";
  field.value = dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve, reject) => {
    dialog.addEventListener("close", () => {
      if (dialog.returnValue !== "use") return reject(new Trouble("the server asks for a token", { again: true, token: true }));
      holdToken(field.value.trim());
      resolve();
    }, { once: true });
  });
}
