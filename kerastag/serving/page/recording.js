import { findEvents } from "./events.js";
import { addTimes } from "./exports.js";
import { Spectrogram } from "./spectrogram.js";

/** A recording that was tagged: what the tracks draw and what is downloaded. */
export class Recording {
  /**
   * @param {object} response - The answer of `/v1/tag` with events, timeline and overview.
   * @param {Map<string, number>} classOrder - Index of each class of the model, by its identifier.
   */
  constructor(response, classOrder) {
    this.response = response;
    this.classOrder = classOrder;
    this.name = response.file ?? "recording";
    this.duration = response.duration_seconds;
    this.time = response.time ?? null;
    this.tags = response.tags;
    const frames = response.seconds ?? [];
    this.secondsPerFrame = frames.length > 1 ? frames.at(-1) / (frames.length - 1) : this.duration || 1;
    this.lanes = this.tags
      .filter((tag) => response.timeline?.[tag.name])
      .map((tag) => ({ ...tag, values: Float64Array.from(response.timeline[tag.name]), events: [] }));
    const { seconds_per_column = 1, peaks = [], log_mel } = response.overview ?? {};
    this.secondsPerColumn = seconds_per_column;
    this.peaks = peaks.flat();
    this.spectrogram = new Spectrogram(log_mel?.mel_bins ?? 1);
    if (log_mel) this.spectrogram.append(Uint8Array.from(atob(log_mel.data), (letter) => letter.charCodeAt(0)));
    this.frequencyRange = log_mel ? `log-mel, ${log_mel.min_hz / 1000}–${log_mel.max_hz / 1000} kHz` : "log-mel";
    this.hasFrames = Boolean(response.timeline);
    this.maxPeak = this.peaks.reduce((peak, value) => Math.max(peak, Math.abs(value)), 0);
  }

  /**
   * Select what reaches the threshold.
   *
   * @param {(tag: {mid: string}) => number} getThreshold - Returns the threshold of a class.
   * @returns {{tags: object[], lanes: object[], events: object[]}} Tags by probability, lanes likewise, events by time.
   */
  select(getThreshold) {
    const tags = this.tags.filter((tag) => tag.probability >= getThreshold(tag));
    const lanes = [];
    for (const lane of this.lanes) {
      lane.threshold = getThreshold(lane);
      lane.events = findEvents(lane.values, this.secondsPerFrame, lane.threshold, this.duration);
      if (lane.probability >= lane.threshold || lane.events.length) lanes.push(lane);
    }
    const events = lanes.flatMap((lane) => lane.events.map((event) => ({ ...event, name: lane.name, mid: lane.mid })));
    const indexOf = (event) => this.classOrder.get(event.mid);
    events.sort((a, b) => a.start_seconds - b.start_seconds || indexOf(a) - indexOf(b));
    return { tags, lanes, events };
  }

  /** Return what is selected in the form of `kerastag tag --events --timeline --format json`. */
  describe({ tags, events }) {
    const { file, duration_seconds, time, seconds, timeline = {} } = this.response;
    const named = ({ start_seconds, end_seconds, name, mid, probability }) => {
      return { start_seconds, end_seconds, name, mid, probability };
    };
    return {
      file: file ?? this.name,
      tags,
      duration_seconds,
      ...(time ? { time } : {}),
      events: addTimes(events.map(named), time),
      seconds: seconds ?? [],
      timeline: Object.fromEntries(tags.filter(({ name }) => timeline[name]).map(({ name }) => [name, timeline[name]])),
    };
  }
}
