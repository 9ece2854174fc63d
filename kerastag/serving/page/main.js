import { ApiError, fetchModels, setToken, tagRecording } from "./api.js";
import { drawArt } from "./art.js";
import { createExample } from "./example.js";
import { FORMATS, save } from "./exports.js";
import { LiveSession } from "./live.js";
import { forgetColors } from "./palette.js";
import { Player } from "./player.js";
import { Recording } from "./recording.js";
import { showEvents, showTags, showText } from "./results.js";
import { formatBytes, formatClock, formatCount } from "./text.js";
import { Tracks } from "./tracks.js";

const MAX_CLASSES = 32; // Classes with a lane: the most probable ones.
const LIVE_CLASSES = 12;
const LIVE_SECONDS = 30;
const PAGE_SECONDS = 5; // How far the live view moves at once where motion is reduced.

const get = (id) => document.getElementById(id);
const state = { models: [], recording: null, file: null, session: null, request: null, retry: null };

const player = new Player((seconds, isPlaying) => {
  tracks.setCursor(seconds);
  const { viewport } = tracks;
  const isOutside = seconds < viewport.start || seconds > viewport.end;
  if (isPlaying && isOutside) viewport.show(seconds - 0.05 * viewport.span, seconds + 0.95 * viewport.span);
});
const tracks = new Tracks(seek);

function seek(seconds) {
  const { viewport } = tracks;
  if (seconds < viewport.start || seconds > viewport.end) {
    viewport.show(seconds - viewport.span / 2, seconds + viewport.span / 2);
  }
  if (state.file) player.seek(seconds);
  else tracks.setCursor(seconds);
}

// Views and messages

/** Show one of the views: welcome, progress or result. */
function showView(name) {
  document.body.dataset.view = name;
  for (const view of ["welcome", "progress", "result"]) get(view).hidden = view !== name;
  if (name === "welcome") document.title = "kerastag";
}

function showError(error, retry = null) {
  const isUnauthorized = error.status === 401;
  get("alert-text").textContent = isUnauthorized ? "This server needs a token." : error.message;
  get("token-form").hidden = !isUnauthorized;
  get("retry").hidden = isUnauthorized || !retry;
  state.retry = retry;
  get("alert").hidden = false;
  if (isUnauthorized) get("token").focus();
  else get("alert").scrollIntoView({ block: "nearest" });
}

function hideError() {
  get("alert").hidden = true;
}

function announce(text) {
  get("announcement").textContent = text;
}

/** End what is going on, and show the first view again. */
function startOver() {
  state.request?.abort();
  state.session?.stop();
  state.session = null;
  player.close();
  Object.assign(state, { recording: null, file: null });
  hideError();
  showView("welcome");
}

// Models

async function loadModels() {
  try {
    state.models = await fetchModels();
  } catch (error) {
    showError(error, loadModels);
    return;
  }
  hideError();
  const names = state.models.map((model) => model.name);
  get("model").replaceChildren(...names.map((name) => new Option(name, name)));
  get("model-choice").hidden = names.length < 2;
  showText(get("model-name"), names.length === 1 ? names[0] : "");
  showModel();
}

function getModel() {
  return state.models.find((model) => model.name === get("model").value);
}

function showModel() {
  get("live").disabled = getModel()?.streaming === false;
  get("own-thresholds").hidden = !getModel()?.thresholds?.length;
}

/** Return the function that gives the threshold of a class. */
function createThresholds() {
  const value = Number(get("threshold").value);
  const model = state.models.find((each) => each.name === state.recording?.response?.model) ?? getModel();
  if (!get("card").checked || !model?.thresholds?.length) return () => value;
  const thresholds = new Map(model.labels.map((label, k) => [label.mid, model.thresholds[k]]));
  return (tag) => thresholds.get(tag.mid) ?? value;
}

// Recordings

async function tag(file) {
  startOver();
  const request = new AbortController();
  state.request = request;
  get("progress-title").textContent = file.name;
  showView("progress");
  get("cancel").focus();
  const startedAt = performance.now();
  const duration = await measureDuration(file, request.signal);
  const progress = showProgress(file, startedAt);
  try {
    const options = {
      model: get("model").value,
      top: MAX_CLASSES,
      threshold: 0,
      timeline: true,
      overview: duration ? Math.round(Math.min(Math.max(60 * duration, 1024), 8192)) : 4096,
    };
    const response = await tagRecording(file, options, request.signal, progress.setShare);
    if (!request.signal.aborted) showRecording(new Recording(response), file);
    document.body.dataset.seconds = ((performance.now() - startedAt) / 1000).toFixed(3);
  } catch (error) {
    if (error.name === "AbortError" || request.signal.aborted) return;
    showView("welcome");
    showError(error, () => tag(file));
  } finally {
    progress.end();
  }
}

