import { state, tracks } from "./app.js";
import { drawArt } from "./art.js";
import { get } from "./messages.js";
import { forgetColors } from "./palette.js";

const systemTheme = matchMedia("(prefers-color-scheme: dark)");

/** Show the theme that was chosen, or else that of the system, and let the user change it. */
export function addThemes() {
  get("theme").addEventListener("click", toggleTheme);
  systemTheme.addEventListener("change", showTheme);
  new ResizeObserver(() => drawArt(get("art"))).observe(get("art"));
  showTheme();
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : systemTheme.matches;
}

function showTheme() {
  get("theme").setAttribute("aria-pressed", String(isDark()));
  get("theme")
    .querySelector("use")
    .setAttribute("href", isDark() ? "#icon-sun" : "#icon-moon");
  forgetColors();
  state.recording?.spectrogram?.recolor();
  tracks.draw();
  drawArt(get("art"));
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("kerastag.theme", theme);
  } catch {
    // Storage may be disabled: then the choice lasts until the page is loaded again.
  }
  showTheme();
}
