import { addSeconds } from "./text.js";

/**
 * The formats of `kerastag tag --events`. Their argument is a recording in the form of its JSON:
 * `{file, tags, duration_seconds, time?, events, seconds, timeline}`.
 */
export const FORMATS = {
  json: { extension: ".json", type: "application/json", format: formatAsJson },
  csv: { extension: ".csv", type: "text/csv", format: formatAsCsv },
  audacity: { extension: ".labels.txt", type: "text/plain", format: formatAsAudacity },
};

function formatAsJson(recording) {
  return `[\n${JSON.stringify(recording)}\n]\n`;
}

function formatAsCsv(recording) {
  const rows = [["file", "start_seconds", "end_seconds", "mid", "name", "probability", "time"]];
  for (const event of recording.events) {
    const times = [formatNumber(event.start_seconds), formatNumber(event.end_seconds)];
    rows.push([recording.file, ...times, event.mid, event.name, formatNumber(event.probability), event.time ?? ""]);
  }
  if (rows.length === 1) rows.push([recording.file, "", "", "", "", "", ""]);
  return rows.map((row) => `${row.map(quoteCell).join(",")}\n`).join("");
}

function formatAsAudacity(recording) {
  const format = (seconds) => seconds.toFixed(6);
  return recording.events
    .map((event) => `${format(event.start_seconds)}\t${format(event.end_seconds)}\t${event.name}\n`)
    .join("");
}

/** Write whole numbers as Python does, with a decimal. */
function formatNumber(value) {
  return Number.isInteger(value) ? value.toFixed(1) : String(value);
}

function quoteCell(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Return the time of each event, where that of the recording is known. */
export function addTimes(events, time) {
  if (!time) return events;
  return events.map(({ start_seconds, end_seconds, ...rest }) => {
    return { start_seconds, end_seconds, time: addSeconds(time, start_seconds), ...rest };
  });
}

/** Offer a text or a blob to the user as a file. */
export function save(content, name, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
