// A picture to the server and the answer back; what can go wrong between, in plain words.

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

/** Why there is no answer. `again`: it may be worth another try; `token`: none was given. */
export class Trouble extends Error {
  constructor(message, { again = false, token = false } = {}) {
    super(message);
    Object.assign(this, { again, token });
  }
}

/** What the server says of itself; empty until it was asked. */
export const server = {};

export async function meetServer() {
  Object.assign(server, await (await knock("/api/about")).json());
}

/** Return the answer to a File. `wait` is told in words when the server is busy. */
export async function ask(file, { explain = false, signal, wait = () => {} } = {}) {
  await checkFile(file);
  const body = new FormData();
  body.append("file", file, file.name);
  const url = `/api/predict?top=10&steps=${!explain}&explain=${explain}`;
  const response = await knock(url, { method: "POST", body, signal }, wait);
  const [answer] = (await response.json()).predictions;
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

async function knock(url, options = {}, wait = () => {}) {
  for (let tries = 1; ; tries++) {
    const token = sessionStorage.getItem("token");
    const response = await reach(url, options, token);
    if (response.ok) return response;
    if (response.status === 401) await newToken(token);
    else if ((response.status === 429 || response.status === 503) && tries < TRIES) {
      await pause(response, tries, wait, options.signal);
    } else throw await reason(response);
  }
}

async function reach(url, { signal, ...options }, token) {
  const late = AbortSignal.timeout(PATIENCE);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  try {
    return await fetch(url, { ...options, headers, signal: signal ? AbortSignal.any([signal, late]) : late });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Trouble("the server cannot be reached; see that it runs and that you are connected", { again: true });
  }
}

async function pause(response, tries, wait, signal) {
  const asked = Number(response.headers.get("Retry-After")) || 1;
  const seconds = Math.min(LONGEST_WAIT, Math.max(asked, 2 ** (tries - 2)));
  wait(`The server is busy: trying again in ${seconds} s`);
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  signal?.throwIfAborted();
}

async function reason(response) {
  const said = await response.json().then((body) => body.error, () => null);
  const message = said || IN_OTHER_WORDS[response.status] || `the server answered with status ${response.status}`;
  return new Trouble(message, { again: response.status === 429 || response.status >= 500 });
}

let asking = null; // the one dialog that all requests wait for

/** Have the visitor give a token in place of one that was refused. */
async function newToken(refused) {
  if (sessionStorage.getItem("token") !== refused) return; // given while this request was away
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
      sessionStorage.setItem("token", field.value.trim());
      resolve();
    }, { once: true });
  });
}
