const STOPS = ["--heat-0", "--heat-1", "--heat-2", "--heat-3"];
let palette = null;
let colors = null;

/** Return a color of the theme. */
export function readColor(name) {
  if (!colors) colors = getComputedStyle(document.documentElement);
  return colors.getPropertyValue(name).trim();
}

/** Return the 256 colors of the spectrogram as pixels, from silence to loud. */
export function readPalette() {
  if (!palette) palette = createPalette(STOPS.map(readColor).map(parseColor));
  return palette;
}

/** Read the colors again after the theme has changed. */
export function forgetColors() {
  palette = null;
  colors = null;
}

function parseColor(text) {
  return [1, 3, 5].map((start) => Number.parseInt(text.slice(start, start + 2), 16)); // #rrggbb
}

function createPalette(stops) {
  return Uint32Array.from({ length: 256 }, (_, value) => {
    const position = (value / 255) * (stops.length - 1);
    const first = Math.min(Math.floor(position), stops.length - 2);
    const [red, green, blue] = stops[first].map((start, channel) => {
      return Math.round(start + (stops[first + 1][channel] - start) * (position - first));
    });
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0; // Pixels are stored as red, green, blue, alpha.
  });
}
