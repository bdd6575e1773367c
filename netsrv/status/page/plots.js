// The plots of the last 15 minutes, drawn by uPlot.

import { clock, count, duration, rate, sizeRate } from "./figures.js";

export const PLOT_SPAN = 900; // seconds
const MIN_SPAN = 60; // seconds, of a server that has just started

export const PLOTS = [
  { title: "Connections", show: count, floor: 5, series: [["connections", "open"]] },
  { title: "Accepted a second", show: rate, floor: 5, series: [["accepted", "connections"]] },
  { title: "Bytes", show: sizeRate, floor: 1000, series: [["received_bytes", "received"], ["sent_bytes", "sent"]] },
  { title: "Datagrams a second", show: rate, floor: 5, series: [["datagrams_received", "received"], ["datagrams_sent", "sent"]] },
  { title: "Refused a second", show: rate, floor: 5, series: [["refused", "connections"], ["datagrams_dropped", "datagrams"]] },
  { title: "Loop lag", show: duration, floor: 0.02, series: [["lag", "delay"]] },
];

const theme = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const AXIS = { stroke: () => theme("--muted"), font: "11px system-ui, sans-serif", ticks: { show: false } };

export class Plot {
  #spec;
  #chart;
  #values;
  #data = [];

  constructor(spec, parent) {
    this.#spec = spec;
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const title = document.createElement("h2");
    title.textContent = spec.title;
    caption.append(title);
    this.#values = spec.series.map(([, label], index) => {
      const entry = document.createElement("span");
      const value = document.createElement("b");
      entry.className = `series-${index}`;
      entry.append(value, ` ${label}`);
      caption.append(entry);
      return value;
    });
    const canvas = document.createElement("div");
    canvas.className = "canvas";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${spec.title}, the last 15 minutes`);
    figure.append(caption, canvas);
    parent.append(figure);
    this.#chart = new uPlot(this.#options(canvas), [[], ...spec.series.map(() => [])], canvas);
    new ResizeObserver(() => this.#chart.setSize(this.#room(canvas))).observe(canvas);
  }

  #room(canvas) {
    return { width: canvas.clientWidth, height: canvas.clientHeight };
  }

  #options(canvas) {
    const { series, show, floor } = this.#spec;
    const line = ([, label], index) => ({
      label,
      width: index ? 1 : 1.5,
      stroke: () => theme(index ? "--second" : "--accent"),
      fill: index ? undefined : () => theme("--fill"),
      points: { show: false },
    });
    return {
      ...this.#room(canvas),
      padding: [8, 16, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false }, points: { size: 5 }, sync: { key: "netsrv" } },
      scales: { y: { range: (_, __, most) => [0, Math.max(floor, (most ?? 0) * 1.1)] } },
      series: [{}, ...series.map(line)],
      axes: [
        { ...AXIS, size: 22, space: 70, grid: { show: false }, values: (_, times) => times.map((time) => clock(time).slice(0, time % 60 ? 8 : 5)) },
        { ...AXIS, size: 64, space: 32, grid: { stroke: () => theme("--line"), width: 1 }, values: (_, values) => values.map(show) },
      ],
      hooks: { setCursor: [() => this.#readOut()] },
    };
  }

  update(history, now) {
    this.#data = [history.time, ...this.#spec.series.map(([column]) => history[column])];
    this.#chart.batch(() => {
      this.#chart.setData(this.#data, false);
      const oldest = Math.max(now - PLOT_SPAN, history.time[0] ?? now);
      this.#chart.setScale("x", { min: Math.min(oldest, now - MIN_SPAN), max: now });
    });
    this.#readOut();
  }

  redraw() {
    this.#chart.redraw(false);
  }

  // The values at the pointer, or the newest ones.
  #readOut() {
    const index = this.#chart?.cursor.idx ?? (this.#data[0]?.length ?? 0) - 1;
    for (const [position, element] of this.#values.entries()) {
      const text = this.#spec.show(this.#data[position + 1]?.[index]);
      if (element.textContent !== text) element.textContent = text;
    }
  }
}
