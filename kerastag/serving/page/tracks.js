import { drawLane, drawRuler, drawSpectrogram, drawWaveform } from "./drawing.js";
import { addGestures } from "./gestures.js";
import { formatClock, formatCount, formatWords } from "./text.js";
import { Viewport } from "./viewport.js";

/** Ruler, waveform, spectrogram and a lane per class, on one axis of time with one cursor. */
export class Tracks {
  viewport = new Viewport();
  #recording = null;
  #cursorSeconds = 0;
  #lanes = []; // The lane and its canvas, in the order of the screen.
  #elements;
  #onSeek;
  #isQueued = false;

  /** @param {(seconds: number) => void} onSeek - Called when the user asks for a position. */
  constructor(onSeek) {
    this.#onSeek = onSeek;
    const names = ["tracks", "position", "ruler", "waveform", "spectrogram", "lanes", "cursor", "scroll"];
    this.#elements = Object.fromEntries(names.map((name) => [name, document.getElementById(name)]));
    this.scrollbar = document.getElementById("scroll-position");
    addGestures(this.#elements.tracks, this.viewport, onSeek);
    this.viewport.addEventListener("change", () => this.draw());
    this.scrollbar.addEventListener("input", () => {
      const start = Number(this.scrollbar.value);
      this.viewport.show(start, start + this.viewport.span);
    });
    new ResizeObserver(() => this.draw()).observe(this.#elements.tracks);
    this.#elements.position.addEventListener("keydown", (event) => this.handleKey(event));
  }

  get recording() {
    return this.#recording;
  }

  /** Show a recording; one that grows sets its viewport itself. */
  show(recording) {
    this.#recording = recording;
    this.#elements.position.setAttribute("aria-valuemax", recording.duration.toFixed(2));
    this.showLanes([]);
    this.viewport.reset(recording.duration);
    this.setCursor(0);
  }

  /** Show the lanes of some classes; those that were there before keep their elements. */
  showLanes(lanes) {
    const known = new Map(this.#lanes.map((row) => [row.lane, row]));
    this.#lanes = lanes.map((lane) => known.get(lane) ?? this.#createLane(lane));
    for (const row of this.#lanes) this.#describeLane(row);
    const items = this.#lanes.map((row) => row.item);
    const current = [...this.#elements.lanes.children];
    if (items.length !== current.length || items.some((item, k) => item !== current[k])) {
      const focused = document.activeElement;
      this.#elements.lanes.replaceChildren(...items);
      if (items.some((item) => item.contains(focused))) focused.focus({ preventScroll: true });
    }
    this.draw();
  }

  setCursor(seconds) {
    this.#cursorSeconds = seconds;
    const { position, cursor, ruler } = this.#elements;
    position.setAttribute("aria-valuenow", seconds.toFixed(2));
    position.setAttribute("aria-valuetext", formatWords(seconds));
    const share = (seconds - this.viewport.start) / this.viewport.span;
    cursor.hidden = share < 0 || share > 1;
    cursor.style.transform = `translateX(${share * ruler.clientWidth}px)`;
  }

  /** Draw everything at the next frame of the screen. */
  draw() {
    if (this.#isQueued || !this.#recording) return;
    this.#isQueued = true;
    requestAnimationFrame(() => {
      this.#isQueued = false;
      const { ruler, waveform, spectrogram, scroll } = this.#elements;
      const { viewport, scrollbar } = this;
      drawRuler(ruler, viewport);
      drawWaveform(waveform, viewport, this.#recording);
      drawSpectrogram(spectrogram, viewport, this.#recording);
      for (const { lane, canvas } of this.#lanes) drawLane(canvas, viewport, lane, this.#recording.secondsPerFrame);
      this.setCursor(this.#cursorSeconds);
      scroll.hidden = !viewport.isZoomed || this.#recording.isLive === true;
      scrollbar.max = String(viewport.duration - viewport.span);
      scrollbar.value = String(viewport.start);
      const [start, end] = [viewport.start, viewport.end].map((each) => formatClock(each));
      scrollbar.setAttribute("aria-valuetext", `${start} to ${end}`);
    });
  }

  #createLane(lane) {
    const item = document.createElement("li");
    item.className = "lane";
    const button = document.createElement("button");
    button.type = "button";
    const name = document.createElement("span");
    name.textContent = lane.name;
    const count = document.createElement("small");
    button.append(name, count);
    button.addEventListener("click", () => this.#goToNextEvent(lane));
    const canvas = document.createElement("canvas");
    canvas.setAttribute("aria-hidden", "true");
    item.append(button, canvas);
    return { lane, item, button, count, canvas };
  }

  #describeLane({ lane, button, count }) {
    const text = lane.events.length ? formatCount(lane.events.length, "event") : "no event";
    if (count.textContent === text) return;
    count.textContent = text;
    button.disabled = !lane.events.length;
    button.title = lane.events.length ? `Go to the next event of ${lane.name}` : "";
  }

  #goToNextEvent(lane) {
    const next = lane.events.find((event) => event.start_seconds > this.#cursorSeconds + 0.01) ?? lane.events[0];
    if (next) this.#onSeek(next.start_seconds);
  }

  /** Seek by the arrow keys and the like, as a slider does. */
  handleKey(event) {
    const step = event.shiftKey ? 10 : 1;
    const targets = {
      ArrowLeft: this.#cursorSeconds - step,
      ArrowDown: this.#cursorSeconds - step,
      ArrowRight: this.#cursorSeconds + step,
      ArrowUp: this.#cursorSeconds + step,
      PageUp: this.#cursorSeconds + this.viewport.span,
      PageDown: this.#cursorSeconds - this.viewport.span,
      Home: 0,
      End: this.viewport.duration,
    };
    if (!(event.key in targets) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    this.#onSeek(Math.min(Math.max(targets[event.key], 0), this.viewport.duration));
  }
}
