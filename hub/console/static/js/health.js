// How each part of the system is, judged from what the hub published; pure functions of the sections.
//
// Levels: ok; warn (works, but somebody should look); bad (does not do its work); wait (running, nothing done yet);
// off (the hub does not run it). A part whose publisher fell silent is warn, whatever its last words were.

import { count, energy, groupName, isNumber, percent, price, toBig } from "./format.js";
import { t } from "./i18n.js";
import { ageOf, store } from "./store.js";

const STALE_S = 45; // publishers renew their section each few seconds
const RELAY_LAG_WARN = 4; // blocks behind the PPDL chain
const RELAY_LAG_BAD = 30;
const NO_AGE = new Set(["privacy"]); // put once, true until replaced

/** Faults a quorum of n validators survives: f = (n - 1) // 3; quorum = (n + f) // 2 + 1. */
export function quorumOf(n) {
  const faults = Math.floor((n - 1) / 3);
  return Math.floor((n + faults) / 2) + 1;
}

function isStale(section) {
  const age = ageOf(section);
  return !NO_AGE.has(section) && age !== null && age > STALE_S;
}

/** The way of a reading from the meter to Ethereum, as health rows in order. */
export function chainOfTrust() {
  return [meters(), sums(), ppdl(), relay(), plasma(), root()];
}

/** The services on top. */
export function services() {
  return [market(), learning(), zk(), inference()];
}

export function summary() {
  const rows = [...chainOfTrust(), ...services()];
  const running = rows.filter((row) => row.level !== "off");
  return {
    rows,
    running,
    troubled: running.filter((row) => row.level === "warn" || row.level === "bad"),
    waiting: running.filter((row) => row.level === "wait"),
  };
}

function row(id, section, page, judge) {
  const value = store.sections[section];
  const base = { id, page, name: t(`part_${id}`), level: "off", figure: null, unit: "", detail: "" };
  if (value === undefined || value === null) return base;
  const judged = { ...base, ...judge(value) };
  if (isStale(section)) {
    return {
      ...judged,
      level: judged.level === "bad" ? "bad" : "warn",
      detail: t("stale", { age: Math.round(ageOf(section)) }),
    };
  }
  return judged;
}

function meters() {
  return row("meters", "grid", "grid", (grid) => {
    const devices = grid.devices || [];
    const online = devices.filter((d) => d.online).length;
    const lost = grid.readings?.lost || 0;
    const down = devices.length - online;
    const level = devices.length === 0 ? "wait" : lost > 0 || online === 0 ? "bad" : down > 0 ? "warn" : "ok";
    const detail =
      lost > 0
        ? t("readings_lost", { n: count(lost) })
        : down > 0
          ? t("devices_offline", { n: down })
          : t("readings_acked", { n: count(grid.readings?.acked) });
    return { level, figure: `${online}/${devices.length}`, unit: t("unit_online"), detail };
  });
}

function sums() {
  return row("sums", "grid", "grid", (grid) => {
    const groups = grid.microgrids || [];
    const gaps = groups.filter((g) => g.small || closedGroups(g).length > 0);
    const known = groups.filter(hasSum);
    if (gaps.length > 0) {
      return {
        level: "warn",
        figure: `${gaps.length}`,
        unit: t("unit_gaps"),
        detail: t("gap_in", { names: gaps.map((g) => g.name || groupName(g.id)).join(", ") }),
      };
    }
    if (known.length === 0) return { level: "wait", figure: null, detail: t("no_slot_yet") };
    const total = known.reduce((sum, g) => sum + g.import_wh + g.export_wh, 0);
    return {
      level: "ok",
      figure: energy(total),
      detail: t("slot_n", { n: Math.max(...known.map((g) => g.slot || 0)) }),
    };
  });
}

/** The groups of a microgrid that stay closed; where none are told apart, the microgrid itself when it has a gap. */
export function closedGroups(microgrid) {
  const groups = microgrid.groups && microgrid.groups.length > 0 ? microgrid.groups : [microgrid];
  return groups.filter((g) => g.gap && g.gap.length > 0);
}

/** Whether a group has a published sum: a group with a gap has none, whatever stands beside it. */
export function hasSum(group) {
  return isNumber(group.import_wh) && isNumber(group.export_wh) && !(group.gap && group.gap.length > 0);
}

function ppdl() {
  return row("ppdl", "ppdl", "chains", (chain) => {
    const validators = chain.validators || [];
    const online = validators.filter((v) => v.online).length;
    const quorum = quorumOf(validators.length);
    const level =
      validators.length > 0 && online < quorum
        ? "bad"
        : online < validators.length
          ? "warn"
          : chain.height > 0
            ? "ok"
            : "wait";
    const detail =
      level === "bad" ? t("no_quorum", { online, quorum }) : t("validators_online", { online, n: validators.length });
    return { level, figure: count(chain.height), unit: t("unit_height"), detail };
  });
}

