import { Stream } from "./api.js";
import { NUM_BANDS, openMicrophone } from "./microphone.js";
import { Spectrogram } from "./spectrogram.js";
import { createWav, convertTo16Bits } from "./wav.js";

const MAX_SECONDS = 1800; // The audio stays in memory until the recording is closed.
const MAX_WAITING_SECONDS = 20;

/** A recording that grows: its sound, and the results and events that the server sends meanwhile. */
export class LiveRecording {
  isLive = true;
  hasFrames = true;
  duration = 0;
  peaks = [];
  maxPeak = 0;
  secondsPerColumn = 1;
  secondsPerFrame = 1;
  tags = [];
  events = [];
  spectrogram = new Spectrogram(NUM_BANDS);
  #lanes = new Map(); // By identifier, in the order of their appearance.
  #blocks = [];
  #sampleRate = 0;

  constructor(startedAt) {
    this.startedAt = startedAt;
    this.name = `${formatStamp(startedAt)}.wav`; // `kerastag tag` reads the time of day from such a name.
    this.time = formatLocalTime(startedAt);
  }

  addBlock(samples, bands, sampleRate) {
    this.#sampleRate = sampleRate;
    this.secondsPerColumn = samples.length / sampleRate;
    this.#blocks.push(convertTo16Bits(samples));
    let [low, high] = [samples[0], samples[0]];
    for (const sample of samples) {
      low = Math.min(low, sample);
      high = Math.max(high, sample);
    }
    this.peaks.push(low, high);
    this.maxPeak = Math.max(this.maxPeak, -low, high);
    this.spectrogram.append(bands);
    this.duration = this.#blocks.length * this.secondsPerColumn;
  }

