import { ApiError } from "./api.js";

const REASONS = {
  NotAllowedError: "The microphone is blocked. Allow it for this page in the settings of the browser, and try again.",
  NotFoundError: "This computer has no microphone.",
  NotReadableError: "Another program uses the microphone.",
};
/** Number of bands of the spectrum of a block. */
export const NUM_BANDS = 64;
const [LOW_HZ, HIGH_HZ] = [40, 16_000];
const [LOW_DB, HIGH_DB] = [-105, -25];

/**
 * Open the microphone, without the filters for speech that browsers apply to calls.
 *
 * @param {(samples: Float32Array, bands: Uint8Array) => void} onBlock - Called with each block of 2048 samples and its
 *   log-mel spectrum, which is for display only.
 * @returns {Promise<{sampleRate: number, close: () => Promise<void>}>}
 */
export async function openMicrophone(onBlock) {
  if (!navigator.mediaDevices) {
    const reason = "Browsers give the microphone only to pages that come by https or from this computer.";
    throw new ApiError("microphone", reason);
  }
  const context = new AudioContext(); // At once, while the click of the user still counts.
  try {
    const constraints = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: constraints });
    await context.audioWorklet.addModule(new URL("capture-worklet.js", import.meta.url));
    await context.resume();
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: stream });
    const analyser = new AnalyserNode(context, { fftSize: 2048, smoothingTimeConstant: 0 });
    const node = new AudioWorkletNode(context, "capture", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
    });
    const spectrum = new BandSpectrum(analyser, context.sampleRate);
    node.port.onmessage = ({ data }) => onBlock(data, spectrum.read());
    source.connect(analyser);
    source.connect(node);
    const close = async () => {
      node.port.onmessage = null;
      for (const track of stream.getTracks()) track.stop();
      if (context.state !== "closed") await context.close();
    };
    return { sampleRate: context.sampleRate, close };
  } catch (error) {
    await context.close();
    throw new ApiError("microphone", REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
  }
}

/** The current spectrum of an analyser in bands that are equally wide on the mel scale. */
class BandSpectrum {
  #analyser;
  #decibels;
  #borders;

  constructor(analyser, sampleRate) {
    this.#analyser = analyser;
    this.#decibels = new Float32Array(analyser.frequencyBinCount);
    const [low, high] = [toMel(LOW_HZ), toMel(Math.min(HIGH_HZ, sampleRate / 2))];
    this.#borders = Array.from({ length: NUM_BANDS + 1 }, (_, band) => {
      const hertz = 700 * (10 ** ((low + ((high - low) * band) / NUM_BANDS) / 2595) - 1);
      return (hertz * analyser.fftSize) / sampleRate;
    });
  }

  /** Return the loudest bin of each band, 0 to 255. */
  read() {
    this.#analyser.getFloatFrequencyData(this.#decibels);
    return Uint8Array.from({ length: NUM_BANDS }, (_, band) => {
      const first = Math.round(this.#borders[band]);
      const end = Math.max(first + 1, Math.round(this.#borders[band + 1]));
      const peak = Math.max(LOW_DB, ...this.#decibels.subarray(first, end));
      return (255 * (Math.min(peak, HIGH_DB) - LOW_DB)) / (HIGH_DB - LOW_DB);
    });
  }
}

function toMel(hertz) {
  return 2595 * Math.log10(1 + hertz / 700);
}