function relay() {
  return row("relay", "relay", "chains", (r) => {
    const lag = isNumber(r.ppdl_height) && isNumber(r.height) ? r.ppdl_height - r.height : 0;
    const level = lag > RELAY_LAG_BAD ? "bad" : lag > RELAY_LAG_WARN ? "warn" : r.height > 0 ? "ok" : "wait";
    return {
      level,
      figure: count(r.height),
      unit: t("unit_relayed"),
      detail: lag > 0 ? t("blocks_behind", { n: lag }) : t("in_step"),
    };
  });
}

function plasma() {
  return row("plasma", "plasma", "chains", (p) => ({
    level: p.block > 0 ? "ok" : "wait",
    figure: count(p.block),
    unit: t("unit_block"),
    detail: t("transactions_n", { n: count(p.transactions) }),
  }));
}

function root() {
  return row("root", "root", "chains", (r) => {
    const plasma = store.sections.plasma;
    const checkpoints = plasma?.checkpoints || [];
    const epochs = checkpoints.map((c) => c.epoch);
    const seen = isNumber(r.block) ? { figure: count(r.block), unit: t("unit_block") } : {};
    return {
      level: checkpoints.length > 0 ? "ok" : "wait",
      figure: count(plasma?.checkpoint_count ?? checkpoints.length),
      unit: t("unit_checkpoints"),
      ...seen,
      detail: checkpoints.length > 0 ? t("checkpoint_n", { n: Math.max(...epochs) }) : t("no_checkpoint_yet"),
    };
  });
}

function market() {
  return row("market", "market", "market", (m) => {
    const pools = (m.microgrids || []).filter(hasPrice);
    const out = pools.filter((g) => collarRatio(g) !== null && (collarRatio(g) < 0 || collarRatio(g) > 1));
    const detail =
      out.length > 0
        ? t("outside_collar", { names: out.map((g) => groupName(g.id)).join(", ") })
        : t("swaps_n", { n: count(m.swaps) });
    return {
      level: out.length > 0 ? "warn" : m.swaps > 0 ? "ok" : "wait",
      figure: pools.length ? price(pools[0].price_wei_per_wh) : null,
      detail,
    };
  });
}

function learning() {
  return row("learning", "learning", "learning", (l) => {
    const worse = isNumber(l.loss_first_micro) && isNumber(l.loss_last_micro) && l.loss_last_micro > l.loss_first_micro;
    const { done, took } = lastRound(l);
    const detail = worse ? t("loss_rose") : t("took_part", { n: count(took), of: count(l.registered) });
    return {
      level: worse ? "warn" : done > 0 ? "ok" : "wait",
      figure: count(done),
      unit: t("unit_rounds"),
      detail,
    };
  });
}

function zk() {
  return row("zk", "zk", "chains", (z) => ({
    level: z.transfers > 0 ? "ok" : "wait",
    figure: count(z.transfers),
    unit: t("unit_transfers"),
    detail: z.backend ? t("prover_is", { name: z.backend }) : t("on_chain"),
  }));
}

function inference() {
  return row("inference", "inference", "learning", (i) => {
    const open = (i.requests || 0) - (i.answered || 0);
    return {
      level: i.answered > 0 ? "ok" : "wait",
      figure: count(i.answered),
      unit: t("unit_answers"),
      detail: open > 0 ? t("requests_open", { n: open }) : t("all_answered"),
    };
  });
}

/** Whether a pool has a price: an empty pool has none. */
export function hasPrice(pool) {
  return (toBig(pool.price_wei_per_wh) ?? 0n) > 0n;
}

/** Rounds that have ended and who took part in the last of them, apart from a round that is still open. */
export function lastRound(learning) {
  return { done: learning.completed ?? learning.round, took: learning.last_participants ?? learning.participants };
}

/** The place of a price in words: inside its collar, or on which side of it. */
export function collarNote(pool) {
  const ratio = collarRatio(pool);
  if (ratio === null) return null;
  if (ratio < 0) return t("collar_below");
  return ratio > 1 ? t("collar_above") : t("collar_note", { at: percent(ratio) });
}

/** Where a price stands in its collar: 0 at feed-in, 1 at retail; null when a limit is unknown. */
export function collarRatio(pool) {
  const wei = [pool.price_wei_per_wh, pool.feed_in_wei_per_wh, pool.retail_wei_per_wh].map(toBig);
  if (!hasPrice(pool) || wei.includes(null) || wei[2] <= wei[1]) return null;
  const [at, low, high] = wei.map(Number);
  return (at - low) / (high - low);
}
