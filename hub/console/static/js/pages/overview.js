// Overview: is everything well, and what is the microgrid doing now?

import { count, decimal, energy, groupName, isNumber, percent, power, price, wallTime } from "../format.js";
import { collarNote, hasPrice, hasSum, lastRound, summary } from "../health.js";
import { language, t } from "../i18n.js";
import { icon } from "../icons.js";
import { bars, card, chart, nothingYet, notRunning, split, status, table } from "../parts.js";
import { spark } from "../spark.js";
import { hubNow, store } from "../store.js";
import { h } from "../vdom.js";
import { energyModel, lossModel, pointsOf, priceModel, seriesName } from "../models.js";

const SHOWN_EVENTS = 12;

export function overview(zone) {
  const health = summary();
  return [
    story(health),
    trustChain(health.rows.slice(0, 6)),
    h("div", { class: "tiles", key: "tiles" }, health.rows.slice(6).map(tile)),
    h(
      "div",
      { class: "cards", key: "cards" },
      energyCard(zone),
      priceCard(zone),
      lossCard(),
      eventsCard(),
      processesCard(),
    ),
  ];
}

function story({ running, troubled, waiting }) {
  const lines = [
    ["grid", feederLines()],
    ["market", marketLines()],
    ["learning", learningLines()],
    ["chains", chainLines()],
  ];
  const [bad, look] = ["bad", "warn"].map((wanted) => troubled.filter((row) => row.level === wanted));
  const [level, headline] =
    running.length === 0
      ? ["off", t("story_waiting")]
      : troubled.length > 0
        ? [bad.length > 0 ? "bad" : "warn", troubleLine(bad, look)]
        : waiting.length > 0
          ? ["wait", t("story_starting", { names: names(waiting) })]
          : ["ok", t("story_well", { n: running.length })];
  return h(
    "section",
    { class: `story is-${level}`, key: "story", "aria-label": t("story") },
    h("div", { class: "story-mark" }, icon(level)),
    h(
      "div",
      { class: "story-text" },
      h("h2", { id: "headline" }, headline),
      h(
        "dl",
        {},
        lines
          .filter(([, said]) => said.length > 0)
          .map(([name, said]) => [
            h("dt", { key: `${name}-name` }, icon(name), t(`nav_${name}`)),
            h("dd", { key: name }, said.join(" ")),
          ]),
      ),
    ),
    nowNumbers(),
  );
}

function names(rows) {
  return rows.map((row) => row.name).join(", ");
}

function troubleLine(bad, look) {
  const faults = bad.length > 0 && t("story_fault", { names: names(bad) });
  return [faults, look.length > 0 && t("story_trouble", { names: names(look) })].filter(Boolean).join(" ");
}

function feederLines() {
  const groups = store.sections.grid?.microgrids || [];
  return groups
    .map((g) => {
      const name = g.name || groupName(g.id);
      const net = (g.feeder_export_w || 0) - (g.feeder_import_w || 0);
      if (!isNumber(g.feeder_export_w) && !isNumber(g.feeder_import_w)) return null;
      if (net === 0) return t("story_balanced", { name });
      return t(net > 0 ? "story_sends" : "story_draws", { name, power: power(Math.abs(net)) });
    })
    .filter(Boolean);
}

function marketLines() {
  const market = store.sections.market;
  const pools = (market?.microgrids || []).filter(hasPrice);
  if (pools.length === 0) return [];
  const prices = pools
    .map((g) => t("story_price", { id: groupName(g.id), price: price(g.price_wei_per_wh) }))
    .join(t("list_and"));
  const e = market.energy_wh || {};
  const traded =
    isNumber(e.sold) && isNumber(e.bought)
      ? ` ${t("story_traded", { sold: energy(e.sold), bought: energy(e.bought) })}`
      : "";
  return [t("story_prices", { prices }) + traded];
}

function learningLines() {
  const l = store.sections.learning;
  if (!l || !(lastRound(l).done > 0)) return [];
  const { done, took } = lastRound(l);
  const change =
    isNumber(l.loss_first_micro) && l.loss_first_micro > 0 && isNumber(l.loss_last_micro)
      ? (l.loss_first_micro - l.loss_last_micro) / l.loss_first_micro
      : null;
  const first = t("story_round", { n: count(done), took: count(took), of: count(l.registered) });
  if (change === null) return [first];
  return [`${first} ${t(change >= 0 ? "story_loss_fell" : "story_loss_rose", { by: percent(Math.abs(change), 1) })}`];
}

function chainLines() {
  const { ppdl, plasma, zk } = store.sections;
  const parts = [];
  if (ppdl) parts.push(t("story_ppdl", { n: count(ppdl.height) }));
  const checkpoints = plasma?.checkpoints || [];
  if (checkpoints.length > 0)
    parts.push(t("story_checkpoint", { n: count(Math.max(...checkpoints.map((c) => c.epoch))) }));
  if (zk) parts.push(t("story_private", { n: count(zk.transfers) }));
  return parts.length > 0 ? [parts.join(" ")] : [];
}

