// Chains: PBFT replicas, the relay, the plasma chain with its checkpoints, the root chain, the shielded pool.

import { byName, count, isNumber, NONE, peth, seconds } from "../format.js";
import { quorumOf } from "../health.js";
import { t } from "../i18n.js";
import { card, figure, figures, hex, notRunning, status, table } from "../parts.js";
import { store } from "../store.js";
import { h } from "../vdom.js";

const SHOWN_CHECKPOINTS = 24;

export function chains() {
  const { ppdl, relay, plasma, root, zk } = store.sections;
  return h(
    "div",
    { class: "cards" },
    h(
      "div",
      { class: "column span-7", key: "left" },
      ppdlCard(ppdl),
      checkpointsCard(plasma),
      contractsCard(t("contracts_plasma"), plasma?.contracts, "plasma"),
    ),
    h(
      "div",
      { class: "column span-5", key: "right" },
      relayCard(relay),
      plasmaCard(plasma),
      zkCard(zk, plasma),
      rootCard(root),
      contractsCard(t("contracts_root"), root?.contracts, "root"),
    ),
  );
}

function ppdlCard(p) {
  if (!p) return card(t("part_ppdl"), { span: 12, key: "ppdl" }, notRunning(t("absent_ppdl")));
  const validators = byName(p.validators || []);
  const online = validators.filter((v) => v.online).length;
  const quorum = quorumOf(validators.length);
  return card(
    t("part_ppdl"),
    {
      span: 12,
      key: "ppdl",
      aside: status(online >= quorum ? "ok" : "bad", t("quorum_of", { quorum, n: validators.length })),
      note: t("ppdl_note"),
    },
    figures(
      figure(t("height"), count(p.height), { tone: "lead" }),
      figure(t("view"), count(p.view)),
      figure(t("view_changes"), count(p.view_changes)),
      figure(t("mempool"), count(p.mempool)),
      figure(t("block_time"), seconds(p.block_seconds)),
    ),
    replicas(validators),
    table(
      t("validators"),
      [
        { label: t("name"), cell: (v) => v.name, head: true },
        { label: t("state"), cell: (v) => (v.online ? status("ok", t("online")) : status("bad", t("offline"))) },
        { label: t("height"), cell: (v) => count(v.height), align: "end" },
        { label: t("view"), cell: (v) => count(v.view), align: "end" },
        { label: t("address"), cell: (v) => hex(v.address) },
      ],
      validators,
      { rowKey: (v) => v.name, key: "validators" },
    ),
  );
}

/** Each replica as a column of its newest blocks: who is level, who lags. */
function replicas(validators) {
  const heights = validators.map((v) => v.height).filter(isNumber);
  if (heights.length === 0) return null;
  const height = Math.max(...heights);
  const blocks = 12;
  return h(
    "div",
    {
      class: "replicas",
      role: "img",
      "aria-label": t("replicas_label", { list: validators.map((v) => `${v.name} ${count(v.height)}`).join(", ") }),
    },
    validators.map((v) =>
      h(
        "div",
        { class: `replica ${v.online ? "" : "down"}`.trim(), key: v.name },
        h("span", { class: "replica-name" }, v.name),
        h(
          "span",
          { class: "blocks" },
          Array.from({ length: blocks }, (_, i) => {
            const at = height - blocks + 1 + i;
            return h("i", { key: at, class: at < 1 ? "none" : at <= (v.height || 0) ? "has" : "" });
          }),
        ),
      ),
    ),
  );
}

