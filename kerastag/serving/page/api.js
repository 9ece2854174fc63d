/** The server, with the token if it wants one, which is kept until the tab is closed. */

const TOKEN_KEY = "kerastag.token";
const UNREACHABLE = "The server does not answer. Check that kerastag serve still runs, and try again.";
const SHUT_DOWN = "The server has ended the stream, as it is shutting down.";

/** A fault of the server or of the connection, as one line for the user. */
export class ApiError extends Error {
  constructor(code, message, status = 0) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN_KEY, token);
}

function getToken() {
  return sessionStorage.getItem(TOKEN_KEY);
}

function resolve(path) {
  return new URL(path, document.baseURI);
}

/** Read the body of a failed request; a proxy may answer with something else than JSON. */
function createError(status, text, retryAfter) {
  let fault = null;
  try {
    fault = JSON.parse(text).error;
  } catch {
    // The status is all that is known.
  }
  const hint = retryAfter ? ` Try again in ${retryAfter} s.` : "";
  const message = fault?.message ?? `The server answered with status ${status}.`;
  return new ApiError(fault?.code ?? "failed", `${endSentence(message)}${hint}`, status);
}

function endSentence(message) {
  return /[.!?]$/.test(message) ? message : `${message}.`;
}

/**
 * Ask the server, with the token if there is one.
 *
 * @param {string} path
 * @param {RequestInit} options
 * @returns {Promise<Response>} An answer with a status of success; anything else is an `ApiError`.
 */
export async function request(path, options = {}) {
  const headers = { ...options.headers, ...(getToken() ? { Authorization: `Bearer ${getToken()}` } : {}) };
  let response;
  try {
    response = await fetch(resolve(path), { ...options, headers });
  } catch {
    throw new ApiError("unreachable", UNREACHABLE);
  }
  if (!response.ok) throw createError(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

/** List the models of the server. */
export async function fetchModels() {
  return (await (await request("v1/models")).json()).models;
}

/**
 * Tag a recording.
 *
 * @param {File} file
 * @param {Record<string, string | number | boolean>} options - Query parameters of `/v1/tag`; empty ones are left out.
 * @param {AbortSignal} signal - Ends the request.
 * @param {(share: number) => void} onUpload - Called with the share of the file that has been sent, 0 to 1.
 * @returns {Promise<object>} The answer of the server.
 */
export function tagRecording(file, options, signal, onUpload) {
  const url = resolve("v1/tag");
  for (const [name, value] of Object.entries(options)) {
    if (value !== "") url.searchParams.set(name, String(value));
  }
  const body = new FormData();
  body.append("file", file, file.name);
  return new Promise((accept, reject) => {
    const request = new XMLHttpRequest(); // Unlike `fetch`, it reports the progress of uploads.
    request.open("POST", url);
    if (getToken()) request.setRequestHeader("Authorization", `Bearer ${getToken()}`);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onUpload(event.loaded / event.total);
    });
    request.upload.addEventListener("load", () => onUpload(1));
    request.addEventListener("error", () => reject(new ApiError("unreachable", UNREACHABLE)));
    request.addEventListener("abort", () => reject(new DOMException("canceled", "AbortError")));
    request.addEventListener("load", () => {
      if (request.status !== 200) {
        reject(createError(request.status, request.responseText, request.getResponseHeader("Retry-After")));
        return;
      }
      try {
        accept(JSON.parse(request.responseText));
      } catch {
        reject(new ApiError("failed", "The answer of the server is incomplete."));
      }
    });
    signal.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

/**
 * A stream of audio to the server. `onMessage` gets its lines, `onEnd` is called once: with an `ApiError`, or with
 * nothing after the server has answered the end.
 */
export class Stream {
  #socket;
  #onEnd;

  constructor(start, onMessage, onEnd) {
    const url = resolve("v1/stream");
    url.protocol = url.protocol.replace("http", "ws");
    this.#onEnd = onEnd;
    this.#socket = new WebSocket(url);
    this.#socket.binaryType = "arraybuffer";
    this.#socket.addEventListener("open", () => {
      const token = getToken(); // A browser cannot send the header `Authorization` here.
      this.#socket.send(JSON.stringify({ type: "start", ...start, ...(token ? { token } : {}) }));
    });
    this.#socket.addEventListener("message", (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "error") this.#finish(new ApiError(message.code, endSentence(message.message)));
      else if (message.type === "end")
        this.#finish(message.reason ? new ApiError(message.reason, SHUT_DOWN) : undefined);
      else onMessage(message);
    });
    this.#socket.addEventListener("close", () => {
      this.#finish(new ApiError("unreachable", "The connection to the server was lost."));
    });
  }

  /** Bytes that wait to be sent, because the server or the network is slower than the audio. */
  get waitingBytes() {
    return this.#socket.bufferedAmount;
  }

  send(samples) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(samples);
  }

  /** Ask for the last results; the server then sends its end. */
  end() {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type: "end" }));
    else this.#finish();
  }

  #finish(error) {
    const onEnd = this.#onEnd;
    this.#onEnd = null;
    this.#socket.close();
    onEnd?.(error);
  }
}
