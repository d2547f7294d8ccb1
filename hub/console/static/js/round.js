// <og-round>: how far the open round of learning is, drawn as a line of stations; and the seats of its devices.
//
// Model: {steps: [{id, name, count, note, at: "done" | "now" | "next"}], share, label}. `share`: how much of the phase's longest
// time has passed, 0 to 1. Rules. Where a round stands is said by mark, line and word, colour only repeats it. Wide, the line
// runs across with its words below; where the stations would stand too close it runs down with its words beside it.
// A seat is a meter under its pseudonym of the epoch: its mark, its name, and its state in words.

import { Drawing } from "./drawing.js";
import { shortName } from "./format.js";
import { t, word } from "./i18n.js";
import { h, patch } from "./vdom.js";

const STATION = 104; // px, the least width of a station whose words stand below it
const ROW = 58; // px between stations one below the other
const TOP = 22;
const ACROSS_HEIGHT = 104;

class Round extends Drawing {
  draw() {
    const width = Math.floor(this.clientWidth);
    if (!this.data || width < 120) return;
    const { steps, label } = this.data;
    const across = width >= steps.length * STATION;
    const gap = across ? width / steps.length : ROW;
    const height = across ? ACROSS_HEIGHT : 2 * TOP + (steps.length - 1) * ROW + 14;
    const places = steps.map((_, i) => (across ? [gap * (i + 0.5), TOP] : [TOP, TOP + gap * i]));
    patch(
      this,
      h(
        "svg",
        { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
        steps.slice(0, -1).map((step, i) => this.track(step, i, places)),
        steps.map((step, i) => station(step, i, places[i], across)),
      ),
    );
  }

  track(step, i, places) {
    const [from, to] = [places[i], places[i + 1]];
    const share = step.at === "now" ? Math.max(0, Math.min(1, this.data.share)) : 0;
    const at = [0, 1].map((axis) => (from[axis] + (to[axis] - from[axis]) * share).toFixed(1));
    return [
      h("path", { key: `t${i}`, class: `track is-${step.at}`, d: `M${from}L${to}` }),
      step.at === "now" && h("path", { key: `p${i}`, class: "track passed", d: `M${from}L${at}` }),
    ];
  }
}

function station(step, i, [x, y], across) {
  const anchor = across ? "middle" : "start";
  const [tx, ty] = across ? [0, 36] : [28, -4];
  return h(
    "g",
    { key: `s${i}`, class: `station is-${step.at}`, transform: `translate(${x.toFixed(1)} ${y})` },
    h("circle", { r: step.at === "now" ? 14 : 11 }),
    step.at === "done" && h("path", { class: "mark", d: "M-4.5 .5-1.5 3.8 4.8-3.4" }),
    step.at === "now" && h("circle", { class: "here", r: 5.5 }),
    h(
      "text",
      { class: "station-name", x: tx, y: ty, "text-anchor": anchor },
      step.at === "now" ? t("step_now", { name: step.name }) : step.name,
    ),
    h("text", { class: "station-count", x: tx, y: ty + 18, "text-anchor": anchor }, step.count),
    h("text", { class: "station-note", x: tx, y: ty + 34, "text-anchor": anchor }, step.note),
  );
}

customElements.define("og-round", Round);

const HOUSE = "M4 17 18 4l14 13v15H4z";
// What stands in the house, drawn in a 36 x 36 box.
const MARKS = {
  waiting: "",
  left_out: "M12 24h12",
  committed: "M13 18h10v8H13zM13 18l5 4.5 5-4.5", // a sealed letter
  dealt: "M12 25h.01M18 19h.01M24 25h.01M12 25l6-6 6 6", // shares to others
  masked: "M13 21h10v7H13zM15 21v-3a3 3 0 0 1 6 0v3", // a lock
  revealed: "M18 28V17M13.5 21.5 18 17l4.5 4.5",
  included: "M12.5 22.5 16.5 27 24 18",
  rejected: "M13 18l10 10M23 18 13 28",
  judge: "M18 15v13M14 28h8M12 18h12M12 18l-2.5 5.5h5zM24 18l-2.5 5.5h5z", // scales
  found_good: "M18 15v13M14 28h8M12 16h12M12 16l-2.5 5.5h5zM24 20l-2.5 5.5h5z",
  found_worse: "M18 15v13M14 28h8M12 20h12M12 20l-2.5 5.5h5zM24 16l-2.5 5.5h5z",
};
const TONES = { included: "ok", found_good: "ok", rejected: "bad", found_worse: "warn", left_out: "warn" };

/** The devices of a round as marks; `closed`: of one that is over. */
export function seats(devices, closed) {
  return h(
    "ul",
    { class: "seats" },
    devices.map((device) => {
      const state = Object.hasOwn(MARKS, device.state) ? device.state : "waiting";
      return h(
        "li",
        { key: device.device, class: `seat at-${state} is-${TONES[state] || "wait"}`, title: device.device },
        h(
          "svg",
          { viewBox: "0 0 36 36", width: 36, height: 36, "aria-hidden": "true" },
          h("path", { class: "seat-house", d: HOUSE }),
          MARKS[state] && h("path", { class: "seat-mark", d: MARKS[state] }),
        ),
        h("b", {}, shortName(device.device)),
        h("span", { class: "seat-state" }, seatWord(state, closed)),
        device.reason && h("span", { class: "seat-reason" }, reason(device.reason)),
      );
    }),
  );
}

export function seatWord(state, closed) {
  return closed && state === "waiting" ? t("seat_absent") : t(`seat_${state}`);
}

/** A reason in words: the chain's own by its code, any other as it was said. */
export function reason(code) {
  return word("reason", code);
}
