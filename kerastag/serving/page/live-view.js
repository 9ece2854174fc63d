import { player, showHeader, startOver, state, tracks, update } from "./app.js";
import { LiveSession } from "./live.js";
import { announce, get, showError, showView } from "./messages.js";
import { createThresholdOptions, getModelName } from "./models.js";
import { tag } from "./tagging.js";
import { formatClock } from "./text.js";

const MAX_CLASSES = 12;
const VISIBLE_SECONDS = 30;
const PAGE_SECONDS = 5; // How far the view moves at once where motion is reduced.

/** Show the microphone: with tags as they come, or as a recording that is tagged at its end. */
export async function startLive(withTags) {
  startOver();
  const session = new LiveSession(
    (message) => showChange(session, message),
    (error) => endLive(session, error, withTags),
  );
  state.session = session;
  const options = { model: getModelName() || undefined, top: MAX_CLASSES, ...createThresholdOptions() };
  try {
    await session.start(withTags ? options : null);
  } catch (error) {
    if (state.session !== session) return;
    startOver();
    showError(error, () => startLive(withTags));
    return;
  }
  if (state.session !== session) return;
  state.recording = session.recording;
  get("result").dataset.mode = withTags ? "live" : "record";
  showHeader(withTags ? "Live" : "Recording", ["0:00", withTags && getModelName()]);
  get("mel-range").textContent = "log-mel";
  get("stop-text").textContent = withTags ? "Stop" : "Stop and tag";
  showView("result");
  tracks.show(session.recording);
  update();
  get("stop").focus();
  announce("The microphone is on.");
}

function showChange(session, message) {
  const { recording } = session;
  if (state.recording !== recording) return;
  const isReduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const end = isReduced ? Math.ceil(recording.duration / PAGE_SECONDS) * PAGE_SECONDS : recording.duration;
  tracks.viewport.follow(end, VISIBLE_SECONDS);
  tracks.setCursor(recording.duration);
  const isRecordOnly = get("result").dataset.mode === "record";
  get("facts").textContent = formatClock(recording.duration, 0) + (isRecordOnly ? "" : ` · ${getModelName()}`);
  if (message) update();
  else recording.extendEvents();
  if (message?.type === "event" && message.state === "begin") announce(`${message.name} begins.`);
}

function endLive(session, error, withTags) {
  if (state.session !== session) return;
  state.session = null;
  const { recording } = session;
  announce("The microphone is off.");
  if (state.recording !== recording || !recording.duration || (error && !session.isReady)) {
    startOver();
    if (error) showError(error, () => startLive(withTags));
    return;
  }
  const file = recording.createFile();
  if (!withTags) {
    tag(file);
    return;
  }
  state.file = file;
  get("result").dataset.mode = "stopped";
  showHeader(recording.name, [formatClock(recording.duration), getModelName(), "live"]);
  player.load(file, recording.duration);
  tracks.show(recording);
  update();
  get("play").focus({ preventScroll: true });
  if (error) showError(error);
}
