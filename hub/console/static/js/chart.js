// <og-chart>: lines or bars over time, drawn by hand as SVG at the size the element really has.
//
// Model: {id, label, xLabel, kind: "line" | "bar", height, series: [{key, label, tone, dash, step, fill, points: [[x, y], ...]}],
//         refs: [{label, tone, value}], formatX(x, long), formatY(y), scale(largest), zero: bool, empty}
//         xTicks(from, to, most), xTitle, maxGap, band: {low, high, label, tone}, mark: {x, label}
// `scale(largest)` gives {divisor, unit} for the axis: its labels are plain numbers, the unit stands once above them.
// `xTicks` gives at most `most` round places for labels; a line breaks where two points are more than `maxGap` apart.
// `band` shades what lies between two series, which are then drawn thin and share its entry in the legend; `mark` is a moment.
// Of bars those of a `hollow` series are outlines. Rules. Series differ by dash or marker as well as by colour. The pointer or the arrow keys move a cross-hair; what it
// reads is written in a status line that screen readers hear. The same numbers stand in the table below the chart.

import { decimal } from "./format.js";
import { h, patch } from "./vdom.js";

const PAD = { top: 24, right: 14, bottom: 24, left: 8 };
const LABEL_CHAR = 6.4; // px per character of an axis label, for the left margin
const LABEL_WIDTH = 58; // px that a label below the axis may take
const TITLE_WIDTH = 40; // px that the name of x takes, left of its first label
const TICKS = 4;
const DASHES = { none: null, dash: "6 4", dot: "2 4" };

/** Round steps for an axis: ascending multiples of 1, 2, 2.5 or 5 times a power of ten that span low..high. */
export function ticksOf(low, high, wanted = TICKS) {
  const span = high - low || Math.abs(high) || 1;
  const raw = span / wanted;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= raw - size * 1e-9);
  const top = high > low ? high : low + span; // a flat line still gets an axis
  const ticks = [];
  for (let i = Math.floor(low / step); i * step < top + step * 0.999 && ticks.length < 12; i += 1) ticks.push(i * step);
  return ticks;
}

/** Points in runs: a new one begins where the next point is more than `maxGap` away, so that no line crosses what is missing. */
export function runsOf(points, maxGap = Infinity) {
  const runs = [];
  for (const [i, point] of points.entries()) {
    if (i === 0 || point[0] - points[i - 1][0] > maxGap) runs.push([]);
    runs[runs.length - 1].push(point);
  }
  return runs;
}

class Chart extends HTMLElement {
  connectedCallback() {
    if (this.watcher) return;
    this.tabIndex = 0;
    this.setAttribute("role", "group");
    this.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight Home End Escape");
    this.cursor = null;
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this);
    this.onpointermove = (event) => this.pointAt(event.clientX - this.getBoundingClientRect().left);
    this.onpointerleave = () => this.moveTo(null);
    this.onblur = () => this.moveTo(null);
    this.onkeydown = (event) => this.key(event);
  }

  disconnectedCallback() {
    this.watcher?.disconnect();
    this.watcher = null;
  }

  set model(model) {
    this.data = model;
    this.setAttribute("aria-label", model.label);
    if (this.isConnected) this.draw();
  }

  get xs() {
    return [...new Set(this.data.series.flatMap((s) => s.points.map((p) => p[0])))].sort((a, b) => a - b);
  }

  key(event) {
    const xs = this.xs;
    if (xs.length === 0) return;
    const at = this.cursor === null ? xs.length : xs.indexOf(this.cursor);
    const target = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: xs.length - 1 }[event.key];
    if (event.key === "Escape") this.moveTo(null);
    else if (target !== undefined) this.moveTo(xs[Math.max(0, Math.min(xs.length - 1, target))]);
    else return;
    event.preventDefault();
  }

  pointAt(px) {
    if (!this.frame || this.xs.length === 0) return;
    const near = (x) => Math.abs(this.frame.x(x) - px);
    this.moveTo(this.xs.reduce((best, x) => (near(x) < near(best) ? x : best)));
  }

  moveTo(x) {
    if (this.cursor === x) return;
    this.cursor = x;
    this.draw();
  }

  draw() {
    const model = this.data;
    const width = Math.floor(this.clientWidth);
    if (!model || width < 60) return;
    const height = model.height || 180;
    const filled = model.series.some((s) => s.points.length > 0);
    if (!filled) {
      patch(this, h("p", { class: "chart-empty", style: { height: `${height}px` } }, model.empty || ""));
      return;
    }
    this.frame = frameOf(model, width, height);
    patch(this, [
      h("div", { class: "chart-head" }, legend(model), this.reading(model)),
      this.drawing(model, width, height),
    ]);
  }

  drawing(model, width, height) {
    const f = this.frame;
    const at = this.cursor !== null && this.xs.includes(this.cursor) ? f.x(this.cursor) : null;
    return h(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" },
      axes(model, f, width, height),
      (model.refs || []).map((ref, i) => reference(ref, f, width, i)),
      model.band && band(model, f),
      model.mark && moment(model.mark, f),
      model.kind === "bar" ? bars(model, f) : model.series.map((s) => line(s, f, model)),
      at !== null && h("line", { class: "cross", x1: at, x2: at, y1: PAD.top, y2: f.bottom }),
      at !== null &&
        model.series.map((s) => {
          const point = s.points.find((p) => p[0] === this.cursor);
          return point && h("circle", { class: `dot tone-${s.tone}`, cx: at, cy: f.y(point[1]), r: 4 });
        }),
    );
  }

  reading(model) {
    const x = this.cursor !== null && this.xs.includes(this.cursor) ? this.cursor : null;
    const text =
      x === null
        ? ""
        : [
            model.formatX(x, true),
            ...model.series.map((s) => {
              const point = s.points.find((p) => p[0] === x);
              return point ? `${s.label} ${model.formatY(point[1])}` : null;
            }),
          ]
            .filter(Boolean)
            .join(" · ");
    return h("p", { class: text ? "reading shown" : "reading", role: "status" }, text);
  }
}