function nowNumbers() {
  const groups = (store.sections.grid?.microgrids || []).filter(hasSum);
  if (groups.length === 0) return null;
  const total = (name) => groups.reduce((sum, g) => sum + g[name], 0);
  const [taken, given] = [total("import_wh"), total("export_wh")];
  return h(
    "div",
    { class: "story-now", role: "group", "aria-label": t("last_slot") },
    h("h3", {}, t("last_slot")),
    bars([
      { key: "export", label: t("export"), tone: "export", value: given, text: energy(given) },
      { key: "import", label: t("import"), tone: "import", value: taken, text: energy(taken) },
    ]),
    h("p", { class: "note" }, t("sums_only")),
  );
}

function trustChain(rows) {
  return h(
    "section",
    { class: "chain", key: "chain", "aria-label": t("from_meter") },
    h("h2", { class: "strip-title" }, t("from_meter")),
    h(
      "ol",
      {},
      rows.map((row) => h("li", { key: row.id, class: `is-${row.level}` }, node(row))),
    ),
  );
}

function node(row) {
  return h(
    "a",
    { href: `#/${row.page}`, class: "node" },
    h("span", { class: "node-top" }, icon(row.id, "big"), status(row.level)),
    h("span", { class: "node-name" }, row.name),
    h(
      "span",
      { class: "node-figure" },
      row.figure ? split(row.figure) : "–",
      row.figure && row.unit && h("span", { class: "unit" }, ` ${row.unit}`),
    ),
    h("span", { class: "node-detail" }, row.level === "off" ? t("not_running_part") : row.detail),
  );
}

const SPARKS = { market: ["price", "price"], learning: ["loss", "loss"] };

function tile(row) {
  return h(
    "a",
    { href: `#/${row.page}`, class: `tile is-${row.level}`, key: row.id },
    h("span", { class: "tile-head" }, icon(row.id), h("span", { class: "tile-name" }, row.name), status(row.level)),
    h(
      "span",
      { class: "tile-figure" },
      row.figure ? split(row.figure) : "–",
      row.figure && row.unit && h("span", { class: "unit" }, ` ${row.unit}`),
    ),
    h("span", { class: "node-detail" }, row.level === "off" ? t("not_running_part") : row.detail),
    SPARKS[row.id] && spark(sparkPoints(row.id), SPARKS[row.id][1]),
  );
}

function sparkPoints(id) {
  if (id === "learning") return (store.sections.learning?.losses || []).map((l) => [l.round, l.loss_micro]);
  const pool = store.sections.market?.microgrids?.[0];
  return pool ? pointsOf(seriesName("market", pool.id, "price")) : [];
}

function energyCard(zone) {
  const grid = store.sections.grid;
  return card(
    t("energy_per_slot"),
    { span: 4, key: "energy", note: t("energy_note") },
    grid ? chart(energyModel(grid.microgrids || [], zone, "overview-energy")) : notRunning(t("absent_grid")),
  );
}

function priceCard(zone) {
  const market = store.sections.market;
  const pool = market?.microgrids?.[0];
  const note = pool ? collarNote(pool) : null;
  return card(
    pool ? t("price_of", { id: groupName(pool.id) }) : t("price"),
    { span: 4, key: "price", note },
    market
      ? pool
        ? chart(priceModel(pool, zone, "overview-price"))
        : nothingYet(t("no_pool_yet"))
      : notRunning(t("absent_market")),
  );
}

function lossCard() {
  const learning = store.sections.learning;
  return card(
    t("loss_per_round"),
    { span: 4, key: "loss", note: learning ? t("loss_note") : null },
    learning ? chart(lossModel(learning, "overview-loss")) : notRunning(t("absent_learning")),
  );
}

function eventsCard() {
  const rows = store.events.slice(-SHOWN_EVENTS).reverse();
  const simulated = (store.sections.overview?.speed ?? 1) !== 1;
  return card(
    t("events"),
    { span: store.sections.processes ? 7 : 12, key: "events", note: simulated && rows.length > 0 && t("events_note") },
    rows.length === 0
      ? nothingYet(t("no_events"))
      : h(
          "ol",
          { class: "events" },
          rows.map((event) =>
            h(
              "li",
              { key: event.id, class: `sev-${event.severity}` },
              h("time", {}, wallTime(event.wall, hubNow())),
              icon({ info: "info", success: "ok", warning: "warn", alarm: "bad" }[event.severity]),
              h("span", { class: "sev" }, t(`sev_${event.severity}`)),
              h("span", { class: "event-text" }, event[language()]),
            ),
          ),
        ),
  );
}

/** What the processes use, where somebody measures them; a hub alone does not. */
function processesCard() {
  const rows = store.sections.processes;
  if (!Array.isArray(rows)) return null;
  const total = rows.reduce((sum, p) => sum + (p.rss_mb || 0), 0);
  return card(
    t("processes"),
    { span: 5, key: "processes", aside: t("memory_total", { mb: decimal(total, 0) }) },
    table(
      t("processes"),
      [
        { label: t("name"), cell: (p) => p.name, head: true },
        { label: t("memory"), cell: (p) => (isNumber(p.rss_mb) ? `${decimal(p.rss_mb, 1)} MB` : "–"), align: "end" },
        {
          label: t("cpu"),
          cell: (p) => (isNumber(p.cpu_percent) ? `${decimal(p.cpu_percent, 1)} %` : "–"),
          align: "end",
        },
      ],
      rows,
      { rowKey: (p) => p.name, key: "proc" },
    ),
  );
}
