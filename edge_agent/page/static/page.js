// Keeps the power up to date; the page itself needs no script. What comes is put in as text only.
const EVERY_MS = 5000;
const power = document.getElementById("power");

async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch(`/part/power?lang=${document.documentElement.lang}`, { cache: "no-store" });
    if (!answer.ok) return;
    const { kind, lines } = await answer.json();
    for (const [index, part] of power.querySelectorAll("dt, dd").entries()) {
      if (part.textContent !== lines[index]) part.textContent = lines[index];
    }
    power.querySelector("dd").className = kind;
  } catch {
    // The meter's machine is away: the page says itself as of when it is.
  }
}

if (power) setInterval(refresh, EVERY_MS);
