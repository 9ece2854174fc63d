import { formatClock } from "./text.js";

/** Plays a recording with the decoder of the browser, which needs no more memory for a long one. */
export class Player {
  #audio = new Audio();
  #url = null;
  #duration = 0;
  #seconds = 0;
  #button = document.getElementById("play");
  #clock = document.getElementById("clock");
  #note = document.getElementById("player-note");

  /** @param {(seconds: number, isPlaying: boolean) => void} onMove - Called whenever the position changes. */
  constructor(onMove) {
    this.onMove = onMove;
    this.#audio.preload = "auto";
    this.#button.addEventListener("click", () => this.toggle());
    for (const name of ["play", "pause", "ended"]) this.#audio.addEventListener(name, () => this.#showState());
    this.#audio.addEventListener("seeked", () => this.#audio.paused && this.#move(this.#audio.currentTime));
    this.#audio.addEventListener("error", () => {
      if (!this.#url) return;
      this.#button.disabled = true;
      this.#note.textContent = "This browser cannot play the format.";
      this.#note.hidden = false;
    });
  }

  get isPlaying() {
    return !this.#audio.paused;
  }

  get seconds() {
    return this.#seconds;
  }

  load(file, duration) {
    this.close();
    this.#duration = duration;
    this.#url = URL.createObjectURL(file);
    this.#audio.src = this.#url;
    this.#button.disabled = false;
    this.#note.hidden = true;
    document.getElementById("total").textContent = ` / ${formatClock(duration)}`;
    this.#move(0);
  }

  close() {
    this.#audio.pause();
    if (!this.#url) return;
    const url = this.#url;
    this.#url = null;
    this.#audio.removeAttribute("src");
    this.#audio.load();
    URL.revokeObjectURL(url);
  }

  toggle() {
    if (!this.#url || this.#button.disabled) return;
    if (!this.#audio.paused) this.#audio.pause();
    else this.#audio.play().catch(() => this.#showState()); // The event `error` gives the reason.
  }

  seek(seconds) {
    this.#audio.currentTime = seconds;
    this.#move(seconds);
  }

  #move(seconds) {
    this.#seconds = Math.min(seconds, this.#duration);
    this.#clock.textContent = formatClock(this.#seconds);
    this.onMove(this.#seconds, this.isPlaying);
  }

  #showState() {
    const isPlaying = this.isPlaying;
    this.#button.setAttribute("aria-label", isPlaying ? "Pause" : "Play");
    this.#button.querySelector("use").setAttribute("href", isPlaying ? "#icon-pause" : "#icon-play");
    if (isPlaying) requestAnimationFrame(() => this.#follow());
  }

  #follow() {
    if (!this.isPlaying) return;
    this.#move(this.#audio.currentTime);
    requestAnimationFrame(() => this.#follow());
  }
}
