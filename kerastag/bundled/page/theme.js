// Runs before the page is drawn, so that a theme that was chosen earlier does not flash.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("kerastag.theme");
  } catch {
    // Storage may be disabled: then the theme is that of the system.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