/** Return the duration of a recording that the browser can decode, which decides about the detail of its overview. */
function measureDuration(file, signal) {
  return new Promise((accept) => {
    const audio = new Audio();
    audio.preload = "metadata";
    const url = URL.createObjectURL(file);
    const finish = () => {
      clearTimeout(timer);
      accept(Number.isFinite(audio.duration) ? audio.duration : 0);
      audio.removeAttribute("src");
      URL.revokeObjectURL(url);
    };
    const timer = setTimeout(finish, 500);
    signal.addEventListener("abort", finish, { once: true });
    audio.addEventListener("loadedmetadata", finish, { once: true });
    audio.addEventListener("error", finish, { once: true });
    audio.src = url;
  });
}

function showProgress(file, startedAt) {
  let share = 0;
  const update = () => {
    const bar = get("progress-bar");
    if (share < 1) bar.value = share;
    else bar.removeAttribute("value");
    const seconds = Math.floor((performance.now() - startedAt) / 1000);
    const sent = `Sending ${formatBytes(share * file.size)} of ${formatBytes(file.size)}`;
    get("progress-text").textContent = share < 1 ? sent : `Tagging${seconds > 1 ? ` for ${seconds} s` : ""}`;
  };
  const timer = setInterval(update, 1000);
  update();
  return { setShare: (value) => update((share = value)), end: () => clearInterval(timer) };
}

function showRecording(recording, file) {
  Object.assign(state, { recording, file });
  get("result").dataset.mode = "file";
  const { response } = recording;
  const facts = [formatClock(recording.duration), `${response.model ?? ""}`];
  if (recording.time) facts.push(recording.time.replace("T", " ").slice(0, 19));
  showHeader(recording.name, facts);
  get("mel-range").textContent = response.sample_rate ? `0 to ${response.sample_rate / 2000} kHz` : "";
  player.load(file, recording.duration);
  showView("result");
  tracks.show(recording);
  const selection = update();
  const text = `${formatCount(selection.tags.length, "tag")}, ${formatCount(selection.events.length, "event")}`;
  announce(`${recording.name} is tagged: ${text}.`);
  get("result-title").focus?.();
}

function showHeader(title, facts) {
  get("result-title").textContent = title;
  get("facts").textContent = facts.filter(Boolean).join(" · ");
  document.title = `${title} – kerastag`;
}

/** Show what reaches the threshold. */
function update() {
  const { recording } = state;
  const usesCard = get("card").checked && !get("own-thresholds").hidden;
  get("threshold").disabled = usesCard;
  get("threshold-value").textContent = usesCard ? "by class" : Number(get("threshold").value).toFixed(2);
  if (!recording) return null;
  const selection = recording.select(createThresholds());
  const below = recording.isLive ? "Nothing reaches the threshold now." : "Nothing reaches the threshold.";
  showTags(selection.tags, recording.duration ? below : "");
  const emptyText = recording.lanes?.length === 0 ? "This model has no probabilities over time." : "No events.";
  showEvents(selection.events, seek, { emptyText, startedAt: recording.startedAt });
  tracks.showLanes(selection.lanes);
  showText(get("no-lanes"), selection.lanes.length || recording.isRecordOnly ? "" : below);
  return selection;
}

function saveAs(formatName) {
  const { format, extension, type } = FORMATS[formatName];
  const { recording } = state;
  const selection = recording.select(createThresholds());
  save(format(recording.describe(selection)), `${recording.name}${extension}`, type);
}

// Microphone

async function startLive(withTags) {
  startOver();
  const session = new LiveSession(
    (message) => state.session === session && showLive(session, message),
    (error) => endLive(session, error, withTags),
  );
  const { recording } = session;
  recording.isRecordOnly = !withTags;
  state.session = session;
  const options = { model: get("model").value, top: LIVE_CLASSES, threshold: Number(get("threshold").value) };
  try {
    await session.start(withTags ? options : null);
  } catch (error) {
    if (state.session !== session) return;
    startOver();
    showError(error, () => startLive(withTags));
    return;
  }
  if (state.session !== session) return;
  Object.assign(state, { recording, file: null });
  get("result").dataset.mode = withTags ? "live" : "record";
  showHeader(withTags ? "Live" : "Recording", ["0:00"]);
  get("mel-range").textContent = "";
  get("stop").querySelector("span").textContent = withTags ? "Stop" : "Stop and tag";
  showView("result");
  get("stop").focus();
  announce("The microphone is on.");
  if (recording.spectrogram) tracks.show(recording);
  update();
}

