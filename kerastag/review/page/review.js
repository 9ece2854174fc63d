import { request } from "./api.js";
import { announce, get, hideError, prepareAlert, showError } from "./messages.js";
import { forgetColors } from "./palette.js";
import { Player } from "./player.js";
import { Recording } from "./recording.js";
import { formatClock, formatCount } from "./text.js";
import { Tracks } from "./tracks.js";

const POLL_MILLISECONDS = 700;
const REASONS = {
  label: (question) => {
    const labels = question.labels.join(", ") || "no class";
    return `The label may be wrong: ${labels}${question.suggestion ? `, perhaps ${question.suggestion}` : ""}`;
  },
  alarm: () => "An alarm: the class reaches its threshold",
  uncertain: () => "Close to the threshold",
};

const tracks = new Tracks((seconds) => player.seek(seconds));
const player = new Player((seconds) => tracks.setCursor(seconds));

let review = null; // The last answer of the server.
let shown = 0; // Number of the question that is on the page.
let isBusy = false;
let hasActed = false; // Browsers play sound only after the first action of the user.
let isPolling = false;

const post = (path, body) =>
  request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });

/** Do something that the server answers with the new state, one at a time, and offer to do it again if it fails. */
async function act(action) {
  if (isBusy) return;
  isBusy = true;
  try {
    show(await (await action()).json());
    hideError();
  } catch (error) {
    // Another page has answered the same question: show what is asked now.
    if (error.status === 409) await load().catch(() => {});
    else showError(error, () => act(action));
  } finally {
    isBusy = false;
  }
}

const load = async () => show(await (await request("v1/review")).json());

function answer(value) {
  if (!review?.question) return;
  hasActed = true;
  const path = `v1/review/questions/${review.question.number}/answer`;
  act(() => post(path, { answer: value }));
}

function undo() {
  hasActed = true;
  if (review?.can_undo) act(() => post("v1/review/undo"));
}

function repeat() {
  hasActed = true;
  player.seek(0);
  if (!player.isPlaying) player.toggle();
}

function show(newReview) {
  const isNew = newReview.question && newReview.question.number !== shown;
  review = newReview;
  get("run-name").textContent = review.run;
  get("undo").disabled = !review.can_undo;
  showProgress();
  showHead();
  get("stage").hidden = !review.question;
  if (!review.question) {
    shown = 0;
    player.close();
    get("question").textContent = "Nothing is left to ask";
    get("reason").textContent = "Train and use the new head, or start the review with more recordings.";
    announce("Nothing is left to ask.");
  } else if (isNew) showQuestion(review.question);
}

function showQuestion(question) {
  shown = question.number;
  document.body.dataset.question = question.number;
  get("question").textContent = `Is this ${question.class}?`;
  document.title = `${question.class}? – kerastag`;
  const probability = `probability ${question.probability.toFixed(2)}, threshold ${question.threshold.toFixed(2)}`;
  const place = `${question.file} at ${formatClock(question.start_seconds)}`;
  get("reason").textContent = [REASONS[question.reason](question), place, probability].join(" · ");
  announce(`Is this ${question.class}? ${REASONS[question.reason](question)}.`);
  const buttons = question.choices.map((name, index) => {
    const button = document.createElement("button");
    button.type = "button";
    const key = document.createElement("kbd");
    key.textContent = String(index + 1);
    button.append(`${name} `, key);
    button.addEventListener("click", () => answer(`class:${name}`));
    return button;
  });
  get("choices").replaceChildren(...buttons);
  get("all-classes").hidden = review.classes.length <= question.choices.length;
  if (get("class").options.length !== review.classes.length) {
    get("class").replaceChildren(...review.classes.map((name) => new Option(name, name)));
  }
  loadSound(question.number);
}

async function loadSound(number) {
  player.close();
  const path = `v1/review/questions/${number}`;
  try {
    const [audio, overview] = await Promise.all([request(`${path}/audio`), request(`${path}/overview`)]);
    const [blob, description] = [await audio.blob(), await overview.json()];
    if (number !== shown) return; // The question was answered in the meantime.
    const recording = new Recording(description, new Map());
    get("mel-range").textContent = recording.frequencyRange;
    player.load(blob, recording.duration);
    tracks.show(recording);
    if (hasActed) player.toggle();
  } catch (error) {
    if (number === shown && error.status !== 409) showError(error, () => loadSound(number));
  }
}

