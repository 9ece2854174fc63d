import { player, showHeader, startOver, state, tracks, update } from "./app.js";
import { tagRecording } from "./api.js";
import { announce, get, showError, showView } from "./messages.js";
import { getClassOrder, getModelName, hasFrames } from "./models.js";
import { Recording } from "./recording.js";
import { formatBytes, formatClock, formatCount } from "./text.js";

const MAX_CLASSES = 32; // Classes with a lane: the most probable ones.
const MAX_COLUMNS = 8192; // Of waveform and spectrogram; the most that the server gives.

/** Send a file to the server, and show its tags. */
export async function tag(file) {
  startOver();
  const request = new AbortController();
  state.request = request;
  get("progress-title").textContent = file.name;
  showView("progress");
  get("cancel").focus();
  const progress = showProgress(file);
  const options = {
    model: getModelName(),
    top: MAX_CLASSES,
    threshold: 0,
    timeline: hasFrames(),
    overview: MAX_COLUMNS,
  };
  try {
    const response = await tagRecording(file, options, request.signal, progress.setShare);
    if (!request.signal.aborted) showRecording(new Recording(response, getClassOrder()), file);
  } catch (error) {
    if (request.signal.aborted) return;
    startOver();
    showError(error, canRetry(error) ? () => tag(file) : null);
    get("choose").focus({ preventScroll: true });
  } finally {
    progress.end();
  }
}

/** Whether the same file may succeed later: the server is away, busy, or slow. */
function canRetry({ status }) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

function showProgress(file) {
  const startedAt = performance.now();
  let share = 0;
  const show = () => {
    const bar = get("progress-bar");
    if (share < 1) bar.value = share;
    else bar.removeAttribute("value");
    const seconds = Math.floor((performance.now() - startedAt) / 1000);
    const sent = `Sending ${formatBytes(share * file.size)} of ${formatBytes(file.size)}`;
    get("progress-text").textContent = share < 1 ? sent : `Tagging${seconds > 1 ? ` for ${seconds} s` : ""}`;
  };
  const timer = setInterval(show, 1000);
  show();
  const setShare = (value) => {
    share = value;
    show();
  };
  return { setShare, end: () => clearInterval(timer) };
}

function showRecording(recording, file) {
  Object.assign(state, { recording, file, request: null });
  get("result").dataset.mode = "file";
  const time = recording.time?.replace("T", " ").slice(0, 19);
  showHeader(
    recording.name,
    [formatClock(recording.duration), recording.response.model, time],
    recording.response.warnings,
  );
  get("mel-range").textContent = recording.frequencyRange;
  player.load(file, recording.duration);
  showView("result");
  tracks.show(recording);
  const { tags, events } = update();
  announce(`${recording.name} is tagged: ${formatCount(tags.length, "tag")}, ${formatCount(events.length, "event")}.`);
  get("play").focus({ preventScroll: true });
}
