// What each chart shows: from sections and series to the model of <og-chart>.

import { countTicks, energy, groupName, loss, price, simSeconds, timeLabel, timeOfDay, timeTicks } from "./format.js";
import { t } from "./i18n.js";
import { store } from "./store.js";

const SHOWN_SECONDS = 86400; // one day
const SLOT_SECONDS = 900;
const HOUR_SECONDS = 3600;

const ENERGY_SCALES = [
  { divisor: 1e9, unit: "GWh" },
  { divisor: 1e6, unit: "MWh" },
  { divisor: 1e3, unit: "kWh" },
  { divisor: 1, unit: "Wh" },
];
const energyScale = (largest) => ENERGY_SCALES.find(({ divisor }) => largest >= divisor) ?? ENERGY_SCALES[3];
const priceScale = (largest) => (largest >= 1e6 ? { divisor: 1e9, unit: "gwei/Wh" } : { divisor: 1, unit: "wei/Wh" });
const lossScale = () => ({ divisor: 1e6, unit: "" });

/** The points of a series at simulated unix seconds, the newest day. */
export function pointsOf(name) {
  const points = (store.series[name] || []).map(([at, value]) => [simSeconds(at), value]);
  const from = points.length > 0 ? points[points.length - 1][0] - SHOWN_SECONDS : 0;
  return points.filter(([at]) => at > from);
}

export function seriesName(kind, id, what) {
  return `${kind}.${groupName(id).toLowerCase()}.${what}`;
}

function add(lists) {
  const sums = new Map();
  for (const points of lists) for (const [x, value] of points) sums.set(x, (sums.get(x) || 0) + value);
  // A slot counts only when every microgrid has it: a partial sum would look like a dip.
  const whole = [...sums.keys()].filter((x) =>
    lists.every((points) => points.length === 0 || points.some((p) => p[0] === x)),
  );
  return whole.sort((a, b) => a - b).map((x) => [x, sums.get(x)]);
}

function timeAxis(zone) {
  return {
    formatX: (x, long) => (long ? timeOfDay(x, zone) : timeLabel(x, zone)),
    xTicks: (from, to, most) => timeTicks(from, to, most, zone),
  };
}

/** Import and export per slot, summed over the given microgrids. */
export function energyModel(groups, zone, id) {
  const of = (what) => add(groups.map((g) => pointsOf(seriesName("grid", g.id, what))).filter((p) => p.length > 0));
  return {
    id,
    label: t("energy_per_slot"),
    xLabel: t("slot_start"),
    kind: "line",
    height: 178,
    zero: true,
    empty: t("no_slot_yet"),
    maxGap: SLOT_SECONDS, // a slot that stayed closed has no value, and none is drawn
    ...timeAxis(zone),
    formatY: energy,
    scale: energyScale,
    series: [
      { key: "export", label: t("export"), tone: "export", dash: "none", fill: true, points: of("export_wh") },
      { key: "import", label: t("import"), tone: "import", dash: "dash", points: of("import_wh") },
    ],
  };
}

/** Price of one pool with its collar. */
export function priceModel(pool, zone, id) {
  const refs = [
    { label: t("retail"), tone: "limit", value: pool.retail_wei_per_wh },
    { label: t("feed_in"), tone: "limit", value: pool.feed_in_wei_per_wh },
  ].filter((ref) => typeof ref.value === "number");
  return {
    id,
    label: t("price_of", { id: groupName(pool.id) }),
    xLabel: t("time"),
    kind: "line",
    height: 178,
    zero: false,
    empty: t("no_price_yet"),
    ...timeAxis(zone),
    formatY: price,
    scale: priceScale,
    refs,
    series: [
      {
        key: "price",
        label: t("price"),
        tone: "price",
        step: true,
        points: pointsOf(seriesName("market", pool.id, "price")),
      },
    ],
  };
}

/** Loss of the master model after each round. */
export function lossModel(learning, id) {
  const points = (learning.losses || []).map((l) => [l.round, l.loss_micro]);
  return {
    id,
    label: t("loss_per_round"),
    xLabel: t("round"),
    kind: "line",
    height: 178,
    zero: false, // what changes from round to round is small beside the loss itself
    empty: t("no_round_yet"),
    formatX: (x, long) => (long ? t("round_n", { n: x }) : String(x)),
    xTicks: countTicks,
    xTitle: t("round"),
    formatY: loss,
    scale: lossScale,
    series: [{ key: "loss", label: t("loss"), tone: "loss", dash: "none", points }],
  };
}

/** Net import of a group in whole hours from `start` on, of those of whose four slots this console has the sums. */
function actualHours(id, start, hours) {
  const [taken, given] = ["import_wh", "export_wh"].map((what) => new Map(pointsOf(seriesName("grid", id, what))));
  return Array.from({ length: hours }, (_, i) => start + i * HOUR_SECONDS)
    .map((hour) => [hour, [0, 1, 2, 3].map((slot) => hour + slot * SLOT_SECONDS)])
    .filter(([, slots]) => slots.every((slot) => taken.has(slot) && given.has(slot)))
    .map(([hour, slots]) => [hour, slots.reduce((sum, slot) => sum + taken.get(slot) - given.get(slot), 0)]);
}

/** The last vouched forecast: net energy of a group in each of the 24 hours that begin when `as_of_slot` ends, and what came. */
export function forecastModel(last, zone, id) {
  const start = simSeconds(last.as_of_slot + 1);
  const said = (last.answers_wh || []).map((wh, i) => [start + i * HOUR_SECONDS, wh]);
  const came = actualHours(last.microgrid, start, said.length);
  return {
    id,
    label: t("forecast"),
    xLabel: t("hour"),
    kind: "bar",
    height: 190,
    zero: true,
    empty: t("no_answer_yet"),
    ...timeAxis(zone),
    formatY: energy,
    scale: energyScale,
    series: [
      { key: "wh", label: t("forecast_energy"), tone: "price", hollow: true, points: said },
      ...(came.length > 0 ? [{ key: "actual", label: t("actual"), tone: "export", points: came }] : []),
    ],
  };
}

/** What a microgrid took in each hour, what had been forecast for it a day ahead, and the day that comes. */
export function outlookModel(row, zone, id) {
  const forecast = [...(row.day_ahead || []), ...(row.next || [])];
  const quantile = (place) => forecast.map((hour) => [hour[0], hour[place]]);
  return {
    id,
    label: t("outlook_of", { id: groupName(row.id) }),
    xLabel: t("hour"),
    kind: "line",
    height: 220,
    zero: true,
    empty: t("no_outlook_yet"),
    maxGap: HOUR_SECONDS,
    ...timeAxis(zone),
    formatY: energy,
    scale: energyScale,
    band: { low: "p10", high: "p90", label: t("band"), tone: "price" },
    mark: { x: row.as_of, label: t("now") },
    series: [
      { key: "actual", label: t("actual"), tone: "export", dash: "none", points: row.actual || [] },
      { key: "p50", label: t("quantile_middle"), tone: "price", dash: "dash", points: quantile(2) },
      { key: "p10", label: t("quantile_low"), tone: "price", dash: "dot", points: quantile(1) },
      { key: "p90", label: t("quantile_high"), tone: "price", dash: "dot", points: quantile(3) },
    ],
  };
}
