// What is wrong with a server, by its answer.

import { count, DAY, duration, sum, words } from "./figures.js";

const NEAR_LIMIT = 0.9;
const CERTIFICATE_DAYS = 7;
const LONG_LAG = 0.5; // seconds

export const isNear = (connections) =>
  Boolean(connections?.limit) && connections.now >= NEAR_LIMIT * connections.limit;

export function problems(answer) {
  const list = answer.reasons.map((text) => ["bad", text]);
  for (const listener of answer.listeners) {
    const { name, state, state_reason: reason, connections } = listener;
    const isSaid = answer.reasons.some((text) => text.includes(name));
    if (state === "failed" && !isSaid) list.push(["bad", `${name}: failed: ${reason}`]);
    if (state === "suspended" && !isSaid) list.push(["warn", `${name}: suspended by its owner`]);
    if (state === "full") list.push(["warn", `${name}: at its limit (${words(reason)})`]);
    else if (isNear(connections)) {
      list.push(["warn", `${name}: ${count(connections.now)} of ${count(connections.limit)} connections`]);
    }
  }
  const { now, limit } = answer.connections;
  if (isNear(answer.connections)) {
    list.push(["warn", `the process has ${count(now)} of ${count(limit)} connections (descriptors)`]);
  }
  const reload = answer.config.last_reload;
  if (reload && reload.result !== "success") {
    list.push(["warn", `the last reload has changed nothing: ${reload.error || words(reload.result)}`]);
  }
  for (const { name, not_after: end } of answer.certificates) {
    const days = (end - answer.now) / DAY;
    if (days < 0) list.push(["bad", `certificate ${name} has expired`]);
    else if (days < CERTIFICATE_DAYS) list.push(["warn", `certificate ${name} expires in ${duration(end - answer.now)}`]);
  }
  const lag = answer.loop.lag_most;
  if (lag >= LONG_LAG) list.push(["warn", `the reactor was late by ${duration(lag)} in the last minute`]);
  const faults = sum(answer.listeners.map((listener) => listener.faults.length));
  if (faults) list.push(["warn", `${count(faults)} ${faults === 1 ? "fault is" : "faults are"} active`]);
  return list.sort(([one], [other]) => (other === "bad") - (one === "bad"));
}

export function verdict(answer, list) {
  if (answer.state === "draining") return ["warn", "Draining"];
  if (answer.state === "starting") return ["warn", "Starting"];
  if (!answer.ready) return ["bad", "Not ready"];
  if (list.some(([level]) => level === "bad")) return ["bad", "Serving, with errors"];
  return list.length ? ["warn", "Serving, with warnings"] : ["good", "Healthy"];
}
