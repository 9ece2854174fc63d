/** The views of the page, and what it tells the user. */

import { setToken } from "./api.js";

const ALERT = `
  <p id="alert-text"></p>
  <form id="token-form" hidden>
    <input type="text" name="username" value="kerastag" autocomplete="username" hidden />
    <label>Token <input id="token" type="password" autocomplete="current-password" required /></label>
    <button type="submit">Use it</button>
  </form>
  <button type="button" id="retry" hidden>Try again</button>
  <button type="button" class="quiet round" id="dismiss" aria-label="Close this message">
    <svg class="icon" aria-hidden="true"><use href="#icon-close" /></svg>
  </button>`;

let retryAction = null;

export function get(id) {
  return document.getElementById(id);
}

/** Fill the alert of the page, which stays hidden until there is an error. */
export function prepareAlert() {
  get("alert").innerHTML = ALERT;
  get("dismiss").addEventListener("click", hideError);
  get("retry").addEventListener("click", retry);
  get("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(get("token").value);
    get("token").value = "";
    retry();
  });
}

/** Show one of the views: welcome, progress or result. */
export function showView(name) {
  document.body.dataset.view = name;
  for (const view of ["welcome", "progress", "result"]) get(view).hidden = view !== name;
  if (name === "welcome") document.title = "kerastag";
}

/** Show an error, with a button to try again if there is an action for it; where a token is missing, ask for it. */
export function showError(error, action = null) {
  const isUnauthorized = error.status === 401 || error.code === "unauthorized";
  get("alert-text").textContent = isUnauthorized ? "This server needs a token." : error.message;
  get("token-form").hidden = !isUnauthorized;
  get("retry").hidden = isUnauthorized || !action;
  retryAction = action;
  get("alert").hidden = false;
  if (isUnauthorized) get("token").focus();
  get("alert").scrollIntoView({ block: "nearest" });
}

export function hideError() {
  get("alert").hidden = true;
}

/** Do again what failed. */
function retry() {
  hideError();
  retryAction?.();
}

/** Tell a screen reader something. */
export function announce(text) {
  get("announcement").textContent = text;
}

/** Show a text, or hide its element if the text is empty. */
export function showText(element, text) {
  element.textContent = text;
  element.hidden = !text;
}
