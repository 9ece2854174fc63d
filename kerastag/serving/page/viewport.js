/** The part of a recording that is visible, in seconds. It sends `change` when it moves. */
export class Viewport extends EventTarget {
  #start = 0;
  #end = 1;
  #duration = 1;
  #minSpan = 0.25;

  get start() {
    return this.#start;
  }

  get end() {
    return this.#end;
  }

  get span() {
    return this.#end - this.#start;
  }

  get duration() {
    return this.#duration;
  }

  get isZoomed() {
    return this.span < this.#duration * 0.999;
  }

  /** Show the whole of a recording of another duration. */
  reset(duration) {
    this.#duration = Math.max(duration, 1e-3);
    this.show(0, this.#duration);
  }

  /** Show a part, which is moved and shortened to lie within the recording. */
  show(start, end) {
    const span = Math.min(Math.max(end - start, Math.min(this.#minSpan, this.#duration)), this.#duration);
    this.#start = Math.min(Math.max(start, 0), this.#duration - span);
    this.#end = this.#start + span;
    this.dispatchEvent(new Event("change"));
  }

  /** Zoom by a factor above 1 to see less, below 1 to see more; `anchor` in seconds stays where it is. */
  zoom(factor, anchor = (this.#start + this.#end) / 2) {
    const span = Math.min(Math.max(this.span / factor, Math.min(this.#minSpan, this.#duration)), this.#duration);
    const start = anchor - ((anchor - this.#start) / this.span) * span;
    this.show(start, start + span);
  }

  pan(seconds) {
    this.show(this.#start + seconds, this.#end + seconds);
  }

  /** Show the last seconds of a recording that grows; before it is that long, the rest is empty. */
  follow(duration, span) {
    this.#duration = Math.max(duration, span);
    this.show(this.#duration - span, this.#duration);
  }
}
