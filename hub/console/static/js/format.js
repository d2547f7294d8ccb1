// Numbers, amounts and times as people read them, in the chosen language.
//
// Rules. Wei stays BigInt until the last step. Every quantity carries its unit. A missing value is an en dash, never 0.

import { language } from "./i18n.js";

export const NONE = "–";
const SLOT_SECONDS = 900;
const FIRST_TIME = 100_000_000; // a smaller t is a slot index, not unix seconds
const GWEI = 10n ** 9n;
const cache = new Map();

function numbers(options) {
  const key = language() + JSON.stringify(options);
  if (!cache.has(key)) cache.set(key, new Intl.NumberFormat(language(), options));
  return cache.get(key);
}

export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** Integer with grouping; accepts decimal text too large for a number. */
export function count(value) {
  const big = toBig(value);
  return big === null ? NONE : numbers({ maximumFractionDigits: 0 }).format(big);
}

export function decimal(value, digits = 2) {
  return isNumber(value)
    ? numbers({ maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value)
    : NONE;
}

export function percent(ratio, digits = 0) {
  return isNumber(ratio) ? numbers({ style: "percent", maximumFractionDigits: digits }).format(ratio) : NONE;
}

/** Wh as Wh, kWh or MWh. */
export function energy(wh) {
  return scaled(wh, [
    [1e12, "TWh"],
    [1e9, "GWh"],
    [1e6, "MWh"],
    [1e3, "kWh"],
    [1, "Wh"],
  ]);
}

/** W as W, kW or MW. */
export function power(watt) {
  return scaled(watt, [
    [1e9, "GW"],
    [1e6, "MW"],
    [1e3, "kW"],
    [1, "W"],
  ]);
}

function scaled(value, steps) {
  if (!isNumber(value)) return NONE;
  const [unit, name] = steps.find(([size]) => Math.abs(value) >= size) || steps[steps.length - 1];
  return `${decimal(value / unit, unit === 1 ? 0 : 2)} ${name}`;
}

export function toBig(value) {
  if (typeof value === "bigint") return value;
  if (isNumber(value)) return BigInt(Math.trunc(value));
  return typeof value === "string" && /^-?\d{1,78}$/.test(value) ? BigInt(value) : null;
}

/** Wei as PETH, gwei or wei. */
export function peth(value, unit = "PETH") {
  const wei = toBig(value);
  if (wei === null) return NONE;
  const size = wei < 0n ? -wei : wei;
  if (size !== 0n && size < 10n ** 6n) return `${count(wei)} wei`;
  if (size !== 0n && size < 10n ** 14n) return `${significant(Number(wei) / 1e9)} gwei`;
  return `${significant(Number(wei / GWEI) / 1e9)} ${unit}`;
}

/** Wei per Wh as gwei/Wh (or wei/Wh when tiny). */
export function price(value) {
  const wei = toBig(value);
  if (wei === null) return NONE;
  if (wei < 10n ** 6n) return `${count(Number(wei))} wei/Wh`;
  return `${significant(Number(wei) / 1e9)} gwei/Wh`;
}

/** Four significant digits, grouped, never in exponent form. */
export function significant(value) {
  if (!isNumber(value)) return NONE;
  const whole = Math.abs(value) >= 1000;
  return numbers(
    whole
      ? { maximumFractionDigits: 0 }
      : { maximumSignificantDigits: 4, minimumSignificantDigits: value === 0 ? 1 : 4 },
  ).format(value);
}

/** A loss in millionths, as a plain number. */
export function loss(micro) {
  return isNumber(micro) ? decimal(micro / 1e6, 4) : NONE;
}

export function duration(seconds) {
  if (!isNumber(seconds)) return NONE;
  const unit = (n, name) => numbers({ style: "unit", unit: name, unitDisplay: "narrow" }).format(n);
  if (seconds < 90) return unit(Math.max(0, Math.round(seconds)), "second");
  if (seconds < 5400) return unit(Math.round(seconds / 60), "minute");
  if (seconds < 129600) return unit(Math.round(seconds / 3600), "hour");
  return unit(Math.round(seconds / 86400), "day");
}

/** Seconds with a fraction, for times of work: 0.42 s. */
export function seconds(value) {
  return isNumber(value) ? `${decimal(value, value < 10 ? 2 : 1)} s` : NONE;
}

/** 0x1234…cdef: enough to compare by eye; the whole value is kept beside it. */
export function shortHex(value) {
  const text = String(value ?? "");
  return text.length > 14 ? `${text.slice(0, 8)}…${text.slice(-4)}` : text || NONE;
}

/** Rows in the order people count them: agent-2 before agent-10. */
export function byName(rows) {
  const order = new Intl.Collator(language(), { numeric: true });
  return [...rows].sort((a, b) => order.compare(String(a.name), String(b.name)));
}

/** A microgrid's name: 1 and "mg1" are MG1. */
export function groupName(id) {
  if (id === undefined || id === null || id === "") return NONE;
  return /^\d+$/.test(String(id)) ? `MG${id}` : String(id).toUpperCase();
}

export function simSeconds(t) {
  return t < FIRST_TIME ? t * SLOT_SECONDS : t;
}

function clock(options) {
  const key = language() + JSON.stringify(options);
  if (!cache.has(key)) cache.set(key, new Intl.DateTimeFormat(language(), options));
  return cache.get(key);
}

const DAY = 86400;
const ROUND_TIMES = [60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, DAY]; // s between labels of a time axis

/** Seconds that clocks in `zone` are ahead of UTC at a moment. */
function zoneOffset(unixSeconds, zone) {
  const options = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric" };
  const format = new Intl.DateTimeFormat("en", { ...options, second: "numeric", hourCycle: "h23", timeZone: zone });
  const at = {};
  for (const { type, value } of format.formatToParts(unixSeconds * 1000)) at[type] = Number(value);
  return Date.UTC(at.year, at.month - 1, at.day, at.hour, at.minute, at.second) / 1000 - Math.floor(unixSeconds);
}

/** At most `most` moments between two, at round times of the clock in `zone`; the last moment when there is none. */
export function timeTicks(from, to, most, zone) {
  const offset = zoneOffset(to, zone);
  const step = ROUND_TIMES.find((size) => (to - from) / size < most) ?? DAY * Math.ceil((to - from) / DAY / most);
  const ticks = [];
  for (let at = Math.ceil((from + offset) / step) * step - offset; at <= to; at += step) ticks.push(at);
  return ticks.length > 0 ? ticks : [to];
}

/** At most `most` round whole numbers between two. */
export function countTicks(from, to, most) {
  const sizes = Array.from({ length: 36 }, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3));
  const step = sizes.find((size) => (to - from) / size < most) ?? 1;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at);
  return ticks.length > 0 ? ticks : [to];
}

