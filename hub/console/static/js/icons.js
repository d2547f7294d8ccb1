// Hand-drawn 20 x 20 icons, one stroke style. Decorative: the word beside an icon carries the meaning.

import { h } from "./vdom.js";

const PATHS = {
  overview: "M3 11a7 7 0 1 1 14 0M10 11l3.5-3.5M5 15h10",
  grid: "M10 2v4M4 6h12M4 6v5M10 6v5M16 6v5M2.5 14 4 12l1.5 2v3h-3zM8.5 14l1.5-2 1.5 2v3h-3zM14.5 14l1.5-2 1.5 2v3h-3z",
  market: "M3 16h14M4 12l3.5-4 3 2.5L16 4M12.5 4H16v3.5",
  learning: "M4 4v12h12M6 6c1.5 6 4 7.5 10 8M9 9.5h.01M12.5 12h.01",
  chains: "M3 7.5 7 5l4 2.5v5L7 15l-4-2.5zM11 7.5l3-2 3 2v5l-3 2-3-2M3 7.5 7 10l4-2.5M7 10v5",
  privacy: "M10 2.5 16 5v4.5c0 4-2.5 6.5-6 8-3.5-1.5-6-4-6-8V5zM7.5 10l2 2 3.5-4",
  meters: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM10 10l3-3M6 13.5h8M6.5 7.5h.01M10 5.5h.01",
  sums: "M15 4H5l5.5 6L5 16h10M15 4v2M15 16v-2",
  ppdl: "M10 3.5a2 2 0 1 0 0 .01M4 14a2 2 0 1 0 0 .01M16 14a2 2 0 1 0 0 .01M8.8 5.3 5 12M11.2 5.3 15 12M6 14h8",
  relay: "M3 7h11M11 4l3 3-3 3M17 13H6M9 10l-3 3 3 3",
  plasma: "M10 2.5 16.5 6v8L10 17.5 3.5 14V6zM3.5 6 10 9.5 16.5 6M10 9.5v8",
  root: "M10 2l5 8-5 3-5-3zM5 12l5 6 5-6-5 3z",
  zk: "M5 9V6.5a5 5 0 0 1 10 0V9M4 9h12v8H4zM10 12v2",
  inference: "M3 13c2-6 4-8 7-8s5 2 7 8M3 16h14M10 5v11M6 10v6M14 10v6",
  ok: "M4.5 10.5 8.5 14.5 15.5 6",
  warn: "M10 3 18 17H2zM10 8v4M10 14.5h.01",
  bad: "M5.5 5.5l9 9M14.5 5.5l-9 9",
  off: "M5 10h10",
  wait: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM10 6v4l2.5 2",
  info: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM10 9v5M10 6.3h.01",
  lock: "M6 9V7a4 4 0 0 1 8 0v2M5 9h10v8H5z",
  eye: "M2 10c2-4 5-5.5 8-5.5s6 1.5 8 5.5c-2 4-5 5.5-8 5.5S4 14 2 10zM10 7.5a2.5 2.5 0 1 0 0 5 2.5 2.5 0 0 0 0-5z",
  theme: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  language: "M10 3a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM3 10h14M10 3c-5 5-5 9 0 14M10 3c5 5 5 9 0 14",
  arrow: "M4 10h12M12 6l4 4-4 4",
  buy: "M10 4v12M5 11l5 5 5-5",
  sell: "M10 16V4M5 9l5-5 5 5",
  tie: "M3 10h14M6 7l-3 3 3 3M14 7l3 3-3 3",
};

export function icon(name, className = "") {
  return h(
    "svg",
    { class: `icon ${className}`.trim(), viewBox: "0 0 20 20", "aria-hidden": "true", focusable: "false" },
    h("path", { d: PATHS[name] || PATHS.info }),
  );
}