  /** Add a line of type `result`: the probabilities at a time; classes that are not in it count as 0. */
  addResult({ end_seconds, tags }) {
    this.tags = tags;
    const frame = Math.max(0, Math.round(end_seconds / this.secondsPerFrame) - 1);
    for (const tag of tags) {
      if (!this.#lanes.has(tag.mid)) this.#addLane(tag);
      const lane = this.#lanes.get(tag.mid);
      lane.values[frame] = tag.probability;
      lane.probability = Math.max(lane.probability, tag.probability);
    }
    for (const lane of this.#lanes.values()) lane.values[frame] ??= 0;
  }

  /** Add a line of type `event`: one that begins, or one that ends. */
  addEvent({ state, name, mid, onset_seconds, offset_seconds, peak_probability }) {
    const values = { start_seconds: onset_seconds, name, mid, probability: peak_probability };
    const open = this.events.find((event) => event.mid === mid && event.isOpen);
    if (state === "begin" && !open) {
      this.events.push({ ...values, end_seconds: onset_seconds, isOpen: true });
    } else if (state === "end") {
      const closed = { ...values, end_seconds: offset_seconds, isOpen: false };
      if (open) Object.assign(open, closed);
      else this.events.push(closed);
    }
    if (!this.#lanes.has(mid)) this.#addLane(values);
  }

  #addLane({ name, mid }) {
    this.#lanes.set(mid, { name, mid, values: [], probability: 0, events: [], threshold: 0 });
  }

  /** Let the events that go on last until now. */
  extendEvents() {
    for (const event of this.events) if (event.isOpen) event.end_seconds = Math.max(event.start_seconds, this.duration);
  }

  /** Select what reaches the threshold, like `Recording.select`; the tags are those of now. */
  select(getThreshold) {
    this.extendEvents();
    const events = this.events.filter((event) => event.probability >= getThreshold(event));
    const lanes = [];
    for (const lane of this.#lanes.values()) {
      lane.threshold = getThreshold(lane);
      lane.events = events.filter((event) => event.mid === lane.mid);
      if (lane.probability >= lane.threshold || lane.events.length) lanes.push(lane);
    }
    const current = this.isLive ? this.tags : [...this.#lanes.values()].sort((a, b) => b.probability - a.probability);
    const tags = current.filter((tag) => tag.probability >= getThreshold(tag));
    return { tags, lanes, events };
  }

  /** Return what is selected in the form of `kerastag tag --events --timeline --format json`. */
  describe({ tags, lanes, events }) {
    const count = Math.max(0, ...lanes.map((lane) => lane.values.length));
    const frames = Array.from({ length: count }, (_, frame) => frame);
    return {
      file: this.name,
      tags: tags.map(({ name, mid, probability }) => ({ name, mid, probability })),
      duration_seconds: this.duration,
      time: this.time,
      events: events.map(({ start_seconds, end_seconds, name, mid, probability }) => {
        return { start_seconds, end_seconds, name, mid, probability };
      }),
      seconds: frames.map((frame) => frame * this.secondsPerFrame),
      timeline: Object.fromEntries(lanes.map(({ name, values }) => [name, frames.map((frame) => values[frame] ?? 0)])),
    };
  }

  createFile() {
    return new File([createWav(this.#blocks, this.#sampleRate)], this.name, { type: "audio/wav" });
  }
}

/** The microphone and, if tags are wanted, its stream to the server. */
export class LiveSession {
  #microphone = null;
  #stream = null;
  #onChange;
  #onEnd;
  #isEnding = false;
  /** Whether the server has answered the start. */
  isReady = false;

  /**
   * @param {(message: object | null) => void} onChange - Called with each line of the server, and with null for audio.
   * @param {(error?: Error) => void} onEnd - Called once, when the last result is there.
   */
  constructor(onChange, onEnd) {
    this.#onChange = onChange;
    this.#onEnd = onEnd;
    this.recording = new LiveRecording(new Date());
  }

  /** Start; `options` are those of the message `start` of `/v1/stream`, or null to record only. */
  async start(options) {
    const waiting = []; // Blocks from before the server is ready.
    const microphone = await openMicrophone((samples, bands) => {
      this.recording.addBlock(samples, bands, microphone.sampleRate);
      if (options) this.#send(samples, waiting);
      this.#onChange(null);
      if (this.recording.duration >= MAX_SECONDS) this.stop();
    });
    this.#microphone = microphone;
    if (this.#isEnding) await microphone.close();
    if (this.#isEnding || !options) return;
    const start = { sample_rate: microphone.sampleRate, encoding: "F32_LE", channels: 1, ...options };
    this.#stream = new Stream(
      start,
      (message) => this.#handle(message, waiting),
      (error) => this.#finish(error),
    );
  }

  #handle(message, waiting) {
    if (message.type === "ready") {
      this.recording.secondsPerFrame = message.hop_seconds;
      for (const samples of waiting.splice(0)) this.#stream.send(samples);
      this.isReady = true;
    } else if (message.type === "result") {
      this.recording.addResult(message);
    } else if (message.type === "event") {
      this.recording.addEvent(message);
    }
    this.#onChange(message);
  }

  #send(samples, waiting) {
    if (!this.isReady) {
      waiting.push(samples);
      return;
    }
    this.#stream.send(samples);
    if (this.#stream.waitingBytes > 4 * samples.length * (MAX_WAITING_SECONDS / this.recording.secondsPerColumn)) {
      this.#finish(new Error(`The server is ${MAX_WAITING_SECONDS} seconds behind, and cannot follow.`));
    }
  }

  /** Stop the microphone, and wait for the last results. */
  stop() {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#microphone?.close();
    if (this.#stream) this.#stream.end();
    else this.#finish();
  }

  #finish(error) {
    const onEnd = this.#onEnd;
    this.#onEnd = null;
    this.#isEnding = true;
    this.#microphone?.close();
    this.recording.isLive = false;
    onEnd?.(error);
  }
}

/** Format a time like 20240518_063000. */
function formatStamp(date) {
  return formatLocalTime(date).slice(0, 19).replace(/[-:]/g, "").replace("T", "_");
}

/** Format a time in ISO 8601 with the time zone of the browser. */
function formatLocalTime(date) {
  const minutes = -date.getTimezoneOffset();
  const pad = (value) => String(Math.floor(value)).padStart(2, "0");
  const zone = `${minutes < 0 ? "-" : "+"}${pad(Math.abs(minutes) / 60)}:${pad(Math.abs(minutes) % 60)}`;
  return new Date(date.getTime() + 60_000 * minutes).toISOString().slice(0, -1) + zone;
}
