// The building blocks every page uses: cards, figures, badges, tables, charts with their table.

import { NONE, shortHex } from "./format.js";
import { t } from "./i18n.js";
import { icon } from "./icons.js";
import { h } from "./vdom.js";
import "./chart.js";

const MAX_TABLE_ROWS = 96; // newest rows of a chart's table: a day of slots

/** A titled panel. `span` is its width in twelfths on a wide screen. */
export function card(title, { span = 4, key = null, note = null, aside = null, className = "" }, ...body) {
  return h(
    "section",
    { key, class: `card span-${span} ${className}`.trim(), "aria-label": title },
    h("header", { class: "card-head" }, h("h2", {}, title), aside && h("div", { class: "card-aside" }, aside)),
    note && h("p", { class: "note" }, note),
    body,
  );
}

/** A part the hub does not run: said in words, never shown as zeros. */
export function notRunning(what) {
  return h("p", { class: "absent" }, icon("off"), h("span", {}, h("b", {}, t("not_running")), " ", what));
}

/** Nothing yet, although the part runs; `glyph` "ok" where that is good news. */
export function nothingYet(text, glyph = "wait") {
  return h("p", { class: "absent" }, icon(glyph), h("span", {}, text));
}

/** Status as icon and word; colour only repeats it. */
export function status(level, word) {
  return h("span", { class: `status is-${level}` }, icon(level), h("span", {}, word || t(`status_${level}`)));
}

export function figure(label, value, { tone = "", detail = null, title = null } = {}) {
  return h(
    "div",
    { class: `figure ${tone}`.trim(), title },
    h("dt", {}, label),
    h("dd", {}, split(value)),
    detail && h("dd", { class: "detail" }, detail),
  );
}

/** Set the unit after the last space smaller than the number: "3.42 kWh". */
export function split(value) {
  if (typeof value === "object" && value !== null) return value; // a vnode already
  const text = String(value ?? NONE);
  const at = text.lastIndexOf(" ");
  if (at < 0 || !/\d$/.test(text.slice(0, at)) || /\d/.test(text[at + 1])) return text;
  return [text.slice(0, at), h("span", { class: "unit" }, `\u00a0${text.slice(at + 1)}`)];
}

export function figures(...items) {
  return h("dl", { class: "figures" }, items);
}

/** Hash or address: short on screen, whole on hover, copied on click. */
export function hex(value) {
  if (value === undefined || value === null || value === "") return NONE;
  const whole = String(value);
  return h(
    "button",
    {
      class: "hex",
      type: "button",
      title: whole,
      "aria-label": t("copy_value", { value: shortHex(whole) }), // what is seen must be in the name; the title has the rest
      onclick: copy,
      "data-value": whole,
    },
    shortHex(whole),
  );
}

async function copy(event) {
  const button = event.currentTarget;
  try {
    await navigator.clipboard.writeText(button.dataset.value);
    button.classList.add("copied");
    setTimeout(() => button.classList.remove("copied"), 900);
  } catch (error) {
    // No clipboard here: the whole value is in the title.
  }
}

/**
 * A table. `columns` are {label, cell(row), align: "end", head: true}; one column with `head` names the row.
 * It scrolls inside its own box, so that a narrow screen never scrolls sideways as a whole.
 */
export function table(caption, columns, rows, { key = null, empty = null, emptyIcon = "wait", rowKey = null } = {}) {
  if (rows.length === 0) return nothingYet(empty || t("nothing_yet"), emptyIcon);
  const heads = columns.map((c) => h("th", { scope: "col", role: "columnheader", class: c.align || null }, c.label));
  return h(
    "div",
    { key, class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    h(
      "table",
      { role: "table" }, // said outright: a stylesheet that stacks rows would take the meaning away
      h("caption", { class: "unseen" }, caption),
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, heads)),
      h(
        "tbody",
        { role: "rowgroup" },
        rows.map((row, i) => tableRow(columns, row, i, rowKey ? rowKey(row, i) : i)),
      ),
    ),
  );
}

function tableRow(columns, row, index, key) {
  const cells = columns.map((c) => {
    const props = { class: c.align || null, "data-label": c.label };
    if (c.head) return h("th", { ...props, scope: "row", role: "rowheader" }, c.cell(row, index));
    return h("td", { ...props, role: "cell" }, c.cell(row, index));
  });
  return h("tr", { key, role: "row" }, cells);
}

/** A chart and, folded below it, the same numbers as a table. */
export function chart(model) {
  const rows = tableRows(model);
  const columns = [
    { label: model.xLabel, cell: (row) => model.formatX(row.x, true), head: true },
    ...model.series.map((s) => ({
      label: s.label,
      align: "end",
      cell: (row) => (row.values[s.key] === undefined ? NONE : model.formatY(row.values[s.key])),
    })),
  ];
  return h(
    "figure",
    { class: "chart", key: `chart-${model.id}` },
    h("og-chart", { ".model": model }),
    h(
      "details",
      { class: "data" },
      h("summary", {}, t("as_table"), h("span", { class: "unseen" }, ` ${model.label}`)),
      table(model.label, columns, rows, { rowKey: (row) => row.x }),
    ),
  );
}

function tableRows(model) {
  const byX = new Map();
  for (const s of model.series) {
    for (const [x, value] of s.points) {
      if (!byX.has(x)) byX.set(x, {});
      byX.get(x)[s.key] = value;
    }
  }
  const rows = [...byX].map(([x, values]) => ({ x, values })).sort((a, b) => b.x - a.x);
  return rows.slice(0, MAX_TABLE_ROWS);
}

/** A value between two limits, drawn as a gauge with all three numbers beside it. */
export function meterBar(ratio, label) {
  const at = Math.max(0, Math.min(1, ratio));
  return h(
    "div",
    { class: "gauge", role: "img", "aria-label": label },
    h("span", { class: "gauge-at", style: { "inset-inline-start": `${(at * 100).toFixed(1)}%` } }),
  );
}

/** Labelled bars on one scale: {key, label, tone, value, text}; the numbers stand beside them. */
export function bars(rows) {
  const most = Math.max(1, ...rows.map((row) => row.value || 0));
  return h(
    "ul",
    { class: "bars" },
    rows.map((row) =>
      h(
        "li",
        { key: row.key },
        h("span", { class: "bars-label" }, row.label),
        h(
          "span",
          { class: "bars-track", "aria-hidden": "true" },
          h("i", {
            class: `tone-${row.tone}`,
            style: { width: `${((Math.max(0, row.value || 0) / most) * 100).toFixed(1)}%` },
          }),
        ),
        h("b", {}, row.text),
      ),
    ),
  );
}