function relayCard(r) {
  if (!r) return card(t("part_relay"), { span: 12, key: "relay" }, notRunning(t("absent_relay")));
  const lag = isNumber(r.ppdl_height) && isNumber(r.height) ? Math.max(0, r.ppdl_height - r.height) : null;
  return card(
    t("part_relay"),
    {
      span: 12,
      key: "relay",
      note: t("relay_note"),
      aside:
        lag === null ? null : status(lag > 4 ? "warn" : "ok", lag > 0 ? t("blocks_behind", { n: lag }) : t("in_step")),
    },
    figures(
      figure(t("relayed_height"), count(r.height), { tone: "lead" }),
      figure(t("ppdl_height"), count(r.ppdl_height)),
    ),
    table(
      t("relayers"),
      [
        { label: t("name"), cell: (x) => x.name, head: true },
        { label: t("submissions"), cell: (x) => count(x.submissions), align: "end" },
        { label: t("rewards"), cell: (x) => peth(x.rewards_wei), align: "end" },
        { label: t("address"), cell: (x) => hex(x.address) },
      ],
      byName(r.relayers || []),
      { rowKey: (x) => x.name, key: "relayers" },
    ),
  );
}

function plasmaCard(p) {
  if (!p) return card(t("part_plasma"), { span: 12, key: "plasma" }, notRunning(t("absent_plasma")));
  return card(
    t("part_plasma"),
    { span: 12, key: "plasma" },
    figures(
      figure(t("block"), count(p.block), { tone: "lead" }),
      figure(t("transactions"), count(p.transactions)),
      figure(t("deposits"), count(p.deposits)),
      figure(t("supply"), peth(p.peth_supply_wei)),
      figure(t("chain_id"), p.chain_id === undefined ? NONE : String(p.chain_id)),
    ),
  );
}

function checkpointsCard(p) {
  const rows = [...(p?.checkpoints || [])].sort((a, b) => b.epoch - a.epoch).slice(0, SHOWN_CHECKPOINTS);
  return card(
    t("checkpoints"),
    { span: 12, key: "checkpoints", note: t("checkpoints_note") },
    !p
      ? notRunning(t("absent_plasma"))
      : table(
          t("checkpoints"),
          [
            { label: t("epoch"), cell: (c) => count(c.epoch), head: true },
            { label: t("blocks"), cell: (c) => `${count(c.first_block)}–${count(c.last_block)}`, align: "end" },
            { label: t("signatures"), cell: (c) => count(c.signatures), align: "end" },
            { label: t("block_hash"), cell: (c) => hex(c.block_hash) },
            { label: t("root_tx"), cell: (c) => hex(c.root_tx) },
          ],
          rows,
          { rowKey: (c) => c.epoch, key: "checkpoints", empty: t("no_checkpoint_yet") },
        ),
  );
}

function zkCard(z, p) {
  if (!z) return card(t("shielded_pool"), { span: 12, key: "zk" }, notRunning(t("absent_zk")));
  return card(
    t("shielded_pool"),
    { span: 12, key: "zk", note: t("zk_note") },
    figures(
      figure(t("transfers"), count(z.transfers), { tone: "lead" }),
      figure(t("notes"), count(p?.notes)),
      figure(t("nullifiers"), count(p?.nullifiers)),
      figure(t("shielded"), peth(p?.shielded_wei)),
      isNumber(z.prove_seconds_median) && figure(t("prove_time"), seconds(z.prove_seconds_median)),
      isNumber(z.verify_gas) && figure(t("verify_gas"), count(z.verify_gas)),
      z.backend && figure(t("prover"), z.backend),
    ),
  );
}

function rootCard(r) {
  if (!r) return card(t("part_root"), { span: 12, key: "root" }, notRunning(t("absent_root")));
  return card(
    t("part_root"),
    { span: 12, key: "root" },
    figures(
      isNumber(r.block) && figure(t("block"), count(r.block), { tone: "lead" }),
      figure(t("deposits"), count(r.deposits)),
      figure(t("chain_id"), r.chain_id === undefined ? NONE : String(r.chain_id)),
    ),
  );
}

function contractsCard(title, contracts, key) {
  const rows = Object.entries(contracts || {});
  if (rows.length === 0) return null;
  return card(
    title,
    { span: 12, key: `contracts-${key}` },
    table(
      title,
      [
        { label: t("contract"), cell: (r) => r[0], head: true },
        { label: t("address"), cell: (r) => hex(r[1]), align: "end" },
      ],
      rows,
      { rowKey: (r) => r[0], key },
    ),
  );
}
