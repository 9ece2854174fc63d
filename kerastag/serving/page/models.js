import { fetchModels } from "./api.js";
import { get, hideError, showError, showText } from "./messages.js";

const LOADING_SECONDS = 0.5; // Time between two questions while the server loads its models.

let models = [];

/** Fetch the models of the server, and show the choice if there are several. */
export async function loadModels() {
  try {
    models = await fetchModels();
  } catch (error) {
    if (error.code !== "loading") {
      showError(error, loadModels);
      return;
    }
    await new Promise((accept) => setTimeout(accept, LOADING_SECONDS * 1000));
    await loadModels();
    return;
  }
  hideError();
  const names = [...new Set(models.map((model) => model.name))];
  get("model").replaceChildren(...names.map((name) => new Option(name, name)));
  get("model-choice").hidden = names.length < 2;
  showText(get("model-name"), names.length === 1 ? names[0] : "");
  showModel();
}

/** Return the name of the chosen model; empty until the models are there, which means the default of the server. */
export function getModelName() {
  return get("model").value;
}

function getModel() {
  return models.find((model) => model.name === getModelName());
}

/** Whether the chosen model has probabilities over time. */
export function hasFrames() {
  return getModel()?.seconds_per_frame !== null;
}

/** Return the index of each class of the chosen model, by its identifier. */
export function getClassOrder() {
  return new Map(getModel()?.labels.map((label, k) => [label.mid, k]));
}

/** Show what the chosen model can do, and start with its thresholds. */
export function showModel() {
  const model = getModel();
  get("live").disabled = model?.streaming === false;
  const thresholds = new Set(model?.thresholds ?? []);
  get("own-thresholds").hidden = thresholds.size < 2;
  get("own").checked = thresholds.size > 1;
  if (thresholds.size === 1) get("threshold").value = String([...thresholds][0]);
}

/** Return the function that gives the threshold of a class, and show it beside the slider. */
export function readThresholds() {
  const value = Number(get("threshold").value);
  const isOwn = get("own").checked;
  get("threshold-value").textContent = isOwn ? "by class" : value.toFixed(2);
  if (!isOwn) return () => value;
  const { labels, thresholds } = getModel();
  const byClass = new Map(labels.map((label, k) => [label.mid, thresholds[k]]));
  return (tag) => byClass.get(tag.mid) ?? value;
}

/** Return the options that give a stream the same thresholds. */
export function createThresholdOptions() {
  return get("own").checked ? {} : { threshold: Number(get("threshold").value) };
}
