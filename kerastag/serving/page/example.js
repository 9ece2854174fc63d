import { createWav, convertTo16Bits } from "./wav.js";

const SAMPLE_RATE = 32_000;
const SECONDS = 12;

/** Make a recording of sounds that are easy to compute: a ticking clock, a bell, a siren, and rain. */
export function createExample() {
  const samples = new Float32Array(SAMPLE_RATE * SECONDS);
  const random = createRandom(7);
  for (let k = 0; k < samples.length; k++) samples[k] = 0.001 * random();
  for (let tick = 0; tick < 6; tick++) addTick(samples, 0.3 + 0.5 * tick, tick % 2 ? 2300 : 2900, random);
  for (const start of [3.4, 4.6]) addBell(samples, start, 540);
  addSiren(samples, 6.1, 2.6);
  addRain(samples, 8.9, 3.1, random);
  const file = createWav([convertTo16Bits(samples)], SAMPLE_RATE);
  return new File([file], "example.wav", { type: "audio/wav" });
}

/** Return a generator of the same numbers from -1 to 1 each time. */
function createRandom(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  };
}

/** Add what a function of the seconds since the start returns. */
function addSound(samples, start, seconds, compute) {
  const first = Math.round(start * SAMPLE_RATE);
  const count = Math.min(Math.round(seconds * SAMPLE_RATE), samples.length - first);
  for (let k = 0; k < count; k++) samples[first + k] += compute(k / SAMPLE_RATE);
}

function addTick(samples, start, hertz, random) {
  addSound(samples, start, 0.06, (t) => {
    return Math.exp(-180 * t) * (0.5 * Math.sin(2 * Math.PI * hertz * t) + 0.4 * random());
  });
}

/** Partials of a church bell, each with its own decay. */
function addBell(samples, start, hertz) {
  const partials = [
    [0.5, 1, 1.1],
    [1, 1, 1.6],
    [1.19, 0.7, 2],
    [1.5, 0.4, 2.6],
    [2, 0.8, 2.4],
    [2.74, 0.35, 4],
    [4.07, 0.2, 6],
  ];
  addSound(samples, start, 2.4, (t) => {
    const fade = Math.min(1, 400 * t) * Math.min(1, (2.4 - t) * 8);
    const ring = ([ratio, level, decay]) => level * Math.exp(-decay * t) * Math.sin(2 * Math.PI * hertz * ratio * t);
    return 0.11 * fade * partials.reduce((sum, partial) => sum + ring(partial), 0);
  });
}

function addSiren(samples, start, seconds) {
  let phase = 0;
  addSound(samples, start, seconds, (t) => {
    const hertz = 950 - 350 * Math.cos(2 * Math.PI * 0.77 * t);
    phase += (2 * Math.PI * hertz) / SAMPLE_RATE;
    const fade = Math.min(1, 8 * t, 8 * (seconds - t));
    return 0.16 * fade * (Math.sin(phase) + 0.45 * Math.sin(2 * phase) + 0.25 * Math.sin(3 * phase));
  });
}

/** Steady noise with single drops. */
function addRain(samples, start, seconds, random) {
  let [low, drop] = [0, 0];
  addSound(samples, start, seconds, (t) => {
    const noise = random();
    low += 0.25 * (noise - low);
    if (Math.abs(random()) < 0.0012) drop = 0.6;
    drop *= 0.985;
    const fade = Math.min(1, 3 * t, 4 * (seconds - t));
    return fade * (0.1 * (noise - low) + 0.05 * low + 0.22 * drop * random());
  });
}
