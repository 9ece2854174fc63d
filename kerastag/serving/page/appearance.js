import { state, tracks } from "./app.js";
import { drawArt } from "./art.js";
import { get } from "./messages.js";
import { forgetColors } from "./palette.js";

const { isDark, toggle, watchSystem } = globalThis.kerastagTheme;

/** Show the theme that was chosen, or else that of the system, and let the user change it. */
export function addThemes() {
  get("theme").addEventListener("click", toggleTheme);
  watchSystem(showTheme);
  new ResizeObserver(() => drawArt(get("art"))).observe(get("art"));
  showTheme();
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
  toggle();
  showTheme();
}
