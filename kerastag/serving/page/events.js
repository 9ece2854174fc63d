/**
 * Find the events of one class, by the same rule as `kerastag tag --events`: an event begins with a frame that reaches
 * the threshold, and ends with the last frame before one below half of it.
 *
 * @param {ArrayLike<number>} probabilities - One probability per output frame.
 * @param {number} secondsPerFrame - Hop from one frame to the next.
 * @param {number} threshold - Probability at which an event begins.
 * @param {number} duration - Duration of the recording in seconds, at which an event ends at the latest.
 * @returns {{start_seconds: number, end_seconds: number, probability: number}[]} Events with their highest probability.
 */
export function findEvents(probabilities, secondsPerFrame, threshold, duration) {
  const events = [];
  let first = -1;
  let peak = 0;
  for (let frame = 0; frame <= probabilities.length; frame++) {
    const probability = frame < probabilities.length ? probabilities[frame] : -1;
    if (first < 0 && probability >= threshold) {
      first = frame;
      peak = 0;
    }
    if (first < 0) continue;
    if (probability >= threshold / 2) {
      peak = Math.max(peak, probability);
    } else {
      const end = Math.min(frame * secondsPerFrame, duration);
      events.push({ start_seconds: round(first * secondsPerFrame), end_seconds: round(end), probability: peak });
      first = -1;
    }
  }
  return events;
}

/** Round seconds as `kerastag tag` does. */
function round(seconds) {
  return Math.round(seconds * 1e4) / 1e4;
}
