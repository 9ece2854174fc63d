import { get, hideError, showText, showView } from "./messages.js";
import { readThresholds } from "./models.js";
import { Player } from "./player.js";
import { showEvents, showTags } from "./results.js";
import { Tracks } from "./tracks.js";

/** What is open: a recording, its file if it can be played, and the session or the request that goes on. */
export const state = { recording: null, file: null, session: null, request: null };

export const tracks = new Tracks(seek);

export const player = new Player((seconds, isPlaying) => {
  tracks.setCursor(seconds);
  const { viewport } = tracks;
  const isOutside = seconds < viewport.start || seconds > viewport.end;
  if (isPlaying && isOutside) viewport.show(seconds - 0.05 * viewport.span, seconds + 0.95 * viewport.span);
});

/** Go to a position, and show it if it is outside the view. */
export function seek(seconds) {
  if (state.recording?.isLive) return;
  const { viewport } = tracks;
  if (seconds < viewport.start || seconds > viewport.end) {
    viewport.show(seconds - viewport.span / 2, seconds + viewport.span / 2);
  }
  player.seek(seconds);
}

/** Show what reaches the threshold. */
export function update() {
  const getThreshold = readThresholds();
  const { recording } = state;
  if (!recording) return null;
  const selection = recording.select(getThreshold);
  const nothing = recording.isLive ? "Nothing reaches the threshold now." : "Nothing reaches the threshold.";
  showTags(selection.tags, recording.duration ? nothing : "");
  showEvents(
    selection.events,
    seek,
    recording.hasFrames ? "No events." : "This model gives no times.",
    recording.startedAt,
  );
  tracks.showLanes(selection.lanes);
  const isEmpty = recording.hasFrames && !selection.lanes.length && get("result").dataset.mode !== "record";
  showText(get("no-lanes"), isEmpty ? nothing : "");
  return selection;
}

/** Show the name of a recording, facts about it, and what the server warns of. */
export function showHeader(title, facts, warnings = []) {
  showText(get("warnings"), warnings.join(" "));
  get("result-title").textContent = title;
  get("facts").textContent = facts.filter(Boolean).join(" · ");
  document.title = `${title} – kerastag`;
}

/** End what goes on, and show the first view. */
export function startOver() {
  const { request, session } = state;
  Object.assign(state, { recording: null, file: null, session: null, request: null });
  request?.abort();
  session?.stop();
  player.close();
  hideError();
  showView("welcome");
}
