import { prepareCanvas } from "./drawing.js";
import { readColor } from "./palette.js";

/** Draw a quiet waveform behind the place where recordings are dropped. */
export function drawArt(canvas) {
  const { context, width, height } = prepareCanvas(canvas);
  const [step, bar] = [7, 3];
  context.fillStyle = readColor("--accent");
  for (let x = step; x < width - step; x += step) {
    const position = x / width;
    const envelope = Math.sin(Math.PI * position) ** 0.7;
    const wave = Math.abs(Math.sin(19 * position) * Math.sin(7.3 * position + 0.6) + 0.35 * Math.sin(53 * position));
    const size = Math.max(bar, 0.82 * height * envelope * (0.08 + 0.62 * wave));
    context.globalAlpha = 0.12 + 0.22 * envelope;
    context.beginPath();
    context.roundRect(x, (height - size) / 2, bar, size, bar / 2);
    context.fill();
  }
  context.globalAlpha = 1;
}
