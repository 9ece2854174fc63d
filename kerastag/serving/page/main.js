import { ApiError } from "./api.js";
import { player, startOver, state, tracks, update } from "./app.js";
import { addThemes } from "./appearance.js";
import { createExample } from "./example.js";
import { FORMATS, save } from "./exports.js";
import { startLive } from "./live-view.js";
import { get, prepareAlert, showError } from "./messages.js";
import { loadModels, readThresholds, showModel } from "./models.js";
import { tag } from "./tagging.js";

const ZOOM = 1.6;

function saveAs(name) {
  const { format, extension, type } = FORMATS[name];
  const { recording } = state;
  save(format(recording.describe(recording.select(readThresholds()))), `${recording.name}${extension}`, type);
}

function addDropTarget() {
  let depth = 0; // `dragenter` and `dragleave` come for every element below the pointer.
  const show = (change) => {
    depth = Math.max(0, depth + change);
    get("drop-cover").hidden = depth === 0;
  };
  const hasFile = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => hasFile(event) && show(1));
  document.addEventListener("dragleave", (event) => hasFile(event) && show(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    show(-depth);
    const files = event.dataTransfer?.files ?? [];
    if (files.length === 1) tag(files[0]);
    else if (files.length) showError(new ApiError("files", "Drop one recording at a time; kerastag tag takes many."));
  });
}

/** Zoom around the cursor if it is visible, otherwise around the middle. */
function zoom(factor) {
  const { viewport } = tracks;
  const isVisible = player.seconds > viewport.start && player.seconds < viewport.end;
  viewport.zoom(factor, isVisible ? player.seconds : undefined);
}

function showAll() {
  tracks.viewport.show(0, tracks.viewport.duration);
}

function handleShortcut(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !state.file) return;
  const isControl = event.target.closest?.("button, input, select, summary, a");
  if (event.key === " " && !isControl) player.toggle();
  else if (event.key === "+" || event.key === "=") zoom(ZOOM);
  else if (event.key === "-") zoom(1 / ZOOM);
  else if (event.key === "0") showAll();
  else if ((event.target === document.body || event.target === get("play")) && event.key.startsWith("Arrow"))
    tracks.handleKey(event);
  else return;
  event.preventDefault();
}

const onClick = (id, action) => get(id).addEventListener("click", action);
onClick("choose", () => get("file").click());
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
onClick("zoom-in", () => zoom(ZOOM));
onClick("zoom-out", () => zoom(1 / ZOOM));
onClick("zoom-fit", showAll);
for (const name of Object.keys(FORMATS)) onClick(`save-${name}`, () => saveAs(name));
onClick("save-wav", () => save(state.file, state.recording.name, "audio/wav"));

get("file").addEventListener("change", () => {
  const [file] = get("file").files;
  if (file) tag(file);
  get("file").value = ""; // The same file can be chosen again.
});
get("threshold").addEventListener("input", () => {
  get("own").checked = false;
  update();
});
get("own").addEventListener("change", update);
get("model").addEventListener("change", () => {
  showModel();
  update();
  if (state.file) tag(state.file);
});
document.addEventListener("keydown", handleShortcut);
addDropTarget();
addThemes();
prepareAlert();
await loadModels();
update();
