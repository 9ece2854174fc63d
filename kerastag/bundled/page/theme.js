// Runs before the page is drawn, so that a theme that was chosen earlier does not flash.
globalThis.kerastagTheme = (() => {
  const root = document.documentElement;
  const systemTheme = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null; // Until the user chooses a theme, it is that of the system.
  try {
    chosen = localStorage.getItem("kerastag.theme");
  } catch {
    // Storage may be disabled.
  }

  function apply() {
    const isChosen = chosen === "light" || chosen === "dark";
    root.dataset.theme = isChosen ? chosen : systemTheme.matches ? "dark" : "light";
  }

  const isDark = () => root.dataset.theme === "dark";

  /** Change to the other theme, and keep it for the next visit. */
  function toggle() {
    chosen = isDark() ? "light" : "dark";
    apply();
    try {
      localStorage.setItem("kerastag.theme", chosen);
    } catch {
      // Storage may be disabled: then the choice lasts until the page is loaded again.
    }
  }

  /** Call a function whenever the theme of the system changes. */
  const watchSystem = (callback) => systemTheme.addEventListener("change", callback);

  apply();
  watchSystem(apply);
  return { isDark, toggle, watchSystem };
})();
