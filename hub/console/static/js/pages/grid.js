// Live grid: each feeder with its homes as a one-line diagram, the sums of the last slot, the meters' health.

import { byName, count, duration, energy, groupName, isNumber, NONE, power } from "../format.js";
import { closedGroups, hasSum } from "../health.js";
import { t, word } from "../i18n.js";
import { energyModel } from "../models.js";
import "../oneline.js";
import { card, chart, figure, figures, notRunning, nothingYet, status, table } from "../parts.js";
import { hubNow, store } from "../store.js";
import { h } from "../vdom.js";

const FIRST_UNIX = 1e9; // a larger last_seen_s is a moment, not an age

export function grid(zone) {
  const value = store.sections.grid;
  if (!value) return card(t("page_grid"), { span: 12 }, notRunning(t("absent_grid")));
  const groups = value.microgrids || [];
  const devices = byName(value.devices || []);
  return h(
    "div",
    { class: "cards" },
    groups.length === 0 && card(t("one_line"), { span: 12 }, nothingYet(t("no_group_yet"))),
    groups.map((group) => groupCard(group, devices)),
    groups.map((group) =>
      card(
        t("energy_of", { name: group.name || groupName(group.id) }),
        { span: groups.length > 1 ? 6 : 12, key: `e-${group.id}` },
        chart(energyModel([group], zone, `grid-${group.id}`)),
      ),
    ),
    readingsCard(value.readings || {}),
    devicesCard(devices),
  );
}

function groupCard(group, devices) {
  const name = group.name || groupName(group.id);
  const own = devices.filter((d) => d.kind !== "feeder" && groupName(d.microgrid) === groupName(group.id));
  const gap = group.gap && group.gap.length > 0 ? group.gap : null;
  const several = (group.groups || []).length > 1;
  return card(
    name,
    { span: 12, key: `g-${group.id}`, aside: published(group) },
    group.small && h("p", { class: "callout is-warn" }, t("group_small", group.small)),
    gap && !several && h("p", { class: "callout is-warn" }, t("gap_reason", { homes: gap.join(", ") })),
    h("og-oneline", { ".model": { group, devices: own } }),
    figures(
      figure(t("feeder_import"), power(group.feeder_import_w), { tone: "import", detail: t("in_clear") }),
      figure(t("feeder_export"), power(group.feeder_export_w), { tone: "export", detail: t("in_clear") }),
      figure(t("sum_import"), hasSum(group) ? energy(group.import_wh) : NONE, {
        tone: "import",
        detail: t("slot_sum_of", { slot: group.slot ?? NONE, n: count(group.meters ?? group.homes) }),
      }),
      figure(t("sum_export"), hasSum(group) ? energy(group.export_wh) : NONE, {
        tone: "export",
        detail: t("slot_sum_of", { slot: group.slot ?? NONE, n: count(group.meters ?? group.homes) }),
      }),
    ),
    several && groupsTable(group),
  );
}

/** What stands beside a microgrid's name: whether its sum is published, and of how many of its groups. */
function published(group) {
  const groups = group.groups || [];
  const closed = closedGroups(group).length;
  if (group.small || (group.gap && group.gap.length > 0)) return status("warn", t("no_sum"));
  if (closed > 0) return status("warn", t("groups_closed", { n: closed, of: groups.length }));
  return status("ok", t("sum_published"));
}

/** The groups of a microgrid: each is summed by itself, and a closed one says for whom it waits. */
function groupsTable(group) {
  return table(
    t("groups_of", { name: group.name || groupName(group.id) }),
    [
      { label: t("group"), cell: (g) => String(g.number), head: true },
      { label: t("group_homes"), cell: (g) => count(g.homes), align: "end" },
      { label: t("state"), cell: groupState },
      { label: t("group_slot"), cell: (g) => String(g.slot ?? NONE), align: "end" },
      { label: t("sum_import"), cell: (g) => (isNumber(g.import_wh) ? energy(g.import_wh) : NONE), align: "end" },
      { label: t("sum_export"), cell: (g) => (isNumber(g.export_wh) ? energy(g.export_wh) : NONE), align: "end" },
    ],
    group.groups,
    { rowKey: (g) => g.number, key: `groups-${group.id}` },
  );
}

function groupState(group) {
  if (!group.gap || group.gap.length === 0) {
    return isNumber(group.slot) ? status("ok", t("group_open")) : status("wait", t("group_waits"));
  }
  return status("warn", t(group.left_out ? "group_left_out" : "group_closed", { homes: group.gap.join(", ") }));
}

function readingsCard(readings) {
  return card(
    t("readings"),
    { span: 12, key: "readings", note: t("readings_note") },
    figures(
      isNumber(readings.polled) && figure(t("polled"), count(readings.polled)),
      figure(t("stored"), count(readings.stored)),
      figure(t("acked"), count(readings.acked)),
      figure(t("lost"), count(readings.lost), { tone: readings.lost > 0 ? "alarm" : "" }),
      figure(t("duplicates"), count(readings.duplicates_ignored)),
      readings.failed > 0 && figure(t("failed_messages"), count(readings.failed), { tone: "alarm" }),
    ),
  );
}

/** How long ago a device was heard, as text. */
function lastSeen(device) {
  const value = device.last_seen_s;
  if (typeof value !== "number") return NONE;
  return t("ago", { time: duration(value > FIRST_UNIX ? hubNow() - value : value) });
}

function devicesCard(devices) {
  const hasSignal = devices.some((d) => isNumber(d.rssi));
  return card(
    t("meters"),
    { span: 12, key: "devices", note: t("meters_note") },
    table(
      t("meters"),
      [
        { label: t("name"), cell: (d) => d.name, head: true },
        { label: t("state"), cell: (d) => (d.online ? status("ok", t("online")) : status("bad", t("offline"))) },
        { label: t("last_seen"), cell: lastSeen, align: "end" },
        { label: t("microgrid"), cell: (d) => groupName(d.microgrid) },
        { label: t("kind"), cell: (d) => (d.kind ? word("kind", d.kind) : NONE) },
        { label: t("sent"), cell: (d) => String(d.seq ?? NONE), align: "end" },
        { label: t("acked"), cell: (d) => String(d.acked ?? NONE), align: "end" },
        hasSignal && { label: t("signal"), cell: (d) => (isNumber(d.rssi) ? `${d.rssi} dBm` : NONE), align: "end" },
      ].filter(Boolean),
      devices,
      { rowKey: (d) => d.name, key: "devices" },
    ),
  );
}
