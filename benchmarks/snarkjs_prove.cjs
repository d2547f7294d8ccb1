// Proves with snarkjs, loaded once, several times: node snarkjs_prove.cjs FOLDER_OF_SNARKJS ZKEY WTNS RUNS
//
// Both files are in memory before the clock starts, and two proofs are made before any is timed. One JSON line on standard
// output: the seconds of each proof, the process's peak memory in MB of 10^6 bytes, the last proof with its public inputs.
"use strict";

const { readFileSync } = require("node:fs");
const { cpus } = require("node:os");

const WARM_UP_PROOFS = 2;

const [folder, zkeyPath, wtnsPath, runs] = process.argv.slice(2);
const snarkjs = require(folder);

// Not resourceUsage().maxRSS, which counts the process that started this one along.
function peakRssMb() {
    const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1"));
    return Math.round(Number(kib) * 1024 / 1e5) / 10;
}

async function main() {
    const zkey = new Uint8Array(readFileSync(zkeyPath));
    const wtns = new Uint8Array(readFileSync(wtnsPath));
    const seconds = [];
    let last;
    for (let run = 0; run < WARM_UP_PROOFS; run++) await snarkjs.groth16.prove(zkey, wtns);
    for (let run = 1; run <= Number(runs); run++) {
        const started = process.hrtime.bigint();
        last = await snarkjs.groth16.prove(zkey, wtns);
        seconds.push(Number(process.hrtime.bigint() - started) / 1e9);
        console.error(`snarkjs: proof ${run} of ${runs} in ${seconds.at(-1).toFixed(3)} s`);
    }
    console.log(JSON.stringify({
        prove_seconds: seconds,
        rss_mb: peakRssMb(),
        threads: cpus().length,
        proof: last.proof,
        publics: last.publicSignals,
    }));
}

main().then(() => process.exit(0), (error) => {
    console.error(String(error));
    process.exit(1);
});
