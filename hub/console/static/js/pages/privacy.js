// Privacy: what is private today, what is public, what is not private yet; and what has to hold for it.

import { said, t, word } from "../i18n.js";
import { icon } from "../icons.js";
import { card, notRunning, table } from "../parts.js";
import { store } from "../store.js";
import { h } from "../vdom.js";

const STATES = { private: ["lock", "ok"], public: ["eye", "public"], "not yet": ["warn", "warn"] };

export function privacy() {
  const rows = store.sections.privacy;
  const known = Array.isArray(rows);
  return h(
    "div",
    { class: "cards" },
    card(
      t("privacy_today"),
      { span: 12, key: "table", note: t("privacy_note"), aside: known && countsOf(rows) },
      !known
        ? notRunning(t("absent_privacy"))
        : table(
            t("privacy_today"),
            [
              { label: t("datum"), cell: (r) => said(r, "datum"), head: true },
              { label: t("state"), cell: (r) => chip(r.status) },
              { label: t("who"), cell: (r) => said(r, "who") },
              { label: t("remark"), cell: (r) => withCode(said(r, "note")) },
            ],
            rows,
            { key: "privacy" },
          ),
    ),
    card(
      t("assumptions"),
      { span: 12, key: "assumptions", note: t("assumptions_note") },
      h(
        "ul",
        { class: "assumptions" },
        ["entities", "members", "utility", "sums"].map((name) => h("li", { key: name }, t(`assume_${name}`))),
        store.sections.overview?.hubs === 1 && h("li", { key: "one", class: "callout is-warn" }, t("assume_one_hub")),
      ),
    ),
  );
}

/** Text in which `...` marks a command. */
function withCode(text) {
  return text.split("`").map((part, i) => (i % 2 === 1 ? h("code", { key: i }, part) : part));
}

function chip(state) {
  const [glyph, level] = Object.hasOwn(STATES, state) ? STATES[state] : ["info", "off"];
  return h("span", { class: `chip is-${level}` }, icon(glyph), word("privacy", String(state).replace(" ", "_")));
}

function countsOf(rows) {
  return h(
    "span",
    { class: "chips" },
    Object.keys(STATES).map((state) =>
      h(
        "span",
        { key: state, class: `chip is-${STATES[state][1]}` },
        icon(STATES[state][0]),
        `${word("privacy", state.replace(" ", "_"))} ${rows.filter((r) => r.status === state).length}`,
      ),
    ),
  );
}
