// Runs before the page is drawn, so that a theme that was chosen earlier does not flash.
globalThis.kerastagTheme = (() => {
  const root = document.documentElement;
  const systemTheme = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  try {
    chosen = localStorage.getItem("kerastag.theme");
  } catch {
    // Storage may be disabled: then the theme is that of the system.
  }
  if (chosen === "light" || chosen === "dark") root.dataset.theme = chosen;

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemTheme.matches);

  /** Change to the other theme, and keep it for the next visit. */
  function toggle() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("kerastag.theme", root.dataset.theme);
    } catch {
      // Storage may be disabled: then the choice lasts until the page is loaded again.
    }
  }

  /** Call a function whenever the theme of the system changes. */
  const watchSystem = (callback) => systemTheme.addEventListener("change", callback);

  return { isDark, toggle, watchSystem };
})();
