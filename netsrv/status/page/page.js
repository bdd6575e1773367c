// The status page: asks for status.json each second, and changes what differs.
// Texts of peers are only ever set as text, never parsed as HTML.

import { clock, count, date, DAY, duration, rate, reasons, size, sum, words } from "./figures.js";
import { Grid } from "./grid.js";
import { isNear, problems, verdict } from "./health.js";
import { Plot, PLOT_SPAN, PLOTS } from "./plots.js";

const POLL_INTERVAL = 1000; // milliseconds
const ANSWER_TIMEOUT = 5000; // milliseconds
const MAX_PROBLEMS = 8;

const $ = (id) => document.getElementById(id);
const MARKS = { good: "✓", warn: "!", bad: "✕", lost: "?" };

let answer = null;
const samples = {}; // the columns of the history, each an array
let rates = new Map();
let cpu = null;
let lostSince = null;
let asking = false;
let details = null; // the id of the listener in the dialog

// Answers

async function poll() {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT);
    const brief = details ? "" : "&brief"; // only the dialog shows options and limits
    const response = await fetch(`status.json?since=${answer?.history.seq ?? 0}${brief}`, { cache: "no-store", signal });
    if (!response.ok) throw new Error(`it says ${response.status} ${response.statusText}`);
    accept(await response.json());
  } catch (error) {
    if (!["AbortError", "TimeoutError", "TypeError"].includes(error.name)) console.warn(error);
    lostSince ??= Date.now() / 1000;
    showLost(error.message);
  } finally {
    asking = false;
  }
}

function accept(next) {
  const restarted = answer !== null && next.start !== answer.start;
  if (answer && next.version !== answer.version) location.reload(); // these files are of the old one
  rates = answer && !restarted ? ratesBetween(answer, next) : new Map();
  answer = next;
  lostSince = null;
  if (restarted) answer.history.seq = 0; // the rows were asked for by the count of the old server
  else keepHistory(next.history);
  show();
}

function keepHistory({ columns, rows }) {
  const time = columns.indexOf("time");
  const added = [...rows];
  const last = samples.time?.at(-1);
  const gap = last && rows.length && rows[0][time] - last > 5 * answer.history.interval;
  if (gap) added.unshift(columns.map((_, index) => (index === time ? last + 1 : null)));
  for (const [index, column] of columns.entries()) {
    samples[column] ??= [];
    for (const row of added) samples[column].push(row[index]);
  }
  const start = samples.time.findIndex((moment) => moment >= answer.now - PLOT_SPAN);
  for (const column of start > 0 ? columns : []) samples[column].splice(0, start);
}

const served = ({ connections, datagrams }) => (connections ? connections.accepted : datagrams.received);

function ratesBetween(before, after) {
  const seconds = after.now - before.now;
  const earlier = new Map(before.listeners.map((listener) => [listener.id, listener]));
  cpu = (after.process.cpu_seconds - before.process.cpu_seconds) / seconds;
  return new Map(after.listeners.flatMap((listener) => {
    const last = earlier.get(listener.id);
    const known = seconds > 0 && last?.started === listener.started;
    return known ? [[listener.id, (served(listener) - served(last)) / seconds]] : [];
  }));
}

// Columns of the tables

const number = (label, value, more = {}) => ({ label, kind: "number", sort: value, text: (item) => count(value(item)), ...more });
const plain = (label, value, more = {}) => ({ label, sort: value, text: value, ...more });
const faultName = (fault) => fault.name ?? fault.type ?? String(fault);
const lost = ({ connections, datagrams }) => connections?.refused ?? datagrams.dropped;
const errors = (listener) => listener.errors.accept + listener.errors.service;

function counted(label, table, kind) {
  const value = (listener) => sum(table(listener));
  const text = (listener) => [count(value(listener)), reasons(table(listener)), value(listener) ? "" : "zero"];
  return { label, kind, sort: value, text };
}

const LISTENER_COLUMNS = [
  plain("Listener", (listener) => `${listener.transport} ${listener.address}`, { kind: "name", cut: true, onClick: showDetails }),
  plain("Service", (listener) => listener.service, { kind: "service" }),
  {
    label: "State",
    kind: "state",
    sort: (listener) => listener.state,
    text: (listener) => [listener.state, words(listener.state_reason), listener.state],
  },
  number("Now", (listener) => listener.connections?.now, {
    title: "Connections now",
    text: ({ connections }) => [count(connections?.now), "", isNear(connections) ? "near" : ""],
  }),
  number("Most", (listener) => listener.connections?.most, { title: "Most connections at once", kind: "number third" }),
  number("Limit", (listener) => listener.connections?.limit, { title: "Most connections allowed", kind: "number second" }),
  number("Rate /s", (listener) => rates.get(listener.id), {
    title: "Connections accepted, or datagrams received, a second",
    text: (listener) => rate(rates.get(listener.id)),
  }),
  number("Received", (listener) => listener.bytes.received, { kind: "number second", text: (listener) => size(listener.bytes.received) }),
  number("Sent", (listener) => listener.bytes.sent, { kind: "number second", text: (listener) => size(listener.bytes.sent) }),
  counted("Refused", lost, "number reasons"),
  { ...counted("Errors", (listener) => listener.errors, "number third"), sort: errors },
  {
    label: "Faults",
    kind: "number third",
    sort: (listener) => listener.faults.length,
    text: ({ faults }) => [count(faults.length), faults.map(faultName).join(", "), faults.length ? "warn" : "zero"],
  },
];
const WHEN = { label: "Time", kind: "number time", text: (item) => clock(item.time) };
const WHERE = plain("Listener", (item) => item.listener || "server", { kind: "where", cut: true });
const PEER = plain("Peer", (item) => item.peer, { kind: "peer", cut: true });
const WHY = plain("Reason", (item) => words(item.reason));
const PAIR = [plain("", (pair) => pair[0], { kind: "key" }), plain("", (pair) => pair.slice(1), { kind: "value" })];