function showLive(session, message) {
  const { recording } = session;
  if (state.recording !== recording) return;
  const span = LIVE_SECONDS;
  const isReduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const end = isReduced ? Math.ceil(recording.duration / PAGE_SECONDS) * PAGE_SECONDS : recording.duration;
  if (tracks.recording !== recording) tracks.show(recording);
  tracks.viewport.follow(end, span);
  tracks.setCursor(recording.duration);
  get("facts").textContent = [formatClock(recording.duration, 0), recording.isRecordOnly ? "" : get("model").value]
    .filter(Boolean)
    .join(" · ");
  if (message) {
    update();
    if (message.type === "event" && message.state === "begin") announce(`${message.name} begins.`);
  } else {
    recording.select(createThresholds()); // Events that go on become longer.
  }
}

function endLive(session, error, withTags) {
  if (state.session !== session) return;
  state.session = null;
  const { recording } = session;
  announce("The microphone is off.");
  if (!recording.duration) {
    startOver();
    if (error) showError(error, () => startLive(withTags));
    return;
  }
  if (!withTags) {
    tag(recording.createFile());
    return;
  }
  get("result").dataset.mode = "stopped";
  showHeader(recording.name, [formatClock(recording.duration), get("model").value, "live"]);
  state.file = recording.createFile();
  player.load(state.file, recording.duration);
  tracks.show(recording);
  update();
  if (error) showError(error);
}

// Wiring

/** Whether dropped data has a file. */
const hasFile = (event) => event.dataTransfer?.types.includes("Files");

function addDropTarget() {
  let depth = 0; // `dragenter` and `dragleave` come for every element below the pointer.
  const show = (change) => {
    depth = Math.max(0, depth + change);
    get("drop-cover").hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => hasFile(event) && show(1));
  document.addEventListener("dragleave", (event) => hasFile(event) && show(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    show(0);
    const files = event.dataTransfer?.files ?? [];
    if (files.length === 1) tag(files[0]);
    else if (files.length) showError(new ApiError("files", "Drop one recording; kerastag tag takes many."));
  });
}

function handleShortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.body.dataset.view !== "result") return;
  const isControl = event.target.closest?.("button, input, select, summary, a");
  const { viewport } = tracks;
  if (event.key === " " && !isControl) player.toggle();
  else if (["+", "="].includes(event.key)) viewport.zoom(1.6, getAnchor());
  else if (event.key === "-") viewport.zoom(1 / 1.6, getAnchor());
  else if (event.key === "0") viewport.show(0, viewport.duration);
  else if (event.key.startsWith("Arrow") && event.target === document.body) get("position").dispatchEvent(new KeyboardEvent("keydown", event));
  else return;
  event.preventDefault();
}

/** Zoom around the cursor if it is visible, otherwise around the middle. */
function getAnchor() {
  const { viewport } = tracks;
  const isVisible = player.seconds > viewport.start && player.seconds < viewport.end;
  return isVisible ? player.seconds : undefined;
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function showTheme() {
  get("theme").setAttribute("aria-pressed", String(isDark()));
  get("theme").querySelector("use").setAttribute("href", isDark() ? "#sun" : "#moon");
  forgetColors();
  state.recording?.spectrogram?.recolor();
  tracks.draw();
  drawArt(get("art"));
}

function toggleTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem("kerastag.theme", theme);
  } catch {
    // Storage may be disabled: then the choice lasts until the page is loaded again.
  }
  showTheme();
}

const onClick = (id, action) => get(id).addEventListener("click", action);
onClick("choose", () => get("file").click());
get("file").addEventListener("change", () => {
  const [file] = get("file").files;
  get("file").value = "";
  if (file) tag(file);
});
onClick("live", () => startLive(true));
onClick("record", () => startLive(false));
onClick("example", () => tag(createExample()));
onClick("cancel", startOver);
onClick("again", startOver);
onClick("home", (event) => {
  event.preventDefault();
  startOver();
});
onClick("stop", () => state.session?.stop());
onClick("tag-live", () => tag(state.file));
onClick("dismiss", hideError);
onClick("retry", () => {
  hideError();
  state.retry?.();
});
get("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(get("token").value);
  get("token").value = "";
  hideError();
  if (state.models.length) state.retry?.();
  else loadModels();
});
for (const name of Object.keys(FORMATS)) onClick(`save-${name}`, () => saveAs(name));
onClick("save-wav", () => save(state.file, state.recording.name, "audio/wav"));
onClick("zoom-in", () => tracks.viewport.zoom(1.6, getAnchor()));
onClick("zoom-out", () => tracks.viewport.zoom(1 / 1.6, getAnchor()));
onClick("zoom-fit", () => tracks.viewport.show(0, tracks.viewport.duration));
get("threshold").addEventListener("input", update);
get("card").addEventListener("change", update);
get("model").addEventListener("change", () => {
  showModel();
  if (state.file && state.recording?.response) tag(state.file);
});
onClick("theme", toggleTheme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
new ResizeObserver(() => drawArt(get("art"))).observe(get("art"));
document.addEventListener("keydown", handleShortcut);
addDropTarget();
showTheme();
update();
loadModels();
