import { readColor } from "./palette.js";
import { formatClock } from "./text.js";

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const LABEL_WIDTH = 72;

/**
 * Size a canvas for the pixels of the screen, and clear it.
 *
 * @returns {{context: CanvasRenderingContext2D, width: number, height: number}} Its size in CSS pixels.
 */
export function prepareCanvas(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  const [columns, rows] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== columns || canvas.height !== rows) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Draw times at round intervals, with a tick each. */
export function drawRuler(canvas, viewport) {
  const { context, width, height } = prepareCanvas(canvas);
  if (!width) return;
  const secondsPerPixel = viewport.span / width;
  const step = STEPS.find((each) => each >= LABEL_WIDTH * secondsPerPixel) ?? STEPS.at(-1);
  const decimals = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  context.font = `11px ${readColor("--font")}`;
  context.textBaseline = "alphabetic";
  context.fillStyle = readColor("--muted");
  for (let k = Math.ceil(viewport.start / step); k * step <= viewport.end; k++) {
    const x = Math.round((k * step - viewport.start) / secondsPerPixel);
    context.fillRect(x, height - 5, 1, 5);
    const text = formatClock(k * step, decimals);
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.min(Math.max(x - half, 0), width - 2 * half), height - 9);
  }
}

/** Draw the lowest and the highest sample of each pixel. */
export function drawWaveform(canvas, viewport, recording) {
  const { context, width, height } = prepareCanvas(canvas);
  const { peaks, secondsPerColumn, maxPeak } = recording;
  const middle = height / 2;
  context.fillStyle = readColor("--line");
  context.fillRect(0, Math.floor(middle), width, 1);
  context.fillStyle = readColor("--wave");
  const scale = (middle - 2) / Math.max(maxPeak, 0.02); // Quiet recordings fill the height, noise alone does not.
  const columns = peaks.length / 2;
  const columnsPerPixel = viewport.span / width / secondsPerColumn;
  for (let x = 0; x < width; x++) {
    const first = Math.floor(viewport.start / secondsPerColumn + x * columnsPerPixel);
    const end = Math.min(columns, Math.max(first + 1, Math.floor(first + columnsPerPixel)));
    if (first < 0 || first >= end) continue;
    let [low, high] = [peaks[2 * first], peaks[2 * first + 1]];
    for (let column = first + 1; column < end; column++) {
      low = Math.min(low, peaks[2 * column]);
      high = Math.max(high, peaks[2 * column + 1]);
    }
    const top = middle - high * scale;
    context.fillRect(x, top - 0.5, 1, Math.max(1, (high - low) * scale + 1));
  }
}

export function drawSpectrogram(canvas, viewport, recording) {
  const { context, width, height } = prepareCanvas(canvas);
  if (!recording.spectrogram.numColumns) return;
  const { secondsPerColumn } = recording;
  context.imageSmoothingQuality = "high";
  recording.spectrogram.draw(
    context,
    viewport.start / secondsPerColumn,
    viewport.end / secondsPerColumn,
    width,
    height,
  );
}

/** Draw the probability of a class as a filled curve, its threshold as a dotted line, and its events as bars. */
export function drawLane(canvas, viewport, lane, secondsPerFrame) {
  const { context, width, height } = prepareCanvas(canvas);
  if (!width) return;
  const bar = 4;
  const top = 3;
  const bottom = height - bar - 3;
  const toX = (seconds) => ((seconds - viewport.start) / viewport.span) * width;
  const toY = (probability) => bottom - probability * (bottom - top);
  context.fillStyle = readColor("--accent-wash");
  for (const event of lane.events)
    fillSpan(context, toX(event.start_seconds), toX(event.end_seconds), 0, height, width);

  const curve = new Path2D();
  curve.moveTo(0, bottom);
  const framesPerPixel = viewport.span / width / secondsPerFrame;
  const firstFrame = viewport.start / secondsPerFrame;
  let lastX = 0;
  for (let x = 0; x <= width; x++) {
    const first = Math.floor(firstFrame + x * framesPerPixel);
    if (first >= lane.values.length) break;
    const end = Math.min(lane.values.length, Math.max(first + 1, Math.floor(firstFrame + (x + 1) * framesPerPixel)));
    let value = 0;
    for (let frame = first; frame < end; frame++) value = Math.max(value, lane.values[frame] ?? 0);
    curve.lineTo(x, toY(value));
    lastX = x;
  }
  const area = new Path2D(curve);
  area.lineTo(lastX, bottom);
  area.closePath();
  context.fillStyle = readColor("--accent-soft");
  context.fill(area);
  context.strokeStyle = readColor("--accent");
  context.lineWidth = 1.25;
  context.lineJoin = "round";
  context.stroke(curve);

  context.strokeStyle = readColor("--muted");
  context.globalAlpha = 0.45;
  context.lineWidth = 1;
  context.setLineDash([1, 4]);
  context.beginPath();
  context.moveTo(0, Math.round(toY(lane.threshold)) + 0.5);
  context.lineTo(width, Math.round(toY(lane.threshold)) + 0.5);
  context.stroke();
  context.setLineDash([]);
  context.globalAlpha = 1;

  context.fillStyle = readColor("--accent");
  for (const event of lane.events) {
    fillSpan(context, toX(event.start_seconds), toX(event.end_seconds), height - bar, bar, width, bar / 2);
  }
}

/** Fill the visible part of a span of time, which is at least two pixels wide. */
function fillSpan(context, start, end, y, height, width, radius = 0) {
  if (end < 0 || start > width) return;
  const x = Math.max(start, -8);
  context.beginPath();
  context.roundRect(x, y, Math.max(2, Math.min(end, width + 8) - x), height, radius);
  context.fill();
}
