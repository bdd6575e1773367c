// Figures as texts.

export const DAY = 86400; // seconds

const SIZES = ["B", "kB", "MB", "GB", "TB", "PB"];

function scaled(value, units) {
  let index = 0;
  while (value >= 999.5 && index < units.length - 1) [value, index] = [value / 1000, index + 1];
  const digits = index === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[index]}`.trim();
}

export const count = (value) => (value ?? null) === null ? "–" : value.toLocaleString("en");
export const size = (value) => (value ?? null) === null ? "–" : scaled(value, SIZES);
export const sizeRate = (value) => (value ?? null) === null ? "–" : `${scaled(value, SIZES)}/s`;

export function rate(value) {
  if ((value ?? null) === null) return "–";
  return value >= 9.95 || Number.isInteger(value) ? count(Math.round(value)) : value.toFixed(1);
}

const parts = (...pairs) => pairs.filter(([number]) => number).map((pair) => pair.join(" ")).join(" ");

export function duration(seconds) {
  if ((seconds ?? null) === null) return "–";
  if (seconds === 0) return "0 s";
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60) % 60;
  const hours = Math.floor(seconds / 3600) % 24;
  if (seconds < 3600) return parts([minutes, "min"], [Math.floor(seconds) % 60, "s"]);
  if (seconds < DAY) return parts([hours, "h"], [minutes, "min"]);
  return parts([Math.floor(seconds / DAY), "d"], [hours, "h"]);
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DATE = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "short" });
export const clock = (time) => CLOCK.format(time * 1000);
export const date = (time) => DATE.format(time * 1000);
export const words = (name) => name.replaceAll("_", " ");
export const reasons = (table) => Object.entries(table ?? {}).filter(([, number]) => number)
  .sort((first, second) => second[1] - first[1])
  .map(([reason, number], _, all) => (all.length > 1 ? `${words(reason)} ${count(number)}` : words(reason))).join(", ");

export const sum = (table) => Object.values(table ?? {}).reduce((total, count) => total + count, 0);