function frameOf(model, width, height) {
  const ys = model.series.flatMap((s) => s.points.map((p) => p[1]));
  const refs = (model.refs || []).map((r) => r.value);
  const all = [...ys, ...refs, ...(model.zero ? [0] : [])];
  const ticks = ticksOf(Math.min(...all), Math.max(...all));
  const { divisor, unit } = model.scale(Math.max(...ticks.map(Math.abs)));
  const labels = ticksText(ticks.map((tick) => tick / divisor));
  const longest = PAD.left + Math.max(...labels.map((text) => text.length)) * LABEL_CHAR;
  const xs = model.series.flatMap((s) => s.points.map((p) => p[0]));
  const from = Math.min(...xs);
  const to = Math.max(...xs);
  const title = model.xTitle ? 4 + (model.formatX(from).length * LABEL_CHAR) / 2 : 0; // px from the axis to the name of x
  const left = Math.max(30, longest, title && title + TITLE_WIDTH);
  const bottom = height - PAD.bottom;
  const low = ticks[0];
  const high = ticks[ticks.length - 1];
  const inner = width - left - PAD.right;
  const inset = model.kind === "bar" ? inner / (new Set(xs).size * 2 + 1) : 4;
  const x = (v) => (to === from ? left + inner / 2 : left + inset + ((v - from) / (to - from)) * (inner - 2 * inset));
  const y = (v) => bottom - ((v - low) / (high - low || 1)) * (bottom - PAD.top);
  return {
    x,
    y,
    left,
    bottom,
    ticks,
    labels,
    unit,
    low,
    high,
    inner,
    from,
    to,
    title,
    slots: new Set(xs).size,
  };
}

/** Axis labels with just as many decimals as tell neighbours apart. */
function ticksText(values) {
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) : 1;
  const isWhole = (size) => Math.round(size) > 0 && Math.abs(size - Math.round(size)) < 1e-6;
  let digits = 0;
  while (digits < 9 && !isWhole(step * 10 ** digits)) digits += 1;
  return values.map((value) => decimal(value, digits));
}

function legend(model) {
  const entries = [
    ...model.series.filter((s) => !isEdge(model, s)),
    ...(model.band ? [{ ...model.band, area: true }] : []),
  ];
  return h(
    "ul",
    { class: "keys legend", "aria-hidden": "true" },
    entries.map((s) =>
      h(
        "li",
        {},
        h(
          "svg",
          { class: "key-line", viewBox: "0 0 18 8", width: 18, height: 8 },
          s.area
            ? [
                h("rect", { class: `band tone-${s.tone}`, width: 18, height: 8 }),
                h("path", { class: `line edge tone-${s.tone}`, d: "M0 .5H18M0 7.5H18", "stroke-dasharray": DASHES.dot }),
              ]
            : model.kind === "bar"
              ? h("rect", { class: barClass(s), x: 4, y: 0.5, width: 10, height: 7, rx: 1.5 })
              : h("line", {
                  class: `line tone-${s.tone}`,
                  x1: 0,
                  x2: 18,
                  y1: 4,
                  y2: 4,
                  "stroke-dasharray": DASHES[s.dash || "none"],
                }),
        ),
        h("span", {}, s.label),
      ),
    ),
  );
}