function showProgress() {
  const parts = [`${formatCount(review.answered, "sound")} with answers`, `${review.in_session} in this session`];
  if (review.question) parts.push(`${review.round_rest + 1} left in this round`);
  get("progress-text").textContent = parts.join(" · ");
}

function showHead() {
  const { task, task_seconds: seconds, error, untrained, has_new_head: hasNewHead } = review;
  const waiting = untrained > 0 ? `${formatCount(untrained, "answer")} not trained on yet.` : "";
  const ready = hasNewHead ? "A new head is ready." : "";
  const names = { training: "Training", measuring: "Measuring it", writing: "Writing it" };
  const going = task ? `${names[task]}, ${seconds.toFixed(0)} s …` : "";
  const texts = [error && `${error}.`, ready, going, waiting];
  get("head-text").textContent = texts.filter(Boolean).join(" ") || "No new answers.";
  get("head-progress").hidden = !task;
  get("train").disabled = Boolean(task) || untrained === 0;
  get("write").disabled = !review.can_write;
  showFigures();
  if (task && !isPolling) poll();
}

function showFigures() {
  const { figures } = review;
  get("figures").hidden = !figures;
  if (!figures) return;
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  const { clips, answers, alarms_per_hour: alarms } = figures;
  const rows = [[`${clips.metric === "mAP" ? "mAP" : "Accuracy"} of held-out clips`, percent, clips]];
  if (answers) rows.push([`Right on ${formatCount(answers.count, "answer")}, held out`, percent, answers]);
  if (alarms) rows.push(["Alarms per hour without an answer", (value) => value.toFixed(1), alarms]);
  const elements = rows.map(([title, format, { before, after }]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = title;
    const cells = [before, after].map((value) => {
      const cell = document.createElement("td");
      cell.textContent = format(value);
      return cell;
    });
    row.append(head, ...cells);
    return row;
  });
  get("figure-rows").replaceChildren(...elements);
}

/** Ask for the state until no head is being trained or written. */
async function poll() {
  isPolling = true;
  while (review.task) {
    await new Promise((done) => setTimeout(done, POLL_MILLISECONDS));
    if (isBusy) continue;
    try {
      await load();
    } catch (error) {
      showError(error, load);
      break;
    }
  }
  isPolling = false;
  if (!review.error) announce(review.has_new_head ? "A new head is ready." : "The new head is in use.");
}

function handleKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !review) return;
  if (event.target.closest?.("input:not([type=range]), select")) return;
  const key = event.key.toLowerCase();
  const choice = /^[1-9]$/.test(key) ? review.question?.choices[Number(key) - 1] : null;
  const isControl = event.target.closest?.("button, summary, a");
  if (key === "y") answer("yes");
  else if (key === "n") answer("no");
  else if (key === "s") answer("skip");
  else if (key === "u") undo();
  else if (key === "r") repeat();
  else if (choice) answer(`class:${choice}`);
  else if (key === " " && !isControl) {
    hasActed = true;
    player.toggle();
  } else return;
  event.preventDefault();
}

function showTheme() {
  const isDark = globalThis.kerastagTheme.isDark();
  get("theme").setAttribute("aria-pressed", String(isDark));
  get("theme")
    .querySelector("use")
    .setAttribute("href", isDark ? "#icon-sun" : "#icon-moon");
  forgetColors();
  tracks.recording?.spectrogram.recolor();
  tracks.draw();
}

for (const button of document.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", () => answer(button.dataset.answer));
}
get("repeat").addEventListener("click", repeat);
get("undo").addEventListener("click", undo);
get("play").addEventListener("click", () => (hasActed = true));
get("choose-class").addEventListener("click", () => answer(`class:${get("class").value}`));
get("train").addEventListener("click", () => act(() => post("v1/review/train")));
get("write").addEventListener("click", () => act(() => post("v1/review/write")));
get("theme").addEventListener("click", () => {
  globalThis.kerastagTheme.toggle();
  showTheme();
});
globalThis.kerastagTheme.watchSystem(showTheme);
document.addEventListener("keydown", handleKey);
showTheme();
prepareAlert();
act(() => request("v1/review"));