const listenerGrid = new Grid($("listener-table"), LISTENER_COLUMNS, () => showListeners());
const refusalGrid = new Grid($("refusal-table"), [WHEN, PEER, WHY, WHERE]);
const endingGrid = new Grid($("ending-table"), [
  WHEN, PEER, WHY, number("After", (item) => item.seconds, { text: (item) => duration(item.seconds) }),
  number("Received", (item) => item.received, { text: (item) => size(item.received) }),
  number("Sent", (item) => item.sent, { text: (item) => size(item.sent) }), WHERE,
]);
const sourceGrid = new Grid($("source-table"), [
  plain("Source", (item) => item.source, { kind: "peer", cut: true }), number("Connections", (item) => item.connections), WHERE,
]);
const eventGrid = new Grid($("event-table"), [
  WHEN, plain("Event", ({ event }) => [words(event), "", /fail|error|stall/.test(event) ? "warn" : ""]), WHERE,
  plain("Text", (item) => item.text, { kind: "long", cut: true }),
]);
const certificateGrid = new Grid($("certificate-table"), [
  plain("Certificate", (item) => [item.name, item.names.join(", ")]),
  number("Days left", (item) => Math.floor((item.not_after - answer.now) / DAY)), plain("Expires", (item) => date(item.not_after)),
]);
const workerGrid = new Grid($("worker-table"), [
  number("Worker", (item) => item.index), plain("Process", (item) => String(item.pid)),
  plain("State", (item) => [item.state, "", item.state === "serving" ? "" : "warn"]),
  number("Connections", (item) => item.connections), number("Accepted", (item) => item.accepted),
  number("Datagrams", (item) => item.datagrams),
  number("CPU", (item) => item.cpu_seconds, { text: (item) => duration(item.cpu_seconds) }),
  number("Memory", (item) => item.resident, { text: (item) => size(item.resident) }),
]);
const serverGrid = new Grid($("server-table"), PAIR);
const countGrid = new Grid($("count-table"), PAIR);
const limitGrid = new Grid($("limit-table"), PAIR);
const optionGrid = new Grid($("option-table"), [
  plain("Option", (option) => option.name), plain("Asked for", (option) => option.asked),
  plain("In effect", (option) => [option.in_effect, "", option.asked === option.in_effect ? "" : "differs"]),
]);
const durationGrid = new Grid($("duration-table"), [
  plain("Up to", ([bound]) => (bound === null ? "longer" : duration(bound))), number("Connections", ([, connections]) => connections),
]);
const plots = PLOTS.map((spec) => new Plot(spec, $("plots")));

// What is shown

function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function show() {
  const { version, host, pid, reactor, start, now, recent } = answer;
  document.body.classList.remove("lost");
  setText("host", `on ${host}`);
  setText("about", `version ${version}, process ${pid}, ${reactor}, up ${duration(now - start)}`);
  const list = problems(answer);
  showHealth(...verdict(answer, list), summary(), list);
  for (const plot of plots) plot.update(samples, now);
  showListeners();
  refusalGrid.update(recent.refusals.toReversed());
  endingGrid.update(recent.endings.toReversed());
  eventGrid.update(recent.events.toReversed());
  sourceGrid.update(answer.sources);
  $("worker-section").hidden = !answer.workers;
  workerGrid.update(answer.workers?.processes ?? []);
  certificateGrid.update(answer.certificates);
  serverGrid.update(serverPairs());
  if (details) fillDetails();
}

function summary() {
  const { connections, listeners } = answer;
  const serving = listeners.filter((listener) => listener.state === "serving").length;
  const { now, limit, most } = connections;
  return `${count(serving)} of ${count(listeners.length)} listeners serving, `
    + `${count(now)} of ${count(limit)} connections (most ${count(most)})`;
}