/** A moment as a label of a time axis: the day at midnight, else the time of day. */
export function timeLabel(unixSeconds, zone) {
  const time = timeOfDay(unixSeconds, zone);
  return time === "00:00" ? dayOf(unixSeconds, zone) : time;
}

function dayOf(unixSeconds, zone) {
  return clock({ day: "numeric", month: "short", timeZone: zone }).format(unixSeconds * 1000);
}

/** When something was by this browser's clock: the time, and the day too when it was not today. */
export function wallTime(unixSeconds, now) {
  if (!isNumber(unixSeconds)) return NONE;
  if (dayOf(unixSeconds) === dayOf(now)) return timeOfDay(unixSeconds, undefined, true);
  return `${dayOf(unixSeconds)} ${timeOfDay(unixSeconds)}`;
}

export function timeOfDay(unixSeconds, zone, withSeconds = false) {
  if (!isNumber(unixSeconds)) return NONE;
  const options = { hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZone: zone };
  if (withSeconds) options.second = "2-digit";
  return clock(options).format(unixSeconds * 1000);
}

export function date(unixSeconds, zone) {
  if (!isNumber(unixSeconds)) return NONE;
  return clock({ weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: zone }).format(
    unixSeconds * 1000,
  );
}

/** The first four digits of a pseudonym: enough to find the same mark again; the whole value is kept beside it. */
export function shortName(value) {
  return String(value ?? "").replace(/^0x/i, "").slice(0, 4) || NONE;
}
