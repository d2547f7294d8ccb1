// What the hub said, merged from its event stream, and how fresh it is.
//
// Rules. Nothing is invented: a section the hub never put is undefined, and pages say "not running". `link` is "live"
// only while messages arrive; a socket silent for SILENT_MS is "lost" even if it looks open, and is opened anew.

const MAX_POINTS = 720; // as on the board
const MAX_EVENTS = 200;
const SILENT_MS = 9000; // the hub beats every 2 s
const RETRY_MS = 3000; // after an answer that a browser does not retry by itself (503, 421)
const SEVERITIES = new Set(["info", "success", "warning", "alarm"]);

export const store = {
  link: "connecting", // connecting, live, lost
  sections: {},
  series: {}, // name -> [[t, value], ...] in ascending t
  events: [], // newest last
  ages: {}, // section -> seconds since the hub last put it, as of `agesAt`
  agesAt: 0,
  putAt: {}, // section -> performance.now() when it arrived
  clockSkewS: 0, // hub wall clock minus ours
};

/** Seconds since the hub last put `section`, or null when it never did. */
export function ageOf(section) {
  const age = store.ages[section];
  return age === undefined ? null : age + (performance.now() - store.agesAt) / 1000;
}

/** Unix seconds on the hub's clock. */
export function hubNow() {
  return Date.now() / 1000 + store.clockSkewS;
}

/** Open the stream; `changed(newEvents)` is called after each message. */
export function connect(changed) {
  let source = null;
  let retry = 0;
  let lastMessage = performance.now();

  const setLink = (link) => {
    if (store.link === link) return;
    store.link = link;
    changed([]);
  };
  const heard = () => {
    lastMessage = performance.now();
    setLink("live");
  };
  const merge = (delta, isNews) => {
    heard();
    changed(apply(delta).filter(isNews));
  };
  const open = () => {
    clearTimeout(retry);
    source?.close(); // one stream at most
    source = new EventSource("/api/events");
    source.addEventListener("snapshot", (message) => {
      const known = store.events.at(-1)?.wall ?? Infinity; // a log that was there before the page is read, not announced
      store.sections = {};
      store.series = {};
      store.events = [];
      merge(JSON.parse(message.data), (event) => event.wall > known);
    });
    source.addEventListener("delta", (message) => merge(JSON.parse(message.data), () => true));
    source.addEventListener("beat", (message) => {
      const beat = JSON.parse(message.data);
      store.ages = beat.ages;
      store.agesAt = performance.now();
      store.clockSkewS = beat.wall + 0.5 - Date.now() / 1000;
      heard();
      changed([]);
    });
    source.onerror = () => {
      setLink("lost");
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
    };
  };
  open();
  setInterval(() => {
    if (performance.now() - lastMessage < SILENT_MS) return;
    // A connection may die without a word (a sleeping laptop, a router that forgot it): the browser would wait for ever.
    lastMessage = performance.now();
    setLink("lost");
    open();
  }, 1000);
}

function apply(delta) {
  const now = performance.now();
  for (const [name, value] of Object.entries(delta.sections)) {
    store.sections[name] = value;
    store.putAt[name] = now;
    store.ages[name] = -(now - store.agesAt) / 1000; // age 0 now; the next beat says it exactly
  }
  for (const [name, points] of Object.entries(delta.series)) {
    store.series[name] = mergePoints(store.series[name] || [], points);
  }
  const known = new Set(store.events.map((event) => event.id));
  const fresh = delta.events.filter((event) => !known.has(event.id) && SEVERITIES.has(event.severity));
  store.events = [...store.events, ...fresh].slice(-MAX_EVENTS);
  return fresh;
}

/** Points of both lists in ascending t; a new value at a known t replaces the old one. */
export function mergePoints(old, fresh) {
  const byTime = new Map(old);
  for (const [t, value] of fresh) byTime.set(t, value);
  return [...byTime].sort((a, b) => a[0] - b[0]).slice(-MAX_POINTS);
}
