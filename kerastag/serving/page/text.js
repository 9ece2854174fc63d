/** Format a position, such as 0:03.2 or 1:02:03.2. */
export function formatClock(seconds, decimals = 1) {
  const scale = 10 ** decimals;
  const units = Math.round(Math.max(seconds, 0) * scale);
  const whole = Math.floor(units / scale);
  const parts = [Math.floor(whole / 60) % 60, whole % 60];
  if (whole >= 3600) parts.unshift(Math.floor(whole / 3600));
  const text = parts.map((part, index) => (index ? String(part).padStart(2, "0") : String(part))).join(":");
  return decimals ? `${text}.${String(units % scale).padStart(decimals, "0")}` : text;
}

/** Format a duration as words for a screen reader, such as "1 minute 3.2 seconds". */
export function formatWords(seconds) {
  const minutes = Math.floor(seconds / 60);
  const rest = (seconds - 60 * minutes).toFixed(1).replace(/\.0$/, "");
  const words = [];
  if (minutes) words.push(`${minutes} minute${minutes === 1 ? "" : "s"}`);
  words.push(`${rest} second${rest === "1" ? "" : "s"}`);
  return words.join(" ");
}

export function formatCount(count, noun) {
  return `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;
}

export function formatBytes(bytes) {
  if (bytes < 1e6) return `${Math.ceil(bytes / 1e3)} kB`;
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

/**
 * Add seconds to a time in ISO 8601, and keep its time zone if it has one.
 *
 * @returns {string} Like `kerastag tag` writes it, with milliseconds.
 */
export function addSeconds(time, seconds) {
  const [, local, zone] = /^(.*?)(Z|[+-]\d\d:\d\d)?$/.exec(time);
  const moment = new Date(Date.parse(`${local}Z`) + Math.floor(seconds * 1000 + 1e-6));
  return moment.toISOString().slice(0, -1) + (zone ?? "");
}
