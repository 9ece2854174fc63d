import { showText } from "./messages.js";
import { formatClock, formatCount } from "./text.js";

const MAX_EVENTS = 300; // More would make the page slow; all of them are in the lanes and the downloads.

const elements = Object.fromEntries(
  ["tags", "tag-count", "no-tags", "events", "event-count", "no-events"].map((id) => [id, document.getElementById(id)]),
);

/** Show tags with a bar each; those that were shown before keep their elements, and their bars move. */
export function showTags(tags, emptyText) {
  const rows = new Map([...elements.tags.children].map((item) => [item.dataset.mid, item]));
  const items = tags.map((tag) => {
    const item = rows.get(tag.mid) ?? createTag(tag);
    item.querySelector(".tag-value").textContent = tag.probability.toFixed(2);
    item.querySelector(".tag-fill").style.transform = `scaleX(${tag.probability})`;
    return item;
  });
  elements.tags.replaceChildren(...items);
  elements["tag-count"].textContent = tags.length ? String(tags.length) : "";
  showText(elements["no-tags"], tags.length ? "" : emptyText);
}

function createTag(tag) {
  const item = document.createElement("li");
  item.dataset.mid = tag.mid;
  item.innerHTML =
    '<span class="tag-name"></span><span class="tag-value"></span><span class="tag-bar"><span class="tag-fill"></span></span>';
  item.querySelector(".tag-name").textContent = tag.name;
  return item;
}

/**
 * Show events with their times.
 *
 * @param {object[]} events
 * @param {(seconds: number) => void} onSeek - Called with the start of the event that the user chooses.
 * @param {string} emptyText - Shown if there are none.
 * @param {Date} [startedAt] - Start of a live recording: then the newest event comes first, with its time of day.
 */
export function showEvents(events, onSeek, emptyText, startedAt) {
  const shown = startedAt ? events.slice(-MAX_EVENTS).reverse() : events.slice(0, MAX_EVENTS);
  const items = shown.map((event) => createEvent(event, onSeek, startedAt));
  if (events.length > MAX_EVENTS) items.push(createRest(events.length - MAX_EVENTS));
  elements.events.replaceChildren(...items);
  elements["event-count"].textContent = events.length ? events.length.toLocaleString("en-US") : "";
  showText(elements["no-events"], events.length ? "" : emptyText);
}

function createEvent(event, onSeek, startedAt) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  button.type = "button";
  button.className = event.isOpen ? "event now" : "event";
  const seconds = event.end_seconds - event.start_seconds;
  const start = startedAt
    ? new Date(startedAt.getTime() + 1000 * event.start_seconds).toLocaleTimeString([], { hourCycle: "h23" })
    : formatClock(event.start_seconds);
  const texts = [
    ["event-time", start],
    ["event-name", event.name],
    ["event-length", event.isOpen ? "now" : `${seconds.toFixed(1)} s`],
    ["event-value", event.probability.toFixed(2)],
  ];
  for (const [name, text] of texts) {
    const part = document.createElement("span");
    part.className = name;
    part.textContent = text;
    button.append(part, " ");
  }
  button.addEventListener("click", () => onSeek(event.start_seconds));
  item.append(button);
  return item;
}

function createRest(count) {
  const item = document.createElement("li");
  item.className = "event-rest";
  item.textContent = `${formatCount(count, "more event")} in the download`;
  return item;
}