function axes(model, f, width, height) {
  const shown = model.xTicks(f.from, f.to, Math.max(2, Math.floor(f.inner / LABEL_WIDTH)));
  return [
    model.xTitle &&
      h("text", { key: "title", class: "axis", x: f.left - f.title, y: height - 6, "text-anchor": "end" }, model.xTitle),
    h(
      "text",
      {
        key: "unit",
        class: "axis",
        x: f.left - 8,
        y: 11,
        "text-anchor": f.unit.length > 4 ? "start" : "end",
        dx: f.unit.length > 4 ? 8 - f.left : 0,
      },
      f.unit,
    ),
    f.ticks.map((tick, i) => [
      h("line", {
        key: `g${i}`,
        class: tick === 0 ? "rule zero" : "rule",
        x1: f.left,
        x2: width - PAD.right,
        y1: f.y(tick),
        y2: f.y(tick),
      }),
      h("text", { key: `t${i}`, class: "axis", x: f.left - 8, y: f.y(tick) + 4, "text-anchor": "end" }, f.labels[i]),
    ]),
    shown.map((x) =>
      h(
        "text",
        {
          key: `x${x}`,
          class: "axis",
          x: Math.min(f.x(x), width - 16),
          y: height - 6,
          "text-anchor": "middle",
        },
        model.formatX(x),
      ),
    ),
  ];
}

/** Whether a series is an edge of the model's band. */
function isEdge(model, series) {
  return model.band !== undefined && (series.key === model.band.low || series.key === model.band.high);
}

function band(model, f) {
  const [low, high] = [model.band.low, model.band.high].map((key) => model.series.find((s) => s.key === key).points);
  const tops = new Map(high);
  const runs = runsOf(
    low.filter(([x]) => tops.has(x)),
    model.maxGap,
  );
  const d = runs.map((run) => {
    const back = [...run].reverse().map(([x]) => [x, tops.get(x)]);
    const path = [...run, ...back].map(([x, y]) => `${f.x(x).toFixed(1)} ${f.y(y).toFixed(1)}`);
    return `M${path.join("L")}Z`;
  });
  return h("path", { key: "band", class: `band tone-${model.band.tone}`, d: d.join("") });
}

function moment(mark, f) {
  if (!(mark.x >= f.from && mark.x <= f.to)) return null;
  const x = f.x(mark.x).toFixed(1);
  return [
    h("line", { key: "moment", class: "moment", x1: x, x2: x, y1: PAD.top - 6, y2: f.bottom }),
    h("text", { key: "moment-name", class: "axis", x, y: PAD.top - 10, "text-anchor": "middle" }, mark.label),
  ];
}

function line(series, f, model) {
  if (series.points.length === 0) return null;
  const edge = isEdge(model, series);
  const runs = runsOf(series.points, model.maxGap).map((run) => ({ first: run[0], path: pathOf(run, series.step, f) }));
  const last = series.points[series.points.length - 1];
  const floor = f.y(Math.max(f.low, 0)).toFixed(1);
  const area = runs.map((run) => `${run.path}V${floor}H${f.x(run.first[0]).toFixed(1)}Z`).join("");
  return h(
    "g",
    { key: `s-${series.key}` },
    series.fill && h("path", { key: "area", class: `area tone-${series.tone}`, d: area }),
    h("path", {
      key: "line",
      class: `line tone-${series.tone}${edge ? " edge" : ""}`,
      d: runs.map((run) => run.path).join(""),
      "stroke-dasharray": DASHES[series.dash || "none"],
    }),
    !edge && h("circle", { key: "end", class: `end tone-${series.tone}`, cx: f.x(last[0]), cy: f.y(last[1]), r: 3 }),
  );
}

/** One run as a path; a point alone is a dot, drawn by the round ends of a line without length. */
function pathOf(points, step, f) {
  const start = `M${f.x(points[0][0]).toFixed(1)} ${f.y(points[0][1]).toFixed(1)}`;
  if (points.length === 1) return `${start}h0.01`;
  const rest = points.slice(1).map(([x, y]) => {
    const px = f.x(x).toFixed(1);
    const py = f.y(y).toFixed(1);
    return step ? `H${px}V${py}` : `L${px} ${py}`;
  });
  return start + rest.join("");
}

function barClass(series) {
  return `bar tone-${series.tone}${series.hollow ? " hollow" : ""}`;
}

function bars(model, f) {
  const band = (f.inner / f.slots) * 0.72;
  const thick = Math.min(26, band / model.series.length);
  const base = f.y(Math.max(f.low, 0));
  return model.series.map((s, i) =>
    s.points.map(([x, y]) => {
      const top = Math.min(f.y(y), base);
      return h("rect", {
        key: `${s.key}-${x}`,
        class: barClass(s),
        width: Math.max(1, thick - 1.5),
        rx: Math.min(2, thick / 4),
        x: f.x(x) + (i - model.series.length / 2) * thick,
        y: top,
        height: Math.max(y === 0 ? 0 : 1, Math.abs(f.y(y) - base)),
      });
    }),
  );
}

function reference(ref, f, width, index) {
  const y = f.y(ref.value);
  const right = width - PAD.right;
  return [
    h("line", {
      key: `ref-${index}`,
      class: `ref tone-${ref.tone}`,
      x1: f.left,
      x2: right,
      y1: y,
      y2: y,
      "stroke-dasharray": DASHES.dash,
    }),
    h("text", { key: `ref-name-${index}`, class: "axis over", x: right, y: y - 5, "text-anchor": "end" }, ref.label),
  ];
}

customElements.define("og-chart", Chart);
