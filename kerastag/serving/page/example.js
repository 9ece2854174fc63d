import { createWav, convertTo16Bits } from "./wav.js";

const SAMPLE_RATE = 32_000;
const SECONDS = 30;
// The two tones of each key of a telephone.
const KEYS = [
  [697, 1209],
  [770, 1336],
  [852, 1477],
  [941, 1336],
  [697, 1477],
  [770, 1209],
  [852, 1336],
  [697, 1336],
];

/** Make a recording of sounds that are easy to compute: crickets, a siren, a telephone that is busy, and waves. */
export function createExample() {
  const samples = new Float32Array(SAMPLE_RATE * SECONDS);
  const random = createRandom(7);
  addSound(samples, 0.5, 4.2, (t) => (t % 0.5 < 0.2 && sine(30, t) > 0 ? 0.1 * sine(4500, t) : 0));
  addSiren(samples, 5, 4.8);
  KEYS.forEach(([low, high], key) => {
    addSound(samples, 10.6 + 0.3 * key, 0.15, (t) => 0.2 * (sine(low, t) + sine(high, t)));
  });
  addSound(samples, 13.6, 5.5, (t) => (t % 1 < 0.5 ? 0.13 * (sine(480, t) + sine(620, t)) : 0));
  addWaves(samples, 20, 10, random);
  return new File([createWav([convertTo16Bits(samples)], SAMPLE_RATE)], "example.wav", { type: "audio/wav" });
}

/** Return a generator of the same numbers from -1 to 1 each time. */
function createRandom(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
}

/** Add what a function of the seconds since the start returns, with short fades. */
function addSound(samples, start, seconds, compute) {
  const first = Math.round(start * SAMPLE_RATE);
  const count = Math.min(Math.round(seconds * SAMPLE_RATE), samples.length - first);
  for (let k = 0; k < count; k++) {
    const t = k / SAMPLE_RATE;
    samples[first + k] += Math.min(1, 200 * t, 200 * (seconds - t)) * compute(t);
  }
}

function sine(hertz, t) {
  return Math.sin(2 * Math.PI * hertz * t);
}

function addSiren(samples, start, seconds) {
  let phase = 0;
  addSound(samples, start, seconds, (t) => {
    phase += (2 * Math.PI * (t % 1.2 < 0.6 ? 660 : 880)) / SAMPLE_RATE;
    return 0.2 * (Math.sin(phase) + 0.5 * Math.sin(2 * phase) + 0.3 * Math.sin(3 * phase));
  });
}

/** Noise without high frequencies, which swells and ebbs. */
function addWaves(samples, start, seconds, random) {
  const [smooth, smoothAgain] = [createMean(12), createMean(7)];
  addSound(samples, start, seconds, (t) => {
    return 1.3 * Math.min(1, seconds - t) * (0.1 + sine(0.25, t) ** 4) * smoothAgain(smooth(random()));
  });
}

/** Return a function that gives the mean of its last values. */
function createMean(count) {
  const last = new Float32Array(count);
  let [sum, k] = [0, 0];
  return (value) => {
    sum += value - last[k];
    last[k] = value;
    k = (k + 1) % count;
    return sum / count;
  };
}