function showHealth(level, text, line, list) {
  if ($("health").className !== level) $("health").className = level;
  setText("mark", MARKS[level]);
  setText("verdict", text);
  setText("summary", line);
  const shown = list.slice(0, MAX_PROBLEMS);
  if (list.length > MAX_PROBLEMS) shown.push(["more", `and ${count(list.length - MAX_PROBLEMS)} more`]);
  while ($("problems").children.length > shown.length) $("problems").lastElementChild.remove();
  for (const [index, [kind, message]] of shown.entries()) {
    const item = $("problems").children[index] ?? $("problems").appendChild(document.createElement("li"));
    if (item.textContent !== message) item.textContent = message;
    if (item.className !== kind) item.className = kind;
  }
  document.title = `${text} – netsrv${answer ? ` on ${answer.host}` : ""}`;
}

function showLost(message) {
  document.body.classList.add("lost");
  const known = answer ? `The figures are of ${clock(answer.now)}.` : "";
  showHealth("lost", "No answer from the server", `since ${clock(lostSince)}. ${known} Asking again each second.`, [["more", message]]);
}

function showListeners() {
  if (!answer) return;
  const word = $("filter").value.trim().toLowerCase();
  const listeners = answer.listeners.filter(({ id, state }) => `${id} ${state}`.toLowerCase().includes(word));
  listenerGrid.update(listeners, (listener) => listener.id);
  const all = answer.listeners.length;
  setText("shown", word ? `${count(listeners.length)} of ${count(all)} listeners` : `${count(all)} listeners`);
}

function serverPairs() {
  const { config, process, loop, log_lines_dropped: dropped, access_log: accessLog } = answer;
  const reload = config.last_reload;
  const tone = reload && reload.result !== "success" ? "warn" : "";
  return [
    ["Configuration", config.file ?? "command line"],
    ["Last reload", reload ? `${words(reload.result)} at ${date(reload.time)}` : "none", reload?.error ?? "", tone],
    ["Reloads", count(sum(config.reloads)), reasons(config.reloads)],
    ["CPU", `${cpu === null ? "–" : `${(100 * cpu).toFixed(0)} %`}, ${duration(process.cpu_seconds)} in all`],
    ["Memory", size(process.resident_bytes)],
    ["Descriptors", `${count(process.open_descriptors)} of ${count(process.max_descriptors)}`],
    ["Threads", count(process.threads)],
    ["Loop lag", `${duration(loop.lag)}, at most ${duration(loop.lag_most)} in the last minute`],
    ["Stalls", loop.stalls ? `${count(loop.stalls)}, ${duration(loop.stalled_seconds)} in all` : "0"],
    ["Log lines left out", count(sum(dropped)), reasons(dropped)],
    ["Access log", accessLog ? accessLog.path : "off", accessLog?.dropped ? `${count(accessLog.dropped)} lines lost` : ""],
    ["Started", date(answer.start)],
  ];
}

// The dialog with the details of a listener

function showDetails(listener) {
  details = listener.id;
  fillDetails();
  $("details").showModal();
  poll();
}

function fillDetails() {
  const listener = answer.listeners.find(({ id }) => id === details);
  setText("details-name", details);
  countGrid.update(listener ? countPairs(listener) : [["State", "closed"]]);
  limitGrid.update((listener?.limits ?? []).map(({ name, value, default: usual }) => [words(name), value, usual ? "default" : ""]));
  optionGrid.update(listener?.options ?? []);
  durationGrid.update(listener?.duration?.buckets ?? []);
}

function countPairs({ state, state_reason: reason, started, connections, datagrams, bytes, errors: failed, tls, proxy, faults }) {
  const headers = Object.assign({}, ...Object.values(proxy?.headers ?? {}));
  return [
    ["State", state, words(reason)],
    ["Started", date(started)],
    ...(connections ? [
      ["Connections", `${count(connections.now)} now, ${count(connections.most)} at most, ${count(connections.limit)} allowed`],
      ["Accepted", count(connections.accepted)],
      ["Refused", count(sum(connections.refused)), reasons(connections.refused)],
      ["Ended", count(sum(connections.closed)), reasons(connections.closed)],
      ["Pending", count(sum(connections.pending)), reasons(connections.pending)],
    ] : [
      ["Datagrams", `${count(datagrams.received)} received, ${count(datagrams.sent)} sent`],
      ["Dropped", count(sum(datagrams.dropped)), reasons(datagrams.dropped)],
      ["Dropped by the kernel", count(datagrams.kernel_drops)],
    ]),
    ["Bytes", `${size(bytes.received)} received, ${size(bytes.sent)} sent`],
    ["Errors", count(failed.accept + failed.service), reasons(failed)],
    ...(tls ? [["TLS handshakes", count(sum(tls.handshakes)), reasons(tls.handshakes)]] : []),
    ...(proxy ? [["PROXY headers", count(sum(headers)), reasons(headers)]] : []),
    ["Faults", faults.map(faultName).join(", ") || "none"],
  ];
}

// The start

$("details").addEventListener("close", () => { details = null; });
$("filter").addEventListener("input", showListeners);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach((plot) => plot.redraw()));
document.addEventListener("visibilitychange", poll);
setInterval(poll, POLL_INTERVAL);
poll();
