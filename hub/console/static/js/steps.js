// The open round of a model in steps and words; pure functions of the `learning` section.

import { count, duration, isNumber, shortHex } from "./format.js";
import { t } from "./i18n.js";
import { store } from "./store.js";

const SPENT = "spent"; // the phase of a model whose privacy budget allows no further round
const IN_CLEAR = ["commit", "reveal", "aggregate", "committee", "close"];
const HIDDEN = ["commit", "deal", "mask", "reveal", "sign", "unmask", "aggregate", "committee", "close"];

export function isHidden(model) {
  return model.privacy === "secagg" || model.privacy === "secagg_dp";
}

/** The name of a hub by its address, as far as this hub knows it. */
export function hubName(address) {
  return (store.sections.ppdl?.validators || []).find((hub) => hub.address === address)?.name || shortHex(address);
}

/** What <og-round> draws; null when the hub does not say how far the round is. */
export function roundModel(model) {
  const open = model.open;
  if (!open || model.phase === SPENT) return null;
  const order = isHidden(model) ? HIDDEN : IN_CLEAR;
  const now = order.indexOf(model.phase);
  if (now < 0) return null;
  const steps = order.map((id, i) => ({
    id,
    name: t(`step_${id}`),
    at: i < now ? "done" : i === now ? "now" : "next",
    ...(i <= now || id === "close" ? said(id, model, i === now) : { count: "", note: "" }),
  }));
  const long = open.phase_end_height - open.phase_height;
  const share = long > 0 ? (open.height - open.phase_height) / long : 0;
  return { steps, share, label: `${t("round_n", { n: count(model.round) })}: ${phaseWords(model)} ${timeLeft(model)}` };
}

/** [how many took the step of a phase, of how many]. */
function progress(phase, o, hidden) {
  return {
    commit: [o.committed, o.expected],
    deal: [o.dealt, o.members],
    mask: [o.masked, o.dealt],
    reveal: [o.revealed, hidden ? o.masked : o.committed],
    sign: [o.signed, o.included],
    unmask: [o.unmasked, o.included],
    aggregate: [o.agreed, o.validators],
    committee: [o.ballots, o.committee],
  }[phase];
}

function said(id, model, isNow) {
  const o = model.open;
  if (id === "close") return { count: t("next_round", { n: count(model.round + 1) }), note: "" };
  if (id === "aggregate") {
    return {
      count: isNow ? t("hubs_agree", { n: o.agreed, of: o.validators }) : t("included_n", { n: count(o.included) }),
      note: t("attempt_n", { n: model.attempt + 1, of: o.max_attempts }),
    };
  }
  const [n, of] = progress(id, o, isHidden(model));
  const worse = id === "committee" && o.worse > 0;
  return {
    count: t("n_of", { n: count(n), of: count(of) }),
    note: worse ? t("ballots_worse", { n: count(o.worse) }) : t(`did_${id}`),
  };
}

/** Prices are public, so hubs learn them and no meter is asked to. */
export function isLearntByHubs(model) {
  return model.quantity === "price";
}

/** What happens in the phase that is open, in one or two sentences. */
export function phaseWords(model) {
  const { open, phase } = model;
  if (phase === SPENT) return t("say_spent");
  if (!open || !HIDDEN.includes(phase)) return "";
  const [n, of] = progress(phase, open, isHidden(model));
  const facts = { n: count(n), of: count(of), leader: open.leader ? hubName(open.leader) : "" };
  if (phase === "aggregate" && open.disagreed > 0) return t("say_doubt", { ...facts, n: count(open.disagreed) });
  if (isLearntByHubs(model)) {
    if (phase === "commit") return t("hubs_commit", facts);
    if (phase === "reveal") return t("hubs_reveal", facts);
    if (phase === "committee") return t("hubs_judge", facts);
  }
  return t(`say_${phase}`, facts);
}

/** Until when the open phase lasts at most. */
export function timeLeft(model) {
  const o = model.open;
  if (!o || model.phase === SPENT) return "";
  const blocks = Math.max(0, o.phase_end_height - o.height);
  const seconds = store.sections.ppdl?.block_seconds;
  const facts = { height: count(o.height), end: count(o.phase_end_height) };
  return isNumber(seconds) && blocks > 0
    ? t("ends_in", { ...facts, time: duration(blocks * seconds) })
    : t("ends_at", facts);
}
